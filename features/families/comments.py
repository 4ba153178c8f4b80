"""Comments on an item: their number, recency, mean length and mean sentiment."""

import polars as pl

from features.log.asof import AsOfIndex
from features.log.event_log import EventLog
from features.signals.family import Columns, Family, Plan, Rows, Values, days_or_nan, ratio

__all__ = ["ItemComments"]

_UNIT = 10_000
"""Sentiments are summed as whole ten-thousandths, so that the order of a sum does not matter."""


class ItemComments(Family):
    """Comments are events with a text; a mean is NaN where nobody wrote (or rated)."""

    name = "comments"
    keys = ("item",)
    reads = ("item", "day", "events.text")
    windows = (28,)
    columns = {
        "comments_28d": "comments on the item, last 28 days",
        "comments_all": "comments on the item, ever",
        "comments_days_since_last": "days since the last comment",
        "comments_mean_length": "mean length of its comments, in characters",
    }
    is_text = True

    def __init__(self, log: EventLog, plan: Plan) -> None:
        column = _sentiment(plan)
        written = log.raw_events.holding("text", *([] if column is None else [column]))
        self._events = AsOfIndex.build(pl.col("item"), written)
        self._length = AsOfIndex.build(pl.col("item"), written, total=pl.col("text").str.len_chars())
        self._sentiment = None
        if column is not None:
            felt = written.filter(pl.col(column).is_not_null())
            total = (pl.col(column).cast(pl.Float64) * _UNIT).round().cast(pl.Int64)
            self._sentiment = AsOfIndex.build(pl.col("item"), felt, total=total)
            self._felt = AsOfIndex.build(pl.col("item"), felt)

    @classmethod
    def columns_of(cls, plan: Plan) -> Columns:
        """See `Family`."""
        columns = super().columns_of(plan)
        if columns and _sentiment(plan) is not None:
            columns = {**columns, "comments_mean_sentiment": "mean sentiment of its comments"}
        return columns

    def compute(self, rows: Rows) -> Values:
        """See `Family`."""
        past = self._events.at(rows.item, rows.as_of_day)
        total = past.total()
        values = {
            "comments_28d": past.total(28),
            "comments_all": total,
            "comments_days_since_last": days_or_nan(past.days_since_last()),
            "comments_mean_length": ratio(self._length.total(rows.item, rows.as_of_day), total),
        }
        if self._sentiment is not None:
            felt = self._felt.total(rows.item, rows.as_of_day)
            values["comments_mean_sentiment"] = ratio(self._sentiment.total(rows.item, rows.as_of_day) / _UNIT, felt)
        return values


def _sentiment(plan: Plan) -> str | None:
    """The configured column, if the log has it."""
    name = plan.config.sentiment
    return name if name is not None and plan.inventory.has([f"events.{name}"]) else None
