"""What is measured of a night, by hand: a log of seven events, four items and two lists."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import polars as pl
import pytest

from features.config import CalendarConfig, CandidatesConfig, TextFieldConfig
from features.log.event_log import Calendar, EventLog, day_of
from pipelines.night.measures import DAYS, measure_inputs, measure_lists

NIGHT = datetime(2024, 5, 7, tzinfo=UTC)  # its eve is the sixth
DAY = day_of(NIGHT.date())


def at(days_before, hour=12):
    return NIGHT - timedelta(days=days_before) + timedelta(hours=hour)


@pytest.fixture
def log():
    events = pl.DataFrame(
        {
            "user_id": ["ann", "ann", "ann", "bob", "bob", "bob", "cat"],
            "item_id": [7, 7, 8, 7, 9, 9, 7],
            "event": ["click", "click", "buy", "click", "click", "buy", "click"],
            "timestamp": [at(1), at(1), at(2), at(DAYS), at(DAYS + 1), at(0), at(0)],  # the last two: not known yet
        }
    )
    items = pl.DataFrame(
        {
            "item_id": [7, 8, 9, 10],
            "title": ["mug", "", None, "pan"],
            "category": ["Kitchen", "Kitchen", None, "Garden"],
            "available_from": [None, at(0, 0), at(0, 1), None],
            "available_until": [None, None, None, at(0, 0)],
        },
        schema_overrides={name: pl.Datetime("us", "UTC") for name in ("available_from", "available_until")},
    )
    whole = EventLog.build(
        events=events.with_columns(value=pl.lit(None, pl.Float64)),
        items=items,
        users=pl.DataFrame({"user_id": ["ann", "bob", "cat", "dan"]}),
        calendar=Calendar(CalendarConfig()),
        gains={"click": 1, "buy": 2},
    )
    return whole.before(DAY)


def inputs(log, blocked=()):
    candidates = CandidatesConfig(blocked=tuple(blocked))
    data = SimpleNamespace(items=SimpleNamespace(text=(TextFieldConfig(field="title"),)))
    return measure_inputs(
        log, pl.Series([0, 1, 2, 3], dtype=pl.UInt32), DAY, SimpleNamespace(data=data, candidates=candidates)
    )


def test_events_are_counted_by_type_and_day_up_to_the_eve(log):
    measured = inputs(log)
    assert measured.events == 5  # what happened on the day itself is not known
    nothing = [0] * DAYS
    assert (
        measured.by_day
        == {
            "click": (1, *nothing[2:], 2),  # the oldest day that is counted has one, an older one is not counted
            "buy": (*nothing[2:], 1, 0),
        }
    )


def test_users_and_items_are_counted_as_of_the_cut_off(log):
    measured = inputs(log)
    assert (measured.users, measured.strangers) == (4, 2)  # cat's first event is of the day, dan has none
    assert (measured.items, measured.on_sale, measured.with_text) == (4, 2, 2)  # 9 opens later, 10 has just closed


def test_blocked_ids_are_those_of_the_catalogue_however_they_are_written(log):
    assert inputs(log, blocked=["7", 99]).on_sale == 1
    assert inputs(log, blocked=["007"]).on_sale == 1


def test_lists_are_measured_a_shard_at_a_time(log):
    def shard(user, items, scores, ranks=None):
        rows = {"user_id": [user] * len(items), "rank": ranks or [*range(1, len(items) + 1)], "item_id": items}
        return pl.DataFrame(rows | {"score": scores})

    shards = [
        shard("ann", [7, 9, 8], [3.0, 2.0, 1.0]),  # whole, and as it should be
        shard("bob", [7, 7], [1.0, 1.0]),  # short, an item twice, one score
        shard("cat", [10, 8], [float("nan"), 0.0], ranks=[1, 3]),  # short, no number, a gap
    ]
    measured = measure_lists(iter(shards), log, DAY, top=3)
    assert (measured.lists, measured.rows, measured.full, measured.equal) == (3, 7, 1, 1)
    assert measured.wrong == 3
    assert (measured.shown, measured.new_rows) == (4, 1)  # nobody had 10
    assert measured.categories == {"": 1 / 7, "Garden": 1 / 7, "Kitchen": 5 / 7}
    assert measured.deciles[4] == 1.0  # the median of 0, 1, 1, 1, 2, 3
