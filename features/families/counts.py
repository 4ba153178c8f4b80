"""Counts of events by type over windows, of whatever key: the part that users and items share."""

import polars as pl

from features.asof import AsOfIndex, Ints, Known
from features.families.base import Columns, Plan, Values
from features.families.supply import slug
from features.timeline import EventLog

__all__ = ["KindCounts"]


class KindCounts:
    """Engagements, and events of each type, of a key.

    Args:
        key: Integer expression over the events.
        log: The event log.
        plan: Which types are counted.
        prefix: What the columns start with.
        windows: Days that the windows look back.
    """

    def __init__(self, key: pl.Expr, log: EventLog, plan: Plan, *, prefix: str, windows: tuple[int, ...]) -> None:
        self._names = [f"{prefix}_events", *(f"{prefix}_events_{slug(kind)}" for kind in plan.supply.counted)]
        of_kind = (log.events.filter(pl.col("kind") == kind) for kind in plan.supply.counted)
        engaged = AsOfIndex.build(key, log.engagements, total=pl.col("n"))
        self._indices = [engaged, *(AsOfIndex.build(key, events) for events in of_kind)]
        self._windows = windows

    @staticmethod
    def columns(plan: Plan, *, prefix: str, what: str, windows: tuple[int, ...]) -> Columns:
        """Names and meanings."""
        named = {f"{prefix}_events": f"engagements {what}"}
        named |= {f"{prefix}_events_{slug(kind)}": f"events of type {kind} {what}" for kind in plan.supply.counted}
        return {
            f"{name}_{window}": f"{meaning}, {told}"
            for name, meaning in named.items()
            for window, told in [*((f"{days}d", _told(days)) for days in windows), ("all", "ever")]
        }

    def engaged(self, key: Ints, as_of_day: Ints) -> Known:
        """What is known of the engagements alone."""
        return self._indices[0].at(key, as_of_day)

    def compute(self, key: Ints, as_of_day: Ints, engaged: Known) -> Values:
        """The counts; `engaged` has been looked up already."""
        values: dict[str, Ints] = {}
        for name, index in zip(self._names, self._indices, strict=True):
            found = engaged if index is self._indices[0] else index.at(key, as_of_day)
            values |= {f"{name}_{days}d": found.total(days) for days in self._windows}
            values[f"{name}_all"] = found.total()
        return values


def _told(days: int) -> str:
    return "last day" if days == 1 else f"last {days} days"
