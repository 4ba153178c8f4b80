"""Time as the batch sees it: integer days between cut-offs, and the event log on them.

The batch of day D opens at its cut-off in the calendar's zone and sees what happened strictly before
``as_of(D) = cutoff(D) - ingestion lag``. Every event therefore belongs to exactly one integer `day`: the day
d with ``as_of(d) <= timestamp < as_of(d + 1)``. *Known at the batch of day D* is the same as ``day < D``, and
all point-in-time code in nightrank compares these integers, never clocks.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Self
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import polars as pl

from features.config import CalendarConfig
from features.errors import ContractError, listed

__all__ = ["Calendar", "EventLog", "date_of", "day_of"]

_EPOCH = date(1970, 1, 1)


def day_of(when: date) -> int:
    """Day number of a date: days since 1970-01-01.

    >>> day_of(date(1970, 1, 2))
    1
    """
    return (when - _EPOCH).days


def date_of(day: int) -> date:
    """Inverse of `day_of`."""
    return _EPOCH + timedelta(days=day)


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
            timestamps: Datetime, microseconds, UTC, no nulls; any order.
            known: Count days between as-of instants (what a batch knows), else between cut-offs (what a day
                holds).

        Returns:
            One day number an instant.
        """
        if timestamps.is_empty():
            return np.empty(0, np.int32)
        instant = self.as_of if known else self.cutoff
        stamps = timestamps.dt.cast_time_unit("us").to_physical().to_numpy()
        around = timedelta(days=self.lag_days + 2)
        first, last = (
            day_of((datetime.fromtimestamp(int(edge) / 1e6, UTC) + sign * around).date())
            for edge, sign in ((stamps.min(), -1), (stamps.max(), 1))
        )
        grid = np.array([_microseconds(instant(day)) for day in range(first, last + 1)])
        return (np.searchsorted(grid, stamps, side="right") - 1 + first).astype(np.int32)


def _microseconds(instant: datetime) -> int:
    return (instant - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
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
    """

    events: pl.DataFrame
    user_ids: pl.Series
    items: pl.DataFrame
    calendar: Calendar
    users: pl.DataFrame | None = None

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
        if not events["event"].is_in(list(gains)).any():
            raise ContractError(
                f"events: none of the {events.height} rows has an event type of labels.gains "
                f"({listed(sorted(gains))}). Name the types that count there, as they are written in the log."
            )
        catalogue = items.sort("item_id").with_row_index("item")
        known = [events["user_id"]] + ([] if users is None else [users["user_id"]])
        if len({series.dtype == pl.String for series in known}) > 1:
            raise ContractError("user_id is text in one of events and users and an integer in the other.")
        user_ids = pl.concat([series.cast(known[0].dtype) for series in known]).unique().sort()
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
            users=None if users is None else _in_order_of_codes(users, user_ids),
        )

    @property
    def engaged(self) -> pl.DataFrame:
        """Events that count: gain above 0."""
        return self.events.filter(pl.col("gain") > 0)

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

    def before(self, day: int) -> Self:
        """The same log with only what the batch of `day` knows; codes stay as they are."""
        return replace(self, events=self.events.filter(pl.col("day") < day))


def _in_order_of_codes(users: pl.DataFrame, user_ids: pl.Series) -> pl.DataFrame:
    rows = users.with_columns(pl.col("user_id").cast(user_ids.dtype))
    return user_ids.to_frame("user_id").join(rows, on="user_id", how="left", maintain_order="left")
