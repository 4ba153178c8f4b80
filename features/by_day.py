"""Rows of a sparse matrix that several parts ask for on one day: made once, and looked up."""

from collections import OrderedDict
from collections.abc import Callable

import numpy as np
from scipy import sparse

from features.asof import Floats, Ints

__all__ = ["RowsByDay", "cells_of"]

_CELLS = 1 << 20  # written out at a time
_MOST_HELD = 1 << 23  # non-zeros that are kept: a hundred MiB


class RowsByDay:
    """A row for each user as of a day, kept for the users that were asked about last on each of the latest days.

    Days are kept as long as their rows together are of bounded size, the latest in any case: the days of a portion of
    requests, however many they are.

    Args:
        make: The rows of users (codes, ascending, each once) as of a day; a row does not depend on the others.
    """

    def __init__(self, make: Callable[[Ints, int], sparse.csr_matrix]) -> None:
        self._make = make
        self._held: OrderedDict[int, tuple[Ints, sparse.csr_matrix]] = OrderedDict()

    def of(self, user: Ints, day: int) -> sparse.csr_matrix:
        """One row a user, in their order (ascending, each once)."""
        known, rows = self._held.get(day, (np.empty(0, np.int64), None))
        place = np.searchsorted(known, user)
        if rows is None or not len(known) or not np.array_equal(known[np.minimum(place, len(known) - 1)], user):
            place, rows = np.arange(len(user)), self._make(user, day)
            self._held[day] = (user, rows)
            self._held.move_to_end(day)
            size = sum(held.nnz for _, held in self._held.values())
            while size > _MOST_HELD and len(self._held) > 1:
                _, (_, gone) = self._held.popitem(last=False)
                size -= gone.nnz
        return rows[place]


def cells_of(matrix: sparse.csr_matrix, row: Ints, column: Ints) -> Ints | Floats:
    """The value of each (row, column), 0 where there is none: some rows are written out at a time, and looked up.

    Args:
        matrix: CSR; its indices need no order, and sorting them is what this saves.
        row: (N,) places of rows.
        column: (N,) places of columns.
    """
    values = np.zeros(len(row), matrix.dtype)
    step = max(_CELLS // max(matrix.shape[1], 1), 1)
    order = np.argsort(row, kind="stable")
    edges = np.searchsorted(row, np.arange(0, matrix.shape[0] + step, step), sorter=order)
    for first, start, end in zip(range(0, matrix.shape[0], step), edges[:-1], edges[1:], strict=True):
        asked = order[start:end]
        values[asked] = matrix[first : first + step].toarray()[row[asked] - first, column[asked]]
    return values
