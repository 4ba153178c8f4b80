from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import dataframely as dy
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from features.errors import ContractError, listed
from features.tables.clocks import Clock
from features.tables.contracts import ROW, RULES, check_references, check_table, enforce
from features.tables.schemas import Events, Items, Rankings, TrainingTable, Users

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
NEW_YORK = ZoneInfo("America/New_York")
NEEDED = ("user_id", "item_id", "event", "timestamp")


def events_of(count=1, **columns):
    plain = {
        "user_id": [f"u{n}" for n in range(count)],
        "item_id": [f"i{n}" for n in range(count)],
        "event": ["click"] * count,
        "timestamp": [NOON] * count,
    }
    return pl.DataFrame(plain | columns)


def checked(frame, schema=Events, *, name="events", required=(), **options):
    return check_table(frame, schema, name=name, required=required, **options)


def broken_rules(table):
    """Row number: its broken rules, in alphabetical order."""
    return {row: sorted(rules.split(",")) for row, rules in table.bad.select(ROW, RULES).iter_rows()}


def test_good_rows_keep_their_order_and_get_the_contracts_types():
    frame = events_of(3, value=[1, 2, 3], position=[3.0, None, 1.0])
    table = checked(frame, required=NEEDED)
    assert table.good["user_id"].to_list() == ["u0", "u1", "u2"]
    assert table.good[ROW].to_list() == [0, 1, 2]
    assert table.good.schema["value"] == pl.Float64
    assert table.good.schema["position"] == pl.Int32
    assert table.good["value"].to_list() == [1.0, 2.0, 3.0]
    assert table.good.schema["timestamp"] == pl.Datetime("us", "UTC")
    assert table.bad.is_empty()
    assert table.rules.is_empty()
    assert (table.n_rows, table.n_duplicates) == (3, 0)


def test_personal_data_in_free_texts_are_masked_in_good_and_bad_rows_and_counted():
    texts = ["good", "ann@example.org", "call 030 1234567", None]
    frame = events_of(4, text=texts, query=["mug", None, "mug", "ann@example.org"]).with_columns(
        user_id=pl.Series(["u0", "u1", None, "u3"])
    )
    table = checked(frame, required=NEEDED, free_texts=("text", "query"))
    assert table.good["text"].to_list() == ["good", "[e-mail]", None]
    assert table.good["query"].to_list() == ["mug", None, "[e-mail]"]
    assert table.bad["text"].to_list() == ["call [phone]"]
    assert table.masked == {"text": 2, "query": 1}
    untouched = checked(frame, required=NEEDED)
    assert untouched.good["text"].to_list() == ["good", "ann@example.org", None]
    assert untouched.masked == {}


def test_events_that_differ_in_what_is_masked_are_two():
    same = {"user_id": ["u1", "u1"], "item_id": ["i1", "i1"], "timestamp": [datetime(2024, 5, 1, tzinfo=UTC)] * 2}
    frame = events_of(2, text=["a@b.de", "c@d.de"]).with_columns(**{k: pl.Series(v) for k, v in same.items()})
    assert checked(frame, required=NEEDED, free_texts=("text",)).good["text"].to_list() == ["[e-mail]", "[e-mail]"]


def test_text_columns_as_csv_gives_them_are_cast():
    frame = pl.DataFrame({"item_id": ["007", "8"], "price": ["1.50", None], "available_from": ["2024-05-01", ""]})
    table = checked(frame, Items, name="items")
    assert table.good["item_id"].to_list() == ["007"]
    assert table.good["price"].to_list() == [1.5]
    assert table.good["available_from"].to_list() == [datetime(2024, 5, 1, tzinfo=UTC)]
    assert broken_rules(table) == {1: ["available_from_unreadable"]}


def test_columns_the_contract_does_not_know_are_ignored_and_told():
    table = checked(events_of(2, colour=["red", "blue"], row=[8, 9]))
    assert sorted(table.ignored) == ["colour", "row"]
    assert table.good[ROW].to_list() == [0, 1]


