"""How much an item is wanted, whether that grows, by how many people, and at what price."""

import numpy as np
import polars as pl

from features.asof import AsOfIndex, Floats, Ints
from features.families.base import Columns, Family, Plan, Rows, Values, known, ratio
from features.families.counts import KindCounts
from features.families.history import FIXED, decay_weights
from features.timeline import EventLog

__all__ = ["Gaps", "ItemPopularity"]

_HALF_LIVES_DAYS = (7, 30, 90)
_KEPT_DAYS = 64  # as-of days whose decayed counts are kept at hand


class Gaps:
    """Days between consecutive active days of the same user with the same item or value, dated at the later one.

    Args:
        events: user, day and the key, one row an engagement.
        key: Column of the item or value.
    """

    def __init__(self, events: pl.DataFrame, key: str) -> None:
        days = events.select("user", key, "day").unique().sort("user", key, "day")
        gap = (pl.col("day") - pl.col("day").shift(1)).over("user", key)
        gaps = days.with_columns(gap=gap).drop_nulls("gap")
        self._sum = AsOfIndex.build(pl.col(key), gaps, total=pl.col("gap"))
        self._count = AsOfIndex.build(pl.col(key), gaps)
        again = gaps.group_by("user", key).agg(pl.col("day").min())
        self._again = AsOfIndex.build(pl.col(key), again)

    def mean(self, key: Ints, as_of_day: Ints) -> Floats:
        """Mean days until a user comes back to it, NaN where nobody did."""
        return ratio(self._sum.total(key, as_of_day), self._count.total(key, as_of_day))

    def users(self, key: Ints, as_of_day: Ints) -> Ints:
        """Users who engaged with it on two days or more."""
        return self._again.total(key, as_of_day)


class ItemPopularity(Family):
    """The item as such."""

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
        self._counts = KindCounts(pl.col("item"), log, plan, prefix="item", windows=self.windows)
        first = log.engaged.group_by("user", "item").agg(pl.col("day").min())
        self._first_users = AsOfIndex.build(pl.col("item"), first)
        self._gaps = Gaps(log.engaged, "item")
        self._decayed = _Decayed(log)
        self._price = _Prices(log) if plan.supply.has(["items.price"]) else None
        returned = plan.supply.kinds_of(plan.config.roles.returned)
        events = log.events.filter(pl.col("kind").is_in(returned))
        self._returns = AsOfIndex.build(pl.col("item"), events) if returned else None

    @classmethod
    def columns_of(cls, plan: Plan) -> Columns:
        """See `Family`."""
        columns = {
            **KindCounts.columns(plan, prefix="item", what="with the item", windows=cls.windows),
            **cls.columns,
        }
        if plan.supply.kinds_of(plan.config.roles.returned):
            columns["item_return_share"] = "returns over engagements"
        if plan.supply.has(["items.price"]):
            columns["item_price"] = "catalogue price"
            columns["item_price_percentile"] = "share of the category's priced items that cost less, ties half"
        return columns

    def compute(self, rows: Rows) -> Values:
        """See `Family`."""
        item, day = rows.item, rows.as_of_day
        found = self._counts.engaged(item, day)
        counts = self._counts.compute(item, day, found)
        total, met = found.total(), self._first_users.at(item, day)
        users = met.total()
        values = {
            **counts,
            **self._decayed.of(item, day),
            "item_trend": (counts["item_events_7d"] * 4 + 1) / (counts["item_events_28d"] + 1),
            "item_days_since_first": known(found.days_since_first()),
            "item_days_since_last": known(found.days_since_last()),
            "item_users_28d": met.total(28),
            "item_users_all": users,
            "item_events_per_user": ratio(total, users),
            "item_repeat_share": ratio(self._gaps.users(item, day), users),
            "item_mean_gap_days": self._gaps.mean(item, day),
        }
        if self._returns is not None:
            values["item_return_share"] = ratio(self._returns.total(item, day), total)
        if self._price is not None:
            values |= {"item_price": self._price.price[item], "item_price_percentile": self._price.percentile[item]}
        return values


class _Decayed:
    """Exponentially decayed engagements of every item, as of a day."""

    def __init__(self, log: EventLog) -> None:
        daily = log.engaged.group_by("day", "item").agg(count=pl.len()).sort("day", "item").cast(pl.Int64)
        self._day, self._item, self._count = (daily[name].to_numpy() for name in ("day", "item", "count"))
        self._n_items = log.items.height
        self._weights = {days: decay_weights(days) for days in _HALF_LIVES_DAYS}
        self._kept: dict[int, Values] = {}

    def of(self, item: Ints, as_of_day: Ints) -> Values:
        """One array a half-life. Weights are fixed-point integers, summed exactly."""
        values = {f"item_decayed_{days}d": np.empty(len(item)) for days in _HALF_LIVES_DAYS}
        for day in np.unique(as_of_day):
            there = as_of_day == day
            for name, column in self._on(int(day)).items():
                values[name][there] = column[item[there]]
        return values

    def _on(self, day: int) -> Values:
        if day not in self._kept:
            end = int(np.searchsorted(self._day, day))
            age, item, count = day - self._day[:end], self._item[:end], self._count[:end]
            made = {
                f"item_decayed_{days}d": np.bincount(item, weights[age] * count, self._n_items) / FIXED
                for days, weights in self._weights.items()
            }
            while len(self._kept) >= _KEPT_DAYS:
                self._kept.pop(next(iter(self._kept)))
            self._kept[day] = made
        return self._kept[day]


class _Prices:
    """Catalogue prices, and where each lies among those of its category (mid-rank; all, without categories)."""

    def __init__(self, log: EventLog) -> None:
        category = pl.col("category") if "category" in log.items.columns else pl.lit(None, pl.String)
        priced = log.items.select("item", "price", category=category)
        rank, count = pl.col("price").rank("average"), pl.col("price").count()
        ranked = priced.with_columns(percentile=((rank - 0.5) / count).over("category"))
        self.price = ranked["price"].cast(pl.Float64).fill_null(np.nan).to_numpy()
        self.percentile = ranked["percentile"].fill_null(np.nan).to_numpy()
