"""Similarities of items, and how a history reaches by them items that are not in it; exact in every batch.

Scores are sums of terms in one fixed order, so that a request gets the same neighbours to the last bit in whatever
batch it stands.
"""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy import sparse

from features.log.asof import Floats
from features.log.decay import FIXED
from features.signals.base import Signal
from features.signals.cache import AsOfCache
from features.signals.top_k import NO_SCORES, largest, table_of, top_k
from features.tables.frames import PAIR

__all__ = ["MAX_NEIGHBOURS", "near", "reached", "shrunk_cosine", "strongest"]

MAX_NEIGHBOURS = 100
"""Similarities that are kept of an item."""

_MIN_SUPPORT = 2  # users (or baskets) that must share two items before these count as neighbours
_SHRINKAGE = 10.0  # added to the geometric mean of two items' users: rare pairs count less


def shrunk_cosine(parts: Iterable[tuple[sparse.csr_matrix, sparse.csr_matrix]], *, itself: bool) -> sparse.csr_matrix:
    """``c_ij / (sqrt(c_i c_j) + 10)`` of the columns of two matrices of zeros and ones; see `strongest`.

    Args:
        parts: The two matrices some rows at a time, one part at least: a former one, CSR (N, items), of whose rows
            ``c_i`` have item i, and a latter one of the same size, of whose rows ``c_j`` have item j; ``c_ij`` counts
            the rows with i in the former and j in the latter.
        itself: Whether an item can be near itself.
    """
    sums = None
    for former, latter in parts:  # exact, in any order: whole numbers
        part = former.T @ latter, *(np.asarray(rows.sum(axis=0)).ravel() for rows in (former, latter))
        sums = part if sums is None else tuple(one + other for one, other in zip(sums, part, strict=True))
    assert sums is not None, "no part"
    together, out, into = sums
    counts = together.tocoo()
    keep = (counts.data >= _MIN_SUPPORT) & (itself | (counts.row != counts.col))
    row, col, both = counts.row[keep], counts.col[keep], counts.data[keep]
    return strongest(row, col, both / (np.sqrt(out[row] * into[col]) + _SHRINKAGE), counts.shape[0])


def strongest(
    row: npt.NDArray[np.integer], col: npt.NDArray[np.integer], value: Floats, n_items: int
) -> sparse.csr_matrix:
    """CSR (items, items) of similarities, the 100 strongest of each row, ties by item code; sorted indices."""
    matrix = sparse.csr_matrix((value, (row, col)), shape=(n_items, n_items))
    matrix.sort_indices()
    behind = np.ones(matrix.nnz, np.bool_)
    behind[largest(matrix.data, matrix.indptr, np.full(n_items, MAX_NEIGHBOURS))] = False
    matrix.data[behind] = 0.0
    matrix.eliminate_zeros()
    sizes = np.diff(matrix.indptr)
    tied = np.flatnonzero(np.repeat(sizes > MAX_NEIGHBOURS, sizes))  # NOTE: few rows are sorted, most are complete
    row, col, value = np.repeat(np.arange(n_items), sizes)[tied], matrix.indices[tied], matrix.data[tied]
    order = np.lexsort((col, -value, row))
    rank = np.arange(len(order)) - np.searchsorted(row, row)
    matrix.data[tied[order[rank >= MAX_NEIGHBOURS]]] = 0.0
    matrix.eliminate_zeros()
    return matrix


def near(
    similarity: sparse.csr_matrix, history: pl.DataFrame, *, most: int | None = None, outside: bool = True
) -> pl.DataFrame:
    """Score items near the history: the sum over the history of weight times similarity.

    Args:
        similarity: CSR (items, items), row = item of the history.
        history: `HistoryItems`.
        most: Leave out, of each request, items that are behind this many others.
        outside: Leave the history's own items out.

    Returns:
        `Scored`: every item with a score.
    """
    history = history.sort("request", "item")
    requests, rows, sizes = np.unique(history["request"].to_numpy(), return_inverse=True, return_counts=True)
    entries = (history["weight"].to_numpy() / FIXED, (rows, history["item"].to_numpy()))
    scores = sparse.csr_matrix(entries, shape=(len(requests), similarity.shape[0])) @ similarity
    kept = (
        np.arange(scores.nnz)
        if most is None
        else largest(scores.data, scores.indptr, most + (sizes if outside else 0 * sizes))
    )
    scored = table_of(scores, requests, kept)
    return scored.join(history, on=PAIR, how="anti") if outside else scored


def reached(
    cache: AsOfCache,
    signal: Signal[sparse.csr_matrix],
    history: pl.DataFrame,
    most: int,
    *,
    outside: bool = True,
) -> pl.DataFrame:
    """The `most` best items of `near` for each request, by the fit of its day: `Ranked`."""
    fit_day = {day: signal.fit_day(cache.log, day) for day in history["as_of_day"].unique().sort()}
    parts = [NO_SCORES]
    for day in dict.fromkeys(fit_day.values()):
        days = [as_of_day for as_of_day, fitted in fit_day.items() if fitted == day]
        some = history.filter(pl.col("as_of_day").is_in(days))
        parts.append(near(cache.fitted(signal, days[0]), some, most=most, outside=outside))
    return top_k(pl.concat(parts), most)
