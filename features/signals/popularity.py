"""Popularity of items in the days before a day: over all users, in the user's categories, in the user's segment."""

from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy import sparse

from features.errors import require_columns
from features.log.asof import Ints
from features.log.event_log import EventLog
from features.signals.base import Signal
from features.signals.generator import Generator, GeneratorInputs
from features.signals.top_k import NO_SCORES, NOTHING, leaders_of_blocks, top_k, top_k_of_rows
from features.tables.frames import PopularItems

__all__ = ["Popular", "PopularInCategory", "PopularInSegment", "Popularity", "SegmentPopularity", "popular_items"]

_NO_SEGMENT = -1


@dataclass(frozen=True)
class Popularity(Signal[Ints]):
    """(items,) engagements of each item in the window before a day.

    Attributes:
        window_days: Days that it looks back; None for all.
    """

    window_days: int | None
    name = "popularity"

    def fit(self, log: EventLog, fit_day: int) -> Ints:
        """See `Signal`."""
        items = np.arange(log.items.height)
        return log.item_index.total(items, np.full_like(items, fit_day), window_days=self.window_days)


@dataclass(frozen=True)
class SegmentPopularity(Signal[sparse.csr_matrix]):
    """CSR (segments, items), int64: engagements of the users of each segment with each item in the window before a day.

    Attributes:
        column: Of users; its values, in order, are the segments.
        window_days: Days that it looks back.
    """

    column: str
    window_days: int
    name = "segment_popularity"

    def fit(self, log: EventLog, fit_day: int) -> sparse.csr_matrix:
        """See `Signal`."""
        segments, done = log.shared(_SegmentsBy(self.column)), log.interactions
        positions = done.between(fit_day - self.window_days, fit_day)
        segment = segments[done.user[positions]]
        positions, segment = positions[segment != _NO_SEGMENT], segment[segment != _NO_SEGMENT]
        cells = (done.n[positions].astype(np.int64), (segment, done.item[positions]))
        return sparse.csr_matrix(cells, shape=(int(segments.max()) + 1, log.items.height))


@dataclass(frozen=True)
class _SegmentsBy:
    """The segment of each user by a column, nobody's at the end; -1 where it is null."""

    column: str

    def __call__(self, log: EventLog) -> Ints:
        assert log.users is not None  # the generator has refused it
        segments = log.users[self.column].rank("dense").cast(pl.Int64) - 1
        return np.append(segments.fill_null(_NO_SEGMENT).to_numpy(), _NO_SEGMENT)


def popular_items(log: EventLog, as_of_days: pl.Series, *, most: int, window_days: int | None) -> pl.DataFrame:
    """The items with most engagements in the window before each day (all before, if None).

    Returns:
        `PopularItems`; ties by item code.
    """
    popularity = Popularity(window_days)
    parts: list[pl.DataFrame] = [PopularItems.create_empty()]
    for day in as_of_days.unique().sort():
        best = top_k_of_rows(sparse.csr_matrix(popularity.fit(log, day)), most)
        parts.append(PopularItems.cast(best.with_columns(as_of_day=pl.lit(day))))
    return pl.concat(parts)


class Popular(Generator):
    """What everybody engages with."""

    name = "popular"
    meaning = "items with most events in the popular window"

    def propose(self, requests: pl.DataFrame, history: pl.DataFrame) -> pl.DataFrame:  # noqa: ARG002 - one signature
        """The same items for all requests of a day."""
        popularity, parts = Popularity(self.inputs.config.popular_days), [NOTHING]
        for day in requests["as_of_day"].unique().sort():
            counts = sparse.csr_matrix(self.inputs.cache.fitted(popularity, day))
            some = requests.filter(pl.col("as_of_day") == day).select("request")
            parts.append(some.join(top_k_of_rows(counts, self.most).drop("request"), how="cross"))
        return pl.concat(parts)