def test_order_of_columns_changes_nothing():
    frame = events_of(4, value=[1.0, 2.0, 3.0, 4.0])
    assert_frame_equal(checked(frame).good, checked(frame.select(reversed(frame.columns))).good)


@pytest.mark.parametrize(
    ("columns", "rule"),
    [
        ({"user_id": [None]}, "user_id_present"),
        ({"user_id": [""]}, "user_id_present"),
        ({"item_id": [None]}, "item_id_present"),
        ({"item_id": [""]}, "item_id_present"),
        ({"event": [None]}, "event_nullability"),
        ({"event": [""]}, "event_min_length"),
        ({"event": ["x" * 201]}, "event_max_length"),
        ({"user_id": ["x" * 1025]}, "user_id_too_long"),
        ({"item_id": ["x" * 1025]}, "item_id_too_long"),
        ({"timestamp": [None]}, "timestamp_nullability"),
        ({"timestamp": ["yesterday"]}, "timestamp_unreadable"),
        ({"timestamp": [NOON.replace(year=1970)]}, "timestamp_min"),
        ({"timestamp": [NOON.replace(year=2300)]}, "timestamp_max_exclusive"),
        ({"position": [0]}, "position_min"),
        ({"position": ["first"]}, "position_dtype"),
        ({"position": [1.5]}, "position_dtype"),
        ({"position": ["1.5"]}, "position_dtype"),
        ({"propensity": [0.0]}, "propensity_min_exclusive"),
        ({"propensity": [1.1]}, "propensity_max"),
        ({"value": [float("inf")]}, "value_inf"),
        ({"value": ["dear"]}, "value_dtype"),
        ({"extracted_at": [NOON - timedelta(microseconds=1)]}, "timestamp_after_extract"),
        ({"extracted_at": ["later"]}, "extracted_at_unreadable"),
    ],
)
def test_an_event_that_breaks_a_rule_is_set_aside(columns, rule):
    types = {"user_id": pl.String, "item_id": pl.String, "event": pl.String}
    wrong = events_of().with_columns(pl.Series(name, cells, dtype=types.get(name)) for name, cells in columns.items())
    table = checked(wrong, required=NEEDED)
    assert table.good.is_empty()
    assert broken_rules(table) == {0: [rule]}
    assert table.rules.rows() == [(rule, 1, 0)]
    assert table.bad.select(*columns).equals(wrong.select(*columns))  # as it came, for whoever mends it


@pytest.mark.parametrize(
    ("columns", "rule"),
    [
        ({"item_id": [None]}, "item_id_present"),
        ({"price": [-0.01]}, "price_min"),
        ({"price": [float("inf")]}, "price_inf"),
        ({"available_until": ["soon"]}, "available_until_unreadable"),
    ],
)
def test_an_item_that_breaks_a_rule_is_set_aside(columns, rule):
    wrong = pl.DataFrame({"item_id": ["a"]} | columns, schema_overrides={"item_id": pl.String})
    assert broken_rules(checked(wrong, Items)) == {0: [rule]}


def test_a_row_names_every_rule_it_broke():
    table = checked(events_of(2, user_id=["", "u"], event=["", "click"], propensity=[2.0, 0.5]))
    assert broken_rules(table) == {0: ["event_min_length", "propensity_max", "user_id_present"]}
    assert sorted(table.rules[RULES]) == ["event_min_length", "propensity_max", "user_id_present"]


def test_rules_are_counted_most_first_with_the_first_row():
    frame = events_of(6, event=["", "click", "click", "", "click", ""], user_id=["a", "b", "", "d", "e", "f"])
    assert checked(frame).rules.rows() == [("event_min_length", 3, 0), ("user_id_present", 1, 2)]


def test_no_training_row_carries_a_score_from_an_encoder_that_ended_after_its_as_of():
    frame = pl.DataFrame(
        {
            "request_id": [1, 2],
            "item_id": [1, 1],
            "label": [0, 0],
            "as_of": [NOON, NOON],
            "encoder_digest": ["d", "d"],
            "encoder_cutoff": [NOON, NOON + timedelta(microseconds=1)],
        }
    )
    assert broken_rules(checked(frame, TrainingTable)) == {1: ["encoder_ended_before"]}


