"""What each user had engaged with, oldest first: what lies before a day is one slice of it."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import polars as pl

from features.asof import Ints, before, stamps_of
from features.timeline import EventLog

__all__ = ["History", "spread"]


@dataclass(frozen=True, slots=True)
class History:
    """Daily engagements of users, sorted by (user, day, item).

    Attributes:
        stamps: user << 17 | day.
        item: Item codes.
        day: Day numbers.
        count: Engagements of the user with the item on the day.
    """

    stamps: Ints
    item: Ints
    day: Ints
    count: Ints

    @classmethod
    def of(cls, log: EventLog) -> Self:
        """All engagements of a log."""
        daily = log.engagements.sort("user", "day", "item").cast(pl.Int64)
        user, item, day, count = (daily[name].to_numpy() for name in ("user", "item", "day", "n"))
        return cls(stamps_of(user, day), item, day, count)

    def slices(self, user: Ints, as_of_day: Ints) -> tuple[Ints, Ints]:
        """Start and end of what each user had done before each day."""
        return before(self.stamps, user, np.zeros_like(user)), before(self.stamps, user, as_of_day)


def spread(start: Ints, end: Ints) -> tuple[Ints, Ints]:
    """The places of several slices one after another, and where each slice begins in that.

    >>> spread(np.array([5, 0]), np.array([7, 1]))
    (array([5, 6, 0]), array([0, 2, 3]))
    """
    sizes = end - start
    begins = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])
    return np.arange(begins[-1]) + np.repeat(start - begins[:-1], sizes), begins
