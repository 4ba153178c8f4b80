"""The best items of each request by score, ties by item code: of a table, of sparse rows, of blocks of dense rows."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy import sparse

from features.log.asof import Ints

__all__ = ["NOTHING", "largest", "leaders", "leaders_of_blocks", "table_of", "top_k", "top_k_of_rows"]

NOTHING = pl.DataFrame(schema={"request": pl.UInt32, "item": pl.UInt32, "score": pl.Float64, "rank": pl.Int32})
"""The result of a generator that proposes nothing."""

_BLOCK_ROWS = 200  # dense rows that are made at a time


def top_k(scored: pl.DataFrame, most: int) -> pl.DataFrame:
    """The `most` best rows of each request by `score`, ties by item code, with their `rank` (1 is best)."""
    ordered = scored.sort(["request", "score", "item"], descending=[False, True, False])
    ranked = ordered.with_columns(rank=pl.int_range(1, pl.len() + 1, dtype=pl.Int32).over("request"))
    return ranked.filter(pl.col("rank") <= most)


def top_k_of_rows(scores: sparse.csr_matrix, most: int) -> pl.DataFrame:
    """The `most` best columns of each row of a matrix, as those of a request: request, item, score, rank."""
    return top_k(leaders(scores, most, requests=np.arange(scores.shape[0])), most)


def leaders(scores: sparse.csr_matrix, most: int, *, requests: npt.NDArray[np.integer]) -> pl.DataFrame:
    """What `top_k` needs of rows of scores, before it is ranked: request, item, score.

    Args:
        scores: CSR (R, items); what it does not hold is no item's score, indices need no order.
        most: Items of each row that are wanted; all that tie with the last are there.
        requests: (R,) numbers of the rows.
    """
    return table_of(scores, requests, largest(scores.data, scores.indptr, np.full(scores.shape[0], most)))


def leaders_of_blocks(
    scores: Callable[[slice], Ints], most: int, *, requests: npt.NDArray[np.integer], items: Ints
) -> pl.DataFrame:
    """The same of scores above 0 that are made some rows at a time.

    Args:
        scores: Gives (rows, M) whole numbers for a slice of the requests.
        most: Items of each row that are wanted.
        requests: (R,) numbers.
        items: (M,) codes of the columns.
    """
    parts = [NOTHING.drop("rank")]
    for start in range(0, len(requests), _BLOCK_ROWS):
        rows = slice(start, min(start + _BLOCK_ROWS, len(requests)))
        dense = scores(rows)
        row, column = np.nonzero(dense > 0)
        begins = np.searchsorted(row, np.arange(len(dense) + 1))
        above = sparse.csr_matrix((dense[row, column], column, begins), shape=dense.shape)
        parts.append(leaders(above, most, requests=requests[rows]))
    table = pl.concat(parts)
    return table.with_columns(item=pl.Series(items[table["item"].to_numpy()], dtype=pl.UInt32))


def table_of(scores: sparse.csr_matrix, requests: npt.NDArray[np.integer], kept: Ints) -> pl.DataFrame:
    """Some of the entries of a matrix, by their positions, as request, item, score."""
    return pl.DataFrame(
        {
            "request": pl.Series(np.repeat(requests, np.diff(scores.indptr))[kept], dtype=pl.UInt32),
            "item": pl.Series(scores.indices[kept], dtype=pl.UInt32),
            "score": pl.Series(scores.data[kept], dtype=pl.Float64),
        }
    )


def largest(data: npt.NDArray[np.number[Any]], begins: npt.NDArray[np.integer], most: Ints) -> Ints:
    """Positions of the entries that are among the `most[row]` largest of their row; all that tie with the last stay.

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
