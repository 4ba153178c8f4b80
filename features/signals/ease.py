"""What a linear autoencoder over items makes of a history, as of any day (EASE: Steck 2019, arXiv 1905.03375).

Each item is predicted by the ridge regression of its own on all other items of a user's history. All regressions come
out of one inverse. Weights are rounded to whole multiples of small steps, and sums of products are exact, so that a
user gets the same scores to the last bit beside whomever they are asked. The inverse itself moves with BLAS and its
threads, far less than by a step.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy import linalg, sparse

from features.asof import Floats, Ints
from features.decay import FIXED, decay_weights
from features.signals.base import UserSignal
from features.signals.generator import Generator, best_of_users
from features.signals.top_k import leaders_of_blocks, top_k
from features.timeline import EventLog

__all__ = ["ByEase", "Ease"]

_RIDGE = 100.0
_ITEMS = 5000  # that it knows, those with most weight: its time grows with their cube
_STRONGEST = 100  # regression weights of an item that are kept
_HALF_LIFE_DAYS = 30.0
_FEW_USERS = 0.5  # as many users an item make the inverse of users' size twice as fast as that of items' size
_GRID = 1024  # histories are cut to 1/1024: sums of their products are exact in float64


@dataclass(frozen=True)
class Ease(UserSignal[sparse.csr_matrix]):
    """Scores of items for users by their histories.

    A history is the decayed count of the user's engagements with each item (half-life 30 days), at most 1. With ``X``
    (users, items) the histories before a day and ``P = (X'X + 100 I)^-1``, item i counts ``-P_ij / P_jj`` for item j.
    It knows the 5,000 items with most weight, ties by code, and keeps the 100 strongest weights of each item that are
    above 0. It is fitted again every seventh day. The fit is CSR (items, items), row = item of the history, in steps of
    1/65536; scores are above 0.
    """

    name = "ease"
    refresh_days = 7
    most_bytes = 3 << 27  # of at most 6 MB each: more weeks than the requests of a block span

    def fit(self, log: EventLog, fit_day: int) -> sparse.csr_matrix:
        """See `Signal`."""
        n_items, places = log.items.height, _remembered(log, fit_day)
        histories = _decayed(log, places, fit_day, row=log.interactions.user[places], rows=log.user_ids.len())
        total = np.asarray(histories.sum(axis=0)).ravel()
        items = np.sort(np.argsort(-total, kind="stable")[: min(_ITEMS, np.count_nonzero(total))])
        if not len(items):
            return sparse.csr_matrix((n_items, n_items))
        inverse = _ridge_inverse(histories[:, items])
        scale = -FIXED / np.diag(inverse)

        def of_rows(rows: slice) -> Ints:
            steps: Ints = np.rint(inverse[rows] * scale).astype(np.int64)  # of an item for itself: -FIXED
            return steps

        best = top_k(leaders_of_blocks(of_rows, _STRONGEST, requests=items, items=items), _STRONGEST)
        cells = (best["score"].to_numpy() / FIXED, (best["request"].to_numpy(), best["item"].to_numpy()))
        return sparse.csr_matrix(cells, shape=(n_items, n_items))

    def scores(self, fitted: sparse.csr_matrix, log: EventLog, user: Ints, day: int) -> sparse.csr_matrix:
        """See `UserSignal`."""
        done = log.interactions
        places, begins = done.of_users(user)
        row = np.repeat(np.arange(len(user)), np.diff(begins))
        before = done.day[places] < day
        return sparse.csr_matrix(_decayed(log, places[before], day, row=row[before], rows=len(user)) @ fitted)


class ByEase(Generator):
    """What each item's regression on all others makes of the history."""

    name = "ease"
    meaning = "items that the history speaks for, by each item's ridge regression on all others (EASE)"

    def propose(self, requests: pl.DataFrame, history: pl.DataFrame) -> pl.DataFrame:  # noqa: ARG002 - one signature
        """Items inside and outside the history, by the score of `Ease`."""
        return best_of_users(requests, lambda user, day: self.inputs.cache.rows(Ease(), user, day), self.most)


def _remembered(log: EventLog, day: int) -> Ints:
    """Places of the pairs of which a day's histories may hold something; of the others too little is left.

    That is sure where all engagements of a pair, had they been as late as its last before the day, weigh less than a
    step.
    """
    done, (pair, pair_n) = log.interactions, log.shared(_pairs)
    before = np.flatnonzero(done.day < day)
    of = pair[before]
    most = pair_n[of] * decay_weights(_HALF_LIFE_DAYS)[day - done.day[before]]
    left = np.zeros(len(pair_n), np.bool_)
    left[of[most >= FIXED // _GRID]] = True
    return before[left[of]]


def _pairs(log: EventLog) -> tuple[npt.NDArray[np.int32], Ints]:
    """A number of the pair of user and item at each place, ascending, and the engagements of each pair."""
    done = log.interactions
    first = np.flatnonzero(done.is_first)
    pair: npt.NDArray[np.int32] = np.cumsum(done.is_first, dtype=np.int32) - np.int32(1)
    return pair, np.add.reduceat(done.n, first) if len(first) else done.n


def _decayed(log: EventLog, places: Ints, day: int, *, row: npt.NDArray[np.integer], rows: int) -> sparse.csr_matrix:
    """CSR (rows, items), float64, in steps of 1/1024: histories as of a day of what stands at some places."""
    done = log.interactions
    weight = done.n[places] * decay_weights(_HALF_LIFE_DAYS)[day - done.day[places]]
    histories = sparse.csr_matrix((weight, (row, done.item[places])), shape=(rows, log.items.height))
    histories.data = np.minimum(histories.data, FIXED) * _GRID // FIXED / _GRID
    histories.eliminate_zeros()
    return histories


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
