"""The event log on integer codes and days: daily counts, and the single events that labels and texts need.

The daily counts of `features.log.engagements` (cells) are the basis of everything that is computed as of a day.
Training and evaluation keep the events that make labels beside them (`features.log.label_events`), and families that
read a query or a comment have the rows that carry one kept too (`features.log.raw_events`); a night that needs neither
keeps none.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Self, TypeVar

import numpy as np
import polars as pl

from features.calendar import Calendar, batch_day, date_of, day_of
from features.errors import ContractError, listed
from features.log.asof import AsOfIndex, Ints, stamps_of
from features.log.engagements import Engagements
from features.log.event_parts import OPEN_END
from features.log.far_days import NO_FAR_DAYS, FarDays, far_days
from features.log.history import History
from features.log.interactions import Interactions, by_item, spread
from features.log.label_events import LabelEvents
from features.log.packed_values import pack_values
from features.log.positions import parts_of
from features.log.raw_events import OPTIONAL, RawEvents
from features.log.return_gaps import return_gaps
from features.tables.frames import EventRows, RawRows, UserItemDays

__all__ = [
    "Calendar",
    "EventLog",
    "all_user_ids",
    "batch_day",
    "date_of",
    "day_of",
    "graded_on_days",
    "refuse_gainless",
    "users_by_code",
]

Made = TypeVar("Made")


@dataclass(frozen=True, eq=False)
class EventLog:
    """The validated log on integer codes and days.

    Codes are positions in the sorted ids, so that their order, and with it every tie-break, is that of the
    ids; they hold for this log only and are never stored.

    Attributes:
        cells: What happened between users and items by day and event type. They may hold days from `end_day` on, which
            no answer as of an earlier day looks at.
        gains: Gain of each event type that counts.
        user_ids: Id of each user code, of users with events and users of the `Users` table.
        items: The catalogue in the order of item codes, with `item` (its code), ids, text fields and
            attributes.
        calendar: What the days mean.
        users: Attributes of users in the order of user codes, null for users without a row in `Users`.
        supplied: Supplied candidates, as `features.candidates.supplied.supplied_candidates` codes them; None for
            none.
        offers: Offers of items by day, as `features.log.offers.coded_offers` codes them; None for none.
        far: The days that `without_far_days` left out.
        end_day: Only events before this batch day count.
        labels: The events that labels are made of; None at night.
        raw: The rows that carry further columns; None where none is read, or no event carries one.
    """

    cells: Engagements
    gains: Mapping[str, int]
    user_ids: pl.Series
    items: pl.DataFrame
    calendar: Calendar
    users: pl.DataFrame | None = None
    supplied: pl.DataFrame | None = None
    offers: pl.DataFrame | None = None
    far: FarDays = NO_FAR_DAYS
    end_day: int = OPEN_END
    labels: LabelEvents | None = None
    raw: RawEvents | None = None
    _made: dict[Any, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def build(
        cls,
        *,
        events: pl.DataFrame,
        items: pl.DataFrame,
        users: pl.DataFrame | None,
        calendar: Calendar,
        gains: dict[str, int],
        keep: Sequence[str] = (),
    ) -> Self:
        """Code and order tables that keep their contracts.

        Args:
            events: `Events`, only items of `items`.
            items: `Items`.
            users: `Users`, or None.
            calendar: Where days are cut.
            gains: Gain of each event type that counts; others get 0.
            keep: Further columns of events that features read; see `features.log.raw_events`.

        Raises:
            ContractError: No event type of `gains` occurs, or user ids differ in kind between tables.
        """
        refuse_gainless(events["event"].unique(), events.height, gains)
        catalogue = items.sort("item_id").with_row_index("item")
        user_ids = all_user_ids(events["user_id"], None if users is None else users["user_id"])
        coded = (
            graded_on_days(events, calendar, gains)
            .join(user_ids.to_frame().with_row_index("user"), on="user_id", maintain_order="left")
            .join(catalogue.select("item", "item_id"), on="item_id", maintain_order="left")
        )
        further = [name for name in dict.fromkeys((*OPTIONAL, *keep)) if name in coded.columns]
        columns = dict.fromkeys((*RawRows.column_names(), "value", *further))
        single = coded.select(*columns).sort(["day", "timestamp", "user", "item", "kind", "gain", "value", *further])
        return cls(
            cells=cells_of(single, n_items=catalogue.height),
            gains=dict(gains),
            user_ids=user_ids,
            items=catalogue,
            calendar=calendar,
            users=None if users is None else users_by_code(users, user_ids),
            labels=LabelEvents.of(single),
            raw=RawEvents.of(single, keep),
        )

    @cached_property
    def events(self) -> pl.DataFrame:
        """One row an event, for families that need rows: the cells unfolded, joined with the further columns of `raw`.

        Sorted by day: `EventRows`. Where `raw` has rows, then their further
        columns too, null for all other events; of one day those with a timestamp stand first, in the order of it.
        """
        if self.raw is None:
            return _unfolded(self._folded, self.gains)
        rows = self.raw.rows
        if not self.raw.is_whole:
            cells = self._folded.with_columns(pl.col("kind").cast(pl.String))
            alike = rows.group_by("user", "item", "day", "kind").agg(n_single=pl.len().cast(pl.Int64))
            left = cells.join(alike, on=["user", "item", "day", "kind"], how="left", maintain_order="left")
            others = left.with_columns(n=pl.col("n") - pl.col("n_single").fill_null(0)).filter(pl.col("n") > 0)
            rows = pl.concat([rows, _unfolded(others, self.gains)], how="diagonal")
        by = ["day", "timestamp", "user", "item", "kind", "gain", *self.raw.further]
        return rows.sort(by, nulls_last=True)

    @property
    def _folded(self) -> pl.DataFrame:
        return self.cells.between(0, self.end_day - 1).frame()

    @property
    def engaged(self) -> pl.DataFrame:
        """Those of `events` that count: gain above 0."""
        return self.events.filter(pl.col("gain") > 0)

    @property
    def label_events(self) -> LabelEvents:
        """The events that labels are made of; only where the log was read for training or evaluation."""
        assert self.labels is not None, "this log was read without the events that labels are made of"
        return self.labels

    @property
    def raw_events(self) -> RawEvents:
        """The rows that carry further columns; only where the log was read with them."""
        assert self.raw is not None, "this log was read without the rows that carry further columns"
        return self.raw

    def shared(self, make: Callable[[Self], Made]) -> Made:
        """The result of `make` for this log (an index, or the fits of a model): made once, and shared by all callers.

        Args:
            make: A class or a function; must look at events by their day alone, since logs that end on other days
                (`before`) share what is made.
        """
        if make not in self._made:
            self._made[make] = make(self)
        made: Made = self._made[make]
        return made

    def only(self, users: Ints) -> Self:
        """The same log with what some users did alone, under the same codes: what a portion of requests touches.

        The latest result is kept, so that all families share the indexes that are made of one portion.

        Args:
            users: Codes, ascending, each once; one that is no user's has no events.
        """
        latest: tuple[Ints, Engagements, dict[Any, Any]] | None = self._made.get("only")
        if latest is None or not np.array_equal(latest[0], users):
            positions, _ = spread(*self.starts_of(users))
            latest = users, self.cells.at(positions), {}
            self._made["only"] = latest
        return replace(self, cells=latest[1], labels=None, raw=None, _made=latest[2])

    def starts_of(self, users: Ints) -> tuple[Ints, Ints]:
        """Where the cells of users begin and end; the code after the last user (unknown users) has none."""
        starts = self.shared(_starts)
        return starts[users], starts[users + 1]

    @property
    def interactions(self) -> Interactions:
        """Events that count, by user, item and day."""
        return self.shared(_interactions)

    @property
    def first_meetings(self) -> pl.DataFrame:
        """The day of each user's first event that counts with each item: `UserItemDays` by (user, item)."""
        interactions = self.interactions
        first = interactions.is_first
        return UserItemDays.of(**{name: getattr(interactions, name)[first] for name in UserItemDays.column_names()})

    @property
    def history(self) -> History:
        """Events that count, by user and day."""
        return self.shared(_history)

    @property
    def user_index(self) -> AsOfIndex:
        """Events that count, by user code."""
        return self.shared(_user_index)

    @property
    def item_index(self) -> AsOfIndex:
        """Events that count, by item code."""
        return self.shared(_item_index)

    @property
    def item_return_gaps(self) -> AsOfIndex:
        """`return_gaps` of users to items, by item code."""
        return self.shared(_item_return_gaps)

    @cached_property
    def kinds(self) -> pl.Series:
        """The event types that occur before `end_day`, each once, in any order."""
        return pl.concat([part.present for part in self._ended]).unique(maintain_order=True)

    @property
    def has_values(self) -> bool:
        """Whether an event that counts has a value."""
        return any(len(part.values_of(self.gains)) > 0 for part in self._ended)

    @property
    def latest_day(self) -> int | None:
        """Day of the last event before `end_day`, None where there is none."""
        days = np.flatnonzero(self.shared(_events_by_day)[: self.end_day])
        return int(days[-1]) if len(days) else None

    @property
    def active_users(self) -> pl.Series:
        """Codes of the users with an event before `end_day`, ascending."""
        active = np.zeros(len(self.user_ids), np.bool_)
        for part in self._ended:
            active[part.users] = True
        return pl.Series("user", np.flatnonzero(active), dtype=pl.UInt32)

    @property
    def first_day(self) -> int:
        """Day of the first event."""
        return int(np.flatnonzero(self.shared(_events_by_day))[0])

    @property
    def last_day(self) -> int:
        """Day of the last event, in days of labels."""
        return self.label_events.last_day

    @property
    def event_counts(self) -> dict[str, int]:
        """How many events of each type there are before `end_day`, by type."""
        kinds = self.cells.kinds
        counts = np.zeros(len(kinds), np.int64)
        for part in self._ended:
            counts += np.bincount(part.kind_codes, part.counts, len(kinds)).astype(np.int64)  # exact below 2**53
        return {kind: n for kind, n in sorted(zip(kinds, counts.tolist(), strict=True)) if n}

    @property
    def events_a_day(self) -> tuple[Ints, Ints]:
        """(D,) days that have events, ascending, and how many events of any type each has."""
        counts = self.shared(_events_by_day)
        days: Ints = np.flatnonzero(counts)
        return days, counts[days]

    def with_tables(self, **tables: pl.DataFrame) -> Self:
        """The same log with `supplied` or `offers`."""
        log = copy(self)
        for name, table in tables.items():
            object.__setattr__(log, name, table)
        return log

    def without_far_days(self) -> Self:
        """The same log without the events of days that are far from all others, `features.log.far_days`; codes stay."""
        far = far_days(*self.events_a_day)
        if not far.counts:
            return self
        near = far.first_day, far.last_day
        return replace(
            self,
            cells=self.cells.between(*near),
            labels=None if self.labels is None else self.labels.within(*near),
            raw=None if self.raw is None else self.raw.within(*near),
            far=far,
            _made={},
        )

    def before(self, day: int) -> Self:
        """The same log with only what is visible to the batch of `day`; codes, cells and indexes are shared."""
        return replace(
            self,
            end_day=min(day, self.end_day),
            labels=None if self.labels is None else self.labels.before(day),
            raw=None if self.raw is None else self.raw.before(day),
            offers=self.offers_before(day),
        )

    def offers_before(self, day: int) -> pl.DataFrame | None:
        """Offers that begin on `day` or before it."""
        return None if self.offers is None else self.offers.filter(pl.col("first_day") <= day)

    def until(self, day: int) -> Self:
        """The same log as if it had ended when `day` opened; codes stay as they are.

        With an ingestion lag, events that came in later make labels but are in no cell: no batch up to `day` saw them.
        """
        return replace(
            self,
            cells=self.cells.between(0, day - 1),
            labels=self.label_events.until(day),
            raw=None if self.raw is None else self.raw.until(day),
            _made={},
        )

    @property
    def _ended(self) -> Iterator[Engagements]:
        """The cells before `end_day`, by parts."""
        later = self.shared(_events_by_day)[self.end_day :].any()
        return (part.between(0, self.end_day - 1) if later else part for part in self.cells.parts())


