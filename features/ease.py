"""What a linear autoencoder over items makes of a history, as of any day (EASE: Steck 2019, arXiv 1905.03375).

Each item is predicted by the ridge regression of its own on all other items of a user's history. All regressions come
out of one inverse. Weights are rounded to whole multiples of small steps, and sums of products are exact, so that a
user gets the same scores to the last bit beside whomever they are asked. The inverse itself moves with BLAS and its
threads, far less than by a step.
"""

from functools import lru_cache

import numpy as np
from scipy import linalg, sparse

from features.asof import Ints
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
_FITS_HELD = 16  # a portion of requests spans no more weeks
_DAYS_HELD = 4  # days whose scores are kept: they are large, and cheap beside a fit
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
        events = (log.engagements[name].to_numpy().astype(np.int64) for name in ("user", "item", "day", "n"))
        self._user, self._item, self._day, self._n = events
        self._histories = lru_cache(maxsize=1)(self._histories_before)
        self._weights = lru_cache(maxsize=_FITS_HELD)(self.weights)
        self._scores = RowsByDay(self._scores_of, days=_DAYS_HELD)

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
        histories = self._histories_before(before_day)
        total = np.asarray(histories.sum(axis=0)).ravel()
        items = np.sort(np.argsort(-total, kind="stable")[: min(_ITEMS, np.count_nonzero(total))])
        if not len(items):
            return sparse.csr_matrix((self._size[1],) * 2)
        known = histories[:, items]
        gram = (known.T @ known).toarray()
        gram[np.diag_indices_from(gram)] += _RIDGE
        inverse = linalg.inv(gram, overwrite_a=True, assume_a="pos")
        scale = -FIXED / np.diag(inverse)

        def of_rows(rows: slice) -> Ints:
            steps: Ints = np.rint(inverse[rows] * scale).astype(np.int64)  # of an item for itself: -FIXED
            return steps

        rows = np.arange(len(items), dtype=np.uint32)
        best = best_of_many(rows, items, of_rows, _STRONGEST, np.full(len(items), FIXED))
        cells = (best["score"].to_numpy(), (items[best["request"].to_numpy()], best["item"].to_numpy()))
        return sparse.csr_matrix(cells, shape=(self._size[1],) * 2)

    def _scores_of(self, user: Ints, as_of_day: int) -> sparse.csr_matrix:
        held = self._histories(as_of_day)[user]
        return sparse.csr_matrix(held @ self._weights(as_of_day // _REFRESH_DAYS * _REFRESH_DAYS))

    def _histories_before(self, day: int) -> sparse.csr_matrix:
        """CSR (users, items), float64, in steps of 1/1024."""
        known = self._day < day
        weight = self._n[known] * decay_weights(_HALF_LIFE_DAYS)[day - self._day[known]]
        held = sparse.csr_matrix((weight, (self._user[known], self._item[known])), shape=self._size)
        held.data = np.minimum(held.data, FIXED) * _GRID // FIXED / _GRID
        held.eliminate_zeros()
        return held
