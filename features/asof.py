"""The one point-in-time primitive: what was known about a key strictly before a day.

Daily totals of each key lie in one array sorted by (key, day) beside their running sum, so that any number of
questions "how many in the w days before day D" are two binary searches and a subtraction. Totals are
integers: the answer does not depend on the order of rows, on threads, or on how the question is split into
batches.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import polars as pl

__all__ = ["NEVER", "AsOfIndex", "Floats", "Ints", "Known", "before", "stamp_of"]

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

NEVER = -1
"""Recency where nothing was known."""

_DAY_BITS = 17  # days since 1970 up to the year 2328, and room to subtract a window
_DAY_MASK = (1 << _DAY_BITS) - 1


def stamp_of(key: pl.Expr) -> pl.Expr:
    """One integer for (key, `day`) that sorts as the two do."""
    return key.cast(pl.Int64) * (1 << _DAY_BITS) + pl.col("day").cast(pl.Int64)


def before(stamps: Ints, key: Ints, day: Ints) -> Ints:
    """How many of the ascending `stamps` lie before (key, day)."""
    return np.searchsorted(stamps, (key << _DAY_BITS) + day, side="left")


@dataclass(frozen=True, slots=True)
class AsOfIndex:
    """Integer totals by (key, day), searchable as of any day.

    Attributes:
        stamps: key << 17 | day of every (key, day) with a total, ascending.
        running: Running sum of the totals, one longer than `stamps`, starting with 0.
    """

    stamps: Ints
    running: Ints

    @classmethod
    def build(cls, key: pl.Expr, events: pl.DataFrame, *, total: pl.Expr | None = None) -> Self:
        """Sum `total` (default: the number of rows) by key and day.

        Args:
            key: Integer expression over `events`, 0 <= key < 2**46.
            events: Rows with a `day`.
            total: Integer expression over `events`.
        """
        amount = pl.lit(1, pl.Int64) if total is None else total.cast(pl.Int64)
        rows = events.lazy().select(stamp=stamp_of(key), amount=amount)
        daily = rows.group_by("stamp").agg(pl.col("amount").sum()).sort("stamp").collect()
        running = np.concatenate([np.zeros(1, np.int64), np.cumsum(daily["amount"].to_numpy())])
        return cls(daily["stamp"].to_numpy(), running)

    def at(self, key: Ints, as_of_day: Ints) -> "Known":
        """What is known of each key as of each day, to be asked several questions."""
        return Known(
            self, key, as_of_day, before(self.stamps, key, np.zeros_like(key)), before(self.stamps, key, as_of_day)
        )

    def total(self, key: Ints, as_of_day: Ints, *, window_days: int | None = None) -> Ints:
        """See `Known.total`."""
        return self.at(key, as_of_day).total(window_days)

    def days_since_last(self, key: Ints, as_of_day: Ints) -> Ints:
        """See `Known.days_since_last`."""
        return self.at(key, as_of_day).days_since_last()

    def days_since_first(self, key: Ints, as_of_day: Ints) -> Ints:
        """See `Known.days_since_first`."""
        return self.at(key, as_of_day).days_since_first()

    def active_days(self, key: Ints, as_of_day: Ints) -> Ints:
        """See `Known.active_days`."""
        return self.at(key, as_of_day).active_days()


@dataclass(frozen=True, slots=True)
class Known:
    """The stamps of each asked key that lie before its as-of day: `index.stamps[first:end]`.

    Attributes:
        index: The totals.
        key: Asked keys.
        as_of_day: Asked days.
        first: Place of the key's first stamp.
        end: Place after its last one before the day; `first` where nothing is known.
    """

    index: AsOfIndex
    key: Ints
    as_of_day: Ints
    first: Ints
    end: Ints

    def total(self, window_days: int | None = None) -> Ints:
        """Total over ``as_of_day - window_days <= day < as_of_day`` (all before, if None)."""
        if window_days is None:
            return self.index.running[self.end] - self.index.running[self.first]
        found = np.zeros_like(self.end)
        some = np.flatnonzero(self.end > self.first)
        start = np.maximum(self.as_of_day[some] - window_days, 0)
        opens = before(self.index.stamps, self.key[some], start)
        found[some] = self.index.running[self.end[some]] - self.index.running[opens]
        return found

    def days_since_last(self) -> Ints:
        """Days from the last known day to `as_of_day` (1: the day before), or `NEVER`."""
        return self._since(self.end - 1)

    def days_since_first(self) -> Ints:
        """Days from the first known day to `as_of_day`, `NEVER` if there is none."""
        return self._since(self.first)

    def active_days(self) -> Ints:
        """Distinct days with a total."""
        return self.end - self.first

    def _since(self, place: Ints) -> Ints:
        stamps = self.index.stamps
        if not len(stamps):
            return np.full_like(self.end, NEVER)
        day = stamps[np.clip(place, 0, len(stamps) - 1)] & _DAY_MASK
        return np.where(self.end > self.first, self.as_of_day - day, NEVER)
