"""What a published night turned out to be, by hand: three users act on the seventh, and one was never ranked."""

from datetime import UTC, date, datetime, timedelta
from math import log2

import polars as pl
import pytest

from features.config import CalendarConfig
from features.log.event_log import Calendar, EventLog, day_of
from pipelines.base.config import Config
from pipelines.monitor.realised import ALL, FALLBACK, NEW_ITEMS, is_closed, realised

NIGHT = date(2024, 5, 7)


def at(days_later, hour=12):
    return datetime(2024, 5, 7, hour, tzinfo=UTC) + timedelta(days=days_later)


@pytest.fixture
def config():
    return Config.model_validate(
        {
            "data": {"items": {"path": "items.parquet"}, "events": {"path": "events.parquet"}},
            "labels": {"gains": {"click": 1, "buy": 2}, "horizon_days": 2},
            "evaluation": {"cutoffs": [2], "resamples": 100},
        }
    )


@pytest.fixture
def log():
    """Item 10 is new on the seventh; a view is no success, and a day after the horizon none of the night."""
    rows = [
        ("ann", 7, "buy", at(-3)),
        ("bob", 8, "click", at(-3)),
        ("bob", 9, "click", at(-3)),
        ("ann", 7, "buy", at(0)),
        ("ann", 8, "click", at(1)),
        ("ann", 9, "buy", at(2)),
        ("bob", 9, "click", at(0)),
        ("cat", 10, "click", at(0)),
        ("dan", 7, "view", at(0)),
        ("eve", 7, "click", at(1)),
    ]
    events = pl.DataFrame(rows, schema=["user_id", "item_id", "event", "timestamp"], orient="row")
    return EventLog.build(
        events=events.with_columns(pl.col("timestamp").cast(pl.Datetime("us", "UTC")), value=pl.lit(None, pl.Float64)),
        items=pl.DataFrame({"item_id": [7, 8, 9, 10], "title": ["mug", "cup", "pan", "pot"]}),
        users=None,
        calendar=Calendar(CalendarConfig()),
        gains={"click": 1, "buy": 2},
    )


@pytest.fixture
def judge(log, config):
    lists = pl.DataFrame(
        {
            "user_id": ["ann", "ann", "bob", "bob", "bob"],
            "rank": [1, 2, 1, 2, 3],
            "item_id": [8, 7, 99, 9, 8],  # 99 is in the catalogue no longer, and keeps its rank
            "score": [0.5, 0.5, 0.9, 0.8, 0.7],
        }
    )
    fallback = pl.DataFrame({"rank": [1, 2], "item_id": [7, 10], "score": [0.2, 0.1]})

    def judged(day=NIGHT, end_day=NIGHT + timedelta(days=2)):
        return realised(day, "v1", lists, fallback, log, config, end_day=day_of(end_day))

    return judged


def test_ndcg_is_over_the_users_who_acted_and_by_the_ranks_that_were_shown(judge):
    """Gains are 2^label - 1; ann's label of item 8 is of the second day, and item 9 came after the horizon."""
    night = judge()
    ann = (1 / log2(2) + 3 / log2(3)) / (3 / log2(2) + 1 / log2(3))
    bob = 1 / log2(3)
    cat = 1 / log2(3)
    assert night.state == "closed"
    assert night.slices[ALL].mean == pytest.approx((ann + bob + cat) / 3)
    assert (night.slices[ALL].requests, night.slices[ALL].users) == (3, 3)
    assert min(ann, bob) <= night.slices[ALL].low < night.slices[ALL].high <= max(ann, bob)


def test_who_had_no_list_is_judged_by_the_fallback_list(judge):
    fallback = judge().slices[FALLBACK]
    assert (fallback.mean, fallback.users) == (pytest.approx(1 / log2(3)), 1)
    assert (fallback.low, fallback.high) == (None, None)  # of a single user there is no interval


def test_new_items_are_ranked_among_themselves(judge):
    new = judge().slices[NEW_ITEMS]
    assert (new.mean, new.users) == (1.0, 1)


def test_a_night_without_a_label_of_a_new_item_has_no_such_slice(judge):
    day = NIGHT + timedelta(days=1)  # ann and eve act, on items that somebody had
    assert judge(day, end_day=day + timedelta(days=2)).slices.keys() == {ALL, FALLBACK}


def test_a_night_is_open_until_its_labels_have_closed(judge):
    assert judge(end_day=NIGHT + timedelta(days=1)).state == "open"
    assert judge(end_day=NIGHT + timedelta(days=1)).slices == {}


def test_labels_have_to_come_in_too(config):
    at_once, late = Calendar(CalendarConfig()), Calendar(CalendarConfig(ingestion_lag_hours=30))
    assert is_closed(NIGHT, at_once, config, end_day=day_of(NIGHT) + 2)
    assert not is_closed(NIGHT, late, config, end_day=day_of(NIGHT) + 3)
    assert is_closed(NIGHT, late, config, end_day=day_of(NIGHT) + 4)


def test_a_night_on_which_nobody_acted_is_said_to_be_one(judge):
    assert judge(NIGHT - timedelta(days=1), end_day=NIGHT + timedelta(days=9)).state == "nobody acted"
