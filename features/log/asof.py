"""The point-in-time index: totals of a key strictly before a day.

Daily totals of each key lie in one array sorted by (key, day) beside their running sum, so that any number of
questions "how many in the w days before day D" are two binary searches and a subtraction. Totals are
integers: the answer does not depend on the order of rows, on threads, or on how the question is split into
batches.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import polars as pl

__all__ = [
    "DAY_BITS",
    "DAY_MASK",
    "NEVER",
    "AsOfIndex",
    "Counts",
    "Floats",
    "Ints",
    "KeysAsOf",
    "before",
    "narrowed",
    "stamps_of",
    "summed",
]

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.signedinteger[Any]]
"""Whole numbers in 32 bits, or in 64 where one does not fit; see `narrowed`."""

NEVER = -1
"""Recency of a key without an event before the day."""

DAY_BITS = 17
"""Bits of a stamp that hold the day: days since 1970, up to the year 2328."""
DAY_MASK = (1 << DAY_BITS) - 1
"""The bits of a stamp that hold the day."""
_BITS = 63
_EXACT = 1 << 53  # integers up to it are exact as floats
_CELLS_PER_ROW = 6  # a table of all keys by all days is cheaper than a sort up to about this size
_FEW_TOTALS = 1 << 20  # that wait to be added up


def narrowed(numbers: Counts) -> Counts:
    """The same numbers in 32 bits, or in 64 if one of them does not fit."""
    limits = np.iinfo(np.int32)
    fits = numbers.min(initial=0) >= limits.min and numbers.max(initial=0) <= limits.max
    return numbers.astype(np.int32 if fits else np.int64, copy=False)


def stamps_of(key: Ints, day: npt.NDArray[np.integer]) -> Ints:
    """Pack ``key << 17 | day``: integers whose order is that of (key, day)."""
    stamps: Ints = key << DAY_BITS
    stamps |= day
    return stamps


def before(stamps: Ints, key: Ints, day: Ints) -> Ints:
    """How many of the ascending `stamps` lie before (key, day)."""
    # NOTE: searches in ascending order stay in the cache, a tenth of the time; rows mostly come in runs
    # of one key's neighbours, for which sorting would cost more than it saves.
    return np.searchsorted(stamps, (key << DAY_BITS) + day, side="left")


def summed(stamps: Ints, amounts: Counts | None = None) -> tuple[Ints, Counts]:
    """Sum amounts by stamp.

    Args:
        stamps: key << 17 | day of each row, in any order, repeated where a key has several rows a day.
        amounts: What to sum: (rows,), or (rows, series) for several sums at a time; None counts rows.

    Returns:
        The distinct stamps, ascending, and the sum or sums of each.
    """
    if (stamps[1:] > stamps[:-1]).all():
        return stamps, np.ones(len(stamps), np.int64) if amounts is None else amounts
    days = stamps & DAY_MASK
    first_day, first_key = int(days.min()), int(stamps.min()) >> DAY_BITS
    n_days, n_keys = int(days.max()) - first_day + 1, (int(stamps.max()) >> DAY_BITS) - first_key + 1
    n_cells = n_days * n_keys
    if n_cells > _CELLS_PER_ROW * len(stamps):
        return _summed_by_sorting(stamps, amounts)
    cells = stamps >> DAY_BITS
    cells *= (1 << DAY_BITS) - n_days
    np.subtract(stamps, cells, out=cells)  # key * n_days + day
    cells -= first_key * n_days + first_day
    counts = np.bincount(cells, minlength=n_cells)
    occupied = np.flatnonzero(counts)
    if amounts is None:
        totals: Counts = counts[occupied]
    elif amounts.ndim == 1:
        totals = _added_up(cells, amounts, n_cells, occupied)
    else:
        totals = np.empty((len(occupied), amounts.shape[1]), np.int64)
        for number, series in enumerate(amounts.T):
            totals[:, number] = _added_up(cells, series, n_cells, occupied)
    key = occupied // n_days
    occupied -= key * n_days
    return stamps_of(key + first_key, occupied + first_day), totals


def _added_up(cells: Ints, amounts: Counts, n_cells: int, occupied: Ints) -> Ints:
    """Sum of the amounts of each occupied cell."""
    largest = max(int(amounts.max()), -int(amounts.min()))
    if len(amounts) * largest < _EXACT:  # then no sum is rounded
        return np.bincount(cells, amounts, n_cells)[occupied].astype(np.int64)
    totals = np.zeros(n_cells, np.int64)
    np.add.at(totals, cells, amounts)
    return totals[occupied]


def _summed_by_sorting(stamps: Ints, amounts: Counts | None) -> tuple[Ints, Counts]:
    bits = len(stamps).bit_length()
    if amounts is None:
        ordered = pl.Series(stamps).sort().to_numpy()
    elif int(stamps.max()).bit_length() + bits < _BITS:
        # NOTE: polars sorts integers by all cores, and several times as fast as numpy finds their order.
        packed = pl.Series(stamps << bits | np.arange(len(stamps))).sort().to_numpy()
        ordered, amounts = packed >> bits, amounts[packed & ((1 << bits) - 1)]
    else:
        order = np.argsort(stamps, kind="stable")
        ordered, amounts = stamps[order], amounts[order]
    first = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    counts = np.diff(first, append=len(ordered)) if amounts is None else np.add.reduceat(amounts, first)
    return ordered[first], counts


def _merged(parts: list[tuple[Ints, Counts]]) -> tuple[Ints, Counts]:
    """Totals of several parts, added up."""
    if len(parts) == 1:
        return parts[0]
    stamps, totals = zip(*parts, strict=True)
    return summed(np.concatenate(stamps), np.concatenate(totals))


@dataclass(frozen=True, slots=True)
class AsOfIndex:
    """Integer totals by (key, day), searchable as of any day.

    Attributes:
        stamps: key << 17 | day of every (key, day) with a total, ascending.
        running: Running sum of the totals, one longer than `stamps`, starting with 0; or one a series, side by side
            (stamps + 1, series). In 32 bits where all sums fit.
    """

    stamps: Ints
    running: Counts

    @classmethod
    def build(cls, key: pl.Expr, events: pl.DataFrame, *, total: pl.Expr | None = None) -> Self:
        """Sum `total` (default: the number of rows) by key and day.

        Args:
            key: Integer expression over `events`, 0 <= key < 2**46.
            events: Rows with a `day`; in the order of (key, day) and one a pair is the cheapest, any will do.
            total: Integer expression over `events`.
        """
        stamp = key.cast(pl.Int64) * (1 << DAY_BITS) + pl.col("day").cast(pl.Int64)
        stamps = events.select(stamp)[:, 0].to_numpy()
        return cls.of(stamps, None if total is None else events.select(total.cast(pl.Int64))[:, 0].to_numpy())

    @classmethod
    def of(cls, stamps: Ints, amounts: Counts | None = None) -> Self:
        """From the stamps of rows; see `summed`."""
        distinct, totals = summed(stamps, amounts)
        running = np.zeros((len(distinct) + 1, *totals.shape[1:]), np.int64)
        np.cumsum(totals, axis=0, out=running[1:])
        return cls(distinct, narrowed(running))

    @classmethod
    def adding(cls, parts: Iterable[tuple[Ints, Counts | None]]) -> Self:
        """From the stamps and amounts of rows that come in parts, one at least: the same index as of all at once.

        Memory: twice the totals, and one part.
        """
        sums: list[tuple[Ints, Counts]] = []
        most = 0
        for stamps, amounts in parts:
            sums.append(summed(stamps, amounts))
            if sum(len(stamps_of_part) for stamps_of_part, _ in sums) > most:
                sums = [_merged(sums)]
                most = 2 * len(sums[0][0]) + _FEW_TOTALS
        return cls.of(*_merged(sums))

    def at(self, key: Ints, as_of_day: Ints) -> "KeysAsOf":
        """Each key strictly before its day; counts, recency and windows then share one search."""
        end = before(self.stamps, key, as_of_day)
        first = end.copy()
        if len(self.stamps):
            some = np.flatnonzero((self.stamps[end - 1] >> DAY_BITS == key) & (end > 0))
            first[some] = before(self.stamps, key[some], np.zeros(len(some), np.int64))
        return KeysAsOf(self, key, as_of_day, first, end)

    def total(self, key: Ints, as_of_day: Ints, *, window_days: int | None = None) -> Ints:
        """See `KeysAsOf.total`."""
        return self.at(key, as_of_day).total(window_days)

    def days_since_last(self, key: Ints, as_of_day: Ints) -> Ints:
        """See `KeysAsOf.days_since_last`."""
        return self.at(key, as_of_day).days_since_last()

    def days_since_first(self, key: Ints, as_of_day: Ints) -> Ints:
        """See `KeysAsOf.days_since_first`."""
        return self.at(key, as_of_day).days_since_first()

    def active_days(self, key: Ints, as_of_day: Ints) -> Ints:
        """See `KeysAsOf.active_days`."""
        return self.at(key, as_of_day).active_days()


@dataclass(frozen=True, slots=True)
class KeysAsOf:
    """The stamps of each key that lie before its as-of day: `index.stamps[first:end]`.

    Attributes:
        index: The totals.
        key: (N,) keys.
        as_of_day: (N,) days.
        first: (N,) position of the key's first stamp.
        end: (N,) position after its last one before the day; equal to `first` where there is none.
    """

    index: AsOfIndex
    key: Ints
    as_of_day: Ints
    first: Ints
    end: Ints
    _opens: dict[int, Ints] = field(default_factory=dict, repr=False, compare=False)

    def over(self, index: AsOfIndex) -> "KeysAsOf":
        """The same keys and days in another index; without another search, where it has the same stamps."""
        if np.array_equal(index.stamps, self.index.stamps):
            return replace(self, index=index)
        return index.at(self.key, self.as_of_day)

    def total(self, window_days: int | None = None) -> Ints:
        """Total over ``as_of_day - window_days <= day < as_of_day`` (all before, if None); a column a series."""
        running = self.index.running
        opens = self.first if window_days is None else self._opened(window_days)
        return np.subtract(running[self.end], running[opens], dtype=np.int64)

    def _opened(self, window_days: int) -> Ints:
        """Place of the first stamp within the window."""
        if window_days not in self._opens:
            opens = self.end.copy()
            some = np.flatnonzero(self.end > self.first)
            days = np.maximum(self.as_of_day[some] - window_days, 0)
            opens[some] = before(self.index.stamps, self.key[some], days)
            self._opens[window_days] = opens
        return self._opens[window_days]

    def days_since_last(self) -> Ints:
        """Days from the last day with a total to `as_of_day` (1: the day before), or `NEVER`."""
        return self._since(self.end - 1)

    def days_since_first(self) -> Ints:
        """Days from the first day with a total to `as_of_day`, `NEVER` if there is none."""
        return self._since(self.first)

    def active_days(self) -> Ints:
        """Distinct days with a total."""
        return self.end - self.first

    def _since(self, positions: Ints) -> Ints:
        since = np.full(len(self.end), NEVER, np.int64)
        some = np.flatnonzero(self.end > self.first)
        since[some] = self.as_of_day[some] - (self.index.stamps[positions[some]] & DAY_MASK)
        return since
