"""The table of all single events, which no log holds: for tests that count over it, and for logs of other events."""

from dataclasses import replace

import polars as pl

from features.log.event_log import EventLog, cells_of
from features.log.label_events import LabelEvents
from features.log.raw_events import RawEvents
from features.tables.reading import ROW

__all__ = ["relogged", "single_events"]

EVERY_COLUMN = ("value", "request_id", "position", "query", "text")


def single_events(inputs, *keep: str) -> pl.DataFrame:
    """All single events of inputs that `read_inputs` read: codes, gain, kind, days, timestamp, and what else is told.

    Args:
        inputs: The inputs; their log is of the same codes.
        keep: Columns of one's own.
    """
    log = inputs.log
    whole = EventLog.build(
        events=inputs.tables["events"].good.drop(ROW),
        items=log.items.drop("item"),
        users=log.users,
        calendar=log.calendar,
        gains=dict(log.gains),
        keep=(*EVERY_COLUMN, *keep),
    )
    return whole.without_far_days().events


def relogged(log: EventLog, single: pl.DataFrame) -> EventLog:
    """The same log of other single events, under the same codes; what they tell more is kept of all of them."""
    keep = [
        name for name in single.columns if name not in ("user", "item", "gain", "kind", "day", "label_day", "timestamp")
    ]
    return replace(
        log,
        cells=cells_of(single, n_items=log.items.height),
        labels=LabelEvents.of(single),
        raw=RawEvents.of(single, keep),
        _made={},
    )