def test_published_ranks_run_from_one_without_gap_or_repeat():
    frame = pl.DataFrame(
        {
            "user_id": ["a", "a", "b", "b", "c", "c", "d"],
            "rank": [1, 2, 1, 3, 1, 1, 0],
            "item_id": ["x", "y", "x", "y", "x", "y", "x"],
            "score": [1.0, 1.0, 1.0, 0.5, 1.0, 1.0, float("nan")],
            "model_version": ["1"] * 7,
        }
    )
    assert broken_rules(checked(frame, Rankings)) == {
        3: ["ranks_run_from_one"],
        4: ["rank_unique"],
        5: ["rank_unique"],
        6: ["rank_min", "score_nullability"],
    }


def test_a_row_that_repeats_an_earlier_one_is_dropped_and_counted():
    once = events_of(3)
    table = checked(pl.concat([once, once[1:2], once[1:2]]))
    assert table.good.drop(ROW).equals(checked(once).good.drop(ROW))
    assert table.good[ROW].to_list() == [0, 1, 2]
    assert (table.n_rows, table.n_duplicates) == (5, 2)


def test_an_event_exported_twice_is_one_event():
    twice = events_of(2, user_id=["u", "u"], item_id=["i", "i"], extracted_at=[NOON, NOON + timedelta(days=1)])
    table = checked(twice)
    assert table.good["extracted_at"].to_list() == [NOON]
    assert table.n_duplicates == 1


def test_rows_that_disagree_about_an_id_are_all_set_aside():
    frame = events_of(5, event_id=[7, 7, 8, None, None])
    assert broken_rules(checked(frame)) == {0: ["event_id_unique"], 1: ["event_id_unique"]}
    users = pl.DataFrame({"user_id": ["a", "a", "b"], "age": [1, 2, 3]})
    kept = checked(users, Users, name="users", extra={"age": dy.Int64(alias="age")})
    assert kept.good["user_id"].to_list() == ["b"]
    items = pl.DataFrame({"item_id": [1, 1, 2], "price": [1.0, 2.0, 3.0]})
    assert broken_rules(checked(items, Items)) == {0: ["item_id_unique"], 1: ["item_id_unique"]}


def test_an_id_clash_is_seen_even_where_one_of_the_rows_has_no_readable_time():
    frame = events_of(2, event_id=[7, 7], timestamp=["2024-05-01T12:00:00Z", "noon"])
    assert broken_rules(checked(frame)) == {0: ["event_id_unique"], 1: ["timestamp_unreadable"]}


def test_an_extract_without_a_time_of_its_own_allows_any_event():
    table = checked(events_of(2, extracted_at=[None, NOON]))
    assert table.good.height == 2


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("2024-05-01T12:00:00Z", NOON),
        ("2024-05-01T12:00:00+00:00", NOON),
        ("2024-05-01T14:00:00+02:00", NOON),
        ("2024-05-01T08:00:00-0400", NOON),
        ("2024-05-01T14:00:00", NOON),
        ("2024-05-01 14:00", NOON),
        ("2024-05-01T14:00:00.000001", NOON + timedelta(microseconds=1)),
        ("2024-05-01T12:00:00.001Z", NOON + timedelta(milliseconds=1)),
        ("2024-05-01", datetime(2024, 4, 30, 22, tzinfo=UTC)),
        ("2024-01-01T13:00:00", datetime(2024, 1, 1, 12, tzinfo=UTC)),
        ("2024-03-31T02:30:00", None),  # skipped in Berlin
        ("2024-03-31T03:30:00", datetime(2024, 3, 31, 1, 30, tzinfo=UTC)),
        ("2024-10-27T02:30:00", None),  # there twice
        ("2024-10-27T02:30:00+02:00", datetime(2024, 10, 27, 0, 30, tzinfo=UTC)),
        ("01/02/2024 10:00", None),  # of February, or the second of January?
        ("2024/05/01", None),
        ("1714564800", None),
    ],
)
def test_written_times_are_instants_or_set_aside(written, meant):
    table = checked(events_of(timestamp=[written]), clock=Clock("Europe/Berlin"))
    assert table.good["timestamp"].to_list() == ([] if meant is None else [meant])
    assert broken_rules(table) == ({0: ["timestamp_unreadable"]} if meant is None else {})


