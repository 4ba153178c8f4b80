from datetime import UTC, date, datetime

import polars as pl
import pytest

from features.errors import ContractError
from features.tables.dtypes import as_ids, dtype_name, ids_like, stacked, text_ids, with_text_ids


@pytest.mark.parametrize(
    ("column", "meant"),
    [
        (pl.Series([1, None], dtype=pl.Int16), [1, None]),
        (pl.Series([2**63 - 1], dtype=pl.UInt64), [2**63 - 1]),
        (pl.Series([2**63, 1], dtype=pl.UInt64), ["9223372036854775808", "1"]),
        (pl.Series([-1.0, float("nan"), 2.0**53]), [-1, None, 2**53]),
        (pl.Series([2.0**24], dtype=pl.Float32), [2**24]),
        (pl.Series(["12.00"]).cast(pl.Decimal(10, 2)), [12]),
        (pl.Series(["1" * 30]).cast(pl.Decimal(38, 0)), ["1" * 30]),
        (pl.Series(["a", "b"], dtype=pl.Enum(["b", "a"])), ["a", "b"]),
        (pl.Series([b"x\xc3\xa9"]), ["xé"]),
        (pl.Series(["007", "1.0"]), ["007", "1.0"]),
        (pl.Series([], dtype=pl.Float64), []),
    ],
)
def test_fault_48_ids_are_read_as_what_is_inside(column, meant):
    assert as_ids(column).to_list() == meant


@pytest.mark.parametrize(
    ("column", "first"),
    [
        (pl.Series([1.0, 2.5]), 1),
        (pl.Series([float("inf")]), 0),
        (pl.Series([1.0, 2.0, 2.0**53 + 2]), 2),
        (pl.Series([2.0**25], dtype=pl.Float32), 0),
        (pl.Series(["1.5"]).cast(pl.Decimal(10, 1)), 0),
    ],
)
def test_fault_47_numbers_that_tell_no_id_are_refused_with_their_row(column, first):
    with pytest.raises(ContractError, match=rf"no whole numbers.*first at row {first}\)"):
        as_ids(column)


def test_bytes_that_are_no_text_are_no_ids():
    with pytest.raises(ContractError, match="no UTF-8"):
        as_ids(pl.Series([b"\xff"]))


def test_whole_floats_of_a_file_without_types_are_integers_only_where_all_are():
    assert as_ids(pl.Series(["1.0", None, "20.0"]), untyped=True).to_list() == ["1", None, "20"]
    assert as_ids(pl.Series(["1.0", "1.1"]), untyped=True).to_list() == ["1.0", "1.1"]
    assert as_ids(pl.Series([None], dtype=pl.String), untyped=True).to_list() == [None]


def test_ids_of_another_table_are_brought_to_the_logs_type():
    assert ids_like(pl.Series([1, 2], dtype=pl.Int8), pl.String()).to_list() == ["1", "2"]
    assert ids_like(pl.Series(["1", "01", "-3", "x", "9" * 30]), pl.Int64()).to_list() == [1, None, -3, None, None]
    assert ids_like(pl.Series([1.0]), pl.Int64()).to_list() == [1]


def test_what_is_text_in_one_table_is_text_in_all():
    tables = [pl.DataFrame({"user_id": [1], "item_id": [2]}), pl.DataFrame({"item_id": ["x"]})]
    assert text_ids(tables, ("user_id", "item_id")) == {"item_id"}
    assert with_text_ids(tables[0], {"item_id"}).rows() == [(1, "2")]


def test_fault_63_a_type_is_named_without_the_values_that_it_lists():
    assert dtype_name(pl.Enum(["ann@example.org"])) == "Enum"
    assert dtype_name(pl.List(pl.Enum(["ann@example.org"]))) == "List"
    assert dtype_name(pl.Datetime("us", "UTC")) == "Datetime(time_unit='us', time_zone='UTC')"


AT = datetime(2024, 5, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("parts", "meant"),
    [
        ([pl.Series([1]), pl.Series([0.5])], [1.0, 0.5]),
        ([pl.Series([1]), pl.Series([2**63], dtype=pl.UInt64)], [1.0, 2.0**63]),
        ([pl.Series([0.5]), pl.Series(["x"])], ["0.5", "x"]),
        ([pl.Series([True]), pl.Series(["x"])], ["true", "x"]),
        ([pl.Series(["a"], dtype=pl.Enum(["a"])), pl.Series(["b"], dtype=pl.Enum(["b"]))], ["a", "b"]),
        ([pl.Series([AT]), pl.Series([AT]).dt.convert_time_zone("Asia/Tokyo")], [AT, AT]),
        ([pl.Series([AT]), pl.Series([date(2024, 5, 1)])], ["2024-05-01T12:00:00.000000+00:00", "2024-05-01"]),
        ([pl.Series([[1.0]]), pl.Series([[2.0]], dtype=pl.Array(pl.Float32, 1))], [[1.0], [2.0]]),
        ([pl.Series([None]), pl.Series([1])], [None, 1]),
    ],
)
def test_columns_of_two_types_become_one(parts, meant):
    assert stacked([part.to_frame("x") for part in parts])["x"].to_list() == meant


def test_columns_that_nothing_could_be_made_of_are_named():
    frames = [pl.DataFrame({"x": [[1]], "y": [1]}), pl.DataFrame({"x": ["a"], "y": [{"z": 1}]})]
    with pytest.raises(ContractError, match=r"'x' is List\(Int64\) and String; 'y' is Int64 and Struct"):
        stacked(frames)
