"""How days are cut, by hand: 56 days, 1 January to 25 February 2024."""

from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest

from features.config import CalendarConfig, LabelsConfig, TimelineConfig
from features.errors import ConfigError
from features.log.event_log import Calendar, EventLog, day_of
from features.requests.split import Span, Split

FIRST = day_of(date(2024, 1, 1))


def log_of(days, **calendar):
    start = datetime(2024, 1, 1, 12, tzinfo=UTC)
    events = pl.DataFrame({"timestamp": [start, start + timedelta(days=days - 1)]}).with_columns(
        pl.col("timestamp").cast(pl.Datetime("us", "UTC")),
        user_id=pl.lit("u"),
        item_id=pl.lit("i"),
        event=pl.lit("click"),
        value=pl.lit(None, pl.Float64),
    )
    return EventLog.build(
        events=events,
        items=pl.DataFrame({"item_id": ["i"]}),
        users=None,
        calendar=Calendar(CalendarConfig(**calendar)),
        gains={"click": 1},
    )


def split(days=56, *, horizon_days=1, lag_hours=0, **timeline):
    told = {"test_days": 7, "valid_days": 7, "ranker_days": 28, "min_history_days": 7, "blocks": 2, **timeline}
    log = log_of(days, ingestion_lag_hours=lag_hours)
    return Split.of(log, TimelineConfig(**told), LabelsConfig(horizon_days=horizon_days))


def span(start, end, closed=None):
    return Span(FIRST + start, FIRST + end, FIRST + (end if closed is None else closed))


def test_windows_are_counted_back_from_the_last_day():
    found = split()
    assert found.warm_up == span(7, 14)
    assert found.blocks == (span(14, 28), span(28, 42))
    assert found.valid == span(42, 49)
    assert found.test == span(49, 56)


def test_a_request_counts_once_its_labels_are_closed_and_known():
    # of three days' labels the last two, and of a 30-hour lag two more days, are not known yet when a span ends
    found = split(horizon_days=3, lag_hours=30)
    assert [part.end - part.closed_end for part in (found.warm_up, *found.blocks, found.valid)] == [4, 4, 4, 4]
    assert found.test == span(49, 56, 54)  # complete is enough


@pytest.mark.parametrize("blocks", [1, 3, 5, 20])
def test_blocks_follow_one_another_without_gap_or_overlap(blocks):
    found = split(blocks=blocks).blocks
    assert len(found) == blocks
    edges = [found[0].start, *(block.end for block in found)]
    assert [block.start for block in found] == edges[:-1]
    assert (edges[0], edges[-1]) == (FIRST + 14, FIRST + 42)
    sizes = [block.end - block.start for block in found]
    assert max(sizes) - min(sizes) <= 1


def test_a_log_that_is_too_short_says_what_it_needs():
    needed = 7 + 7 + 28 + 7 + 1
    assert split(needed).warm_up == span(7, 8)
    with pytest.raises(ConfigError, match=rf"spans {needed - 1} days .* needs {needed}\. Shorten timeline.ranker_days"):
        split(needed - 1)


def test_after_a_day_what_is_not_learned_is_cut_into_blocks_as_long_as_before():
    whole = split()  # two blocks of 14 days; validation starts on day 42
    assert [block.end - block.start for block in whole.blocks] == [14, 14]
    start = whole.valid.start
    few = whole.after(start - 5)
    assert (few.warm_up, few.blocks) == (Span(start - 5, start, start), ())
    assert (few.valid, few.test) == (whole.valid, whole.test)
    many = whole.after(start - 29)
    assert (many.warm_up, many.blocks) == (Span(start - 29, start - 15, start - 15), (Span(start - 15, start, start),))


def test_after_a_day_labels_must_have_closed_by_validation():
    whole = split(horizon_days=3)
    start = whole.valid.start
    assert whole.after(start - 3).warm_up == Span(start - 3, start, start - 2)
    for day in (start - 2, start, start + 9):
        with pytest.raises(ConfigError, match=r"nothing new to learn: .*shorten timeline\.test_days or valid_days"):
            whole.after(day)