FORMS = ("%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S.%f", "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d", "%d/%m/%Y", "then")


def meant_in_new_york(noon, form):
    if form in {"%d/%m/%Y", "then"}:
        return None
    hour = 0 if form == "%Y-%m-%d" else 12
    return noon if form.endswith("Z") else noon.replace(hour=hour, tzinfo=NEW_YORK).astimezone(UTC)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, 300), st.sampled_from(FORMS)), min_size=1, max_size=12, unique=True))
def test_how_other_rows_are_written_does_not_matter(rows):
    noons = [NOON + timedelta(days=days) for days, _ in rows]
    forms = [form for _, form in rows]
    written = [noon.strftime(form) for noon, form in zip(noons, forms, strict=True)]
    table = checked(events_of(len(rows), timestamp=written), clock=Clock("America/New_York"))
    meant = list(map(meant_in_new_york, noons, forms))
    assert table.good["timestamp"].to_list() == [instant for instant in meant if instant is not None]
    assert table.bad[ROW].to_list() == [row for row, instant in enumerate(meant) if instant is None]


def test_fault_17_clocks_without_zone_are_local_and_others_are_converted():
    local = events_of(timestamp=[NOON.replace(hour=14)]).with_columns(pl.col("timestamp").dt.replace_time_zone(None))
    assert checked(local, clock=Clock("Europe/Berlin")).good["timestamp"].to_list() == [NOON]
    aware = local.select(pl.col("timestamp").dt.replace_time_zone("Asia/Tokyo"), "user_id", "item_id", "event")
    tokyo = datetime(2024, 5, 1, 5, tzinfo=UTC)
    assert checked(aware, clock=Clock("Europe/Berlin")).good["timestamp"].to_list() == [tokyo]
    days = events_of(timestamp=[date(2024, 5, 1)])
    assert checked(days).good["timestamp"].to_list() == [datetime(2024, 5, 1, tzinfo=UTC)]
    for unit in ("ms", "ns"):
        other = events_of().with_columns(pl.col("timestamp").dt.cast_time_unit(unit))
        assert checked(other).good.equals(checked(events_of()).good)


def test_all_faults_of_a_table_stand_in_one_message():
    frame = pl.DataFrame({"item_id": [1.5], "extracted_at": [3], "value": [[1.0]], "query": [b"\xff"]})
    with pytest.raises(ContractError) as caught:
        checked(frame, required=NEEDED)
    lines = str(caught.value).splitlines()
    assert all(line.startswith("events: ") for line in lines)
    missing = "missing columns 'user_id', 'event', 'timestamp'"
    assert any(missing in line and "data.events.columns" in line for line in lines)
    assert any("'item_id': 1 of 1 values are no whole numbers" in line for line in lines)
    assert any("'extracted_at' is Int64" in line for line in lines)
    assert any("'value' is List(Float64); write it as numbers" in line for line in lines)
    assert any("'query': it holds bytes that are no UTF-8 text. Write it as text" in line for line in lines)


def test_one_missing_column_is_one_column():
    with pytest.raises(ContractError, match="missing column 'timestamp'; the table has"):
        checked(events_of().drop("timestamp"), required=NEEDED)


def test_configured_columns_must_be_there_and_are_kept():
    items = pl.DataFrame({"item_id": [1], "title": ["a mug"], "category": ["kitchen"]})
    fields = {name: dy.String(nullable=True, alias=name) for name in ("title", "category")}
    assert checked(items, Items, extra=fields).good["title"].to_list() == ["a mug"]
    with pytest.raises(ContractError, match="'title', 'category'"):
        checked(items.select("item_id"), Items, extra=fields)


