"""Behavioural features of a user, an item and their pair, as known strictly before each row's as-of.

A family is a class that is built on an `EventLog`, names its `columns` and computes them for any rows;
`FAMILIES` is the register, and no behavioural column reaches a training table but through it.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import polars as pl

from features.asof import NEVER, AsOfIndex, Ints
from features.timeline import EventLog

__all__ = ["FAMILIES", "BehaviourFeatures", "Family", "ItemPopularity", "PairHistory", "Rows", "UserActivity"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Rows:
    """What features are computed for: one candidate of one request a row, as codes of the log."""

    user: Ints
    item: Ints
    as_of_day: Ints

    @classmethod
    def of(cls, frame: pl.DataFrame) -> "Rows":
        """From a frame with user, item and as_of_day."""
        return cls(*(frame[name].cast(pl.Int64).to_numpy() for name in ("user", "item", "as_of_day")))


class Family(ABC):
    """Some features that belong together.

    Attributes:
        name: How the family is called in manifests and explanations.
        columns: The columns `compute` returns, in order. NaN where a value is not defined (never seen, say).
    """

    name: ClassVar[str]
    columns: ClassVar[tuple[str, ...]]

    @abstractmethod
    def __init__(self, log: EventLog) -> None: ...

    @abstractmethod
    def compute(self, rows: Rows) -> tuple[Ints | Floats, ...]:
        """One array a column, one value a row; only events with ``day < as_of_day`` may move it."""


class UserActivity(Family):
    """How much, how often and how lately the user engages at all."""

    name = "user"
    columns = (
        "user_events_7d",
        "user_events_28d",
        "user_events_90d",
        "user_events_all",
        "user_days_since_last",
        "user_active_days",
        "user_events_per_active_day",
        "user_mean_gap_days",
    )

    def __init__(self, log: EventLog) -> None:
        self._events = AsOfIndex.build(pl.col("user"), log.engaged)

    def compute(self, rows: Rows) -> tuple[Ints | Floats, ...]:
        """See `Family`."""
        key, day = rows.user, rows.as_of_day
        total, active = self._events.total(key, day), self._events.active_days(key, day)
        return (
            *(self._events.total(key, day, window_days=window) for window in (7, 28, 90)),
            total,
            _known(self._events.days_since_last(key, day)),
            active,
            _ratio(total, active),
            _mean_gap(self._events, key, day),
        )


class ItemPopularity(Family):
    """How much the item is wanted, whether that grows, and by how many people."""

    name = "item"
    columns = (
        "item_events_7d",
        "item_events_28d",
        "item_events_90d",
        "item_events_all",
        "item_trend",
        "item_days_since_first",
        "item_days_since_last",
        "item_users_28d",
        "item_users_all",
        "item_events_per_user",
    )

    def __init__(self, log: EventLog) -> None:
        self._events = AsOfIndex.build(pl.col("item"), log.engaged)
        first = log.engaged.group_by("user", "item").agg(pl.col("day").min())
        self._first_users = AsOfIndex.build(pl.col("item"), first)

    def compute(self, rows: Rows) -> tuple[Ints | Floats, ...]:
        """See `Family`."""
        key, day = rows.item, rows.as_of_day
        week, month, quarter = (self._events.total(key, day, window_days=window) for window in (7, 28, 90))
        total, users = self._events.total(key, day), self._first_users.total(key, day)
        return (
            week,
            month,
            quarter,
            total,
            (week * 4 + 1) / (month + 1),
            _known(self._events.days_since_first(key, day)),
            _known(self._events.days_since_last(key, day)),
            self._first_users.total(key, day, window_days=28),
            users,
            _ratio(total, users),
        )


class PairHistory(Family):
    """What the user did with this very item, and whether it is due again."""

    name = "pair"
    columns = (
        "pair_events_28d",
        "pair_events_90d",
        "pair_events_all",
        "pair_active_days",
        "pair_days_since_last",
        "pair_days_since_first",
        "pair_share_of_active_days",
        "pair_days_since_last_per_gap",
    )

    def __init__(self, log: EventLog) -> None:
        self._n_items = log.items.height
        key = pl.col("user").cast(pl.Int64) * self._n_items + pl.col("item").cast(pl.Int64)
        self._events = AsOfIndex.build(key, log.engaged)
        self._user_days = AsOfIndex.build(pl.col("user"), log.engaged)

    def compute(self, rows: Rows) -> tuple[Ints | Floats, ...]:
        """See `Family`."""
        key, day = rows.user * self._n_items + rows.item, rows.as_of_day
        active = self._events.active_days(key, day)
        since = _known(self._events.days_since_last(key, day))
        return (
            *(self._events.total(key, day, window_days=window) for window in (28, 90)),
            self._events.total(key, day),
            active,
            since,
            _known(self._events.days_since_first(key, day)),
            _ratio(active, self._user_days.active_days(rows.user, day)),
            _ratio(since, _mean_gap(self._events, key, day)),
        )


FAMILIES: tuple[type[Family], ...] = (UserActivity, ItemPopularity, PairHistory)
"""Every family whose columns enter the training table, in the order of its columns."""


class BehaviourFeatures:
    """All registered families over one log.

    Args:
        log: The event log; rows may ask about any day, the answer never looks at that day or later.
    """

    columns: ClassVar[tuple[str, ...]] = tuple(name for family in FAMILIES for name in family.columns)

    def __init__(self, log: EventLog) -> None:
        self._families = [family(log) for family in FAMILIES]

    def compute(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Features of some rows.

        Args:
            rows: user, item, as_of_day; any order.

        Returns:
            One Float32 column a name of `columns`, one row a row of `rows`; NaN where a value is not defined.
        """
        asked = Rows.of(rows)
        values = (value for family in self._families for value in family.compute(asked))
        named = zip(self.columns, values, strict=True)
        return pl.DataFrame({name: value.astype(np.float32) for name, value in named})


def _known(days: Ints) -> Floats:
    return np.where(days == NEVER, np.nan, days)


def _ratio(part: Ints | Floats, whole: Ints | Floats) -> Floats:
    """`part / whole`, NaN where the whole is 0 or undefined."""
    defined = whole > 0
    return np.where(defined, part / np.where(defined, whole, 1), np.nan)


def _mean_gap(index: AsOfIndex, key: Ints, day: Ints) -> Floats:
    """Mean days between two active days of a key, NaN with fewer than two."""
    gaps = index.active_days(key, day) - 1
    span = index.days_since_first(key, day) - index.days_since_last(key, day)
    return _ratio(span, np.maximum(gaps, 0))
