"""What only single events tell: which rows are kept, and what a family of one's own sees."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import polars as pl

from features.config import CalendarConfig
from features.log.event_log import Calendar, EventLog

START = datetime(2024, 1, 1, tzinfo=UTC)
ROWS = [
    ("u", "a", "click", 1, None, None, None),
    ("u", "a", "click", 2, "mug", None, None),
    ("v", "b", "view", 3, None, None, 0.5),
    ("v", "b", "view", 26, None, "good", None),
    ("u", "b", "click", 27, None, None, None),
]
DAY = (START - datetime(1970, 1, 1, tzinfo=UTC)).days


def log_of(rows=ROWS, keep=()):
    columns = ("user_id", "item_id", "event", "hours", "query", "text", "mood")
    kinds = {"hours": pl.Float64, "query": pl.String, "text": pl.String, "mood": pl.Float64}
    events = pl.DataFrame(rows, schema=dict.fromkeys(columns, pl.String) | kinds, orient="row")
    stamps = [START + timedelta(hours=hours) for hours in events["hours"]]
    return EventLog.build(
        events=events.with_columns(
            pl.Series("timestamp", stamps, pl.Datetime("us", "UTC")), value=pl.lit(None, pl.Float64)
        ),
        items=pl.DataFrame({"item_id": ["a", "b"]}),
        users=None,
        calendar=Calendar(CalendarConfig()),
        gains={"click": 1},
        keep=keep,
    )


def test_rows_are_kept_that_hold_something_which_is_read():
    log = log_of(keep=("mood",))
    assert log.raw.further == ("query", "text", "mood")
    assert not log.raw.is_whole
    assert log.raw.rows.select("item", "kind", "query", "text", "mood").rows() == [
        (0, "click", "mug", None, None),
        (1, "view", None, None, 0.5),
        (1, "view", None, "good", None),
    ]
    assert log.raw.holding("text").select("user", "day", "text").rows() == [(1, DAY + 1, "good")]
    assert log_of().raw.rows.height == 2  # nobody reads moods
    assert log.raw.values("mood").to_list() == [0.5]
    assert (log.raw.has("text"), log.before(DAY + 1).raw.has("text"), log.raw.has("colour")) == (True, False, False)
    assert log.until(DAY + 1).raw.rows.height == 2


def test_a_log_that_tells_no_more_keeps_no_rows():
    silent = [(*row[:4], None, None, None) for row in ROWS]
    assert log_of(silent).raw is None
    assert log_of(silent, keep=("mood",)).raw.further == ("mood",)  # it was asked for, and is empty
    assert log_of(silent, keep=("mood",)).raw.rows.is_empty()


def test_what_every_event_has_is_kept_of_every_event():
    log = log_of(keep=("value",))
    assert log.raw.is_whole
    assert log.raw.rows.height == 5
    assert log.events["value"].null_count() == 5


def test_a_family_of_ones_own_sees_what_a_night_sees_and_what_is_read_beside():
    log = log_of(keep=("mood",))
    columns = ["user", "item", "gain", "kind", "day"]
    night = replace(log, labels=None, raw=None)
    assert sorted(log.events.select(columns).rows()) == sorted(night.events.select(columns).rows())
    assert night.events.columns == columns
    assert log.events.height == 5
    told = log.events.select("day", "item", "query", "text", "mood")
    assert told.rows() == [
        (DAY, 0, "mug", None, None),
        (DAY, 1, None, None, 0.5),
        (DAY, 0, None, None, None),
        (DAY + 1, 1, None, "good", None),
        (DAY + 1, 1, None, None, None),
    ]
    assert log.engaged["gain"].to_list() == [1, 1, 1]
    assert log.before(DAY + 1).events.height == 3
