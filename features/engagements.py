"""Engagements: what happened between users and items, as sorted cells of whole numbers a day and event type.

All that happened between a user and an item on a day is folded to one cell an event type: how many events, and what
they were worth. Integers add up the same in any order, so that folding a log at once, day by day, or one part of the
users after the other gives the same cells to the bit. Training, evaluation and the night read the same cells.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import numpy as np
import numpy.typing as npt
import polars as pl

from features.asof import DAY_BITS, DAY_MASK, Ints, summed
from features.calendar import Calendar
from features.errors import ContractError
from features.worth import packed_worth

__all__ = ["KEPT_BY_DAY", "SUMMED_BY_DAY", "Engagements", "Interactions", "first_days", "fold_events", "spread"]

KEPT_BY_DAY = ("user", "item", "gain", "kind", "day")
"""Columns of single events that the cells tell, each gain by its event type."""
SUMMED_BY_DAY = ("value",)
"""Columns that they hold the sums of (`Engagements.worth`)."""

_CHUNK = 1 << 16  # cells looked through at a time for event types


def fold_events(events: pl.DataFrame, calendar: Calendar) -> pl.DataFrame:
    """Events of a few days by their ids, as they are kept from night to night.

    Args:
        events: user_id, item_id, event, timestamp, value of `Events`.
        calendar: Where days are cut.

    Returns:
        user_id, item_id, event, day (Int32), n (Int64), worth (`features.worth`): the cells of `Engagements`; sorted by
        the first four.
    """
    days = pl.Series("day", calendar.days(events["timestamp"]), dtype=pl.Int32)
    cell = ["user_id", "item_id", "event", "day"]
    sums = {"n": pl.len().cast(pl.Int64), "worth": packed_worth(pl.col("value")).sum()}
    return events.with_columns(days).group_by(cell).agg(**sums).sort(cell)


@dataclass(frozen=True, slots=True)
class Engagements:
    """Cells (user, item, day, event type), one integer each, ascending, and what happened in them.

    Attributes:
        cells: ``((user * n_items + item) << 17 | day) << kind_bits | kind``, ascending, each once.
        counts: Events of each cell, at least 1.
        n_items: Items of the catalogue that the item codes refer to.
        kinds: The event types, by code.
        worth: `features.worth` of each cell's events; None where nobody asks for it.
    """

    cells: Ints
    counts: Ints
    n_items: int
    kinds: tuple[str, ...]
    worth: Ints | None = None

    @classmethod
    def cell(cls, user: Ints, item: Ints, day: Ints, kind: Ints, *, n_items: int, n_kinds: int) -> Ints:
        """The cell of each event.

        Raises:
            ContractError: There are too many users, items and event types for 63 bits.
        """
        bits = _kind_bits(n_kinds)
        _refuse_too_many(int(user.max()) + 1 if len(user) else 0, n_items, n_kinds)
        cells: Ints = user * n_items
        cells += item
        cells <<= DAY_BITS
        cells |= day
        cells <<= bits
        cells |= kind
        return cells

    @classmethod
    def fold(
        cls,
        cells: Ints,
        *,
        n_items: int,
        kinds: tuple[str, ...],
        counts: Ints | None = None,
        worth: Ints | None = None,
    ) -> Self:
        """Add up events, or cells that were folded before.

        Args:
            cells: Cell of each, in any order.
            n_items: Items of the catalogue.
            kinds: Event types by code.
            counts: Events that each stands for; None for one each.
            worth: What they are worth, if that is asked for; then counts are told too.
        """
        if worth is None or counts is None:
            distinct, totals = summed(cells, counts)
            return cls(distinct, totals, n_items, kinds)
        if not (cells[1:] > cells[:-1]).all():
            ordered = pl.DataFrame({"cell": cells, "n": counts, "worth": worth}).sort("cell")
            cells, counts, worth = (ordered[name].to_numpy() for name in ordered.columns)
            first = _run_starts(cells)
            if len(first) < len(cells):
                cells, counts, worth = cells[first], _sums(counts, first), _sums(worth, first)
        return cls(cells, counts, n_items, kinds, worth)

    def plus(self, other: Self) -> Self:
        """The cells of both, over the same codes; those of `other`, the fewer, are merged in without sorting again."""
        place = np.searchsorted(self.cells, other.cells)
        held = np.zeros(len(place), bool)
        inside = place < len(self.cells)
        held[inside] = self.cells[place[inside]] == other.cells[inside]
        cells = np.insert(self.cells, place[~held], other.cells[~held])
        again = np.searchsorted(cells, other.cells[held])

        def merged(mine: Ints, others: Ints) -> Ints:
            amounts = np.insert(mine, place[~held], others[~held])
            amounts[again] += others[held]
            return amounts

        both = self.worth is not None and other.worth is not None
        worth = merged(self.worth, other.worth) if both else None  # type: ignore[arg-type]
        return replace(self, cells=cells, counts=merged(self.counts, other.counts), worth=worth)

    def recoded(self, users: Ints, items: Ints, *, n_items: int, kinds: tuple[str, ...]) -> Self:
        """The same counts under other codes in the same order; cells of what has no code any more are left out.

        Args:
            users: New code of each user code, ascending where it is not -1 (none).
            items: New code of each item code, likewise.
            n_items: Items of the new catalogue.
            kinds: The event types, with the present ones first.
        """
        assert kinds[: len(self.kinds)] == self.kinds
        bits = _kind_bits(len(self.kinds))
        old, runs = np.arange(len(users)), self.cells_of_users(len(users))
        alike = bits == _kind_bits(len(kinds)) and (items == np.arange(len(items))).all()
        held = users[runs > 0]
        if alike and (held >= 0).all():  # one addition, or nothing at all
            _refuse_too_many(int(held.max(initial=-1)) + 1, n_items, len(kinds))
            moved = (users * n_items - old * self.n_items) << (bits + DAY_BITS)
            cells = self.cells + np.repeat(moved, runs) if moved[runs > 0].any() else self.cells
            return replace(self, cells=cells, n_items=n_items, kinds=kinds)
        user = np.repeat(users, runs)
        item = items[(self.cells >> (bits + DAY_BITS)) - np.repeat(old * self.n_items, runs)]
        cells = self.cell(user, item, self.days, self.cells & ((1 << bits) - 1), n_items=n_items, n_kinds=len(kinds))
        kept = (user >= 0) & (item >= 0)
        if kept.all():
            return replace(self, cells=cells, n_items=n_items, kinds=kinds)
        return replace(self.at(kept), cells=cells[kept], n_items=n_items, kinds=kinds)

    def between(self, first_day: int, last_day: int) -> Self:
        """The cells of some days, the first and the last of them included."""
        days = self.days
        return self.at((days >= first_day) & (days <= last_day))

    @property
    def days(self) -> Ints:
        """Day of each cell."""
        return (self.cells >> _kind_bits(len(self.kinds))) & DAY_MASK

    @property
    def present(self) -> pl.Series:
        """The event types that occur."""
        codes = np.zeros(0, np.int64)
        for start in range(0, len(self.cells), _CHUNK):
            codes = np.union1d(codes, self.cells[start : start + _CHUNK] & ((1 << _kind_bits(len(self.kinds))) - 1))
            if len(codes) == len(self.kinds):
                break
        return pl.Series(self.kinds, dtype=pl.String).gather(codes)

    def cells_of_users(self, n_users: int) -> Ints:
        """How many cells each of the first `n_users` users has, by code."""
        runs = np.zeros(n_users, np.int64)
        if len(self.cells):
            bits = _kind_bits(len(self.kinds)) + DAY_BITS
            n_held = int(self.cells[-1] >> bits) // self.n_items + 1
            firsts = (np.arange(n_held) * self.n_items) << bits
            runs[:n_held] = np.diff(np.searchsorted(self.cells, firsts), append=len(self.cells))
        return runs

    def at(self, kept: npt.NDArray[np.bool_] | Ints) -> Self:
        """The cells for which `kept` stands, or at the places that it names."""
        worth = None if self.worth is None else self.worth[kept]
        return replace(self, cells=self.cells[kept], counts=self.counts[kept], worth=worth)

    def of_kinds(self, kinds: Collection[str]) -> "Interactions":
        """Events of some types, folded over the types; see `Interactions`."""
        return Interactions.of(*self._folded([kind in kinds for kind in self.kinds], self.counts), n_items=self.n_items)

    def counting(self, gains: Mapping[str, int]) -> "Interactions":
        """Events that count: those of the types whose gain is above 0."""
        return self.of_kinds([kind for kind, gain in gains.items() if gain > 0])

    def worth_of(self, gains: Mapping[str, int]) -> "Interactions":
        """What the events that count are worth (`features.worth`), as `n`; pairs and days without a value are out."""
        assert self.worth is not None, "what was folded without it is asked for its worth"
        stamps, worth = self._folded([gains.get(kind, 0) > 0 for kind in self.kinds], self.worth)
        return Interactions.of(stamps[worth > 0], worth[worth > 0], n_items=self.n_items)

    def _folded(self, wanted: Sequence[bool], amounts: Ints) -> tuple[Ints, Ints]:
        """Sums over some of the types: (user * n_items + item) << 17 | day, ascending, each once, and the sum."""
        bits, cells = _kind_bits(len(self.kinds)), self.cells
        if not all(wanted):
            kept = np.array(wanted, np.bool_)[cells & ((1 << bits) - 1)]
            cells, amounts = cells[kept], amounts[kept]
        stamps = cells >> bits
        first = _run_starts(stamps)
        return (stamps, amounts) if len(first) == len(stamps) else (stamps[first], _sums(amounts, first))

    @property
    def nbytes(self) -> int:
        """Bytes of all cells."""
        return self.cells.nbytes + self.counts.nbytes + (0 if self.worth is None else self.worth.nbytes)

    @property
    def kind_codes(self) -> Ints:
        """Code of each cell's event type."""
        codes: Ints = self.cells & ((1 << _kind_bits(len(self.kinds))) - 1)
        return codes

    @property
    def users(self) -> Ints:
        """User code of each cell."""
        users: Ints = (self.cells >> (_kind_bits(len(self.kinds)) + DAY_BITS)) // self.n_items
        return users

    @property
    def items(self) -> Ints:
        """Item code of each cell."""
        items: Ints = (self.cells >> (_kind_bits(len(self.kinds)) + DAY_BITS)) % self.n_items
        return items

    def starts(self, n_users: int) -> Ints:
        """(n_users + 1) where the cells of each of the first `n_users` users begin, and where the last ones end."""
        starts: Ints = np.concatenate([np.zeros(1, np.int64), np.cumsum(self.cells_of_users(n_users))])
        return starts

    def taken(self, places: Ints) -> tuple[Ints, Ints, Ints]:
        """Item, day and event type (its code) of the cells at some places."""
        bits, cells = _kind_bits(len(self.kinds)), self.cells[places]
        item: Ints = (cells >> (bits + DAY_BITS)) % self.n_items
        return item, (cells >> bits) & DAY_MASK, cells & ((1 << bits) - 1)

    def frame(self) -> pl.DataFrame:
        """One row a cell: user, item (UInt32), day (Int32), kind (Enum), n (Int64)."""
        bits = _kind_bits(len(self.kinds))
        pair = self.cells >> (bits + DAY_BITS)
        user = pair // self.n_items
        return pl.DataFrame(
            {
                "user": user.astype(np.uint32),
                "item": (pair - user * self.n_items).astype(np.uint32),
                "day": self.days.astype(np.int32),
                "kind": pl.Series(self.kinds, dtype=pl.Enum(self.kinds)).gather(self.kind_codes),
                "n": self.counts,
            }
        )


