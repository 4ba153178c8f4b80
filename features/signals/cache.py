"""One cache for the fits of signals by their day, and for the rows of users by day."""

from collections import OrderedDict
from typing import Any

import numpy as np
import polars as pl
from scipy import sparse

from features.log.asof import Floats, Ints
from features.log.event_log import EventLog
from features.signals.base import Fitted, Signal, UserSignal

__all__ = ["AsOfCache", "cells_of"]

_CELLS = 1 << 20  # written out at a time
_ROW_BYTES = 1 << 27  # of the rows that are kept of all signals of a class: those of a portion of requests


class AsOfCache:
    """The fits of signals and the rows that they have for users, each made once for one log.

    All caches of one log, or of the same log that ends on another day, share their content. The least recently used
    goes first, as soon as the fits, or the rows, of a class of signals take more than their bound.

    Args:
        log: The event log.

    Attributes:
        log: The same.
    """

    def __init__(self, log: EventLog) -> None:
        self.log = log
        self._fits, self._rows = log.shared(_nothing_kept)

    def fitted(self, signal: Signal[Fitted], day: int) -> Fitted:
        """The fit of a signal that answers as of a day."""
        fit_day = signal.fit_day(self.log, day)
        kept = self._fits.setdefault(type(signal), _Latest())
        if (made := kept.get((signal, fit_day))) is None:
            made = kept.put((signal, fit_day), signal.fit(self.log, fit_day), signal.most_bytes)
        fitted: Fitted = made
        return fitted

    def rows(self, signal: UserSignal[Fitted], user: Ints, day: int) -> sparse.csr_matrix:
        """What a signal's `scores` are for users (codes, ascending, each once) as of a day, one row a user.

        The rows of the users of the latest call for a day are kept.
        """
        kept = self._rows.setdefault(type(signal), _Latest())
        users, rows = kept.get((signal, day)) or (np.empty(0, np.int64), None)
        row = np.searchsorted(users, user)
        if rows is None or not len(users) or not np.array_equal(users[np.minimum(row, len(users) - 1)], user):
            row, rows = np.arange(len(user)), signal.scores(self.fitted(signal, day), self.log, user, day)
            kept.put((signal, day), (user, rows), _ROW_BYTES)
        return rows[row]


class _Latest:
    """What was made of the signals of one class, up to a bound; the one used longest ago goes first."""

    def __init__(self) -> None:
        self._made: OrderedDict[tuple[Signal[Any], int], tuple[Any, int]] = OrderedDict()
        self._bytes = 0

    def get(self, key: tuple[Signal[Any], int]) -> Any:  # noqa: ANN401 - each signal has its own kind of fit
        """What was made, None where it is gone or never was."""
        if key not in self._made:
            return None
        self._made.move_to_end(key)
        return self._made[key][0]

    def put(self, key: tuple[Signal[Any], int], made: Any, most_bytes: int) -> Any:  # noqa: ANN401
        """Keep what was made, and return it."""
        self._bytes -= self._made.pop(key, (None, 0))[1]
        self._made[key] = made, _bytes_of(made)
        self._bytes += self._made[key][1]
        while len(self._made) > 1 and self._bytes > most_bytes:
            self._bytes -= self._made.popitem(last=False)[1][1]
        return made


def cells_of(matrix: sparse.csr_matrix, row: Ints, column: Ints) -> Ints | Floats:
    """The value of each (row, column), 0 where there is none: some rows are written out at a time, and looked up.

    Args:
        matrix: CSR; its indices need no order, and sorting them is what this saves.
        row: (N,) row numbers.
        column: (N,) column numbers.
    """
    values = np.zeros(len(row), matrix.dtype)
    step = max(_CELLS // max(matrix.shape[1], 1), 1)
    order = np.argsort(row, kind="stable")
    edges = np.searchsorted(row, np.arange(0, matrix.shape[0] + step, step), sorter=order)
    for first, start, end in zip(range(0, matrix.shape[0], step), edges[:-1], edges[1:], strict=True):
        in_step = order[start:end]
        values[in_step] = matrix[first : first + step].toarray()[row[in_step] - first, column[in_step]]
    return values


def _nothing_kept(log: EventLog) -> tuple[dict[type, _Latest], dict[type, _Latest]]:  # noqa: ARG001 - one signature
    return {}, {}


def _bytes_of(made: Any) -> int:  # noqa: ANN401 - each signal has its own kind of fit
    if isinstance(made, tuple):
        return sum(map(_bytes_of, made))
    if sparse.issparse(made):
        return _bytes_of((made.data, made.indices, made.indptr))
    return int(made.estimated_size() if isinstance(made, pl.Series) else made.nbytes)
