"""How a history reaches items that are not in it: sparse item-to-item similarities, exact in every batch.

Scores are sums of integers, or of terms in one fixed order, so that a request gets the same neighbours to the
last bit in whatever batch it stands.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy import sparse

from features.asof import DAY_BITS, DAY_MASK
from features.config import CandidatesConfig
from features.decay import FIXED
from features.timeline import EventLog

__all__ = ["GRID", "NOTHING", "Neighbours", "best_of_many", "best_of_rows", "leading_items", "top_per_request"]

GRID = 4000
"""Text vectors are unit vectors rounded to whole multiples of 1/GRID (int16). A float32 sum of their products
is exact, since by Cauchy-Schwarz no partial sum exceeds about GRID**2 < 2**24: dot products do not depend on
batch, threads or BLAS."""

NOTHING = pl.DataFrame(schema={"request": pl.UInt32, "item": pl.UInt32, "score": pl.Float64, "rank": pl.Int32})
"""What a generator gives that proposes nothing."""

_MIN_SUPPORT = 2  # users (or baskets) that must share two items before these count as neighbours
_SHRINKAGE = 10.0  # added to the geometric mean of two items' users: rare pairs count less
_MAX_NEIGHBOURS = 100
_PORTION = 200  # requests whose scores over many items are held at a time
_BLOCK_CELLS = 4_000_000  # of the matrix of dot products, made at a time


def top_per_request(scored: pl.DataFrame, most: int) -> pl.DataFrame:
    """The `most` best rows of each request by `score`, ties by item code, with their `rank` (1 is best)."""
    ordered = scored.sort(["request", "score", "item"], descending=[False, True, False])
    ranked = ordered.with_columns(rank=pl.int_range(1, pl.len() + 1, dtype=pl.Int32).over("request"))
    return ranked.filter(pl.col("rank") <= most)


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Item-to-item similarities, at most 100 a row: how a history reaches items that are not in it.

    Attributes:
        matrix: CSR (items, items), float64, row = history item, sorted indices; the diagonal is zero, except of
            `next_basket`.
    """

    matrix: sparse.csr_matrix

    @classmethod
    def co_visited(cls, log: EventLog, before_day: int, config: CandidatesConfig) -> "Neighbours":
        """Cosine of two items' users before a day, shrunk (Sarwar et al. 2001; Deshpande & Karypis 2004).

        ``c_ij / (sqrt(c_ii c_jj) + 10)`` where ``c_ij`` counts users with both among their last
        `history_items` items; pairs of fewer than two users are left out.
        """
        done = log.interactions
        known = np.flatnonzero(done.day < before_day)
        user, item, day = done.user[known], done.item[known], done.day[known]
        last = np.ones(len(known), np.bool_)
        last[:-1] = (user[1:] != user[:-1]) | (item[1:] != item[:-1])
        user, item, day = user[last], item[last], day[last]
        order = np.argsort(user.astype(np.int64) << DAY_BITS | (DAY_MASK - day), kind="stable")  # ties by item code
        user, item = user[order], item[order]
        latest = np.arange(len(user)) - np.searchsorted(user, user) < config.history_items
        used = user[latest], item[latest]
        held = sparse.csr_matrix((np.ones(len(used[0])), used), shape=(log.user_ids.len(), log.items.height))
        return cls._cosine(held, held, itself=False)

    @classmethod
    def next_basket(cls, log: EventLog, before_day: int) -> "Neighbours":
        """How often an item of one active day was followed by another (or itself) on the user's next active day.

        ``c_ij / (sqrt(c_i c_j) + 10)`` as in `co_visited`, where ``c_ij`` counts pairs of successive active days of
        one user with item i on the former and item j on the latter, ``c_i`` the former days with i and ``c_j`` the
        latter days with j (first-order transitions: Rendle et al. 2010); pairs seen once are left out.
        """
        done = log.history
        known = done.day < before_day
        stamps, item = done.stamps[known], done.item[known]
        first = np.diff(stamps, prepend=-1) != 0
        basket, owner = np.cumsum(first) - 1, stamps[first] >> DAY_BITS
        baskets = sparse.csr_matrix((np.ones(len(item)), (basket, item)), shape=(len(owner), log.items.height))
        former = np.flatnonzero(owner[1:] == owner[:-1])
        return cls._cosine(baskets[former], baskets[former + 1], itself=True)

    @classmethod
    def _cosine(cls, former: sparse.csr_matrix, latter: sparse.csr_matrix, *, itself: bool) -> "Neighbours":
        """Shrunk cosine of the columns of two matrices of zeros and ones."""
        counts = (former.T @ latter).tocoo()  # exact: whole numbers
        out, into = (np.asarray(held.sum(axis=0)).ravel() for held in (former, latter))
        keep = (counts.data >= _MIN_SUPPORT) & (itself | (counts.row != counts.col))
        row, col, both = counts.row[keep], counts.col[keep], counts.data[keep]
        similarity = both / (np.sqrt(out[row] * into[col]) + _SHRINKAGE)
        return cls.strongest(row, col, similarity, counts.shape[0])

    @classmethod
    def strongest(
        cls,
        row: npt.NDArray[np.integer],
        col: npt.NDArray[np.integer],
        value: npt.NDArray[np.float64],
        n_items: int,
    ) -> "Neighbours":
        """Keep the 100 strongest of each row, ties by item code."""
        matrix = sparse.csr_matrix((value, (row, col)), shape=(n_items, n_items))
        matrix.sort_indices()
        stays = np.zeros(matrix.nnz, np.bool_)
        stays[_leading(matrix.data, matrix.indptr, np.full(n_items, _MAX_NEIGHBOURS))] = True
        matrix.data[~stays] = 0.0
        matrix.eliminate_zeros()
        sizes = np.diff(matrix.indptr)
        tied = np.flatnonzero(np.repeat(sizes > _MAX_NEIGHBOURS, sizes))  # rows whose last ones tie with others
        row, col, value = np.repeat(np.arange(n_items), sizes)[tied], matrix.indices[tied], matrix.data[tied]
        order = np.lexsort((col, -value, row))
        place = np.arange(len(order)) - np.searchsorted(row, row)  # rows are in order: these are the places within them
        matrix.data[tied[order[place >= _MAX_NEIGHBOURS]]] = 0.0
        matrix.eliminate_zeros()
        return cls(matrix)

    @classmethod
    def by_text(cls, vectors: npt.NDArray[np.int16]) -> "Neighbours":
        """Cosine of two items' text vectors, above 0.

        Args:
            vectors: (items, width) on the grid of 1/GRID, in the order of item codes; a zero row has no
                neighbours.
        """
        texts, text_of_item = _distinct(vectors)
        text, other, dots = _nearest(texts.astype(np.float32), _MAX_NEIGHBOURS + 1)
        near = pl.DataFrame({"text": text, "other": other, "dots": dots}).filter(pl.col("dots") > 0)
        carried = pl.DataFrame({"other": text_of_item}).with_row_index("to")
        # NOTE: items of one text have the same neighbours: 101 of each text will do, since an item is not its own.
        wanted = (
            near.join(carried.group_by("other").len(), on="other")
            .sort(["text", "dots"], descending=[False, True])
            .with_columns(nearer=(pl.col("len").cum_sum() - pl.col("len")).over("text"))
            .filter(pl.col("nearer").min().over("text", "dots") <= _MAX_NEIGHBOURS)
        )
        best = (
            wanted.join(carried, on="other")
            .sort(["text", "dots", "to"], descending=[False, True, False])
            .filter(pl.int_range(pl.len()).over("text") <= _MAX_NEIGHBOURS)
        )
        pairs = carried.select(item="to", text="other").join(best, on="text", maintain_order="left_right")
        pairs = pairs.filter(pl.col("item") != pl.col("to"))
        pairs = pairs.filter(pl.int_range(pl.len()).over("item") < _MAX_NEIGHBOURS)
        entries = (pairs["dots"].to_numpy() / GRID**2, (pairs["item"].to_numpy(), pairs["to"].to_numpy()))
        matrix = sparse.csr_matrix(entries, shape=(len(vectors), len(vectors)))
        matrix.sort_indices()
        return cls(matrix)

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
        entries = (held["weight"].to_numpy() / FIXED, (rows, held["item"].to_numpy()))
        scores = sparse.csr_matrix(entries, shape=(len(requests), self.matrix.shape[0])) @ self.matrix
        kept = (
            np.arange(scores.nnz)
            if most is None
            else _leading(scores.data, scores.indptr, most + (sizes if outside else 0 * sizes))
        )
        reached = _frame(scores, requests, kept)
        return reached.join(held, on=["request", "item"], how="anti") if outside else reached

    def reach(self, history: pl.DataFrame, most: int, *, outside: bool = True) -> pl.DataFrame:
        """The `most` best items of `near` for each request: request, item, score, rank."""
        return top_per_request(self.near(history, most=most, outside=outside), most)


