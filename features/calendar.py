"""Time as the batch sees it: integer days between cut-offs.

The batch of day D opens at its cut-off in the calendar's zone and sees what happened strictly before
``as_of(D) = cutoff(D) - ingestion lag``. Every event therefore belongs to exactly one integer `day`: the day
d with ``as_of(d) <= timestamp < as_of(d + 1)``. An event is visible to the batch of day D exactly if ``day < D``, and
all point-in-time code in nightrank compares these integers, never clocks.
"""

import math
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import polars as pl

from features.config import CalendarConfig
from features.errors import ConfigError

__all__ = ["Calendar", "batch_day", "date_of", "day_of"]

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
    """`day_of` a date, checked to lie in the range of days that a log can have.

    Raises:
        ConfigError: The date lies before 1971 or after 2299.
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
        """Instant (UTC) strictly before which events are visible to the batch of `day`."""
        return self.cutoff(day) - timedelta(hours=self.config.ingestion_lag_hours)

    @property
    def lag_days(self) -> int:
        """The ingestion lag in whole days, rounded up."""
        return math.ceil(self.config.ingestion_lag_hours / 24)

    def days(self, timestamps: pl.Series, *, by_as_of: bool = True) -> npt.NDArray[np.int32]:
        """The integer day of each instant.

        Args:
            timestamps: Datetime, microseconds, UTC, no nulls; any order. What lies before 1970 or after 2300 (a date
                for "always" or "never") counts as these.
            by_as_of: Cut days at as-of instants, so that a day says which batch sees the event first; else at
                cut-offs, so that a day says when the event happened.

        Returns:
            One day number an instant.
        """
        if timestamps.is_empty():
            return np.empty(0, np.int32)
        instant = self.as_of if by_as_of else self.cutoff
        stamps = timestamps.dt.cast_time_unit("us").to_physical().to_numpy().clip(0, _LAST_MICROSECOND)
        around = timedelta(days=self.lag_days + 2)
        first, last = (
            day_of((datetime.fromtimestamp(int(edge) / 1e6, UTC) + sign * around).date())
            for edge, sign in ((stamps.min(), -1), (stamps.max(), 1))
        )
        grid = np.array([_microseconds(instant(day)) for day in range(first, last + 1)])
        steps = np.diff(grid)
        if (steps == steps[0]).all():  # no clock changes: a division does it in a tenth of the time
            offset_days = (stamps - grid[0]) // steps[0]
        else:
            offset_days = np.searchsorted(grid, stamps, side="right") - 1
        days: npt.NDArray[np.int32] = (offset_days + first).astype(np.int32)
        return days


def _microseconds(instant: datetime) -> int:
    return (instant - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