class PopularInCategory(Generator):
    """What is popular where the user engages."""

    name = "popular_in_category"
    meaning = "the user's category share times the item's events in the popular window"
    is_text = True  # a category is content, as a text is

    def __init__(self, inputs: GeneratorInputs) -> None:
        super().__init__(inputs)
        items = inputs.log.items
        named = items["category"] if "category" in items.columns else pl.Series([None] * items.height, dtype=pl.String)
        self._category = named.rank("dense").fill_null(0).to_numpy().astype(np.int64) - 1  # -1 where there is none

    def propose(self, requests: pl.DataFrame, history: pl.DataFrame) -> pl.DataFrame:
        """By (events of the user in the item's category x events of the item) / events of the user in any category."""
        if (self._category < 0).all():
            return NOTHING
        named = history.with_columns(category=pl.Series(self._category[history["item"].to_numpy()]))
        named = named.filter(pl.col("category") >= 0).join(requests.select("request"), on="request", how="semi")
        popularity, parts = Popularity(self.inputs.config.popular_days), [NO_SCORES]
        for (day,), some in named.sort("as_of_day", "request").group_by("as_of_day", maintain_order=True):
            parts.append(self._of_day(some, self.inputs.cache.fitted(popularity, int(day))))
        return top_k(pl.concat(parts), self.most)

    def _of_day(self, history: pl.DataFrame, counts: Ints) -> pl.DataFrame:
        requests, rows = np.unique(history["request"].to_numpy(), return_inverse=True)
        n_categories, items = int(self._category.max()) + 1, self._leading(counts)
        cells = (history["count"].to_numpy(), (rows, history["category"].to_numpy()))
        events = sparse.csr_matrix(cells, shape=(len(requests), n_categories))

        def scores(rows: slice) -> Ints:
            return np.asarray(events[rows].toarray()[:, self._category[items]] * counts[items])

        best = leaders_of_blocks(scores, self.most, requests=requests, items=items)
        totals = np.asarray(events.sum(axis=1)).ravel()[np.searchsorted(requests, best["request"].to_numpy())]
        return best.with_columns(score=pl.Series(best["score"].to_numpy() / totals))

    def _leading(self, counts: Ints) -> Ints:
        """Items that can be among the best of a request: those that lead their category, ties by item code."""
        items = np.flatnonzero((counts > 0) & (self._category >= 0))
        cells = (counts[items], (self._category[items], items))
        of_category = sparse.csr_matrix(cells, shape=(int(self._category.max()) + 1, len(counts)))
        return np.sort(top_k_of_rows(of_category, self.most)["item"].to_numpy().astype(np.int64))


class PopularInSegment(Generator):
    """What is popular among users of the same kind.

    Raises:
        ConfigError: `candidates.segment` is no column of users; the nearest is named.
    """

    name = "popular_in_segment"
    meaning = "items with most events, in the popular window, of users with the same candidates.segment"

    def __init__(self, inputs: GeneratorInputs) -> None:
        super().__init__(inputs)
        users = pl.DataFrame() if inputs.log.users is None else inputs.log.users
        if inputs.config.segment is not None:
            require_columns((inputs.config.segment,), users.columns, key="candidates.segment", table="users")

    def propose(self, requests: pl.DataFrame, history: pl.DataFrame) -> pl.DataFrame:  # noqa: ARG002 - one signature
        """The same items for all requests of a day and a segment; none for users whose segment is null or unknown."""
        log, config = self.inputs.log, self.inputs.config
        if config.segment is None:
            return NOTHING
        segments = log.shared(_SegmentsBy(config.segment))[requests["user"].to_numpy()]
        some = requests.select("request", "as_of_day", segment=pl.Series(segments.astype(np.uint32)))
        signal, parts = SegmentPopularity(config.segment, config.popular_days), [NOTHING]
        for day in some["as_of_day"].unique().sort():
            best = top_k_of_rows(self.inputs.cache.fitted(signal, day), self.most).rename({"request": "segment"})
            of_day = some.filter(pl.col("as_of_day") == day).join(best, on="segment")
            parts.append(of_day.select(NOTHING.columns))
        return pl.concat(parts)
