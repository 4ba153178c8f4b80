"""Generators: each answers *which items, with which score* for requests as of their day, from what came before.

To add one, subclass `Generator`, give it a `name` that is a quota of `CandidatesConfig`, a one-line `meaning`, and a
`propose`; then list it in `GENERATORS`. Its rank and score become features, and its recall a row of the table.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from functools import lru_cache
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy import sparse

from features.asof import DAY_BITS, AsOfIndex
from features.config import CandidatesConfig
from features.decay import FIXED
from features.ease import Ease as EaseModel
from features.engagements import first_days
from features.families.supply import require_columns
from features.neighbours import GRID, NOTHING, Neighbours, best_of_many, best_of_rows, leading_items, top_per_request
from features.queries import Queries
from features.timeline import EventLog
from features.user_neighbours import UserNeighbours

__all__ = ["GENERATORS", "SOURCES", "TEXT_SOURCES", "Generator", "Known", "popular_items"]

_MOST_HELD = 1 << 23  # non-zeros of the refreshes that are kept: 100 MB
_COARSE = 256  # event weights are cut to 1/256 where they multiply whole vectors, so that float64 sums stay exact


def popular_items(log: EventLog, as_of_days: pl.Series, *, most: int, window_days: int | None) -> pl.DataFrame:
    """The items with most engagements in the window before each day (all before, if None).

    Returns:
        as_of_day, item, score (the count), rank; ties by item code.
    """
    tables = [pl.DataFrame(schema={"item": pl.UInt32, "score": pl.Float64, "rank": pl.Int32, "as_of_day": pl.Int32})]
    items = np.arange(log.items.height)
    for as_of_day in as_of_days.unique().sort():
        counts = log.item_index.total(items, np.full_like(items, as_of_day), window_days=window_days)
        best = leading_items(np.flatnonzero(counts), counts[counts > 0], most)
        tables.append(best.with_columns(as_of_day=pl.lit(as_of_day, pl.Int32)))
    return pl.concat(tables).select("as_of_day", "item", pl.col("score").cast(pl.Int64), "rank")


@dataclass(slots=True)
class Known:
    """What generators are made from.

    Attributes:
        log: The event log.
        config: Quotas and windows.
        text_vectors: (items, width) int16 on the grid of 1/GRID in the order of item codes, or None for no text.
        queries: The log's queries, or None for none.
    """

    log: EventLog
    config: CandidatesConfig
    text_vectors: npt.NDArray[np.int16] | None = None
    queries: Queries | None = None
    _counts: dict[tuple[int, int], npt.NDArray[np.int64]] = field(default_factory=dict, init=False)

    @property
    def n_items(self) -> int:
        """Items of the catalogue."""
        return self.log.items.height

    def counts(self, as_of_day: int, window_days: int) -> npt.NDArray[np.int64]:
        """(items,) engagements of each item in the window before a day; the latest 64 answers are kept."""
        key = (as_of_day, window_days)
        if key not in self._counts:
            if len(self._counts) >= 64:  # noqa: PLR2004 - a portion of requests spans few days
                self._counts.pop(next(iter(self._counts)))
            items = np.arange(self.n_items)
            self._counts[key] = self.log.item_index.total(
                items, np.full_like(items, as_of_day), window_days=window_days
            )
        return self._counts[key]


class Generator(ABC):
    """One way to propose items.

    Attributes:
        name: Its quota in `CandidatesConfig`, and the stem of its two columns.
        meaning: One line for people.
        is_text: Whether it reads texts: its columns are kept from the behaviour-only ranker.
        reads: Columns of single events that it needs, as in `features.families.base.Family`.
    """

    name: ClassVar[str]
    meaning: ClassVar[str]
    is_text: ClassVar[bool] = False
    reads: ClassVar[tuple[str, ...]] = ()

    def __init__(self, known: Known) -> None:
        self.known = known

    @classmethod
    def quota(cls, config: CandidatesConfig) -> int:
        """The most items it proposes a request."""
        return int(getattr(config, cls.name))

    @property
    def most(self) -> int:
        """Its quota."""
        return self.quota(self.known.config)

    @abstractmethod
    def propose(self, requests: pl.DataFrame, history: pl.DataFrame) -> pl.DataFrame:
        """Its items for each request, at most its quota.

        Args:
            requests: request, user, as_of_day; of logged requests also query.
            history: `features.candidates.histories` of these requests.

        Returns:
            request (UInt32), item (UInt32), score (Float64, above 0, larger is better), rank (Int32, 1 is best).
        """


class BoughtBefore(Generator):
    """The user's own items."""

    name = "bought_before"
    meaning = "the user's own items, by decayed count"

    def propose(self, requests: pl.DataFrame, history: pl.DataFrame) -> pl.DataFrame:  # noqa: ARG002 - one signature
        """Most engaged first, recent events counting more."""
        return top_per_request(history.select("request", "item", score=pl.col("weight") / FIXED), self.most)