def test_a_table_without_rows_is_refused():
    with pytest.raises(ContractError, match="events: the table has no rows"):
        checked(events_of(0))


@pytest.mark.parametrize("kind", [pl.Date, pl.Boolean, pl.List(pl.Int64)])
def test_ids_are_text_or_integers(kind):
    frame = pl.DataFrame({"item_id": pl.Series([None], dtype=kind)})
    with pytest.raises(ContractError, match="write ids as text or integers"):
        checked(frame, Items)


@pytest.mark.parametrize("kind", [pl.Int8, pl.Int32, pl.Int64, pl.UInt8, pl.UInt32, pl.UInt64])
def test_integer_ids_of_any_width_are_one_kind(kind):
    items = checked(pl.DataFrame({"item_id": [1, 300]}), Items, name="items")
    events = checked(events_of(2, item_id=pl.Series([1, 2], dtype=kind)))
    assert events.good.schema["item_id"] == pl.Int64
    assert check_references(items, events).good["item_id"].to_list() == [1]


@pytest.mark.parametrize("kind", [pl.Float32, pl.Float64, pl.Decimal(12, 0)])
def test_fault_48_whole_numbers_of_another_type_are_integers(kind):
    items = checked(pl.DataFrame({"item_id": pl.Series([1, 300]).cast(kind)}), Items, name="items")
    assert items.good["item_id"].to_list() == [1, 300]
    assert items.good.schema["item_id"] == pl.Int64


def test_integer_ids_that_do_not_fit_are_text():
    frame = pl.DataFrame({"item_id": pl.Series([1, 2**63], dtype=pl.UInt64)})
    assert checked(frame, Items).good["item_id"].to_list() == ["1", "9223372036854775808"]


def test_a_number_and_the_same_with_a_point_are_not_two_ids():
    frame = pl.DataFrame({"item_id": ["101", "101.0", "7.0"]})
    with pytest.raises(
        ContractError, match=r"1 ids in column 'item_id' end in `\.0` beside the same numbers without it"
    ):
        checked(frame, Items)


@pytest.mark.parametrize("missing", [float("nan"), "NaN", " nan "])
def test_fault_56_nan_is_a_missing_number_and_counted(missing):
    frame = pl.DataFrame({"item_id": ["a", "b"], "price": [missing, missing]})
    table = checked(frame, Items)
    assert table.good["price"].to_list() == [None, None]
    assert table.as_missing == {"price": 2}
    assert table.bad.is_empty()


def test_whole_floats_are_integers_as_numbers_and_as_text():
    table = checked(events_of(3, position=["3.0", "4", None]))
    assert table.good["position"].to_list() == [3, 4, None]
    assert checked(events_of(2, position=[3.0, float("nan")])).good["position"].to_list() == [3, None]


def test_fault_56_a_vector_with_a_nan_is_missing_and_counted():
    frame = pl.DataFrame({"item_id": ["a", "b", "c"], "v": [[1.0, float("nan")], [1.0, 2.0], None]})
    column = {"v": dy.List(dy.Float64(nullable=True), nullable=True, alias="v")}
    table = checked(frame, Items, extra=column)
    assert table.good["v"].to_list() == [None, [1.0, 2.0], None]
    assert table.as_missing == {"v": 1}
    with pytest.raises(ContractError, match="write a list of numbers in each row"):
        checked(frame.with_columns(v=pl.lit(["x"])), Items, extra=column)


def test_a_column_that_is_called_as_the_quarantines_own_is_refused():
    frame = pl.DataFrame({"item_id": ["a"], "row": ["x"]})
    with pytest.raises(ContractError, match="a column 'row' cannot be read"):
        checked(frame, Items, extra={"row": dy.String(nullable=True, alias="row")})


def test_ids_whose_characters_were_lost_are_set_aside():
    table = checked(events_of(2, user_id=["th\ufffd", "tea"]))
    assert broken_rules(table) == {0: ["user_id_unreadable"]}


