import polars as pl
import pytest

from features.tables import hashing as partition
from features.tables.identity import Identities

ROWS = pl.DataFrame({"event_id": ["b", "a", "c"], "user_id": ["u", "u", "v"], "value": [1.0, None, 2.0]})


def met(one, other):
    return Identities.of(one).met(Identities.of(other).hashes)


def test_events_of_one_id_are_one_event_whatever_else_they_say():
    other = pl.DataFrame({"event_id": ["c", "d"], "user_id": ["w", "u"]})
    assert met(ROWS, other) == met(other, ROWS) == 1


def test_without_ids_all_columns_tell_but_the_time_of_export():
    nameless = ROWS.drop("event_id")
    exported = nameless.with_columns(extracted_at=pl.lit("2024-01-01"))
    assert met(nameless, exported) == 3
    for name, value in (("user_id", "x"), ("value", 9.0)):
        assert met(nameless, nameless.with_columns(pl.lit(value).alias(name))) == 0
    assert met(nameless, nameless.with_columns(another=pl.lit(1))) == 3  # no column of the contract


def test_a_missing_id_is_no_id():
    some = ROWS.with_columns(event_id=pl.Series([None, "a", None]))
    assert met(some, some.filter(pl.col("event_id").is_null())) == 2
    assert met(some, ROWS) == 1
    assert Identities.of(some).low is None


def test_null_and_empty_are_told_apart():
    one, other = (
        pl.DataFrame({"user_id": ["u"], "query": pl.Series([query], dtype=pl.String)}) for query in (None, "")
    )
    assert met(one, other) == 0


@pytest.mark.parametrize(
    ("one", "other", "may"),
    [
        ([1, 5], [6, 9], False),
        ([1, 5], [5, 9], True),
        (["a1", "a5"], ["a6"], False),
        (["12345678a"], ["12345678b"], True),
    ],
)
def test_ids_that_lie_apart_cannot_meet(one, other, may):
    first, second = (Identities.of(pl.DataFrame({"event_id": ids})) for ids in (one, other))
    assert first.may_meet(second.low, second.high) is may
    assert second.may_meet(first.low, first.high) is may
    assert first.may_meet(None, None)


def test_no_rows_meet_nothing():
    none = Identities.of(ROWS.head(0))
    assert (none.low, len(none.hashes)) == (None, 0)
    assert none.met(Identities.of(ROWS).hashes) == 0
    assert met(ROWS, ROWS.head(0)) == 0


@pytest.mark.parametrize("column", ["event_id", "query", "text"])
def test_fault_80_a_text_of_10_mb_is_read_in_as_many_steps_as_one_of_a_kilobyte(column, monkeypatch):
    steps = []
    monkeypatch.setattr(partition, "_words", lambda *told, read=partition._words: steps.append(1) or read(*told))
    long = "red mug " * 1_250_000
    one, other = (ROWS.drop("event_id").with_columns(pl.lit(text).alias(column)) for text in (long, long[:-1]))
    assert met(one, one) == (1 if column == "event_id" else 3)
    assert met(one, other) == 0
    assert len(steps) <= 4 * partition.MOST_BYTES / 8
