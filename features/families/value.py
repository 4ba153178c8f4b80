"""Mean value of engagements (price paid, rating, dwell time, ...) of the item, the user and the pair."""

import numpy as np

from features.log.asof import AsOfIndex, Floats, Ints, stamps_of
from features.log.event_log import EventLog
from features.log.interactions import Interactions
from features.log.packed_values import LOG_VALUE_GRID, unpack_values
from features.signals.family import Columns, Family, Plan, Rows, Values, ratio

__all__ = ["EventValue"]


class EventValue(Family):
    """Means of ``log(1 + value)`` over the engagements that have a value; a value below 0 counts as 0.

    Logarithms keep one outlier from moving a mean far. NaN where no
    engagement has a value.
    """

    name = "value"
    keys = ("user", "item")
    reads = ("user", "item", "gain", "day", "events.value")
    windows = (28,)
    columns = {
        "item_value": "mean log(1 + value) of the item's engagements",
        "item_value_trend": "the same over the last 28 days, less that over all",
        "user_value": "mean log(1 + value) of the user's engagements",
        "value_over_user": "the item's mean less the user's",
        "pair_value": "mean log(1 + value) of the user's engagements with the item",
        "pair_value_over_item": "that less the item's mean",
    }

    def __init__(self, log: EventLog, plan: Plan) -> None:  # noqa: ARG002 - one signature
        self._log = log
        self._items = _log_values(log, "item")

    @classmethod
    def columns_of(cls, plan: Plan) -> Columns:
        """See `Family`."""
        return cls.columns if plan.inventory.has(["events.value"]) else {}

    def compute(self, rows: Rows) -> Values:
        """See `Family`."""
        log = self._log.only(rows.users)
        item = rows.by(("item",), lambda some: _mean(self._items, some.item, some.as_of_day))
        lately = rows.by(("item",), lambda some: _mean(self._items, some.item, some.as_of_day, self.windows[0]))
        user = rows.by(("user",), lambda some: _mean(log.shared(_of_users), some.user, some.as_of_day))
        pair = _mean(log.shared(_of_pairs), rows.user * log.items.height + rows.item, rows.as_of_day)
        return {
            "item_value": item,
            "item_value_trend": lately - item,
            "user_value": user,
            "value_over_user": item - user,
            "pair_value": pair,
            "pair_value_over_item": pair - item,
        }


def _mean(log_values: AsOfIndex, key: Ints, as_of_day: Ints, window_days: int | None = None) -> Floats:
    value, count = log_values.total(key, as_of_day, window_days=window_days).T
    return ratio(value / LOG_VALUE_GRID, count)


def _of_users(log: EventLog) -> AsOfIndex:
    return _log_values(log, "user")


def _of_pairs(log: EventLog) -> AsOfIndex:
    return _log_values(log, "pair")


def _log_values(log: EventLog, by: str) -> AsOfIndex:
    """Summed logarithms, and the events that have one, by user, item or pair."""
    valued = (part.values_of(log.gains) for part in log.cells.parts())
    return AsOfIndex.adding((_stamps(part, by, log.items.height), unpack_values(part.n)) for part in valued)


def _stamps(log_values: Interactions, by: str, n_items: int) -> Ints:
    codes = {"user": log_values.user, "item": log_values.item}
    key = log_values.pairs(n_items) if by == "pair" else codes[by].astype(np.int64)
    return stamps_of(key, log_values.day)
