"""What each user had engaged with, oldest first: what lies before a day is one slice of it."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from features.asof import Ints, before, stamps_of
from features.engagements import Interactions

__all__ = ["History"]


@dataclass(frozen=True, slots=True)
class History:
    """Daily engagements of users, sorted by (user, day, item).

    Attributes:
        stamps: user << 17 | day.
        item: Item codes (UInt32).
        day: Day numbers (Int32).
        count: Engagements of the user with the item on the day.
    """

    stamps: Ints
    item: npt.NDArray[np.uint32]
    day: npt.NDArray[np.int32]
    count: Ints

    @classmethod
    def of(cls, found: Interactions) -> Self:
        """All engagements of a log."""
        stamps = stamps_of(found.user.astype(np.int64), found.day)
        order = np.argsort(stamps, kind="stable")  # items of one day stay in their order
        return cls(stamps[order], found.item[order], found.day[order], found.n[order])

    def slices(self, user: Ints, as_of_day: Ints) -> tuple[Ints, Ints]:
        """Start and end of what each user had done before each day."""
        return before(self.stamps, user, np.zeros_like(user)), before(self.stamps, user, as_of_day)
