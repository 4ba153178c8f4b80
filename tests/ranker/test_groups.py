import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.errors import ContractError
from ranker.groups import MAX_CANDIDATES, feature_matrix, group_sizes, label_vector
from ranker.tables import MAX_LABEL


def test_features_are_found_by_name_in_the_manifests_order():
    table = pl.DataFrame({"b": [1, 2], "other": ["x", "y"], "a": [0.5, None], "c": [True, False]})
    matrix = feature_matrix(table, ("a", "b", "c"))
    assert matrix.dtype == np.float32
    assert matrix.flags["C_CONTIGUOUS"]
    assert matrix.tolist()[0] == [0.5, 1.0, 1.0]
    assert math.isnan(matrix[1, 0])
    assert np.array_equal(matrix, feature_matrix(table.select("c", "a", "b"), ("a", "b", "c")), equal_nan=True)


def test_no_rows_make_an_empty_matrix():
    table = pl.DataFrame(schema={"a": pl.Float32, "b": pl.Int64})
    assert feature_matrix(table, ("b", "a")).shape == (0, 2)


@pytest.mark.parametrize(
    "kind",
    [
        pl.Categorical,
        pl.Enum(["x"]),
        pl.String,
        pl.Date,
        pl.Datetime,
        pl.Duration,
        pl.Time,
        pl.Null,
        pl.Binary,
    ],
)
def test_columns_that_are_no_numbers_are_refused_before_lightgbm_sees_them(kind):
    table = pl.DataFrame({"ok": [1.0], "first": pl.Series([None], dtype=kind), "second": pl.Series([None], dtype=kind)})
    with pytest.raises(ContractError) as caught:
        feature_matrix(table, ("ok", "first", "second"))
    assert "first (" in str(caught.value)
    assert "second (" in str(caught.value)
    assert "ok (" not in str(caught.value)


def test_decimals_and_lists_are_refused():
    table = pl.DataFrame({"price": pl.Series([1], dtype=pl.Decimal(10, 2)), "tags": [[1.0]]})
    with pytest.raises(ContractError, match=r"price \(Decimal.*tags \(List"):
        feature_matrix(table, ("price", "tags"))


def test_all_faults_of_the_features_are_named_at_once():
    table = pl.DataFrame({"a": [1.0], "b": ["x"]})
    with pytest.raises(ContractError, match=r"features missing: 'c', 'd'; .*'b \(String\)'"):
        feature_matrix(table, ("a", "b", "c", "d"))


@pytest.mark.parametrize("value", [math.inf, -math.inf, 1e300])
def test_infinite_features_are_refused_by_name(value):
    table = pl.DataFrame({"a": [1.0, value], "b": [1.0, 2.0]})
    with pytest.raises(ContractError, match="infinite values in 'a'; use null"):
        feature_matrix(table, ("a", "b"))


@pytest.mark.parametrize("wrong", [None, math.nan, math.inf, -math.inf, -1.0, 31.0, 1.5])
def test_labels_are_whole_and_between_0_and_30(wrong):
    with pytest.raises(ContractError, match=r"2 of 4 labels \(first at row 1\)"):
        label_vector(pl.Series([0.0, wrong, 3.0, wrong]))


@pytest.mark.parametrize("labels", [["1"], [True], [None]])
def test_labels_are_numbers(labels):
    with pytest.raises(ContractError, match="labels are"):
        label_vector(pl.Series(labels))


@pytest.mark.parametrize("kind", [pl.Int8, pl.UInt32, pl.Int64, pl.Float32])
def test_labels_of_any_number_type_are_integers_for_lightgbm(kind):
    labels = label_vector(pl.Series([0, MAX_LABEL, 2], dtype=kind))
    assert labels.dtype == np.int32
    assert labels.tolist() == [0, 30, 2]


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.lists(st.integers(0, 3), max_size=12))
def test_sizes_are_those_of_the_runs_or_the_split_is_named(ids):
    runs = [ids[n] for n in range(len(ids)) if n == 0 or ids[n] != ids[n - 1]]
    split = {request for request in runs if runs.count(request) > 1}
    requests = pl.Series(ids, dtype=pl.UInt32)
    if split:
        with pytest.raises(ContractError, match=f"the rows of {len(split)} requests do not stand together"):
            group_sizes(requests)
    else:
        assert group_sizes(requests).tolist() == [ids.count(request) for request in runs]


def test_fault_26_requests_with_more_rows_than_lightgbm_takes_are_refused():
    fits = pl.Series(["a"] * MAX_CANDIDATES + ["b"])
    assert group_sizes(fits).tolist() == [MAX_CANDIDATES, 1]
    over = pl.Series(["a"] * (MAX_CANDIDATES + 1) + ["b"])
    with pytest.raises(ContractError, match=r"1 requests have more than 10000 candidates \(the largest 10001\)"):
        group_sizes(over)