def graded_on_days(events: pl.DataFrame, calendar: Calendar, gains: Mapping[str, int]) -> pl.DataFrame:
    """`Events` with the columns of `RawRows` that follow from time and event type: day, label_day, gain and kind."""
    return events.with_columns(
        pl.Series("day", calendar.days(events["timestamp"])),
        pl.Series("label_day", calendar.days(events["timestamp"], by_as_of=False)),
        gain=pl.col("event").replace_strict(gains, default=0, return_dtype=RawRows.gain.dtype),
        kind="event",
    )


def _unfolded(cells: pl.DataFrame, gains: Mapping[str, int]) -> pl.DataFrame:
    """One row an event of `Engagements.frame`: `EventRows`, by day."""
    kind = pl.col("kind").cast(pl.String)
    gain = kind.replace_strict(gains, default=0, return_dtype=pl.Int32)
    ordered = cells.sort("day", maintain_order=True).with_columns(kind, gain=gain)
    return ordered.select(pl.col(EventRows.column_names()).repeat_by("n").explode())


def cells_of(events: pl.DataFrame, *, n_items: int) -> Engagements:
    """Single events folded: user, item, day, kind, and value where there is one."""
    kinds = tuple(events["kind"].unique().sort())
    number = events["kind"].cast(pl.Enum(kinds)).to_physical()
    valued = "value" in events.columns and events["value"].is_finite().any()
    cells = np.empty(events.height, np.int64)
    values = np.empty(events.height, np.int64) if valued else None
    for part in parts_of(events.height):
        some, size = events[part], part.stop - part.start
        key_columns = (some["user"], some["item"], some["day"], number.slice(part.start, size))
        codes = (series.cast(pl.Int64).to_numpy() for series in key_columns)
        cells[part] = Engagements.cell(*codes, n_items=n_items, n_kinds=len(kinds))
        if values is not None:
            values[part] = some.select(pack_values(pl.col("value").cast(pl.Float64))).to_series().to_numpy()
    counts = np.ones(events.height, np.int32)
    return Engagements.fold(cells, n_items=n_items, kinds=kinds, counts=counts, values=values)


