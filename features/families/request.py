"""Columns that depend on the whole list of a request, and the ranks and scores of candidate generators."""

from collections.abc import Iterable

import numpy as np
import polars as pl

from features.candidates.catalog import generators_of
from features.config import CandidatesConfig
from features.families.user import BoughtPrices
from features.log.event_log import EventLog
from features.signals.family import ColumnGroup, Columns, Family, Plan, Rows, Values, ratio

__all__ = ["RequestList", "source_group"]


def _source_meanings(sources: Iterable[str]) -> Columns:
    parts = {
        "rank": "rank (1 is best) among what the generator {} proposed; NaN where it did not",
        "score": "score by the generator {}; NaN where it did not propose the item",
    }
    return {f"{source}_{part}": meaning.format(source) for source in sources for part, meaning in parts.items()}


def source_group(config: CandidatesConfig) -> ColumnGroup:
    """Rank and score of each candidate generator of a configuration."""
    generators = generators_of(config)
    return ColumnGroup(
        name="sources",
        columns=_source_meanings(generator.name for generator in generators),
        text=frozenset(_source_meanings(generator.name for generator in generators if generator.is_text)),
    )


class RequestList(Family):
    """The list that a candidate stands in. Generators that read texts do not count, so that no column reads a text."""

    name = "request"
    keys = ("request", "user", "item")
    reads = ("user", "item", "gain", "day")
    columns = {
        "request_candidates": "candidates of the request that a generator without text proposed",
        "request_sources": "generators without text that proposed the item",
    }

    def __init__(self, log: EventLog, plan: Plan) -> None:
        self._prices = None
        if plan.inventory.has(["items.price"]):
            self._prices = BoughtPrices(log)
            self._price = log.items["price"].cast(pl.Float64).fill_null(np.nan).to_numpy()

    @classmethod
    def columns_of(cls, plan: Plan) -> Columns:
        """See `Family`."""
        if not plan.inventory.has(["items.price"]):
            return cls.columns
        return {**cls.columns, "request_price_per_mean": "price over the mean price of what the user engaged with"}

    def compute(self, rows: Rows) -> Values:
        """See `Family`; all rows of a request are passed together."""
        assert rows.sources is not None  # the registry passes them to families keyed by request
        sources = rows.sources.sum(axis=1, dtype=np.int64)
        _, request = np.unique(rows["request"], return_inverse=True)
        values = {
            "request_candidates": np.bincount(request, weights=sources > 0)[request] if len(rows) else sources,
            "request_sources": sources,
        }
        if self._prices is not None:
            values["request_price_per_mean"] = ratio(self._price[rows.item], rows.by(("user",), self._prices.mean))
        return values
