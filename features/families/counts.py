"""Counts of events by type over windows, of whatever key: the part that users and items share."""

import numpy as np

from features.log.asof import AsOfIndex, Counts, Ints, KeysAsOf, stamps_of
from features.log.engagements import Engagements
from features.log.event_log import EventLog
from features.log.inventory import slugs
from features.signals.family import Columns, Plan, Values

__all__ = ["KindCounts"]


class KindCounts:
    """Engagements, and events of each type, of users or of items.

    Args:
        log: The event log.
        plan: Which types are counted.
        key: `user` or `item`: the column of codes, and what the columns' names start with.
        engaged: Engagements by the key.
        windows: Days that the windows look back.
    """

    def __init__(self, log: EventLog, plan: Plan, *, key: str, engaged: AsOfIndex, windows: tuple[int, ...]) -> None:
        self._key, self._windows, self._kinds = key, windows, slugs(plan.inventory.counted)
        self._engaged = engaged
        self._by_kind = self._of_kinds(log) if self._kinds else None

    def _of_kinds(self, log: EventLog) -> AsOfIndex:
        """Events of each type, a series a type."""
        return AsOfIndex.adding(self._of_part(part) for part in log.cells.parts())

    def _of_part(self, cells: Engagements) -> tuple[Ints, Counts]:
        code = {kind: number for number, kind in enumerate(cells.kinds)}  # -1 for a type that occurs no longer
        of_type = cells.kind_codes
        amounts_NK = np.stack(
            [np.where(of_type == code.get(kind, -1), cells.counts, 0) for kind in self._kinds], axis=1
        )
        key = cells.users if self._key == "user" else cells.items
        return stamps_of(key, cells.days), amounts_NK

    @staticmethod
    def columns(plan: Plan, *, key: str, what: str, windows: tuple[int, ...]) -> Columns:
        """Names and meanings."""
        named = {f"{key}_events": f"engagements {what}"}
        named |= {
            f"{key}_events_{name}": f"events of type {kind} {what}"
            for kind, name in slugs(plan.inventory.counted).items()
        }
        return {
            f"{name}_{window}": f"{meaning}, {span}"
            for name, meaning in named.items()
            for window, span in [*((f"{days}d", _span_text(days)) for days in windows), ("all", "ever")]
        }

    def engaged(self, key: Ints, as_of_day: Ints) -> KeysAsOf:
        """Engagements of each key before its day."""
        return self._engaged.at(key, as_of_day)

    def compute(self, engaged: KeysAsOf) -> Values:
        """The counts of the keys and days of `engaged`."""
        values: dict[str, Ints] = {}
        by_kind = None if self._by_kind is None else engaged.over(self._by_kind)
        for end, days in [*((f"{days}d", days) for days in self._windows), ("all", None)]:
            values[f"{self._key}_events_{end}"] = engaged.total(days)
            totals = () if by_kind is None else by_kind.total(days).T
            of_kinds = zip(self._kinds.values(), totals, strict=True)
            values |= {f"{self._key}_events_{name}_{end}": n for name, n in of_kinds}
        return values


def _span_text(days: int) -> str:
    return "last day" if days == 1 else f"last {days} days"
