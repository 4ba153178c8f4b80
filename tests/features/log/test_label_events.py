"""Events that labels are made of: the days of a window by hand, in one part and in several."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.log.event_parts import Part
from features.log.label_events import LabelEvents, day_spans

START = datetime(2024, 1, 1, tzinfo=UTC)


def single(*rows):
    """Single events of rows (user, item, gain, day, label_day); an hour apart."""
    columns = {"user": pl.UInt32, "item": pl.UInt32, "gain": pl.Int32, "day": pl.Int32, "label_day": pl.Int32}
    stamps = [START + timedelta(hours=hour) for hour in range(len(rows))]
    frame = pl.DataFrame(list(rows), schema=columns, orient="row")
    return frame.with_columns(pl.Series("timestamp", stamps, pl.Datetime("us", "UTC")), value=pl.lit(None, pl.Float64))


def in_parts(frame, *edges):
    """The same, as files that end at some rows."""
    files = [frame[first:end] for first, end in zip((0, *edges), (*edges, frame.height), strict=True)]
    counted = [part.filter(pl.col("gain") > 0) for part in files]
    return LabelEvents([Part.of(part) for part in counted], spans=pl.concat([day_spans(part) for part in files]))


EVENTS = single(
    (0, 0, 1, 5, 5),
    (1, 0, 0, 6, 6),  # context makes no label
    (0, 2, 3, 8, 7),  # known a day late
    (2, 1, 2, 7, 7),
    (0, 1, 1, 9, 9),
    (1, 1, 0, 11, 10),
)


@pytest.mark.parametrize("edges", [(), (3,), (1, 2, 4)])
def test_a_window_has_the_events_of_its_label_days(edges):
    events = in_parts(EVENTS, *edges)
    assert events.between(7, 9).select("user", "item", "gain", "label_day").rows() == [(0, 2, 3, 7), (2, 1, 2, 7)]
    assert events.between(5, 10).height == 4
    assert events.between(6, 7).is_empty()
    assert events.between(6, 7).columns == events.between(5, 10).columns
    assert events.between(9, 5).is_empty()
    assert events.days.to_list() == [5, 7, 9]
    assert events.last_day == 10  # an event without a gain is the last of the log
    assert events.ends == (START, START + timedelta(hours=5))


@pytest.mark.parametrize("edges", [(), (3,), (1, 2, 4)])
def test_what_ends_a_log_ends_its_labels(edges):
    events = in_parts(EVENTS, *edges)
    assert events.before(8).between(0, 99)["label_day"].to_list() == [5, 7]  # what is known late is not known yet
    assert events.until(8).between(0, 99)["label_day"].to_list() == [5, 7, 7]
    assert (events.until(8).last_day, events.until(7).last_day, events.before(9).last_day) == (7, 6, 7)
    assert events.within(6, 8).between(0, 99)["item"].to_list() == [2, 1]
    assert events.within(6, 8).ends == (START + timedelta(hours=1), START + timedelta(hours=3))
    assert events.until(8).before(8).between(6, 99)["item"].to_list() == [1]


def test_only_parts_that_meet_the_window_are_looked_at():
    early, late = Part.of(EVENTS[:1]), Part.of(EVENTS[4:5])
    events = LabelEvents([replace(early, frame=None), late], spans=day_spans(EVENTS))
    assert events.between(6, 99)["item"].to_list() == [1]
    assert [part.height for part in events.by_part(6, 99, "item")] == [1]


def test_numbers_of_users_are_read_as_codes():
    coded = replace(in_parts(EVENTS, 3), codes=np.array([2, 0, 1], np.uint32))
    assert coded.between(5, 8)["user"].to_list() == [2, 2, 1]
    assert coded.between(5, 8).schema["user"] == pl.UInt32
    assert next(coded.by_part(5, 8, "item")).columns == ["item"]


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(0, 10_000), st.integers(0, 12), st.integers(0, 12))
def test_parts_in_any_cut_give_what_a_filter_of_all_gives(seed, first, end):
    """Days of different parts overlap."""
    rng = np.random.default_rng(seed)
    label_day = rng.integers(0, 10, 60)
    rows = zip(*rng.integers(0, 4, (3, 60)), label_day + rng.integers(0, 2, 60), label_day, strict=True)
    events = single(*((int(u), int(i), int(g), int(d), int(e)) for u, i, g, d, e in rows))
    known, ends = int(rng.integers(0, 13)), int(rng.integers(0, 13))
    kept = in_parts(events, *np.sort(rng.integers(0, 60, 3)).tolist()).before(known).until(ends).between(first, end)
    day, label_day = pl.col("day"), pl.col("label_day")
    wanted = events.filter((pl.col("gain") > 0) & (label_day >= first) & (label_day < min(end, ends)) & (day < known))
    assert kept.equals(wanted.select(kept.columns))
