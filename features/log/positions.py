"""Rows in another order: 32-bit positions, and sorts that work part by part to save memory."""

from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import polars as pl

from features.log.asof import Ints

__all__ = ["PART_ROWS", "Positions", "by_code", "parts_of", "sort_together"]

Positions = npt.NDArray[np.uint32]

PART_ROWS = 1 << 20
"""Rows that are worked on at a time: what is made of them meanwhile takes some ten megabytes."""
_BUCKET_BITS = 8


def parts_of(rows: int, end_of: Callable[[int], int] | None = None) -> Iterator[slice]:
    """Rows in parts of about `PART_ROWS`, one at least.

    Args:
        rows: How many there are.
        end_of: Where the last group ends that has a row before a position, so that no part cuts a group.
    """
    start = 0
    while start < rows or start == 0:
        end = min(start + PART_ROWS, rows)
        if end_of is not None and end < rows:
            end = end_of(end)
        yield slice(start, end)
        start = max(end, 1)


def by_code(code_of: Callable[[slice], npt.NDArray[np.integer]], rows: int, n_codes: int) -> tuple[Positions, Ints]:
    """Positions of rows in the order of small codes, rows of one code in their own order (a counting sort).

    Args:
        code_of: Codes of a part of the rows, each below `n_codes`.
        rows: How many there are.
        n_codes: Codes.

    Returns:
        The positions, and where those of each code begin in them (codes + 1).
    """
    width = np.min_scalar_type(max(n_codes - 1, 0))  # NOTE: 16 bits are sorted in a fifth of the time
    counts = np.zeros(n_codes, np.int64)
    for part in parts_of(rows):
        counts += np.bincount(code_of(part), minlength=n_codes)
    begins = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
    positions, free = np.empty(rows, np.uint32), begins[:-1].copy()
    for part in parts_of(rows):
        codes = code_of(part).astype(width)
        order = np.argsort(codes, kind="stable")
        code_counts = np.bincount(codes, minlength=n_codes)
        to = np.arange(len(order)) + np.repeat(free - (np.cumsum(code_counts) - code_counts), code_counts)
        positions[to] = order + part.start
        free += code_counts
    return positions, begins


def sort_together(keys: Ints, *others: npt.NDArray[np.integer]) -> None:
    """Sort keys in place, and other columns with them; takes the memory of the positions and one column more.

    Rows go to buckets by the first bits of their keys, so that no sort takes more memory than a bucket.

    Args:
        keys: At least 0.
        others: A value a key each.
    """
    columns = [keys, *others]
    if len(keys) <= PART_ROWS:
        _sort(columns)
        return
    shift = max(int(keys.max()).bit_length() - _BUCKET_BITS, 0)
    positions, begins = by_code(lambda part: keys[part] >> shift, len(keys), 1 << _BUCKET_BITS)
    for column in columns:
        column[:] = column[positions]
    for start, end in pairwise(begins):
        _sort([column[start:end] for column in columns])


def _sort(columns: list[npt.NDArray[np.integer]]) -> None:
    ordered = pl.DataFrame({str(number): column for number, column in enumerate(columns)}).sort("0")
    for number, column in enumerate(columns):
        column[:] = ordered[str(number)].to_numpy()