def best_of_rows(scores: sparse.csr_matrix, requests: npt.NDArray[np.integer], most: int) -> pl.DataFrame:
    """The `most` best items of each request by its row of scores: request, item, score, rank."""
    kept = _leading(scores.data, scores.indptr, np.full(len(requests), most))
    return top_per_request(_frame(scores, requests, kept), most)


def _frame(scores: sparse.csr_matrix, requests: npt.NDArray[np.integer], kept: npt.NDArray[np.int64]) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "request": pl.Series(np.repeat(requests, np.diff(scores.indptr))[kept], dtype=pl.UInt32),
            "item": pl.Series(scores.indices[kept], dtype=pl.UInt32),
            "score": pl.Series(scores.data[kept], dtype=pl.Float64),
        }
    )


def _leading(
    data: npt.NDArray[np.number[Any]], begins: npt.NDArray[np.integer], most: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Places of the entries that are among the `most[row]` largest of their row; all that tie with the last stay.

    Args:
        data: Entries, row after row.
        begins: (rows + 1) where each row begins.
        most: (rows,) entries that stay.
    """
    stays = np.ones(len(data), np.bool_)
    for row in np.flatnonzero(np.diff(begins) > most):
        entries, many = slice(begins[row], begins[row + 1]), most[row]
        values = data[entries]
        stays[entries] = values >= np.partition(values, len(values) - many)[len(values) - many] if many else False
    return np.flatnonzero(stays)


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


def leading_items(items: npt.NDArray[np.int64], scores: npt.NDArray[np.int64], most: int) -> pl.DataFrame:
    """item, score and rank of the `most` largest scores, ties by item code; items ascending."""
    order = np.argsort(-scores, kind="stable")[:most]
    return pl.DataFrame(
        {
            "item": pl.Series(items[order], dtype=pl.UInt32),
            "score": pl.Series(scores[order], dtype=pl.Float64),
            "rank": pl.int_range(1, len(order) + 1, dtype=pl.Int32, eager=True),
        }
    )


def best_of_many(
    requests: npt.NDArray[np.uint32],
    items: npt.NDArray[np.int64],
    scores: Callable[[slice], npt.NDArray[np.int64]],
    most: int,
    divisors: npt.NDArray[np.int64],
) -> pl.DataFrame:
    """The `most` largest scores above 0 of each request over many items, ties by item code.

    Args:
        requests: (R,) numbers, ascending.
        items: (M,) codes, ascending.
        scores: Gives (rows, M) whole numbers for a slice of the requests.
        most: Items kept a request.
        divisors: (R,) what a request's scores are divided by at the end.
    """
    parts = [NOTHING]
    if not most or not len(items):
        return NOTHING
    for start in range(0, len(requests), _PORTION):
        rows = slice(start, min(start + _PORTION, len(requests)))
        of_rows = scores(rows)
        row, col = np.nonzero(of_rows > 0)
        values = of_rows[row, col]
        begins = np.searchsorted(row, np.arange(len(of_rows) + 1))
        kept = _leading(values, begins, np.full(len(of_rows), most))
        row, col, values = row[kept], col[kept], values[kept]
        order = np.lexsort((col, -values, row))
        row, col, values = row[order], col[order], values[order]
        rank = np.arange(len(row)) - np.searchsorted(row, row) + 1
        kept = np.flatnonzero(rank <= most)
        parts.append(
            pl.DataFrame(
                {
                    "request": pl.Series(requests[rows][row[kept]], dtype=pl.UInt32),
                    "item": pl.Series(items[col[kept]], dtype=pl.UInt32),
                    "score": values[kept] / divisors[rows][row[kept]],
                    "rank": pl.Series(rank[kept], dtype=pl.Int32),
                }
            )
        )
    return pl.concat(parts)
