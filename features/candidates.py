"""Candidates: the items a request is ranked over, proposed by generators that know only what came before.

Every generator answers the same question, *which items, with which score*, for requests as of their day.
Training, evaluation and the night call `CandidateGenerators.propose` alike, so that a ranker meets at night
what it learned from. Scores are sums of integers, or of terms in one fixed order, so that a request gets the
same candidates to the last bit in whatever batch it stands.
"""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy import sparse

from features.config import CandidatesConfig
from features.timeline import EventLog

__all__ = [
    "GRID",
    "SOURCES",
    "CandidateGenerators",
    "Neighbours",
    "histories",
    "popular_items",
    "top_per_request",
]

SOURCES = ("bought_before", "popular", "co_visited", "text_neighbours")
"""The generators, in the order of their columns."""

GRID = 4000
"""Text vectors are unit vectors rounded to whole multiples of 1/GRID (int16). A float32 sum of their products
is exact, since by Cauchy-Schwarz no partial sum exceeds about GRID**2 < 2**24: dot products do not depend on
batch, threads or BLAS."""

_FIXED = 1 << 16
"""One, in the fixed-point weights of past events: integer sums do not depend on their order."""
_NOTHING = pl.DataFrame(schema={"request": pl.UInt32, "item": pl.UInt32, "score": pl.Float64, "rank": pl.Int32})
_MIN_SUPPORT = 2  # users who must share two items before these count as neighbours
_SHRINKAGE = 10.0  # added to the geometric mean of two items' users: rare pairs count less
_MAX_NEIGHBOURS = 100
_BLOCK_CELLS = 4_000_000  # of the matrix of dot products, made at a time


def decayed(age_days: pl.Expr, half_life_days: float) -> pl.Expr:
    """Fixed-point weight 2^16 * 2^(-(age - 1) / half-life) as an integer, at least 1."""
    return (pl.lit(2.0).pow(-(age_days - 1) / half_life_days) * _FIXED).round().cast(pl.Int64).clip(lower_bound=1)


def histories(log: EventLog, requests: pl.DataFrame, config: CandidatesConfig) -> pl.DataFrame:
    """What each request's user had engaged with, one row an item, known strictly before the request's as-of.

    Args:
        log: The event log.
        requests: request, user, as_of_day.
        config: Half-life of an event's weight.

    Returns:
        Sorted by (request, most recent first): request, item, as_of_day, count, last_day, gain (the highest),
        weight (fixed-point sum of decayed events).
    """
    daily = log.engaged.group_by("user", "item", "day").agg(pl.len().cast(pl.Int64).alias("n"), pl.col("gain").max())
    known = requests.join(daily, on="user").filter(pl.col("day") < pl.col("as_of_day"))
    age = pl.col("as_of_day") - pl.col("day")
    return (
        known.group_by("request", "item", "as_of_day")
        .agg(
            count=pl.col("n").sum(),
            last_day=pl.col("day").max(),
            gain=pl.col("gain").max(),
            weight=(pl.col("n") * decayed(age, config.half_life_days)).sum(),
        )
        .sort(["request", "last_day", "weight", "item"], descending=[False, True, True, False])
    )


def top_per_request(scored: pl.DataFrame, most: int) -> pl.DataFrame:
    """The `most` best rows of each request by `score`, ties by item code, with their `rank` (1 is best)."""
    ordered = scored.sort(["request", "score", "item"], descending=[False, True, False])
    ranked = ordered.with_columns(rank=pl.int_range(1, pl.len() + 1, dtype=pl.Int32).over("request"))
    return ranked.filter(pl.col("rank") <= most)


