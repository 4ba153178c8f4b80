"""Popularity of an item, its trend, how many users it has, how often they return, and its price."""

import numpy as np
import polars as pl

from features.families.counts import KindCounts
from features.log.asof import DAY_MASK, AsOfIndex, Floats, Ints, KeysAsOf, stamps_of
from features.log.decay import FIXED, decay_weights
from features.log.engagements import spread
from features.log.event_log import EventLog
from features.log.interactions import Interactions, by_item
from features.signals.family import Columns, Family, Plan, Rows, Values, days_or_nan, ratio

__all__ = ["Gaps", "ItemPopularity"]

_HALF_LIVES_DAYS = (7, 30, 90)
_CELLS = 1 << 17  # daily counts that are decayed at a time


class Gaps:
    """Days between consecutive active days of the same user with the same item or value.

    Args:
        gaps: `return_gaps` of users to the items or values.
    """

    def __init__(self, gaps: AsOfIndex) -> None:
        self._return_gaps = gaps

    def compute(self, key: Ints, as_of_day: Ints) -> tuple[Floats, Ints]:
        """Mean days until a user comes back to it (NaN where nobody did), and the users who did."""
        days, count, users = self._return_gaps.total(key, as_of_day).T
        return ratio(days, count), users


class ItemPopularity(Family):
    """Counts, recency, repeat behaviour and price of the item, whoever the user is."""

    name = "item"
    keys = ("item",)
    reads = ("user", "item", "kind", "gain", "day")
    windows = (1, 7, 28, 90)
    columns = {
        **{
            f"item_decayed_{days}d": f"engagements, each halved every {days} days since it happened"
            for days in _HALF_LIVES_DAYS
        },
        "item_trend": "four times the engagements of 7 days and one, over those of 28 and one",
        "item_days_since_first": "days since anyone engaged with it first",
        "item_days_since_last": "days since anyone engaged with it last",
        "item_users_28d": "users who met it within 28 days",
        "item_users_all": "users who engaged with it",
        "item_events_per_user": "engagements a user of it",
        "item_repeat_share": "share of its users who came back to it on another day",
        "item_mean_gap_days": "mean days until a user came back to it",
    }

    def __init__(self, log: EventLog, plan: Plan) -> None:
        self._counts = KindCounts(log, plan, key="item", engaged=log.item_index, windows=self.windows)
        self._first_users = AsOfIndex.adding(_first_meetings(part) for part in log.interactions.parts())
        self._gaps = Gaps(log.item_return_gaps)
        self._price = _Prices(log) if plan.inventory.has(["items.price"]) else None
        returned = plan.inventory.kinds_of(plan.config.roles.returned)
        self._returns = by_item(part.of_kinds(returned) for part in log.cells.parts()) if returned else None

    @classmethod
    def columns_of(cls, plan: Plan) -> Columns:
        """See `Family`."""
        columns = {
            **KindCounts.columns(plan, key="item", what="with the item", windows=cls.windows),
            **cls.columns,
        }
        if plan.inventory.kinds_of(plan.config.roles.returned):
            columns["item_return_share"] = "returns over engagements"
        if plan.inventory.has(["items.price"]):
            columns["item_price"] = "catalogue price"
            columns["item_price_percentile"] = "share of the category's priced items that cost less, ties half"
        return columns

    def compute(self, rows: Rows) -> Values:
        """See `Family`."""
        item, day = rows.item, rows.as_of_day
        past = self._counts.engaged(item, day)
        counts = self._counts.compute(past)
        total, met = past.total(), self._first_users.at(item, day)
        users = met.total()
        gap, came_back = self._gaps.compute(item, day)
        values = {
            **counts,
            **_decayed(past),
            "item_trend": (counts["item_events_7d"] * 4 + 1) / (counts["item_events_28d"] + 1),
            "item_days_since_first": days_or_nan(past.days_since_first()),
            "item_days_since_last": days_or_nan(past.days_since_last()),
            "item_users_28d": met.total(28),
            "item_users_all": users,
            "item_events_per_user": ratio(total, users),
            "item_repeat_share": ratio(came_back, users),
            "item_mean_gap_days": gap,
        }
        if self._returns is not None:
            values["item_return_share"] = ratio(self._returns.total(item, day), total)
        if self._price is not None:
            values |= {"item_price": self._price.price[item], "item_price_percentile": self._price.percentile[item]}
        return values


def _first_meetings(done: Interactions) -> tuple[Ints, None]:
    """One row a user of an item."""
    return stamps_of(done.item[done.is_first].astype(np.int64), done.day[done.is_first]), None


def _decayed(past: KeysAsOf) -> Values:
    """Exponentially decayed engagements, one array a half-life; weights are fixed-point integers, summed exactly."""
    values = {f"item_decayed_{days}d": np.zeros(len(past.end)) for days in _HALF_LIVES_DAYS}
    sizes = np.concatenate([np.zeros(1, np.int64), np.cumsum(past.end - past.first)])
    start = 0
    while start < len(past.end):
        end = max(int(np.searchsorted(sizes, sizes[start] + _CELLS, side="right")) - 1, start + 1)
        positions, begins = spread(past.first[start:end], past.end[start:end])
        count = past.index.running[positions + 1] - past.index.running[positions]
        age = np.repeat(past.as_of_day[start:end], np.diff(begins)) - (past.index.stamps[positions] & DAY_MASK)
        for days in _HALF_LIVES_DAYS:
            running = np.concatenate([np.zeros(1, np.int64), np.cumsum(decay_weights(days)[age] * count)])
            values[f"item_decayed_{days}d"][start:end] = (running[begins[1:]] - running[begins[:-1]]) / FIXED
        start = end
    return values


class _Prices:
    """Catalogue prices, and where each lies among those of its category (mid-rank; all, without categories)."""

    def __init__(self, log: EventLog) -> None:
        category = pl.col("category") if "category" in log.items.columns else pl.lit(None, pl.String)
        priced = log.items.select("item", "price", category=category)
        rank, count = pl.col("price").rank("average"), pl.col("price").count()
        ranked = priced.with_columns(percentile=((rank - 0.5) / count).over("category"))
        self.price = ranked["price"].cast(pl.Float64).fill_null(np.nan).to_numpy()
        self.percentile = ranked["percentile"].fill_null(np.nan).to_numpy()