def test_a_duration_is_no_text_and_no_id():
    frame = events_of().with_columns(query=pl.duration(days=1), item_id=pl.duration(days=1))
    with pytest.raises(ContractError) as caught:
        checked(frame)
    assert "'query' is Duration" in str(caught.value)
    assert "'item_id': it is Duration" in str(caught.value)


def test_categories_are_read_as_the_text_that_they_hold():
    columns = {"value": ["1.5"], "timestamp": ["2024-05-01T12:00:00Z"], "event": ["click"], "position": ["2.0"]}
    for kind in (pl.Categorical, pl.Enum(sorted(text for (text,) in columns.values())), pl.Binary):
        frame = events_of(**{name: pl.Series(cells).cast(kind) for name, cells in columns.items()})
        assert checked(frame).good.select(*columns).rows() == [(1.5, NOON, "click", 2)]


def test_fault_80_texts_are_cut_to_what_is_read_of_them():
    frame = events_of(2, query=["a" * 20_001, "b" * 20_000])
    table = checked(frame)
    assert table.good["query"].str.len_chars().to_list() == [20_000, 20_000]
    assert table.cut == {"query": 1}


def test_numbers_that_count_from_1970_need_a_unit():
    frame = events_of(timestamp=[1_714_564_800_000])
    with pytest.raises(ContractError, match=r"'timestamp' is Int64; .*set data\.events\.times \(by its size: ms\)"):
        checked(frame)
    assert checked(frame, clock=Clock(unit="ms")).good["timestamp"].to_list() == [NOON]


@pytest.mark.parametrize(
    ("columns", "remark"),
    [
        ({"timestamp": ["05/01/2024 8:00 PM"]}, "written like '99/99/9999 9:99 aa'; read is ISO 8601, such as"),
        ({"timestamp": ["1714564800"]}, "written like '9999999999'; .*set data.events.times \\(by its size: s\\)"),
        ({"value": ["9,99 €"]}, "written like '9,99 €'; read is a number, with a point"),
    ],
)
def test_a_message_shows_how_a_value_is_written_and_what_is_read(columns, remark):
    with pytest.raises(ContractError, match=remark):
        enforce([checked(events_of(**columns))], 0.0)


def test_a_message_names_the_file_of_a_row_and_where_the_rows_lie():
    table = replace(checked(events_of(4, event=["click", "click", "", ""])), files=(("a.csv", 2), ("b.csv", 2)))
    with pytest.raises(
        ContractError, match=r"event_min_length 2 \(first at row 0 of 'b\.csv'\)(.|\n)*lie in out/events"
    ):
        enforce([table], 0.0, kept={"events": "out/events"})


@pytest.mark.parametrize(
    ("ids", "known", "remark"),
    [
        (["i1 ", "i2 "], ["i1", "i2"], "2 would match without spaces around them"),
        (["1", "2"], ["0001", "2"], "1 would match without leading zeros"),
        (["1.0", "x"], ["1", "y"], "1 would match without `.0` at their end"),
        (["Ab", "c"], ["aB", "c"], "1 would match without another case"),
    ],
)
def test_ids_that_are_written_otherwise_are_explained(ids, known, remark):
    items = checked(pl.DataFrame({"item_id": known}), Items, name="items")
    table = check_references(items, checked(events_of(2, item_id=ids)))
    with pytest.raises(ContractError) as caught:
        enforce([table], 0.0)
    assert remark in str(caught.value)


@pytest.mark.parametrize("clock", [pl.lit(NOON.replace(tzinfo=None)), pl.lit(NOON).dt.convert_time_zone("Asia/Tokyo")])
def test_unknown_items_beside_clocks_of_any_kind_are_set_aside(clock):
    items = checked(pl.DataFrame({"item_id": ["i0"]}), Items, name="items")
    frame = events_of(3, event=["click", "click", ""]).with_columns(timestamp=clock)
    table = check_references(items, checked(frame))
    assert broken_rules(table) == {1: ["item_not_in_items"], 2: ["event_min_length"]}


