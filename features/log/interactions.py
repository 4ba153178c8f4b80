"""How often users engaged with items a day: the cells of the log over several event types, by user and by day."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import polars as pl

from features.log.asof import DAY_BITS, DAY_MASK, NEVER, AsOfIndex, Counts, Ints, stamps_of
from features.log.positions import Positions, by_code, parts_of
from features.tables.frames import DailyCounts

__all__ = ["Interactions", "by_item", "spread"]


@dataclass(frozen=True, eq=False)
class Interactions:
    """How often each user engaged with each item on each day, over several event types; by (user, item, day).

    Attributes:
        user: User codes (UInt32).
        item: Item codes (UInt32).
        day: Day numbers (Int32).
        n: Events, or what else was summed; above 0. In 32 bits where all fit.
    """

    user: npt.NDArray[np.uint32]
    item: npt.NDArray[np.uint32]
    day: npt.NDArray[np.int32]
    n: Counts

    @classmethod
    def of(cls, parts: Iterable[tuple[Ints, Counts]], *, most: int, n_items: int, width: np.dtype[Any]) -> Self:
        """Of folded stamps and their sums.

        Args:
            parts: Stamps ``(user * n_items + item) << 17 | day``, ascending, and what is summed of each.
            most: At most so many there are.
            n_items: Items of the catalogue.
            width: Type of the sums.
        """
        user, item = (np.empty(most, np.uint32) for _ in range(2))
        day, n = np.empty(most, np.int32), np.empty(most, width)
        end = 0
        for stamps, amounts in parts:
            target = slice(end, end := end + len(stamps))
            pair = stamps >> DAY_BITS
            of_user = pair // n_items
            user[target], item[target] = of_user, pair - of_user * n_items
            day[target], n[target] = stamps & DAY_MASK, amounts
        for column in (user, item, day, n):
            column.resize(end, refcheck=False)  # NOTE: pages that were never written to took no memory
        return cls(user, item, day, n)

    def __len__(self) -> int:
        return len(self.user)

    @property
    def frame(self) -> pl.DataFrame:
        """A copy as `DailyCounts`."""
        n = self.n.astype(np.int64, copy=False)
        return DailyCounts.of(user=self.user, item=self.item, day=self.day, n=n)

    @cached_property
    def is_first(self) -> npt.NDArray[np.bool_]:
        """Where a pair of user and item stands for the first time."""
        first = np.ones(len(self), np.bool_)
        first[1:] = (self.user[1:] != self.user[:-1]) | (self.item[1:] != self.item[:-1])
        return first

    def slices(self) -> Iterator[slice]:
        """Slices of rows in parts, one at least, all of a user in one."""
        return parts_of(len(self), lambda row: int(np.searchsorted(self.user, self.user[row - 1], side="right")))

    def parts(self) -> Iterator[Self]:
        """The same in such parts."""
        for part in self.slices():
            yield replace(self, user=self.user[part], item=self.item[part], day=self.day[part], n=self.n[part])

    def pairs(self, n_items: int) -> Ints:
        """The pair of each: ``user * n_items + item``."""
        pairs: Ints = self.user.astype(np.int64)
        pairs *= n_items
        pairs += self.item
        return pairs

    @property
    def by_day(self) -> Positions:
        """Positions in the order of days, those of one day in their own order."""
        return self._by_day[1]

    @cached_property
    def _by_day(self) -> tuple[int, Positions, Ints]:
        """The first day, `by_day`, and where each day from the first on begins in it."""
        first, last = (int(end(self.day)) for end in (np.min, np.max)) if len(self) else (0, 0)
        return first, *by_code(lambda part: self.day[part] - np.int32(first), len(self), last - first + 1)

    def between(self, first_day: int, end_day: int) -> Positions:
        """Positions of the days ``first_day <= day < end_day``, by day."""
        first, positions, begins = self._by_day
        start, end = (begins[min(max(day - first, 0), len(begins) - 1)] for day in (first_day, end_day))
        return positions[start:end]

    def first_days(self, user: Ints, item: Ints) -> Ints:
        """(N,) the day of the first event of each pair of user and item; `NEVER` where there is none."""
        first = np.full(len(user), NEVER, np.int64)
        for part in parts_of(len(user)):
            first[part] = self._first_days(user[part], item[part])
        return first

    def _first_days(self, user: Ints, item: Ints) -> Ints:
        if not len(self):
            return np.full(len(user), NEVER, np.int64)
        wanted = user.astype(np.uint32)
        low, end = (np.searchsorted(self.user, wanted + np.uint32(after)) for after in (0, 1))
        high, last = end.copy(), len(self) - 1
        while (open_ := low < high).any():  # a search by halves in all users' items at once
            middle = (low + high) >> 1
            is_before = self.item[np.minimum(middle, last)] < item
            low, high = np.where(open_ & is_before, middle + 1, low), np.where(open_ & ~is_before, middle, high)
        position = np.minimum(low, last)
        return np.where((low < end) & (self.item[position] == item), self.day[position], NEVER)

    def of_users(self, users: Ints) -> tuple[Ints, Ints]:
        """The positions of some users, one user after the other, and where each one's begin in that (users + 1)."""
        wanted = users.astype(np.uint32)  # NOTE: of another type, all codes would be cast for each search
        return spread(*(np.searchsorted(self.user, wanted + np.uint32(after)) for after in (0, 1)))


def by_item(parts: Iterable[Interactions]) -> AsOfIndex:
    """Events by item, of all parts."""
    return AsOfIndex.adding((stamps_of(part.item.astype(np.int64), part.day), part.n) for part in parts)


def spread(start: Ints, end: Ints) -> tuple[Ints, Ints]:
    """The positions of several slices one after another, and where each slice begins in that.

    >>> spread(np.array([5, 0]), np.array([7, 1]))
    (array([5, 6, 0]), array([0, 2, 3]))
    """
    sizes = end - start
    begins = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])
    return np.arange(begins[-1]) + np.repeat(start - begins[:-1], sizes), begins