class Popular(Generator):
    """What everybody engages with."""

    name = "popular"
    meaning = "items with most events in the popular window"

    def propose(self, requests: pl.DataFrame, history: pl.DataFrame) -> pl.DataFrame:  # noqa: ARG002 - one signature
        """The same items for all requests of a day."""
        parts = []
        for day in requests["as_of_day"].unique().sort():
            counts = self.known.counts(day, self.known.config.popular_days)
            best = leading_items(np.flatnonzero(counts), counts[counts > 0], self.most)
            parts.append(best.with_columns(as_of_day=pl.lit(day, pl.Int32)))
        if not parts:
            return NOTHING
        return requests.join(pl.concat(parts), on="as_of_day").select("request", "item", "score", "rank")


class CoVisited(Generator):
    """Neighbours by co-occurrence, as they stood at the last refresh at or before each request's day."""

    name = "co_visited"
    meaning = "neighbours of the history: items that the same users engage with"

    def __init__(self, known: Known) -> None:
        super().__init__(known)
        self._as_of: dict[int, Neighbours] = {}

    def propose(self, requests: pl.DataFrame, history: pl.DataFrame) -> pl.DataFrame:  # noqa: ARG002 - one signature
        """Items outside the history, by the sum of weight times similarity."""
        config = self.known.config
        return _refreshed(
            self._as_of,
            _recent(history, config.history_items),
            config.refresh_days,
            lambda day: Neighbours.co_visited(self.known.log, day, config),
            lambda near, held: near.reach(held, self.most),
        )


class NextBasket(Generator):
    """Transitions from the user's last active day, as they stood at the last refresh."""

    name = "next_basket"
    meaning = "items that follow those of the user's last active day on others' next one"

    def __init__(self, known: Known) -> None:
        super().__init__(known)
        self._as_of: dict[int, Neighbours] = {}

    def propose(self, requests: pl.DataFrame, history: pl.DataFrame) -> pl.DataFrame:  # noqa: ARG002 - one signature
        """Items inside and outside the history, by the sum of similarities to the last basket."""
        last = history.filter(pl.col("last_day") == pl.col("last_day").max().over("request"))
        return _refreshed(
            self._as_of,
            last.with_columns(weight=pl.lit(FIXED, pl.Int64)),
            self.known.config.refresh_days,
            lambda day: Neighbours.next_basket(self.known.log, day),
            lambda near, held: near.reach(held, self.most, outside=False),
        )


class SimilarUsers(Generator):
    """What users alike engaged with lately."""

    name = "similar_users"
    meaning = "items that the nearest users engaged with in the popular window, by their summed similarity"

    def propose(self, requests: pl.DataFrame, history: pl.DataFrame) -> pl.DataFrame:  # noqa: ARG002 - one signature
        """Items inside and outside the history, by the share of the neighbours' summed similarity."""
        neighbours, window = self.known.log.shared(UserNeighbours), self.known.config.popular_days

        def shares(user: npt.NDArray[np.int64], day: int) -> sparse.csr_matrix:
            weights = neighbours.weights(user, day)
            (found,) = neighbours.engaged(weights, day, [window])
            total = np.maximum(np.asarray(weights.sum(axis=1)).ravel(), 1)
            found.data = found.data / np.repeat(total, np.diff(found.indptr))
            return found

        return _best_of_users(requests, shares, self.most)


class Ease(Generator):
    """What each item's regression on all others makes of the history."""

    name = "ease"
    meaning = "items that the history speaks for, by each item's ridge regression on all others (EASE)"

    def propose(self, requests: pl.DataFrame, history: pl.DataFrame) -> pl.DataFrame:  # noqa: ARG002 - one signature
        """Items inside and outside the history, by the score of `features.ease`."""
        return _best_of_users(requests, self.known.log.shared(EaseModel).scores, self.most)


