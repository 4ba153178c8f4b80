"""What a linear autoencoder over items makes of a history, as of any day (EASE: Steck 2019, arXiv 1905.03375).

Each item is predicted by the ridge regression of its own on all other items of a user's history. All regressions come
out of one inverse. Weights are rounded to whole multiples of small steps, and sums of products are exact, so that a
user gets the same scores to the last bit beside whomever they are asked. The inverse itself moves with BLAS and its
threads, far less than by a step.
"""

from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt
from scipy import linalg, sparse

from features.asof import Floats, Ints
from features.by_day import RowsByDay
from features.decay import FIXED, decay_weights
from features.neighbours import best_of_many
from features.timeline import EventLog

__all__ = ["Ease"]

_RIDGE = 100.0
_ITEMS = 5000  # that it knows, those with most weight: its time grows with their cube
_STRONGEST = 100  # regression weights of an item that are kept
_HALF_LIFE_DAYS = 30.0
_REFRESH_DAYS = 7
_FITS_HELD = 64  # of at most 6 MB each: more weeks than the requests of a block span
_FEW_USERS = 0.5  # as many users an item make the inverse of users' size twice as fast as that of items' size
_GRID = 1024  # histories are cut to 1/1024: sums of their products are exact in float64


class Ease:
    """Scores of items for users by their histories.

    A history is the decayed count of the user's engagements with each item (half-life 30 days), at most 1. With ``X``
    (users, items) the histories before a day and ``P = (X'X + 100 I)^-1``, item i counts ``-P_ij / P_jj`` for item j.
    It knows the 5,000 items with most weight, ties by code, and keeps the 100 strongest weights of each item that are
    above 0. It is fitted again every seventh day.

    Args:
        log: The event log.
    """

    def __init__(self, log: EventLog) -> None:
        self._size = (log.user_ids.len() + 1, log.items.height)  # and nobody, as the list for unknown users asks
        self._done = log.interactions
        self._weights = lru_cache(maxsize=_FITS_HELD)(self.weights)
        self._scores = RowsByDay(self._scores_of)

    def scores(self, user: Ints, as_of_day: int) -> sparse.csr_matrix:
        """What the histories of users say of items.

        Args:
            user: (N,) codes, ascending, each once.
            as_of_day: What happened before it counts.

        Returns:
            CSR (N, items), float64, indices in no order: above 0; a user without history has none.
        """
        return self._scores.of(user, as_of_day)

    def weights(self, before_day: int) -> sparse.csr_matrix:
        """CSR (items, items), row = item of the history: weights fitted before a day, in steps of 1/65536."""
        histories = self._decayed(self._remembered(before_day), before_day)
        total = np.asarray(histories.sum(axis=0)).ravel()
        items = np.sort(np.argsort(-total, kind="stable")[: min(_ITEMS, np.count_nonzero(total))])
        if not len(items):
            return sparse.csr_matrix((self._size[1],) * 2)
        inverse = _ridge_inverse(histories[:, items])
        scale = -FIXED / np.diag(inverse)

        def of_rows(rows: slice) -> Ints:
            steps: Ints = np.rint(inverse[rows] * scale).astype(np.int64)  # of an item for itself: -FIXED
            return steps

        rows = np.arange(len(items), dtype=np.uint32)
        best = best_of_many(rows, items, of_rows, _STRONGEST, np.full(len(items), FIXED))
        cells = (best["score"].to_numpy(), (items[best["request"].to_numpy()], best["item"].to_numpy()))
        return sparse.csr_matrix(cells, shape=(self._size[1],) * 2)

    def _scores_of(self, user: Ints, as_of_day: int) -> sparse.csr_matrix:
        places, begins = self._done.of_users(user)
        row = np.repeat(np.arange(len(user)), np.diff(begins))
        known = self._done.day[places] < as_of_day
        held = self._decayed(places[known], as_of_day, row=row[known], rows=len(user))
        return sparse.csr_matrix(held @ self._weights(as_of_day // _REFRESH_DAYS * _REFRESH_DAYS))

    def _remembered(self, day: int) -> Ints:
        """Places of the pairs of which a day's histories may hold something; of the others too little is left.

        That is sure where all engagements of a pair, had they been as late as its last before the day, weigh less than
        a step.
        """
        done, pair = self._done, self._pair
        known = np.flatnonzero(done.day < day)
        of = pair[known]
        most = self._pair_n[of] * decay_weights(_HALF_LIFE_DAYS)[day - done.day[known]]
        left = np.zeros(len(self._pair_n), np.bool_)
        left[of[most >= FIXED // _GRID]] = True
        return known[left[of]]

    @cached_property
    def _pair(self) -> npt.NDArray[np.int32]:
        """A number of each place's pair of user and item, ascending."""
        pair: npt.NDArray[np.int32] = np.cumsum(self._done.is_first, dtype=np.int32) - np.int32(1)
        return pair

    @cached_property
    def _pair_n(self) -> Ints:
        """Engagements of each pair."""
        first = np.flatnonzero(self._done.is_first)
        return np.add.reduceat(self._done.n, first) if len(first) else self._done.n

    def _decayed(
        self, places: Ints, day: int, *, row: Ints | None = None, rows: int | None = None
    ) -> sparse.csr_matrix:
        """CSR (users, items), float64, in steps of 1/1024: histories as of a day, of all users or of some rows."""
        done = self._done
        weight = done.n[places] * decay_weights(_HALF_LIFE_DAYS)[day - done.day[places]]
        of = done.user[places] if row is None else row
        shape = (self._size[0] if rows is None else rows, self._size[1])
        held = sparse.csr_matrix((weight, (of, done.item[places])), shape=shape)
        held.data = np.minimum(held.data, FIXED) * _GRID // FIXED / _GRID
        held.eliminate_zeros()
        return held


def _ridge_inverse(X: sparse.csr_matrix) -> Floats:
    """``(X'X + 100 I)^-1``, (items, items), of CSR (users, items).

    Where far fewer users than items have a history, it is made of the smaller matrix of users (Woodbury's identity):
    ``(I - X' (X X' + 100 I)^-1 X) / 100``.
    """
    X = X[np.diff(X.indptr) > 0]
    users, items = X.shape
    if users < _FEW_USERS * items:
        gram = (X @ X.T).toarray()
        gram[np.diag_indices_from(gram)] += _RIDGE
        inverse = X.T @ linalg.solve(gram, X.toarray(), overwrite_a=True, overwrite_b=True, assume_a="pos")
        inverse *= -1 / _RIDGE
        inverse[np.diag_indices_from(inverse)] += 1 / _RIDGE
        return np.asarray(inverse)
    gram = (X.T @ X).toarray()
    gram[np.diag_indices_from(gram)] += _RIDGE
    return np.asarray(linalg.inv(gram, overwrite_a=True, assume_a="pos"))
