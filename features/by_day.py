"""Rows of a sparse matrix that several parts ask for on one day: made once, and looked up."""

from collections import OrderedDict
from collections.abc import Callable

import numpy as np
from scipy import sparse

from features.asof import Floats, Ints

__all__ = ["RowsByDay", "cells_of"]


class RowsByDay:
    """A row for each user as of a day, kept for the users that were asked about last on each of the latest days.

    Args:
        make: The rows of users (codes, ascending, each once) as of a day; a row does not depend on the others.
        days: Days that are kept.
    """

    def __init__(self, make: Callable[[Ints, int], sparse.csr_matrix], *, days: int) -> None:
        self._make, self._days = make, days
        self._held: OrderedDict[int, tuple[Ints, sparse.csr_matrix]] = OrderedDict()

    def of(self, user: Ints, day: int) -> sparse.csr_matrix:
        """One row a user, in their order (ascending, each once)."""
        known, rows = self._held.get(day, (np.empty(0, np.int64), None))
        place = np.searchsorted(known, user)
        if rows is None or not np.array_equal(known[np.minimum(place, len(known) - 1)], user):
            place, rows = np.arange(len(user)), self._make(user, day)
            self._held[day] = (user, rows)
            self._held.move_to_end(day)
            if len(self._held) > self._days:
                self._held.popitem(last=False)
        return rows[place]


def cells_of(matrix: sparse.csr_matrix, row: Ints, column: Ints) -> Ints | Floats:
    """The value of each (row, column), 0 where there is none; a fraction of the time of scipy's own lookup.

    Args:
        matrix: CSR, sorted indices.
        row: (N,) places of rows.
        column: (N,) places of columns.
    """
    width = matrix.shape[1]
    there = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr)) * width + matrix.indices
    if not len(there):
        return np.zeros(len(row), matrix.dtype)
    key = row * width + column
    place = np.minimum(np.searchsorted(there, key), len(there) - 1)
    return np.where(there[place] == key, matrix.data[place], 0)