def test_events_of_unknown_items_are_set_aside():
    items = checked(pl.DataFrame({"item_id": ["i0", "i2"]}), Items, name="items")
    frame = events_of(4, timestamp=["2024-05-01T12:00:00Z"] * 3 + ["?"])
    table = check_references(items, checked(frame))
    assert table.good["item_id"].to_list() == ["i0", "i2"]
    assert broken_rules(table) == {1: ["item_not_in_items"], 3: ["timestamp_unreadable"]}
    assert sorted(table.rules.rows()) == [("item_not_in_items", 1, 1), ("timestamp_unreadable", 1, 3)]
    assert table.n_rows == 4


def test_references_that_hold_change_nothing():
    items = checked(pl.DataFrame({"item_id": ["i0", "i1"]}), Items, name="items")
    table = checked(events_of(2))
    assert check_references(items, table) is table


def test_text_here_and_integers_there_are_refused():
    items = checked(pl.DataFrame({"item_id": [1]}), Items, name="items")
    with pytest.raises(ContractError, match="item_id is Int64 in items and String in events"):
        check_references(items, checked(events_of()))


def test_a_share_of_bad_rows_up_to_the_limit_is_let_through():
    table = checked(events_of(100, event=[""] * 29 + ["click"] * 71))
    enforce([table], 0.29)
    with pytest.raises(ContractError) as caught:
        enforce([table], 0.28)
    assert "events: 29 of 100 rows break the contract: event_min_length 29 (first at row 0)" in str(caught.value)
    assert "data.quarantine.max_share (0.28)" in str(caught.value)


def test_every_table_above_the_share_is_named():
    events = checked(events_of(2, event=["", "click"]))
    items = checked(pl.DataFrame({"item_id": ["a", ""]}), Items, name="items")
    users = checked(pl.DataFrame({"user_id": ["a", "b"]}), Users, name="users")
    with pytest.raises(ContractError) as caught:
        enforce([items, events, users], 0.0)
    assert [line.split(":")[0] for line in str(caught.value).splitlines()[:-1]] == ["items", "events"]


def test_messages_name_no_id_and_no_text():
    secret = "SECRET"
    frame = events_of(3, user_id=[secret, "", secret], item_id=[secret] * 3, query=[secret] * 3, event=["", secret, ""])
    items = checked(pl.DataFrame({"item_id": ["a"]}), Items, name="items")
    table = check_references(items, checked(frame))
    faults = []
    with pytest.raises(ContractError) as caught:
        enforce([table], 0.0)
    faults.append(str(caught.value))
    with pytest.raises(ContractError) as caught:
        checked(frame.drop("event").with_columns(value=pl.concat_list("query")), required=NEEDED)
    faults.append(str(caught.value))
    with pytest.raises(ContractError) as caught:
        check_references(checked(pl.DataFrame({"item_id": [1]}), Items), checked(events_of(item_id=[secret])))
    faults.append(str(caught.value))
    assert not any(secret in fault for fault in faults)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    st.lists(
        st.tuples(st.sampled_from(["", "a", "b"]), st.sampled_from(["", "x", "y"]), st.integers(0, 2)),
        min_size=1,
        max_size=15,
    )
)
def test_every_row_is_good_or_bad_or_a_repeat(rows):
    users, items, hours = zip(*rows, strict=True)
    stamps = [NOON + timedelta(hours=hour) for hour in hours]
    frame = events_of(len(rows), user_id=users, item_id=items, timestamp=stamps)
    table = checked(frame)
    first = {row: n for n, row in reversed(list(enumerate(rows)))}
    good = sorted(n for (user, item, _), n in first.items() if user and item)
    assert table.good[ROW].to_list() == good
    assert table.bad[ROW].to_list() == sorted(set(first.values()) - set(good))
    assert table.n_duplicates == len(rows) - len(first)


def test_a_long_list_of_names_is_cut():
    assert listed(["a", "b", "c"], most=2) == "'a', 'b' and 1 more"
    assert listed([]) == ""
