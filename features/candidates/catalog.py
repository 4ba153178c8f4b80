"""The list of all generators, and those made of no signal: own items, new arrivals, supplied lists, searches."""

import difflib
from collections.abc import Iterable
from datetime import timedelta

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy import sparse

from features.config import CandidatesConfig
from features.errors import ConfigError, listed
from features.log.asof import Ints
from features.log.decay import FIXED
from features.log.engagements import first_days
from features.signals.co_visitation import CoVisited
from features.signals.ease import ByEase
from features.signals.generator import Generator, GeneratorInputs, recent_items
from features.signals.next_basket import NextBasket
from features.signals.popularity import Popular, PopularInCategory, PopularInSegment
from features.signals.similar_users import SimilarUsers
from features.signals.text_neighbours import TextNeighbours
from features.signals.top_k import NO_SCORES, NOTHING, leaders_of_blocks, top_k, top_k_of_rows
from features.tables.frames import PAIR
from features.tables.text import GRID

__all__ = ["GENERATORS", "SOURCES", "ByQuery", "Supplied", "behaviour_ranks", "generators_of", "register"]

_COARSE = 256  # event weights are cut to 1/256 where they multiply whole vectors, so that float64 sums stay exact


class BoughtBefore(Generator):
    """Proposes the items of the user's history."""

    name = "bought_before"
    meaning = "the user's own items, by decayed count"

    def propose(self, requests: pl.DataFrame, history: pl.DataFrame) -> pl.DataFrame:  # noqa: ARG002 - one signature
        """Most engaged first, recent events counting more."""
        return top_k(history.select(*PAIR, score=pl.col("weight") / FIXED), self.most)