@dataclass(frozen=True, eq=False)
class Interactions:
    """How often each user engaged with each item on each day, over several event types; by (user, item, day).

    Attributes:
        user: User codes (UInt32).
        item: Item codes (UInt32).
        day: Day numbers (Int32).
        n: Events (Int64), or what else was summed; above 0.
    """

    user: npt.NDArray[np.uint32]
    item: npt.NDArray[np.uint32]
    day: npt.NDArray[np.int32]
    n: Ints

    @classmethod
    def of(cls, stamps: Ints, amounts: Ints, *, n_items: int) -> Self:
        """Of folded stamps ``(user * n_items + item) << 17 | day``, ascending, and their sums."""
        pair = stamps >> DAY_BITS
        user = pair // n_items
        pair -= user * n_items
        day = (stamps & DAY_MASK).astype(np.int32)
        return cls(user.astype(np.uint32), pair.astype(np.uint32), day, amounts)

    def __len__(self) -> int:
        return len(self.user)

    @cached_property
    def frame(self) -> pl.DataFrame:
        """The same as user, item (UInt32), day (Int32), n (Int64)."""
        return pl.DataFrame({"user": self.user, "item": self.item, "day": self.day, "n": self.n})

    @cached_property
    def is_first(self) -> npt.NDArray[np.bool_]:
        """Where a pair of user and item stands for the first time."""
        first = np.ones(len(self), np.bool_)
        first[1:] = (self.user[1:] != self.user[:-1]) | (self.item[1:] != self.item[:-1])
        return first

    @cached_property
    def by_day(self) -> npt.NDArray[np.uint32]:
        """Places in the order of days, those of one day in their own order."""
        since = self.day - (self.day.min() if len(self) else 0)
        width = np.min_scalar_type(int(since.max(initial=0)))  # NOTE: 16 bits are sorted in a fifth of the time
        return np.argsort(since.astype(width), kind="stable").astype(np.uint32)

    @cached_property
    def _ordered_days(self) -> npt.NDArray[np.int32]:
        return self.day[self.by_day]

    def between(self, first_day: int, end_day: int) -> npt.NDArray[np.uint32]:
        """Places of the days ``first_day <= day < end_day``, by day."""
        edges = np.array([first_day, max(end_day, first_day)], np.int32)  # NOTE: see `of_users`
        start, end = np.searchsorted(self._ordered_days, edges)
        return self.by_day[start:end]

    def of_users(self, users: Ints) -> tuple[Ints, Ints]:
        """The places of some users, one user after the other, and where each one's begin in that (users + 1)."""
        wanted = users.astype(np.uint32)  # NOTE: of another type, all codes would be cast for each search
        return spread(*(np.searchsorted(self.user, wanted + np.uint32(after)) for after in (0, 1)))


