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

__all__ = ["NEVER", "AsOfIndex", "Ints"]

Ints = npt.NDArray[np.int64]

NEVER = -1
"""Recency where nothing was known."""

_DAY_BITS = 17  # days since 1970 up to the year 2328, and room to subtract a window
_DAY_MASK = (1 << _DAY_BITS) - 1


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
        stamp = key.cast(pl.Int64) * (1 << _DAY_BITS) + pl.col("day").cast(pl.Int64)
        daily = events.select(stamp=stamp, amount=amount).group_by("stamp").agg(pl.col("amount").sum()).sort("stamp")
        running = np.concatenate([np.zeros(1, np.int64), np.cumsum(daily["amount"].to_numpy())])
        return cls(daily["stamp"].to_numpy(), running)

    def total(self, key: Ints, as_of_day: Ints, *, window_days: int | None = None) -> Ints:
        """Total of each key over ``as_of_day - window_days <= day < as_of_day`` (all before, if None)."""
        start = np.zeros_like(as_of_day) if window_days is None else np.maximum(as_of_day - window_days, 0)
        return self.running[self._position(key, as_of_day)] - self.running[self._position(key, start)]

    def days_since_last(self, key: Ints, as_of_day: Ints) -> Ints:
        """Days from the last known day of each key to `as_of_day` (1: the day before), or `NEVER`."""
        before = self._position(key, as_of_day)
        known = before > self._position(key, np.zeros_like(as_of_day))
        last = self.stamps[np.maximum(before - 1, 0)] & _DAY_MASK if len(self.stamps) else np.zeros_like(as_of_day)
        return np.where(known, as_of_day - last, NEVER)

    def days_since_first(self, key: Ints, as_of_day: Ints) -> Ints:
        """Days from the first known day of each key to `as_of_day`, `NEVER` if there is none."""
        first = self._position(key, np.zeros_like(as_of_day))
        known = self._position(key, as_of_day) > first
        clipped = np.minimum(first, max(len(self.stamps) - 1, 0))
        since = self.stamps[clipped] & _DAY_MASK if len(self.stamps) else np.zeros_like(as_of_day)
        return np.where(known, as_of_day - since, NEVER)

    def active_days(self, key: Ints, as_of_day: Ints) -> Ints:
        """Distinct days with a total, before `as_of_day`."""
        return self._position(key, as_of_day) - self._position(key, np.zeros_like(as_of_day))

    def _position(self, key: Ints, day: Ints) -> Ints:
        """How many stamps lie before (key, day)."""
        return np.searchsorted(self.stamps, (key << _DAY_BITS) + day, side="left")
