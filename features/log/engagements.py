"""Engagements: what happened between users and items, as sorted cells of whole numbers a day and event type.

All that happened between a user and an item on a day is folded to one cell an event type: the number of events, and
the sum of their values (`features.log.packed_values`). Integers add up the same in any order, so that folding a log at
once, day by day, or one part of the users after the other gives the same cells to the bit. Training, evaluation and the
night read the same cells.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import numpy.typing as npt
import polars as pl

from features.calendar import Calendar
from features.errors import ContractError
from features.log.asof import DAY_BITS, DAY_MASK, Counts, Ints, narrowed
from features.log.interactions import Interactions, spread
from features.log.packed_values import pack_values
from features.log.positions import parts_of, sort_together
from features.tables.frames import Cells, EventRows

__all__ = [
    "KEPT_BY_DAY",
    "SUMMED_BY_DAY",
    "Engagements",
    "Interactions",
    "first_days",
    "fold_events",
    "spread",
]

KEPT_BY_DAY = tuple(EventRows.column_names())
"""Columns of single events that the cells have too; the gain follows from the event type."""
SUMMED_BY_DAY = ("value",)
"""Columns of single events that the cells have the sums of (`Engagements.values`)."""

_CHUNK = 1 << 16  # cells looked through at a time for event types


def fold_events(events: pl.DataFrame, calendar: Calendar) -> pl.DataFrame:
    """Events of a few days by their ids, as they are kept from night to night.

    Args:
        events: user_id, item_id, event, timestamp, value of `Events`.
        calendar: Where days are cut.

    Returns:
        user_id, item_id, event, day (Int32), n (Int64), worth (`features.log.packed_values`): the cells of
        `Engagements`; sorted by the first four.
    """
    days = pl.Series("day", calendar.days(events["timestamp"]), dtype=pl.Int32)
    cell = ["user_id", "item_id", "event", "day"]
    sums = {"n": pl.len().cast(pl.Int64), "worth": pack_values(pl.col("value")).sum()}
    return events.with_columns(days).group_by(cell).agg(**sums).sort(cell)


@dataclass(frozen=True, slots=True)
class Engagements:
    """Cells (user, item, day, event type), one integer each, ascending, and what happened in them: 12 or 20 bytes each.

    Attributes:
        cells: ``((user * n_items + item) << 17 | day) << kind_bits | kind``, ascending, each once.
        counts: Events of each cell, at least 1; in 32 bits where all fit.
        n_items: Items of the catalogue that the item codes refer to.
        kinds: The event types, by code.
        values: `features.log.packed_values` of each cell's events; None where no event has a value.
    """

    cells: Ints
    counts: Counts
    n_items: int
    kinds: tuple[str, ...]
    values: Ints | None = None

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
        counts: Counts,
        values: Ints | None = None,
    ) -> Self:
        """Add up events, or cells that were folded before.

        Args:
            cells: Cell of each, in any order; this and the arrays below are sorted in place.
            n_items: Items of the catalogue.
            kinds: Event types by code.
            counts: Events that each stands for.
            values: `features.log.packed_values` of each; None where no event has a value.
        """
        counts = narrowed(counts)
        values = values if values is not None and values.any() else None
        if not (cells[1:] > cells[:-1]).all():
            sort_together(cells, counts, *([] if values is None else [values]))
            if not (cells[1:] > cells[:-1]).all():
                cells, counts, values = _added_up(cells, counts, values)
        return cls(cells, counts, n_items, kinds, values)

    def plus(self, other: Self) -> Self:
        """The cells of both, over the same codes; those of `other`, the fewer, are merged in without sorting again."""
        into = np.searchsorted(self.cells, other.cells)
        both = np.zeros(len(into), bool)
        inside = into < len(self.cells)
        both[inside] = self.cells[into[inside]] == other.cells[inside]
        cells = np.insert(self.cells, into[~both], other.cells[~both])
        again = np.searchsorted(cells, other.cells[both])

        def merged(mine: Counts, others: Counts) -> Counts:
            amounts = np.insert(
                mine.astype(np.promote_types(mine.dtype, others.dtype), copy=False), into[~both], others[~both]
            )
            sums = narrowed(amounts[again].astype(np.int64) + others[both])
            amounts = amounts.astype(np.promote_types(amounts.dtype, sums.dtype), copy=False)
            amounts[again] = sums
            return amounts

        values = None
        if self.values is not None or other.values is not None:
            values = merged(
                *(np.zeros(len(of.cells), np.int64) if of.values is None else of.values for of in (self, other))
            )
        return replace(self, cells=cells, counts=merged(self.counts, other.counts), values=values)

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
        kept_users = users[runs > 0]
        if alike and (kept_users >= 0).all():  # one addition, or nothing at all
            _refuse_too_many(int(kept_users.max(initial=-1)) + 1, n_items, len(kinds))
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
        kept = np.empty(len(self.cells), np.bool_)
        for part in self._slices():
            days = (self.cells[part] >> _kind_bits(len(self.kinds))) & DAY_MASK
            kept[part] = (days >= first_day) & (days <= last_day)
        return self.at(kept)

    def parts(self) -> Iterator[Self]:
        """The cells in parts, one at least, all of a user in one: what is made of one takes little memory."""
        for part in self._slices():
            values = None if self.values is None else self.values[part]
            yield replace(self, cells=self.cells[part], counts=self.counts[part], values=values)

    def _slices(self) -> Iterator[slice]:
        bits = _kind_bits(len(self.kinds)) + DAY_BITS

        def end_of(position: int) -> int:
            user = int(self.cells[position - 1] >> bits) // self.n_items
            return int(np.searchsorted(self.cells, ((user + 1) * self.n_items) << bits))

        return parts_of(len(self.cells), end_of)

    def events_by_day(self) -> Ints:
        """Events of any type on each day, by its number."""
        events = np.zeros(1 << DAY_BITS, np.int64)
        for part in self.parts():
            events += np.bincount(part.days, part.counts, len(events)).astype(np.int64)  # exact below 2**53
        return events

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
            n_present = int(self.cells[-1] >> bits) // self.n_items + 1
            firsts = (np.arange(n_present) * self.n_items) << bits
            runs[:n_present] = np.diff(np.searchsorted(self.cells, firsts), append=len(self.cells))
        return runs

    def at(self, kept: npt.NDArray[np.bool_] | Ints) -> Self:
        """The cells for which `kept` stands, or at the positions that it names."""
        values = None if self.values is None else self.values[kept]
        return replace(self, cells=self.cells[kept], counts=self.counts[kept], values=values)

    def of_kinds(self, kinds: Collection[str]) -> "Interactions":
        """Events of some types, folded over the types; see `Interactions`."""
        wide = self.counts.dtype == np.int64 or int(self.counts.max(initial=0)) * len(self.kinds) >= 1 << 31
        folded = self._folded([kind in kinds for kind in self.kinds], self.counts)
        return Interactions.of(
            folded, most=len(self.cells), n_items=self.n_items, width=np.dtype(np.int64 if wide else np.int32)
        )

    def counting(self, gains: Mapping[str, int]) -> "Interactions":
        """Events that count: those of the types whose gain is above 0."""
        return self.of_kinds([kind for kind, gain in gains.items() if gain > 0])

    def values_of(self, gains: Mapping[str, int]) -> "Interactions":
        """Summed `features.log.packed_values` of the events that count, as `n`; without cells that have none."""
        counts = [gains.get(kind, 0) > 0 for kind in self.kinds]
        folded = iter(()) if self.values is None else self._folded(counts, self.values)
        some = ((stamps[values > 0], values[values > 0]) for stamps, values in folded)
        return Interactions.of(some, most=len(self.cells), n_items=self.n_items, width=np.dtype(np.int64))

    def _folded(self, wanted: Sequence[bool], amounts: Counts) -> Iterator[tuple[Ints, Counts]]:
        """Sums over some types, by parts: (user * n_items + item) << 17 | day, ascending, each once, and the sum."""
        bits = _kind_bits(len(self.kinds))
        for part in self._slices():
            cells, added = self.cells[part], amounts[part]
            if not all(wanted):
                kept = np.array(wanted, np.bool_)[cells & ((1 << bits) - 1)]
                cells, added = cells[kept], added[kept]
            stamps = cells >> bits
            first = _run_starts(stamps)
            yield (stamps, added) if len(first) == len(stamps) else (stamps[first], _sums(added, first))

    @property
    def nbytes(self) -> int:
        """Bytes of all cells."""
        return self.cells.nbytes + self.counts.nbytes + (0 if self.values is None else self.values.nbytes)

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

    def taken(self, positions: Ints) -> tuple[Ints, Ints, Ints]:
        """Item, day and event type (its code) of the cells at some positions."""
        bits, cells = _kind_bits(len(self.kinds)), self.cells[positions]
        item: Ints = (cells >> (bits + DAY_BITS)) % self.n_items
        return item, (cells >> bits) & DAY_MASK, cells & ((1 << bits) - 1)

    def frame(self) -> pl.DataFrame:
        """One row a cell: `Cells`."""
        bits = _kind_bits(len(self.kinds))
        pair = self.cells >> (bits + DAY_BITS)
        user = pair // self.n_items
        return Cells.of(
            user=user.astype(np.uint32),
            item=(pair - user * self.n_items).astype(np.uint32),
            day=self.days.astype(np.int32),
            kind=pl.Series(self.kinds, dtype=pl.Enum(self.kinds)).gather(self.kind_codes),
            n=self.counts.astype(np.int64),
        )


def first_days(cells: Engagements) -> tuple[Ints, Ints]:
    """The items that have an event of any type, ascending, and the day of the first of each."""
    first = np.full(cells.n_items, 1 << DAY_BITS, np.int64)
    for part in cells.parts():
        np.minimum.at(first, part.items, part.days)
    items: Ints = np.flatnonzero(first < 1 << DAY_BITS)
    return items, first[items]


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


def _sums(amounts: Counts, first: Ints) -> Counts:
    """Sum of each run."""
    return np.add.reduceat(amounts, first) if len(first) else amounts


def _added_up(cells: Ints, counts: Counts, values: Ints | None) -> tuple[Ints, Counts, Ints | None]:
    """Each cell once, of cells in order; done in place."""
    end = 0
    for part in parts_of(len(cells), lambda at: at + int(np.searchsorted(cells[at:], cells[at - 1], side="right"))):
        first = _run_starts(cells[part])
        target = slice(end, end := end + len(first))
        totals = narrowed(_sums(counts[part], first))
        counts = counts.astype(np.promote_types(counts.dtype, totals.dtype), copy=False)
        cells[target], counts[target] = cells[part][first], totals
        if values is not None:
            values[target] = _sums(values[part], first)
    return cells[:end].copy(), counts[:end].copy(), None if values is None else values[:end].copy()