def popular_items(log: EventLog, as_of_days: pl.Series, *, most: int, window_days: int | None) -> pl.DataFrame:
    """The items with most engagements in the window before each day (all before, if None).

    Returns:
        as_of_day, item, score (the count), rank; ties by item code.
    """
    daily = log.engaged.group_by("day", "item").agg(score=pl.len().cast(pl.Int64))
    tables = [pl.DataFrame(schema={"item": pl.UInt32, "score": pl.Int64, "as_of_day": pl.Int32})]
    for as_of_day in as_of_days.unique().sort():
        start = log.first_day if window_days is None else as_of_day - window_days
        counts = daily.filter(pl.col("day").is_between(start, as_of_day, closed="left"))
        best = counts.group_by("item").agg(pl.col("score").sum()).sort(["score", "item"], descending=[True, False])
        tables.append(best.head(most).with_columns(as_of_day=pl.lit(as_of_day, pl.Int32)))
    ranks = pl.int_range(1, pl.len() + 1, dtype=pl.Int32).over("as_of_day")
    return pl.concat(tables).with_columns(rank=ranks)


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Item-to-item similarities, at most 100 a row: how a history reaches items that are not in it.

    Attributes:
        matrix: CSR (items, items), float64, row = history item, sorted indices, zero diagonal.
    """

    matrix: sparse.csr_matrix

    @classmethod
    def co_visited(cls, log: EventLog, before_day: int, config: CandidatesConfig) -> "Neighbours":
        """Cosine of two items' users before a day, shrunk (Sarwar et al. 2001; Deshpande & Karypis 2004).

        ``c_ij / (sqrt(c_ii c_jj) + 10)`` where ``c_ij`` counts users with both among their last
        `history_items` items; pairs of fewer than two users are left out.
        """
        latest = (
            log.engaged.filter(pl.col("day") < before_day)
            .group_by("user", "item")
            .agg(pl.col("day").max())
            .sort(["user", "day", "item"], descending=[False, True, False])
            .filter(pl.int_range(pl.len()).over("user") < config.history_items)
        )
        n_items = log.items.height
        used = (latest["user"].to_numpy(), latest["item"].to_numpy())
        held = sparse.csr_matrix((np.ones(latest.height, np.float64), used), shape=(log.user_ids.len(), n_items))
        counts = (held.T @ held).tocoo()  # exact: whole numbers
        users = counts.diagonal()
        keep = (counts.data >= _MIN_SUPPORT) & (counts.row != counts.col)
        row, col, both = counts.row[keep], counts.col[keep], counts.data[keep]
        similarity = both / (np.sqrt(users[row] * users[col]) + _SHRINKAGE)
        return cls.strongest(row, col, similarity, n_items)

    @classmethod
    def strongest(
        cls,
        row: npt.NDArray[np.integer],
        col: npt.NDArray[np.integer],
        value: npt.NDArray[np.float64],
        n_items: int,
    ) -> "Neighbours":
        """Keep the 100 strongest of each row, ties by item code."""
        order = np.lexsort((col, -value, row))
        row, col, value = row[order], col[order], value[order]
        starts = np.searchsorted(row, np.arange(n_items))
        kept = np.arange(len(row)) - starts[row] < _MAX_NEIGHBOURS
        matrix = sparse.csr_matrix((value[kept], (row[kept], col[kept])), shape=(n_items, n_items))
        matrix.sort_indices()
        return cls(matrix)

    @classmethod
    def by_text(cls, vectors: npt.NDArray[np.int16]) -> "Neighbours":
        """Cosine of two items' text vectors, above 0.

        Args:
            vectors: (items, width) on the grid of 1/GRID, in the order of item codes; a zero row has no
                neighbours.
        """
        texts, text_of_item = _distinct(vectors)
        row, col, dots = _nearest(texts.astype(np.float32), _MAX_NEIGHBOURS + 1)
        near = pl.DataFrame({"text": row, "other": col, "value": dots / GRID**2}).filter(pl.col("value") > 0)
        carried = pl.DataFrame({"text": text_of_item}).with_row_index("item")
        pairs = (
            carried.join(near, on="text")
            .join(carried.select(pl.col("item").alias("to"), pl.col("text").alias("other")), on="other")
            .filter(pl.col("item") != pl.col("to"))
        )
        row, col, value = (pairs[name].to_numpy() for name in ("item", "to", "value"))
        return cls.strongest(row, col, value, len(vectors))

    def near(self, history: pl.DataFrame, *, most: int | None = None, outside: bool = True) -> pl.DataFrame:
        """Score items near the history: the sum over the history of weight times similarity.

        Args:
            history: request, item, weight, one row a pair.
            most: Leave out, of each request, items that are behind this many others.
            outside: Leave the history's own items out.

        Returns:
            request, item, score of every item with a score.
        """
        held = history.sort("request", "item")
        requests, rows, sizes = np.unique(held["request"].to_numpy(), return_inverse=True, return_counts=True)
        entries = (held["weight"].to_numpy() / _FIXED, (rows, held["item"].to_numpy()))
        scores = sparse.csr_matrix(entries, shape=(len(requests), self.matrix.shape[0])) @ self.matrix
        kept = np.arange(scores.nnz) if most is None else _leading(scores, most + (sizes if outside else 0 * sizes))
        reached = pl.DataFrame(
            {
                "request": pl.Series(np.repeat(requests, np.diff(scores.indptr))[kept], dtype=pl.UInt32),
                "item": pl.Series(scores.indices[kept], dtype=pl.UInt32),
                "score": pl.Series(scores.data[kept], dtype=pl.Float64),
            }
        )
        return reached.join(held, on=["request", "item"], how="anti") if outside else reached

    def reach(self, history: pl.DataFrame, most: int, *, outside: bool = True) -> pl.DataFrame:
        """The `most` best items of `near` for each request: request, item, score, rank."""
        return top_per_request(self.near(history, most=most, outside=outside), most)


def _leading(scores: sparse.csr_matrix, most: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Places of the entries that are among the `most[row]` largest of their row; all that tie with the last stay."""
    kept = []
    for start, end, many in zip(scores.indptr[:-1], scores.indptr[1:], most, strict=True):
        values = scores.data[start:end]
        if len(values) > many:
            least = np.partition(values, len(values) - many)[len(values) - many] if many else np.inf
            kept.append(np.flatnonzero(values >= least) + start)
        else:
            kept.append(np.arange(start, end))
    return np.concatenate(kept) if kept else np.empty(0, np.int64)