def _events_by_day(log: EventLog) -> Ints:
    return log.cells.events_by_day()


def _starts(log: EventLog) -> Ints:
    return log.cells.starts(log.user_ids.len() + 1)


def _interactions(log: EventLog) -> Interactions:
    return log.cells.counting(log.gains)


def _history(log: EventLog) -> History:
    return History.of(log.interactions)


def _user_index(log: EventLog) -> AsOfIndex:
    parts = log.interactions.parts()
    return AsOfIndex.adding((stamps_of(part.user.astype(np.int64), part.day), part.n) for part in parts)


def _item_index(log: EventLog) -> AsOfIndex:
    return by_item(log.interactions.parts())


def _item_return_gaps(log: EventLog) -> AsOfIndex:
    parts = log.interactions.parts()
    days_of_pairs = ((part.user.astype(np.int64), part.item.astype(np.int64), part.day) for part in parts)
    return return_gaps(days_of_pairs, log.items.height)


def refuse_gainless(kinds: pl.Series, n_rows: int, gains: dict[str, int]) -> None:
    """Stop where nothing counts.

    Args:
        kinds: The event types of a log.
        n_rows: Its rows.
        gains: Gain of each event type that counts.

    Raises:
        ContractError: No event type of `gains` occurs.
    """
    if not kinds.is_in(list(gains)).any():
        raise ContractError(
            f"events: none of the {n_rows} rows has an event type of labels.gains "
            f"({listed(sorted(gains))}). Name the types that count there, as they are written in the log."
        )


def all_user_ids(of_events: pl.Series, of_users: pl.Series | None) -> pl.Series:
    """Ids of users with events and of the `Users` table, ascending, each once.

    Raises:
        ContractError: They are text here and integers there.
    """
    id_columns = [of_events] if of_users is None else [of_events, of_users]
    if len({series.dtype == pl.String for series in id_columns}) > 1:
        raise ContractError("user_id is text in one of events and users and an integer in the other.")
    return pl.concat([series.cast(of_events.dtype) for series in id_columns]).unique().sort()


def users_by_code(users: pl.DataFrame, user_ids: pl.Series) -> pl.DataFrame:
    """Attributes of users in the order of their codes, null for users without a row."""
    rows = users.with_columns(pl.col("user_id").cast(user_ids.dtype))
    return user_ids.to_frame("user_id").join(rows, on="user_id", how="left", maintain_order="left")