class PopularInCategory(Generator):
    """What is popular where the user engages."""

    name = "popular_in_category"
    meaning = "the user's category share times the item's events in the popular window"
    is_text = True  # a category is content, as a text is

    def __init__(self, known: Known) -> None:
        super().__init__(known)
        items, n_items = known.log.items, known.n_items
        named = items["category"] if "category" in items.columns else pl.Series([None] * n_items, dtype=pl.String)
        self._category = named.rank("dense").fill_null(0).to_numpy().astype(np.int64) - 1  # -1 where there is none

    def propose(self, requests: pl.DataFrame, history: pl.DataFrame) -> pl.DataFrame:
        """By (events of the user in the item's category x events of the item) / events of the user in any category."""
        if (self._category < 0).all():
            return NOTHING
        held = history.with_columns(category=pl.Series(self._category[history["item"].to_numpy()]))
        held = held.filter(pl.col("category") >= 0).join(requests.select("request"), on="request", how="semi")
        parts = [NOTHING]
        for (day,), asked in held.sort("as_of_day", "request").group_by("as_of_day", maintain_order=True):
            counts = self.known.counts(int(day), self.known.config.popular_days)
            items = self._leading(counts)
            parts.append(self._of_day(asked, items, counts[items]))
        return pl.concat(parts)

    def _leading(self, counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Items that can be among the best of a request: those that lead their category, ties by item code."""
        items = np.flatnonzero((counts > 0) & (self._category >= 0))
        category = self._category[items]
        order = np.lexsort((items, -counts[items], category))
        ordered = category[order]
        return np.sort(items[order[np.arange(len(items)) - np.searchsorted(ordered, ordered) < self.most]])

    def _of_day(self, held: pl.DataFrame, items: npt.NDArray[np.int64], counts: npt.NDArray[np.int64]) -> pl.DataFrame:
        requests, rows = np.unique(held["request"].to_numpy(), return_inverse=True)
        size = (len(requests), int(self._category.max()) + 1)
        events = sparse.csr_matrix((held["count"].to_numpy(), (rows, held["category"].to_numpy())), shape=size)
        totals = np.asarray(events.sum(axis=1)).ravel()

        def scores(rows: slice) -> npt.NDArray[np.int64]:
            return np.asarray(events[rows].toarray()[:, self._category[items]] * counts)

        return best_of_many(requests, items, scores, self.most, totals)


class PopularInSegment(Generator):
    """What is popular among users of the same kind.

    Raises:
        ConfigError: `candidates.segment` is no column of users; the nearest is named.
    """

    name = "popular_in_segment"
    meaning = "items with most events, in the popular window, of users with the same candidates.segment"

    def __init__(self, known: Known) -> None:
        super().__init__(known)
        log, column = known.log, known.config.segment
        self._segments = pl.DataFrame(schema={"user": pl.UInt32, "segment": pl.UInt32})
        if column is not None:
            users = pl.DataFrame() if log.users is None else log.users
            require_columns((column,), users.columns, key="candidates.segment", table="users")
            of_users = users.select(segment=pl.col(column).rank("dense").cast(pl.UInt32))  # null stays null
            self._segments = of_users.with_row_index("user").drop_nulls()
        done = log.interactions.frame.join(self._segments, on="user")
        key = pl.col("segment").cast(pl.Int64) * known.n_items + pl.col("item")
        self._events = AsOfIndex.build(key, done, total=pl.col("n"))
        self._keys = np.unique(self._events.stamps >> DAY_BITS)
        self._leading = lru_cache(maxsize=8)(self._leading_on)  # a portion of requests spans few days

    def propose(self, requests: pl.DataFrame, history: pl.DataFrame) -> pl.DataFrame:  # noqa: ARG002 - one signature
        """The same items for all requests of a day and a segment; none for users whose segment is null or unknown."""
        asked = requests.join(self._segments, on="user")
        found = [self._leading(day) for day in asked["as_of_day"].unique().sort()]
        if not found:
            return NOTHING
        best = pl.concat(found)
        return asked.join(best, on=["as_of_day", "segment"]).select("request", "item", "score", "rank")

    def _leading_on(self, day: int) -> pl.DataFrame:
        """as_of_day, segment, item, score and rank of each segment's best items, ties by item code."""
        window, keys = self.known.config.popular_days, self._keys
        counts = self._events.total(keys, np.full_like(keys, day), window_days=window)
        segment, item = np.divmod(keys[counts > 0], self.known.n_items)
        told = {"request": segment.astype(np.uint32), "item": item.astype(np.uint32)}
        scored = pl.DataFrame({**told, "score": counts[counts > 0].astype(np.float64)})
        best = top_per_request(scored, self.most).rename({"request": "segment"})
        return best.with_columns(as_of_day=pl.lit(day, pl.Int32))


class TextNeighbours(Generator):
    """Neighbours of the history by item text."""

    name = "text_neighbours"
    meaning = "neighbours of the history by item text"
    is_text = True

    def __init__(self, known: Known) -> None:
        super().__init__(known)
        self._by_text: Neighbours | None = None

    def propose(self, requests: pl.DataFrame, history: pl.DataFrame) -> pl.DataFrame:
        """Of items alike, the one more popular lately comes first."""
        known = self.known
        if known.text_vectors is None:
            return NOTHING
        if self._by_text is None:
            self._by_text = Neighbours.by_text(known.text_vectors)
        near = self._by_text.near(_recent(history, known.config.history_items), most=self.most).join(
            requests.select("request", "as_of_day"), on="request", maintain_order="left"
        )
        lately, items, days = np.zeros(near.height, np.int64), near["item"].to_numpy(), near["as_of_day"].to_numpy()
        for day in near["as_of_day"].unique().sort():
            of_day = days == day
            lately[of_day] = known.counts(day, known.config.popular_days)[items[of_day]]
        ordered = near.with_columns(lately=pl.Series(lately)).sort(
            ["request", "score", "lately", "item"], descending=[False, True, True, False]
        )
        ranked = ordered.with_columns(rank=pl.int_range(1, pl.len() + 1, dtype=pl.Int32).over("request"))
        return ranked.filter(pl.col("rank") <= self.most).select("request", "item", "score", "rank")


class NewArrivals(Generator):
    """What is new and reads like the history: the only way in for an item that nobody knows yet."""

    name = "new_arrivals"
    meaning = "items new within new_days, nearest by text to the history"
    is_text = True

    def __init__(self, known: Known) -> None:
        super().__init__(known)
        arrivals = [np.full(known.n_items, -1, np.int64), np.full(known.n_items, -1, np.int64)]
        item, day = first_days(known.log.cells)
        arrivals[0][item] = day + 1  # the first batch that knows it
        if "available_from" in known.log.items.columns:
            opens = known.log.items.select("item", pl.col("available_from").cast(pl.Datetime("us", "UTC")))
            opens = opens.drop_nulls()
            # The first batch whose as-of is at or after the opening.
            opened = known.log.calendar.days(opens["available_from"] - timedelta(microseconds=1)) + 1
            arrivals[1][opens["item"].to_numpy()] = opened
        self._arrivals = arrivals

    def propose(self, requests: pl.DataFrame, history: pl.DataFrame) -> pl.DataFrame:
        """By the sum over the history of weight (to 1/256) times cosine."""
        vectors, config = self.known.text_vectors, self.known.config
        if vectors is None:
            return NOTHING
        held = _recent(history, config.history_items).join(requests.select("request"), on="request", how="semi")
        parts = [NOTHING]
        for (day,), asked in held.sort("as_of_day", "request", "item").group_by("as_of_day", maintain_order=True):
            new = [(arrived <= day) & (arrived > day - config.new_days) & (arrived >= 0) for arrived in self._arrivals]
            items = np.flatnonzero(new[0] | new[1])
            if len(items):
                parts.append(self._of_day(asked, items, vectors))
        return pl.concat(parts)

    def _of_day(self, held: pl.DataFrame, items: npt.NDArray[np.int64], vectors: npt.NDArray[np.int16]) -> pl.DataFrame:
        requests, rows = np.unique(held["request"].to_numpy(), return_inverse=True)
        known, cols = np.unique(held["item"].to_numpy(), return_inverse=True)
        weights = np.clip(held["weight"].to_numpy() * _COARSE // FIXED, 1, FIXED).astype(np.float64)
        weighted = sparse.csr_matrix((weights, (rows, cols)), shape=(len(requests), len(known)))
        # NOTE: whole numbers below 1000 * 2**16 * GRID**2 < 2**53, so that float64 sums are exact in any order.
        profiles = weighted @ vectors[known].astype(np.float64)
        targets = vectors[items].astype(np.float64).T

        def scores(rows: slice) -> npt.NDArray[np.int64]:
            return np.asarray(profiles[rows] @ targets).astype(np.int64)

        return best_of_many(requests, items, scores, self.most, np.full(len(requests), _COARSE * GRID**2))


class Supplied(Generator):
    """What a table of the user's own names."""

    name = "supplied"
    meaning = "a table of your own (data.candidates), by its score, else in its order"

    def propose(self, requests: pl.DataFrame, history: pl.DataFrame) -> pl.DataFrame:  # noqa: ARG002 - one signature
        """The best of the request's list."""
        return top_per_request(self.lists(requests), self.most)

    def lists(self, requests: pl.DataFrame) -> pl.DataFrame:
        """request, item, score of the user's rows of the latest day at or before the request's own.

        Rows without a day hold always.
        """
        table = self.known.log.supplied
        if table is None:
            return NOTHING.drop("rank")
        mine = requests.join(table, on="user").filter(pl.col("day").is_null() | (pl.col("day") <= pl.col("as_of_day")))
        latest = mine.filter(pl.col("day").is_null() | (pl.col("day") == pl.col("day").max().over("request")))
        return latest.group_by("request", "item").agg(pl.col("score").max())


class ByQuery(Generator):
    """What answers the search."""

    name = "by_query"
    meaning = "items that match the user's query best, by BM25: the request's own where known, else the latest"
    is_text = True
    reads = ("user", "day", "timestamp", "events.query")

    def __init__(self, known: Known) -> None:
        super().__init__(known)
        if known.queries is not None:
            self._items_of = known.queries.scores.T.tocsr()

    def propose(self, requests: pl.DataFrame, history: pl.DataFrame) -> pl.DataFrame:  # noqa: ARG002 - one signature
        """By BM25, ties by item code; each distinct query is answered once."""
        queries = self.known.queries
        if queries is None or not requests.height:
            return NOTHING
        user, as_of_day = (requests[name].cast(pl.Int64).to_numpy() for name in ("user", "as_of_day"))
        asked = queries.asked(user, as_of_day, requests["query"] if "query" in requests.columns else None)
        found = (asked.words @ self._items_of).tocoo()  # each sum in the order of word codes
        scored = pl.DataFrame({"request": found.row, "item": found.col.astype(np.uint32), "score": found.data})
        best = top_per_request(scored.filter(pl.col("score") > 0), self.most).rename({"request": "place"})
        places = requests.select("request", place=pl.Series(asked.place, dtype=best.schema["place"]))
        return places.join(best, on="place").select(NOTHING.columns)


GENERATORS: tuple[type[Generator], ...] = (
    BoughtBefore,
    Popular,
    CoVisited,
    TextNeighbours,
    NextBasket,
    SimilarUsers,
    Ease,
    PopularInCategory,
    PopularInSegment,
    NewArrivals,
    Supplied,
    ByQuery,
)
"""All generators, in the order of their columns."""

SOURCES: tuple[str, ...] = tuple(generator.name for generator in GENERATORS)
"""Their names."""

TEXT_SOURCES: tuple[str, ...] = tuple(generator.name for generator in GENERATORS if generator.is_text)
"""The names of those that read texts."""


def _recent(history: pl.DataFrame, most: int) -> pl.DataFrame:
    """The latest items of each request's history."""
    return history.filter(pl.int_range(pl.len()).over("request") < most)


def _refreshed(
    as_of: dict[int, Neighbours],
    held: pl.DataFrame,
    step: int,
    make: Callable[[int], Neighbours],
    reach: Callable[[Neighbours, pl.DataFrame], pl.DataFrame],
) -> pl.DataFrame:
    """Reach from each history with the neighbours of the last refresh at or before its day; `as_of` keeps them."""
    held = held.with_columns(refreshed=pl.col("as_of_day") // step * step)
    parts = [NOTHING]
    for day in held["refreshed"].unique().sort():
        if day not in as_of:
            as_of[day] = make(day)
            while len(as_of) > 1 and sum(near.matrix.nnz for near in as_of.values()) > _MOST_HELD:
                as_of.pop(next(iter(as_of)))
        parts.append(reach(as_of[day], held.filter(pl.col("refreshed") == day)))
    return pl.concat(parts)


def _best_of_users(
    requests: pl.DataFrame, scores: Callable[[npt.NDArray[np.int64], int], sparse.csr_matrix], most: int
) -> pl.DataFrame:
    """The `most` best items of each request, by what `scores` gives users (ascending codes) as of a day."""
    parts = [NOTHING]
    for (day,), asked in requests.sort("as_of_day", "request").group_by("as_of_day", maintain_order=True):
        user, row = np.unique(asked["user"].cast(pl.Int64).to_numpy(), return_inverse=True)
        best = best_of_rows(scores(user, int(day)), np.arange(len(user)), most).rename({"request": "place"})
        places = asked.select("request", place=pl.Series(row, dtype=pl.UInt32))
        parts.append(places.join(best, on="place").select(NOTHING.columns))
    return pl.concat(parts)
