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

from features.asof import NEVER, AsOfIndex, Ints, Known
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
        keys: What a row's values depend on beside its as-of day.
        columns: The columns `compute` returns, in order. NaN where a value is not defined (never seen, say).
    """

    name: ClassVar[str]
    keys: ClassVar[tuple[str, ...]]
    columns: ClassVar[tuple[str, ...]]

    @abstractmethod
    def __init__(self, log: EventLog) -> None: ...

    @abstractmethod
    def compute(self, rows: Rows) -> tuple[Ints | Floats, ...]:
        """One array a column, one value a row; only events with ``day < as_of_day`` may move it."""


class UserActivity(Family):
    """How much, how often and how lately the user engages at all."""

    name = "user"
    keys = ("user",)
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
        self._events = log.user_index

    def compute(self, rows: Rows) -> tuple[Ints | Floats, ...]:
        """See `Family`."""
        known = self._events.at(rows.user, rows.as_of_day)
        total, active = known.total(), known.active_days()
        return (
            *(known.total(window_days=window) for window in (7, 28, 90)),
            total,
            _known(known.days_since_last()),
            active,
            _ratio(total, active),
            _mean_gap(known),
        )


class ItemPopularity(Family):
    """How much the item is wanted, whether that grows, and by how many people."""

    name = "item"
    keys = ("item",)
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
        self._events = AsOfIndex.build(pl.col("item"), log.engagements, total=pl.col("n"))
        self._first_users = AsOfIndex.build(pl.col("item"), log.first_meetings)

    def compute(self, rows: Rows) -> tuple[Ints | Floats, ...]:
        """See `Family`."""
        known = self._events.at(rows.item, rows.as_of_day)
        met = self._first_users.at(rows.item, rows.as_of_day)
        week, month, quarter = (known.total(window_days=window) for window in (7, 28, 90))
        total, users = known.total(), met.total()
        return (
            week,
            month,
            quarter,
            total,
            (week * 4 + 1) / (month + 1),
            _known(known.days_since_first()),
            _known(known.days_since_last()),
            met.total(window_days=28),
            users,
            _ratio(total, users),
        )


class PairHistory(Family):
    """What the user did with this very item, and whether it is due again."""

    name = "pair"
    keys = ("user", "item")
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
        self._events = AsOfIndex.build(key, log.engagements, total=pl.col("n"))
        self._user_days = log.user_index

    def compute(self, rows: Rows) -> tuple[Ints | Floats, ...]:
        """See `Family`."""
        key, day = rows.user * self._n_items + rows.item, rows.as_of_day
        known = self._events.at(key, day)
        active = known.active_days()
        since = _known(known.days_since_last())
        return (
            *(known.total(window_days=window) for window in (28, 90)),
            known.total(),
            active,
            since,
            _known(known.days_since_first()),
            _ratio(active, self._user_days.active_days(rows.user, day)),
            _ratio(since, _mean_gap(known)),
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


def _mean_gap(known: Known) -> Floats:
    """Mean days between two active days of a key, NaN with fewer than two."""
    gaps = known.active_days() - 1
    span = known.days_since_first() - known.days_since_last()
    return _ratio(span, np.maximum(gaps, 0))
