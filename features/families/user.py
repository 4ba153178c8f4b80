"""Activity of a user over all items: counts, recency, gaps, distinct items, mean price, spread over categories."""

import numpy as np
import polars as pl

from features.families.attribute_values import item_codes
from features.families.counts import KindCounts
from features.log.asof import stamps_of
from features.log.engagements import spread
from features.log.event_log import EventLog
from features.signals.family import (
    AsOfIndex,
    Columns,
    Family,
    Floats,
    Plan,
    Rows,
    Values,
    days_or_nan,
    mean_gap,
    ratio,
    tally,
)

__all__ = ["PRICE_UNIT", "BoughtPrices", "UserActivity"]

PRICE_UNIT = 1000
"""Prices are summed as whole thousandths, so that the order of a sum does not matter."""


class BoughtPrices:
    """Mean catalogue price of what a user engaged with; items without a price do not count."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        thousandths = log.items.select((pl.col("price") * PRICE_UNIT).round().cast(pl.Int64)).to_series()
        self._priced = thousandths.is_not_null().to_numpy()
        self._price = thousandths.fill_null(0).to_numpy()

    def mean(self, rows: Rows) -> Floats:
        """In the catalogue's currency, NaN where nothing priced was engaged with."""
        paid, count = self._log.only(rows.users).shared(self._paid).total(rows.user, rows.as_of_day).T
        return ratio(paid / PRICE_UNIT, count)

    def _paid(self, log: EventLog) -> AsOfIndex:
        """By user: thousandths paid, and engagements with what has a price."""
        done = log.interactions
        priced = self._priced[done.item]
        user, item, day, n = (part[priced] for part in (done.user, done.item, done.day, done.n))
        return AsOfIndex.of(stamps_of(user.astype(np.int64), day), np.stack([self._price[item] * n, n], axis=1))


class UserActivity(Family):
    """Counts, recency and regularity of the user, whatever the item is."""

    name = "user"
    keys = ("user",)
    reads = ("user", "item", "kind", "gain", "day")
    windows = (1, 7, 28, 90)
    columns = {
        "user_days_since_last": "days since the last engagement",
        "user_days_since_first": "days since the first engagement",
        "user_active_days": "days with an engagement",
        "user_events_per_active_day": "engagements a day with any",
        "user_mean_gap_days": "mean days between two active days",
        "user_days_since_last_per_gap": "days since the last engagement, in mean gaps",
        "user_items_all": "distinct items engaged with",
        "user_events_per_item": "engagements a distinct item",
    }

    def __init__(self, log: EventLog, plan: Plan) -> None:
        self._log, self._plan = log, plan
        self._prices = BoughtPrices(log) if plan.inventory.has(["items.price"]) else None
        self._entropy = _CategoryEntropy(log) if plan.inventory.has(["items.category"]) else None

    @classmethod
    def columns_of(cls, plan: Plan) -> Columns:
        """See `Family`."""
        counts = KindCounts.columns(plan, key="user", what="of the user", windows=cls.windows)
        columns = {**counts, **cls.columns}
        if plan.inventory.has(["items.price"]):
            columns["user_mean_price"] = "mean catalogue price of what the user engaged with"
        if plan.inventory.has(["items.category"]):
            columns["user_category_entropy"] = "entropy (nats) of the user's engagements over categories"
        return columns

    def compute(self, rows: Rows) -> Values:
        """See `Family`."""
        counts, met = self._log.only(rows.users).shared(self._indexes)
        past = counts.engaged(rows.user, rows.as_of_day)
        total, active, gap = past.total(), past.active_days(), mean_gap(past)
        since, items = days_or_nan(past.days_since_last()), met.total(rows.user, rows.as_of_day)
        values = {
            **counts.compute(past),
            "user_days_since_last": since,
            "user_days_since_first": days_or_nan(past.days_since_first()),
            "user_active_days": active,
            "user_events_per_active_day": ratio(total, active),
            "user_mean_gap_days": gap,
            "user_days_since_last_per_gap": ratio(since, gap),
            "user_items_all": items,
            "user_events_per_item": ratio(total, items),
        }
        if self._prices is not None:
            values["user_mean_price"] = self._prices.mean(rows)
        if self._entropy is not None:
            values["user_category_entropy"] = self._entropy.of(rows)
        return values

    def _indexes(self, log: EventLog) -> tuple[KindCounts, AsOfIndex]:
        """Events by type, and first meetings, by user."""
        counts = KindCounts(log, self._plan, key="user", engaged=log.user_index, windows=self.windows)
        return counts, AsOfIndex.build(pl.col("user"), log.first_meetings)


class _CategoryEntropy:
    """Shannon entropy of a user's engagements over the categories of their items."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._category = item_codes(log, "category")

    def of(self, rows: Rows) -> Floats:
        """In nats; NaN where no engagement has a category. Terms are summed in the order of category codes."""
        history = self._log.only(rows.users).history
        positions, begins = spread(*history.slices(rows.user, rows.as_of_day))
        owner = np.repeat(np.arange(len(rows)), np.diff(begins))
        item, _, count = history.taken(positions)
        category = self._category[item]
        valued = np.flatnonzero(category > 0)
        width = int(self._category.max(initial=0)) + 1
        cells, events = tally(owner[valued] * width + category[valued], count[valued], len(rows) * width)
        total = np.bincount(cells // width, weights=events, minlength=len(rows))
        share = events / total[cells // width]
        summed = np.bincount(cells // width, weights=share * np.log(share), minlength=len(rows))
        return np.where(total > 0, np.abs(summed), np.nan)
