"""The best items of each request by score, ties by item code: of a table, of sparse rows, of blocks of dense rows."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy import sparse

from features.log.asof import Ints
from features.tables.frames import Ranked, Scored

__all__ = [
    "NOTHING",
    "NO_SCORES",
    "first_of_each",
    "largest",
    "leaders",
    "leaders_of_blocks",
    "table_of",
    "top_k",
    "top_k_of_rows",
]

NOTHING: pl.DataFrame = Ranked.create_empty()
"""The result of a generator that proposes nothing."""
NO_SCORES: pl.DataFrame = Scored.create_empty()
"""Its scores, before they are ranked."""

_BLOCK_ROWS = 200  # dense rows that are made at a time


def top_k(scored: pl.DataFrame, most: int) -> pl.DataFrame:
    """The `most` best rows of each request by `score`, ties by item code: `Ranked`, and whatever stands beside."""
    return first_of_each(scored.sort(["request", "score", "item"], descending=[False, True, False]), most)


def first_of_each(ordered: pl.DataFrame, most: int) -> pl.DataFrame:
    """The first `most` rows of each request, with their `rank` (1 is first)."""
    rank = pl.int_range(1, pl.len() + 1).over("request").cast(Ranked.rank.dtype)
    return ordered.with_columns(rank=rank).filter(pl.col("rank") <= most)


def top_k_of_rows(scores: sparse.csr_matrix, most: int) -> pl.DataFrame:
    """The `most` best columns of each row of a matrix, as those of a request: `Ranked`."""
    return top_k(leaders(scores, most, requests=np.arange(scores.shape[0])), most)


def leaders(scores: sparse.csr_matrix, most: int, *, requests: npt.NDArray[np.integer]) -> pl.DataFrame:
    """What `top_k` needs of rows of scores, before it is ranked: `Scored`.

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
    parts = [NO_SCORES]
    for start in range(0, len(requests), _BLOCK_ROWS):
        rows = slice(start, min(start + _BLOCK_ROWS, len(requests)))
        dense = scores(rows)
        row, column = np.nonzero(dense > 0)
        begins = np.searchsorted(row, np.arange(len(dense) + 1))
        above = sparse.csr_matrix((dense[row, column], column, begins), shape=dense.shape)
        parts.append(leaders(above, most, requests=requests[rows]))
    table = pl.concat(parts)
    return table.with_columns(item=pl.Series(items[table["item"].to_numpy()], dtype=Scored.item.dtype))


def table_of(scores: sparse.csr_matrix, requests: npt.NDArray[np.integer], kept: Ints) -> pl.DataFrame:
    """Some of the entries of a matrix, by their positions: `Scored`."""
    return Scored.of(
        request=np.repeat(requests, np.diff(scores.indptr))[kept], item=scores.indices[kept], score=scores.data[kept]
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