def first_days(cells: Engagements) -> tuple[Ints, Ints]:
    """The items that have an event of any type, ascending, and the day of the first of each."""
    first = np.full(cells.n_items, 1 << DAY_BITS, np.int64)
    np.minimum.at(first, cells.items, cells.days)
    items: Ints = np.flatnonzero(first < 1 << DAY_BITS)
    return items, first[items]


def spread(start: Ints, end: Ints) -> tuple[Ints, Ints]:
    """The places of several slices one after another, and where each slice begins in that.

    >>> spread(np.array([5, 0]), np.array([7, 1]))
    (array([5, 6, 0]), array([0, 2, 3]))
    """
    sizes = end - start
    begins = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])
    return np.arange(begins[-1]) + np.repeat(start - begins[:-1], sizes), begins


def _refuse_too_many(n_users: int, n_items: int, n_kinds: int) -> None:
    if n_users * n_items >= 1 << (63 - DAY_BITS - _kind_bits(n_kinds)):
        raise ContractError(
            f"events: {n_users} users times {n_items} items times {n_kinds} event types is more than nightrank counts "
            "in one table. Split the log by market, or drop event types."
        )


def _kind_bits(n_kinds: int) -> int:
    return max(n_kinds - 1, 0).bit_length()


def _run_starts(ordered: Ints) -> Ints:
    """Where each run of equal integers begins."""
    starts: Ints = np.flatnonzero(np.concatenate([np.ones(min(len(ordered), 1), bool), ordered[1:] != ordered[:-1]]))
    return starts


def _sums(amounts: Ints, first: Ints) -> Ints:
    """Sum of each run."""
    return np.add.reduceat(amounts, first) if len(first) else amounts
