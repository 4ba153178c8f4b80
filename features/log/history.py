"""Engagements of each user, oldest first, so that those before a day are one slice."""

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
import numpy.typing as npt

from features.log.asof import Counts, Ints, before, stamps_of
from features.log.interactions import Interactions
from features.log.positions import Positions

__all__ = ["History"]


@dataclass(frozen=True, eq=False)
class History:
    """Daily engagements of users, sorted by (user, day, item).

    Attributes:
        done: The engagements.
        order: Their positions in that order.
    """

    done: Interactions
    order: Positions

    @classmethod
    def of(cls, done: Interactions) -> Self:
        """All engagements of a log."""
        order = np.empty(len(done), np.uint32)
        for part in done.slices():
            stamps = stamps_of(done.user[part].astype(np.int64), done.day[part])
            order[part] = np.argsort(stamps, kind="stable") + part.start  # items of one day stay in their order
        return cls(done, order)

    @cached_property
    def stamps(self) -> Ints:
        """User << 17 | day of each engagement: kept, since only the history of a portion's users is asked for them."""
        return stamps_of(self.done.user[self.order].astype(np.int64), self.done.day[self.order])

    def taken(self, positions: Ints | slice) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.int32], Counts]:
        """Item, day and count of the engagements at some positions."""
        at = self.order[positions]
        return self.done.item[at], self.done.day[at], self.done.n[at]

    def slices(self, user: Ints, as_of_day: Ints) -> tuple[Ints, Ints]:
        """Start and end of what each user had done before each day."""
        return before(self.stamps, user, np.zeros_like(user)), before(self.stamps, user, as_of_day)
