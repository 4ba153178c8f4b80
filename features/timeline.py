"""Time as the batch sees it: integer days between cut-offs, and the event log on them.

The batch of day D opens at its cut-off in the calendar's zone and sees what happened strictly before
``as_of(D) = cutoff(D) - ingestion lag``. Every event therefore belongs to exactly one integer `day`: the day
d with ``as_of(d) <= timestamp < as_of(d + 1)``. *Known at the batch of day D* is the same as ``day < D``, and
all point-in-time code in nightrank compares these integers, never clocks.
"""

import math
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Self
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import polars as pl

from features.asof import DAY_BITS, DAY_MASK, AsOfIndex, Ints, stamps_of, summed
from features.comebacks import comebacks
from features.config import CalendarConfig
from features.errors import ConfigError, ContractError, listed
from features.faraway import NO_FAR_DAYS, FarDays, far_days
from features.worth import packed_worth

if TYPE_CHECKING:
    from features.ease import Ease
    from features.user_neighbours import UserNeighbours

__all__ = [
    "Calendar",
    "EventLog",
    "all_user_ids",
    "batch_day",
    "date_of",
    "day_of",
    "refuse_gainless",
    "users_by_code",
]

_EPOCH = date(1970, 1, 1)
_FIRST_DATE, _LAST_DATE = date(1971, 1, 1), date(2299, 12, 31)
_LAST_MICROSECOND = (datetime(2300, 1, 1, tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def day_of(when: date) -> int:
    """Day number of a date: days since 1970-01-01.

    >>> day_of(date(1970, 1, 2))
    1
    """
    return (when - _EPOCH).days


def date_of(day: int) -> date:
    """Inverse of `day_of`."""
    return _EPOCH + timedelta(days=day)


def batch_day(when: date) -> int:
    """`day_of` a date that something is asked for.

    Raises:
        ConfigError: No log reaches so far back, or ahead.
    """
    if not _FIRST_DATE <= when <= _LAST_DATE:
        raise ConfigError(f"{when} is no day of a log: days are of {_FIRST_DATE} to {_LAST_DATE}. Name another.")
    return day_of(when)


@dataclass(frozen=True, slots=True)
class Calendar:
    """The batch's clock."""

    config: CalendarConfig

    def cutoff(self, day: int) -> datetime:
        """Instant (UTC) at which batch day `day` opens; the first of a repeated hour, after a skipped one."""
        local = datetime.combine(date_of(day), self.config.cutoff, ZoneInfo(self.config.timezone))
        return local.astimezone(UTC)

    def as_of(self, day: int) -> datetime:
        """Instant (UTC) strictly before which the batch of `day` knows events."""
        return self.cutoff(day) - timedelta(hours=self.config.ingestion_lag_hours)

    @property
    def lag_days(self) -> int:
        """Whole days by which the ingestion lag delays what a batch knows."""
        return math.ceil(self.config.ingestion_lag_hours / 24)

    def days(self, timestamps: pl.Series, *, known: bool = True) -> npt.NDArray[np.int32]:
        """The integer day of each instant.

        Args:
            timestamps: Datetime, microseconds, UTC, no nulls; any order. What lies before 1970 or after 2300 (a date
                for "always" or "never") counts as these.
            known: Count days between as-of instants (what a batch knows), else between cut-offs (what a day
                holds).

        Returns:
            One day number an instant.
        """
        if timestamps.is_empty():
            return np.empty(0, np.int32)
        instant = self.as_of if known else self.cutoff
        stamps = timestamps.dt.cast_time_unit("us").to_physical().to_numpy().clip(0, _LAST_MICROSECOND)
        around = timedelta(days=self.lag_days + 2)
        first, last = (
            day_of((datetime.fromtimestamp(int(edge) / 1e6, UTC) + sign * around).date())
            for edge, sign in ((stamps.min(), -1), (stamps.max(), 1))
        )
        grid = np.array([_microseconds(instant(day)) for day in range(first, last + 1)])
        steps = np.diff(grid)
        if (steps == steps[0]).all():  # no clock changes: a division does it in a tenth of the time
            place = (stamps - grid[0]) // steps[0]
        else:
            place = np.searchsorted(grid, stamps, side="right") - 1
        days: npt.NDArray[np.int32] = (place + first).astype(np.int32)
        return days


def _microseconds(instant: datetime) -> int:
    return (instant - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


@dataclass(frozen=True)
class EventLog:
    """The validated log on integer codes and days.

    Codes are positions in the sorted ids, so that their order, and with it every tie-break, is that of the
    ids; they hold for this log only and are never stored.

    Attributes:
        events: Sorted by (day, timestamp, user, item): user, item (UInt32 codes), gain (Int32, 0 for
            context), kind (the event type), day (Int32: known to batches after it), due (Int32: the day it
            makes labels for), timestamp, value; query and text where any row has one, and what else
            was asked for.
        user_ids: Id of each user code, of users with events and users of the `Users` table.
        items: The catalogue in the order of item codes, with `item` (its code), ids, text fields and
            attributes.
        calendar: What the days mean.
        users: Attributes of users in the order of user codes, null for users without a row in `Users`.
        supplied: Candidates of your own, as `features.supplied.supplied_candidates` codes them; None for none.
        offers: What is known ahead of items, as `features.offers.coded_offers` codes it; None for none.
        far: The days that `without_far_days` left out.
    """

    events: pl.DataFrame
    user_ids: pl.Series
    items: pl.DataFrame
    calendar: Calendar
    users: pl.DataFrame | None = None
    supplied: pl.DataFrame | None = None
    offers: pl.DataFrame | None = None
    far: FarDays = NO_FAR_DAYS

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
            keep: Further columns of events that features read.

        Raises:
            ContractError: No event type of `gains` occurs, or user ids differ in kind between tables.
        """
        refuse_gainless(events["event"].unique(), events.height, gains)
        catalogue = items.sort("item_id").with_row_index("item")
        user_ids = all_user_ids(events["user_id"], None if users is None else users["user_id"])
        coded = (
            events.join(user_ids.to_frame().with_row_index("user"), on="user_id", maintain_order="left")
            .join(catalogue.select("item", "item_id"), on="item_id", maintain_order="left")
            .with_columns(
                pl.Series("day", calendar.days(events["timestamp"])),
                pl.Series("due", calendar.days(events["timestamp"], known=False)),
                gain=pl.col("event").replace_strict(gains, default=0, return_dtype=pl.Int32),
                kind=pl.col("event"),
            )
        )
        columns = ["user", "item", "gain", "kind", "day", "due", "timestamp", "value"]
        told = [name for name in ("query", "text") if name in coded.columns and not coded[name].is_null().all()]
        further = dict.fromkeys([*told, *(name for name in keep if name in coded.columns)])
        by = ["day", "timestamp", "user", "item", "kind", "gain", "value", *further]
        return cls(
            events=coded.select(*columns, *further).sort(by),
            user_ids=user_ids,
            items=catalogue,
            calendar=calendar,
            users=None if users is None else users_by_code(users, user_ids),
        )

    @property
    def engaged(self) -> pl.DataFrame:
        """Events that count: gain above 0."""
        return self.events.filter(pl.col("gain") > 0)

    @cached_property
    def engagements(self) -> pl.DataFrame:
        """Events that count, folded: user, item (UInt32), day (Int32), n (how many, Int64); by (user, item, day)."""
        user, item, day = (self.engaged[name].cast(pl.Int64).to_numpy() for name in ("user", "item", "day"))
        n_items = self.items.height
        return self.engagements_of(*summed(stamps_of(user * n_items + item, day)), n_items=n_items)

    @staticmethod
    def engagements_of(stamps: Ints, counts: Ints, *, n_items: int) -> pl.DataFrame:
        """`engagements` of folded stamps ``(user * n_items + item) << 17 | day`` and their counts."""
        pair = stamps >> DAY_BITS
        user = pair // n_items
        return pl.DataFrame(
            {
                "user": user.astype(np.uint32),
                "item": (pair - user * n_items).astype(np.uint32),
                "day": (stamps & DAY_MASK).astype(np.int32),
                "n": counts,
            }
        )

    @cached_property
    def first_meetings(self) -> pl.DataFrame:
        """The day of each user's first event that counts with each item: user, item, day; by (user, item)."""
        other = pl.any_horizontal(pl.col(name) != pl.col(name).shift(1) for name in ("user", "item"))
        return self.engagements.filter(other.fill_null(value=True)).drop("n")

    @property
    def kinds(self) -> pl.Series:
        """The event types that occur, each once, in any order."""
        return self.events["kind"].unique()

    @property
    def by_kind(self) -> pl.DataFrame:
        """All events, folded: user, item (UInt32), day (Int32), kind (text or Enum), n (how many); in any order."""
        return self.events.group_by("user", "item", "day", "kind").agg(pl.len().cast(pl.Int64).alias("n"))

    @property
    def worth(self) -> pl.DataFrame:
        """Events that count and have a value, folded: user, item (UInt32), day (Int32), worth (`features.worth`).

        In any order.
        """
        value = pl.col("value") if "value" in self.events.columns else pl.lit(None, pl.Float64)
        worth = packed_worth(value).sum().alias("worth")
        return self.engaged.group_by("user", "item", "day").agg(worth).filter(pl.col("worth") > 0)

    @cached_property
    def user_index(self) -> AsOfIndex:
        """Events that count, by user code."""
        return AsOfIndex.build(pl.col("user"), self.engagements, total=pl.col("n"))

    @cached_property
    def item_index(self) -> AsOfIndex:
        """Events that count, by item code."""
        return AsOfIndex.build(pl.col("item"), self.engagements, total=pl.col("n"))

    @cached_property
    def item_comebacks(self) -> AsOfIndex:
        """`comebacks` of users to items, by item code."""
        return comebacks(self.engagements, "item")

    @cached_property
    def user_neighbours(self) -> "UserNeighbours":
        """Users alike: shared by all that ask about them."""
        from features.user_neighbours import UserNeighbours  # it is made of a log

        return UserNeighbours(self)

    @cached_property
    def ease(self) -> "Ease":
        """Regressions of items on histories: shared by all that ask about them."""
        from features.ease import Ease  # it is made of a log

        return Ease(self)

    @property
    def latest_day(self) -> int | None:
        """Day of the last event, None where there is none."""
        day = self.events["day"].max()
        assert day is None or isinstance(day, int)
        return day

    @property
    def active_users(self) -> pl.Series:
        """Codes of the users with an event, ascending."""
        return self.events["user"].unique().sort()

    @property
    def first_day(self) -> int:
        """Day of the first event."""
        return int(self.events["day"][0])

    @property
    def last_day(self) -> int:
        """Day of the last event, in days of labels."""
        last = self.events["due"].max()
        assert isinstance(last, int)  # the contract refuses an empty table
        return last

    def with_tables(self, **tables: pl.DataFrame) -> Self:
        """The same log with `supplied` or `offers`."""
        log = copy(self)
        for name, table in tables.items():
            object.__setattr__(log, name, table)
        return log

    @property
    def events_a_day(self) -> tuple[Ints, Ints]:
        """(D,) days that have events, ascending, and how many events of any type each has."""
        daily = self.events.group_by("day").agg(pl.len().cast(pl.Int64).alias("n")).sort("day")
        return daily["day"].cast(pl.Int64).to_numpy(), daily["n"].to_numpy()

    def without_far_days(self) -> "EventLog":
        """The same log without the events of days that are far from all others (`features.faraway`); codes stay."""
        far = far_days(*self.events_a_day)
        if not far.counts:
            return self
        return replace(self, events=self.events.filter(pl.col("day").is_between(far.first_day, far.last_day)), far=far)

    def before(self, day: int) -> "EventLog":
        """The same log with only what the batch of `day` knows; codes stay as they are."""
        return replace(self, events=self.events.filter(pl.col("day") < day), offers=self.offers_before(day))

    def offers_before(self, day: int) -> pl.DataFrame | None:
        """Offers that the batch of `day` knows: those that begin on it too."""
        return None if self.offers is None else self.offers.filter(pl.col("first_day") <= day)

    def until(self, day: int) -> "EventLog":
        """The same log as if it had ended when `day` opened; codes stay as they are."""
        return replace(self, events=self.events.filter(pl.col("due") < day))


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
    known = [of_events] if of_users is None else [of_events, of_users]
    if len({series.dtype == pl.String for series in known}) > 1:
        raise ContractError("user_id is text in one of events and users and an integer in the other.")
    return pl.concat([series.cast(of_events.dtype) for series in known]).unique().sort()


def users_by_code(users: pl.DataFrame, user_ids: pl.Series) -> pl.DataFrame:
    """Attributes of users in the order of their codes, null for users without a row."""
    rows = users.with_columns(pl.col("user_id").cast(user_ids.dtype))
    return user_ids.to_frame("user_id").join(rows, on="user_id", how="left", maintain_order="left")
