"""Daily integer aggregates: the one basis of what is known about users and items.

All that happened between a user and an item on a day is folded to one cell an event type: how many events.
Integers add up the same in any order, so that folding a log at once, day by day, or one part of the users after the
other gives the same cells to the bit.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import numpy as np
import numpy.typing as npt
import polars as pl

from features.asof import DAY_BITS, DAY_MASK, Ints, summed
from features.errors import ContractError
from features.faraway import FarDays, far_days
from features.timeline import Calendar, EventLog
from features.worth import packed_worth

__all__ = ["KEPT_BY_DAY", "SUMMED_BY_DAY", "Daily", "FoldedLog", "fold_events"]

KEPT_BY_DAY = ("user", "item", "gain", "kind", "day")
"""Columns of `EventLog.events` that a `FoldedLog` has."""
SUMMED_BY_DAY = ("value",)
"""Columns that it knows the sums of (`EventLog.worth`)."""

_CHUNK = 1 << 16  # cells looked through at a time for event types


def fold_events(events: pl.DataFrame, calendar: Calendar) -> pl.DataFrame:
    """Events of a few days by their ids, as they are kept from night to night.

    Args:
        events: user_id, item_id, event, timestamp, value of `Events`.
        calendar: Where days are cut.

    Returns:
        user_id, item_id, event, day (Int32), n (Int64), worth (`features.worth`): the cells of `Daily`; sorted by the
        first four.
    """
    days = pl.Series("day", calendar.days(events["timestamp"]), dtype=pl.Int32)
    cell = ["user_id", "item_id", "event", "day"]
    sums = {"n": pl.len().cast(pl.Int64), "worth": packed_worth(pl.col("value")).sum()}
    return events.with_columns(days).group_by(cell).agg(**sums).sort(cell)


@dataclass(frozen=True, slots=True)
class Daily:
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
        distinct, sums = summed(cells, np.stack([counts, worth], axis=1))
        return cls(distinct, sums[:, 0].copy(), n_items, kinds, sums[:, 1].copy())

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
        return replace(self._some(kept), cells=cells[kept], n_items=n_items, kinds=kinds)

    def before(self, day: int) -> Self:
        """What the batch of `day` knows."""
        return self._some(self.days < day)

    def between(self, first_day: int, last_day: int) -> Self:
        """The cells of some days, the first and the last of them included."""
        days = self.days
        return self._some((days >= first_day) & (days <= last_day))

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

    def _some(self, kept: npt.NDArray[np.bool_]) -> Self:
        """The cells for which `kept` stands."""
        worth = None if self.worth is None else self.worth[kept]
        return replace(self, cells=self.cells[kept], counts=self.counts[kept], worth=worth)

    def engaged(self, gains: dict[str, int], *, worth: bool = False) -> tuple[Ints, Ints]:
        """Events that count, of all types together.

        Args:
            gains: Gain of each event type that counts.
            worth: Whether to add up what they are worth, and not how many they are.

        Returns:
            (user * n_items + item) << 17 | day, ascending, each once; and the sums.
        """
        bits = _kind_bits(len(self.kinds))
        counts_K = np.array([gains.get(kind, 0) > 0 for kind in self.kinds], bool)
        cells, amounts = self.cells, self.worth if worth else self.counts
        assert amounts is not None, "what was folded without it is asked for its worth"
        if not counts_K.all():
            kept = counts_K[cells & ((1 << bits) - 1)]
            cells, amounts = cells[kept], amounts[kept]
        stamps = cells >> bits
        first = _run_starts(stamps)
        return (stamps, amounts) if len(first) == len(stamps) else (stamps[first], _sums(amounts, first))

    def of_users(self, wanted: npt.NDArray[np.bool_]) -> Self:
        """The cells of some users, which stand as true under their codes."""
        return self._some(np.repeat(wanted, self.cells_of_users(len(wanted))))

    def frame(self) -> pl.DataFrame:
        """One row a cell: user, item (UInt32), day (Int32), kind (Enum), n (Int64)."""
        bits = _kind_bits(len(self.kinds))
        pair = self.cells >> (bits + DAY_BITS)
        kind = pl.Series(self.kinds, dtype=pl.Enum(self.kinds)).gather(self.cells & ((1 << bits) - 1))
        return pl.DataFrame(
            {
                "user": (pair // self.n_items).astype(np.uint32),
                "item": (pair % self.n_items).astype(np.uint32),
                "day": self.days.astype(np.int32),
                "kind": kind,
                "n": self.counts,
            }
        )


class FoldedLog(EventLog):
    """An `EventLog` that was never held event by event: `events` are made from the daily cells when asked for.

    Args:
        daily: The cells, of all users or of a part.
        user_ids: Id of each user code.
        items: The catalogue, with `item` (its code).
        calendar: What the days mean.
        gains: Gain of each event type that counts.
        users: Attributes of users in the order of user codes, or None.
        supplied: See `EventLog.supplied`.
        offers: See `EventLog.offers`.
    """

    def __init__(
        self,
        daily: Daily,
        *,
        user_ids: pl.Series,
        items: pl.DataFrame,
        calendar: Calendar,
        gains: dict[str, int],
        users: pl.DataFrame | None = None,
        supplied: pl.DataFrame | None = None,
        offers: pl.DataFrame | None = None,
    ) -> None:
        tables = {"items": items, "users": users, "supplied": supplied, "offers": offers}
        for name, value in {"user_ids": user_ids, "calendar": calendar, **tables}.items():
            object.__setattr__(self, name, value)
        object.__setattr__(self, "daily", daily)
        object.__setattr__(self, "_gains", dict(gains))

    daily: Daily
    _gains: dict[str, int]

    @cached_property
    def events(self) -> pl.DataFrame:
        """One row an event, by (day, user, item, kind): `KEPT_BY_DAY`.

        Other columns (`timestamp`, `value`, `text`, ...) are not kept by day and are not there: what reads them
        fails instead of reading something else.
        """
        days = self.daily.days
        order = np.argsort((days - days.min(initial=0)).astype(np.uint32), kind="stable")
        cells = self.daily.frame()[np.repeat(order, self.daily.counts[order])]
        gain = pl.col("kind").replace_strict(self._gains, default=0, return_dtype=pl.Int32).alias("gain")
        return cells.with_columns(pl.col("kind").cast(pl.String)).with_columns(gain).select(KEPT_BY_DAY)

    @property
    def worth(self) -> pl.DataFrame:
        """See `EventLog.worth`."""
        stamps, worth = self.daily.engaged(self._gains, worth=True)
        folded = self.engagements_of(stamps, worth, n_items=self.daily.n_items)
        return folded.rename({"n": "worth"}).filter(pl.col("worth") > 0)

    @property
    def kinds(self) -> pl.Series:
        """See `EventLog.kinds`."""
        return self.daily.present

    @property
    def by_kind(self) -> pl.DataFrame:
        """See `EventLog.by_kind`."""
        return self.daily.frame().select("user", "item", "day", "kind", "n")

    @property
    def latest_day(self) -> int | None:
        """See `EventLog.latest_day`."""
        days = self.daily.days
        return int(days.max()) if len(days) else None

    @property
    def active_users(self) -> pl.Series:
        """See `EventLog.active_users`."""
        return pl.Series("user", np.flatnonzero(self.daily.cells_of_users(len(self.user_ids))), dtype=pl.UInt32)

    @cached_property
    def engagements(self) -> pl.DataFrame:
        """See `EventLog.engagements`."""
        return self.engagements_of(*self.daily.engaged(self._gains), n_items=self.daily.n_items)

    @property
    def events_a_day(self) -> tuple[Ints, Ints]:
        """See `EventLog.events_a_day`."""
        counts = np.bincount(self.daily.days, weights=self.daily.counts).astype(np.int64)  # exact below 2**53
        days: Ints = np.flatnonzero(counts)
        return days, counts[days]

    def without_far_days(self) -> "FoldedLog":
        """See `EventLog.without_far_days`."""
        far = far_days(*self.events_a_day)
        if not far.counts:
            return self
        return self._with(self.daily.between(far.first_day, far.last_day), offers=self.offers, far=far)

    def before(self, day: int) -> "FoldedLog":
        """See `EventLog.before`."""
        return self._with(self.daily.before(day), offers=self.offers_before(day), far=self.far)

    def _with(self, daily: Daily, *, offers: pl.DataFrame | None, far: FarDays) -> "FoldedLog":
        """The same users and items with other cells."""
        log = type(self)(
            daily,
            user_ids=self.user_ids,
            items=self.items,
            calendar=self.calendar,
            gains=self._gains,
            users=self.users,
            supplied=self.supplied,
            offers=offers,
        )
        object.__setattr__(log, "far", far)
        return log


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