def _distinct(vectors: npt.NDArray[np.int16]) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.int64]]:
    """Distinct rows in order of first appearance, and the place of each row among them."""
    _, first, place = np.unique(vectors, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)
    return vectors[first[order]], np.argsort(order)[place.ravel()]


def _nearest(
    texts: npt.NDArray[np.float32], most: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The `most` largest dot products of each row with all rows, itself included, ties to the earlier row.

    Returns:
        row, other, dot product (exact).
    """
    count = len(texts)
    block, most = max(1, _BLOCK_CELLS // max(count, 1)), min(most, count)
    rows, cols, values = [], [], []
    for start in range(0, count, block):
        dots = (texts[start : start + block] @ texts.T).astype(np.int64)
        keys = dots * count - np.arange(count)  # unique: ties go to the earlier row
        best = np.argpartition(keys, count - most, axis=1)[:, count - most :]
        rows.append(np.repeat(np.arange(start, start + len(dots)), most))
        cols.append(best.ravel())
        values.append(np.take_along_axis(dots, best, axis=1).ravel())
    return np.concatenate(rows), np.concatenate(cols), np.concatenate(values)


@dataclass(slots=True)
class CandidateGenerators:
    """All generators over one log.

    Args:
        log: The event log.
        config: Quotas and windows.
        text_vectors: (items, width) int16 on the grid of 1/GRID in the order of item codes, or None for no
            text.
    """

    log: EventLog
    config: CandidatesConfig
    text_vectors: npt.NDArray[np.int16] | None = None
    _co_visited: dict[int, Neighbours] = field(default_factory=dict)
    _by_text: Neighbours | None = None

    def propose(self, requests: pl.DataFrame, history: pl.DataFrame) -> pl.DataFrame:
        """The union of what all generators propose.

        Args:
            requests: request, user, as_of_day.
            history: `histories` of these requests.

        Returns:
            Sorted by (request, item): request, item, and for each of `SOURCES` its `_rank` (Int32) and
            `_score` (Float64), null where that generator did not propose the item. Items that are not
            available yet at the request's as-of, or no longer, are left out.
        """
        proposed = [
            self._bought_before(history),
            self._popular(requests),
            self._co_visited_items(history),
            self._text_neighbours(requests, history),
        ]
        union = pl.concat([part.select("request", "item") for part in proposed]).unique().sort("request", "item")
        for source, part in zip(SOURCES, proposed, strict=True):
            named = part.select(
                "request",
                "item",
                pl.col("rank").alias(f"{source}_rank"),
                pl.col("score").cast(pl.Float64).alias(f"{source}_score"),
            )
            union = union.join(named, on=["request", "item"], how="left", maintain_order="left")
        return self._capped(self._available(union, requests))

    def _bought_before(self, history: pl.DataFrame) -> pl.DataFrame:
        weight = pl.col("weight") / _FIXED
        return top_per_request(history.select("request", "item", score=weight), self.config.bought_before)

    def _popular(self, requests: pl.DataFrame) -> pl.DataFrame:
        days = requests["as_of_day"]
        best = popular_items(self.log, days, most=self.config.popular, window_days=self.config.popular_days)
        return requests.join(best, on="as_of_day").select("request", "item", "score", "rank")

    def _recent(self, history: pl.DataFrame) -> pl.DataFrame:
        """The items of the history that neighbours look at."""
        return history.filter(pl.int_range(pl.len()).over("request") < self.config.history_items)

    def _co_visited_items(self, history: pl.DataFrame) -> pl.DataFrame:
        """Neighbours by co-occurrence, as they stood at the last refresh at or before each request's day."""
        step = self.config.refresh_days
        recent = self._recent(history).with_columns(refreshed=pl.col("as_of_day") // step * step)
        parts = [_NOTHING]
        for day in recent["refreshed"].unique().sort():
            if day not in self._co_visited:
                self._co_visited[day] = Neighbours.co_visited(self.log, day, self.config)
            known = recent.filter(pl.col("refreshed") == day)
            parts.append(self._co_visited[day].reach(known, self.config.co_visited))
        return pl.concat(parts)

    def _text_neighbours(self, requests: pl.DataFrame, history: pl.DataFrame) -> pl.DataFrame:
        """Neighbours by text; of items alike, the one more popular lately comes first."""
        if self.text_vectors is None:
            return _NOTHING
        if self._by_text is None:
            self._by_text = Neighbours.by_text(self.text_vectors)
        days, window = requests["as_of_day"], self.config.popular_days
        popular = popular_items(self.log, days, most=self.log.items.height, window_days=window)
        near = (
            self._by_text.near(self._recent(history), most=self.config.text_neighbours)
            .join(requests.select("request", "as_of_day"), on="request")
            .join(popular.select("as_of_day", "item", lately="score"), on=["as_of_day", "item"], how="left")
        )
        ranked = near.sort(
            ["request", "score", "lately", "item"], descending=[False, True, True, False], nulls_last=True
        ).with_columns(rank=pl.int_range(1, pl.len() + 1, dtype=pl.Int32).over("request"))
        return ranked.filter(pl.col("rank") <= self.config.text_neighbours).select("request", "item", "score", "rank")

    def _available(self, union: pl.DataFrame, requests: pl.DataFrame) -> pl.DataFrame:
        """Without items that the catalogue says are not on sale at the request's as-of."""
        calendar = self.log.calendar
        days = requests["as_of_day"].unique()
        clock = pl.DataFrame({"as_of_day": days, "as_of": [calendar.as_of(day) for day in days]})
        asked = requests.join(clock, on="as_of_day").select("request", pl.col("as_of").cast(pl.Datetime("us", "UTC")))
        sale = self.log.items.select("item", "available_from", "available_until")
        if sale["available_from"].is_null().all() and sale["available_until"].is_null().all():
            return union
        shut = (
            union.select("request", "item")
            .join(asked, on="request")
            .join(sale, on="item")
            .filter((pl.col("available_from") > pl.col("as_of")) | (pl.col("available_until") <= pl.col("as_of")))
        )
        return union.join(shut, on=["request", "item"], how="anti", maintain_order="left")

    def _capped(self, union: pl.DataFrame) -> pl.DataFrame:
        """At most `max_per_request` a request: those that some generator ranks best, ties by item code."""
        best = pl.min_horizontal(f"{source}_rank" for source in SOURCES)
        kept = top_per_request(union.with_columns(score=-best), self.config.max_per_request)
        return kept.drop("score", "rank").sort("request", "item")