class NewArrivals(Generator):
    """Proposes new items whose texts are near the history: the only generator that can find an item without events."""

    name = "new_arrivals"
    meaning = "items new within new_days, nearest by text to the history"
    is_text = True

    def __init__(self, inputs: GeneratorInputs) -> None:
        super().__init__(inputs)
        log = inputs.log
        arrivals = [np.full(log.items.height, -1, np.int64), np.full(log.items.height, -1, np.int64)]
        item, day = first_days(log.cells)
        arrivals[0][item] = day + 1  # the first batch that sees it
        if "available_from" in log.items.columns:
            opens = log.items.select("item", pl.col("available_from").cast(pl.Datetime("us", "UTC")))
            opens = opens.drop_nulls()
            # The first batch whose as-of is at or after the opening.
            opened = log.calendar.days(opens["available_from"] - timedelta(microseconds=1)) + 1
            arrivals[1][opens["item"].to_numpy()] = opened
        self._arrivals = arrivals

    def propose(self, requests: pl.DataFrame, history: pl.DataFrame) -> pl.DataFrame:
        """By the sum over the history of weight (to 1/256) times cosine."""
        vectors, config = self.inputs.text_vectors, self.inputs.config
        if vectors is None:
            return NOTHING
        recent = recent_items(history, config.history_items).join(requests.select("request"), on="request", how="semi")
        parts = [NO_SCORES]
        for (day,), some in recent.sort("as_of_day", "request", "item").group_by("as_of_day", maintain_order=True):
            new = [(arrived <= day) & (arrived > day - config.new_days) & (arrived >= 0) for arrived in self._arrivals]
            items = np.flatnonzero(new[0] | new[1])
            if len(items):
                parts.append(self._of_day(some, items, vectors))
        return top_k(pl.concat(parts), self.most)

    def _of_day(self, history: pl.DataFrame, items: Ints, vectors: npt.NDArray[np.int16]) -> pl.DataFrame:
        requests, rows = np.unique(history["request"].to_numpy(), return_inverse=True)
        distinct, cols = np.unique(history["item"].to_numpy(), return_inverse=True)
        weights = np.clip(history["weight"].to_numpy() * _COARSE // FIXED, 1, FIXED).astype(np.float64)
        weighted = sparse.csr_matrix((weights, (rows, cols)), shape=(len(requests), len(distinct)))
        # NOTE: whole numbers below 1000 * 2**16 * GRID**2 < 2**53, so that float64 sums are exact in any order.
        profiles = weighted @ vectors[distinct].astype(np.float64)
        targets = vectors[items].astype(np.float64).T

        def scores(rows: slice) -> Ints:
            return np.asarray(profiles[rows] @ targets).astype(np.int64)

        best = leaders_of_blocks(scores, self.most, requests=requests, items=items)
        # NOTE: numpy divides; polars would multiply by a rounded reciprocal.
        return best.with_columns(score=pl.Series(best["score"].to_numpy() / (_COARSE * GRID**2)))


class Supplied(Generator):
    """Proposes the items of a supplied table (`data.candidates`)."""

    name = "supplied"
    meaning = "a table of your own (data.candidates), by its score, else in its order"

    def propose(self, requests: pl.DataFrame, history: pl.DataFrame) -> pl.DataFrame:  # noqa: ARG002 - one signature
        """The best of the request's list."""
        return top_k(self.lists(requests), self.most)

    def lists(self, requests: pl.DataFrame) -> pl.DataFrame:
        """`Scored`: the user's rows of the latest day at or before the request's own day.

        Rows without a day belong to every day.
        """
        table = self.inputs.log.supplied
        if table is None:
            return NO_SCORES
        mine = requests.join(table, on="user").filter(pl.col("day").is_null() | (pl.col("day") <= pl.col("as_of_day")))
        latest = mine.filter(pl.col("day").is_null() | (pl.col("day") == pl.col("day").max().over("request")))
        return latest.group_by(PAIR).agg(pl.col("score").max())


class ByQuery(Generator):
    """Proposes the items whose words match the user's search query."""

    name = "by_query"
    meaning = "items that match the user's query best, by BM25: the request's own where known, else the latest"
    is_text = True
    reads = ("user", "day", "timestamp", "events.query")

    def propose(self, requests: pl.DataFrame, history: pl.DataFrame) -> pl.DataFrame:  # noqa: ARG002 - one signature
        """By BM25, ties by item code; each distinct query is answered once."""
        signal = self.inputs.queries
        if signal is None or not requests.height:
            return NOTHING
        index = self.inputs.cache.fitted(signal, self.inputs.log.end_day)
        user, as_of_day = (requests[name].cast(pl.Int64).to_numpy() for name in ("user", "as_of_day"))
        queries = index.queries_of(
            user, as_of_day, requests["query"] if signal.online and "query" in requests.columns else None
        )
        scores = queries.words @ index.items_of_words  # each sum in the order of word codes
        scores.data = np.maximum(scores.data, 0)
        scores.eliminate_zeros()
        best = top_k_of_rows(scores, self.most).rename({"request": "row"})
        rows = requests.select("request", row=pl.Series(queries.row)).filter(pl.col("row") >= 0)
        return rows.cast({"row": best.schema["row"]}).join(best, on="row").select(NOTHING.columns)


GENERATORS: tuple[type[Generator], ...] = (
    BoughtBefore,
    Popular,
    CoVisited,
    TextNeighbours,
    NextBasket,
    SimilarUsers,
    ByEase,
    PopularInCategory,
    PopularInSegment,
    NewArrivals,
    Supplied,
    ByQuery,
)
"""The generators that come with nightrank, in the order of their columns."""

SOURCES: tuple[str, ...] = tuple(generator.name for generator in GENERATORS)
"""Their names."""

_REGISTERED: dict[str, type[Generator]] = {}


def register(generator: type[Generator]) -> type[Generator]:
    """Let `candidates.extra` name a generator of your own. Usable as a decorator.

    Raises:
        ConfigError: Another generator, or a key of `candidates`, has its name.
    """
    name = generator.name
    if name in CandidatesConfig.model_fields or _REGISTERED.setdefault(name, generator) is not generator:
        raise ConfigError(f"candidates: {name!r} is taken already; call your generator otherwise.")
    return generator


def generators_of(config: CandidatesConfig) -> tuple[type[Generator], ...]:
    """The generators of a configuration in the order of their columns: `GENERATORS`, then those of `candidates.extra`.

    Raises:
        ConfigError: `candidates.extra` names one that nobody registered; the nearest is named.
    """
    if unknown := [name for name in config.extra if name not in _REGISTERED]:
        near = difflib.get_close_matches(unknown[0], _REGISTERED, n=1)
        hint = f"Did you mean {near[0]!r}?" if near else f"Registered are: {listed(_REGISTERED) or 'none'}."
        raise ConfigError(f"candidates.extra: no generator is called {listed(unknown)}. {hint} Install its package.")
    return (*GENERATORS, *(_REGISTERED[name] for name in config.extra))


def behaviour_ranks(columns: Iterable[str]) -> tuple[str, ...]:
    """The rank columns among some columns that are of generators that read no text."""
    ranks = {f"{made.name}_rank" for made in (*GENERATORS, *_REGISTERED.values()) if not made.is_text}
    return tuple(name for name in columns if name in ranks)
