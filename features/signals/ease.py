"""EASE, a linear autoencoder over items, as of any day (EASE: Steck 2019, arXiv 1905.03375).

Each item is predicted by the ridge regression of its own on all other items of a user's history. All regressions come
out of one inverse. Weights are rounded to whole multiples of small steps, and sums of products are exact, so that a
user's scores do not depend, to the last bit, on the other users of a batch. The inverse itself moves with BLAS and its
threads, far less than by a step.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy import linalg, sparse

from features.log.asof import Floats, Ints
from features.log.decay import FIXED, decay_weights
from features.log.event_log import EventLog
from features.log.interactions import Interactions
from features.signals.base import UserSignal
from features.signals.generator import Generator, best_of_users
from features.signals.top_k import leaders_of_blocks, top_k

__all__ = ["MOST_ITEMS", "ByEase", "Ease"]

MOST_ITEMS = 5000
"""Items that are modelled, those with most weight: its time grows with their cube, its memory with their square."""

_RIDGE = 100.0
_STRONGEST = 100  # regression weights of an item that are kept
_HALF_LIFE_DAYS = 30.0
_FEW_USERS = 0.5  # as many users an item make the inverse of users' size twice as fast as that of items' size
_GRID = 1024  # histories are cut to 1/1024: sums of their products are exact in float64


@dataclass(frozen=True)
class Ease(UserSignal[sparse.csr_matrix]):
    """Scores of items for users by their histories.

    A history is the decayed count of the user's engagements with each item (half-life 30 days), at most 1. With ``X``
    (users, items) the histories before a day and ``P = (X'X + 100 I)^-1``, item i counts ``-P_ij / P_jj`` for item j.
    It models the 5,000 items with most weight, ties by code, and keeps the 100 strongest weights of each item that are
    above 0. It is fitted again every seventh day. The fit is CSR (items, items), row = item of the history, in steps of
    1/65536; scores are above 0.
    """

    name = "ease"
    refresh_days = 7
    most_bytes = 3 << 27  # of at most 6 MB each: more weeks than the requests of a block span

    def fit(self, log: EventLog, fit_day: int) -> sparse.csr_matrix:
        """See `Signal`."""
        n_items = log.items.height
        total = sum(np.asarray(part.sum(axis=0)).ravel() for part in _histories(log, fit_day))
        items = np.sort(np.argsort(-total, kind="stable")[: min(MOST_ITEMS, np.count_nonzero(total))])
        if not len(items):
            return sparse.csr_matrix((n_items, n_items))
        inverse = _ridge_inverse((part[:, items] for part in _histories(log, fit_day)), len(items))
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
        positions, begins = done.of_users(user)
        row = np.repeat(np.arange(len(user)), np.diff(begins))
        before = done.day[positions] < day
        row, positions = row[before], positions[before]
        return sparse.csr_matrix(_decayed(done, positions, day, row=row, shape=(len(user), log.items.height)) @ fitted)


class ByEase(Generator):
    """What each item's regression on all others makes of the history."""

    name = "ease"
    meaning = "items that the history speaks for, by each item's ridge regression on all others (EASE)"

    def propose(self, requests: pl.DataFrame, history: pl.DataFrame) -> pl.DataFrame:  # noqa: ARG002 - one signature
        """Items inside and outside the history, by the score of `Ease`."""
        return best_of_users(requests, lambda user, day: self.inputs.cache.rows(Ease(), user, day), self.most)


def _histories(log: EventLog, day: int) -> Iterator[sparse.csr_matrix]:
    """CSR (users, items) of some users at a time: histories before a day, with or without users who have none."""
    for part in log.interactions.parts():
        positions = _remembered(part, day)
        users = part.user[positions].astype(np.int64)
        row = users - (users[0] if len(users) else 0)
        shape = int(row[-1]) + 1 if len(row) else 0, log.items.height
        yield _decayed(part, positions, day, row=row, shape=shape)


def _remembered(done: Interactions, day: int) -> Ints:
    """Positions of the pairs that may have a weight in a day's histories; the others have decayed below a step.

    That is sure where all engagements of a pair, had they been as late as its last before the day, weigh less than a
    step.

    Args:
        done: All interactions of some users.
        day: The day.
    """
    before = np.flatnonzero(done.day < day)
    if not len(before):
        return before
    pair = np.cumsum(done.is_first) - 1
    pair_n = np.add.reduceat(done.n, np.flatnonzero(done.is_first), dtype=np.int64)
    of = pair[before]
    most = pair_n[of] * decay_weights(_HALF_LIFE_DAYS)[day - done.day[before]]
    left = np.zeros(len(pair_n), np.bool_)
    left[of[most >= FIXED // _GRID]] = True
    positions: Ints = before[left[of]]
    return positions


def _decayed(
    done: Interactions, positions: Ints, day: int, *, row: npt.NDArray[np.integer], shape: tuple[int, int]
) -> sparse.csr_matrix:
    """Histories as of a day, of the interactions at some positions: CSR (rows, items), float64, steps of 1/1024."""
    weight = done.n[positions] * decay_weights(_HALF_LIFE_DAYS)[day - done.day[positions]]
    histories = sparse.csr_matrix((weight, (row, done.item[positions])), shape=shape)
    histories.data = np.minimum(histories.data, FIXED) * _GRID // FIXED / _GRID
    histories.eliminate_zeros()
    return histories


def _ridge_inverse(parts: Iterable[sparse.csr_matrix], n_items: int) -> Floats:
    """``(X'X + 100 I)^-1``, (items, items), of the rows of X some at a time, CSR (users, items).

    Where far fewer users than items have a history, it is made of the smaller matrix of users (Woodbury's identity):
    ``(I - X' (X X' + 100 I)^-1 X) / 100``.
    """
    few: list[sparse.csr_matrix] = []
    users, gram = 0, np.zeros((0, 0))
    for part in parts:
        few.append(part[np.diff(part.indptr) > 0])
        users += few[-1].shape[0]
        if users >= _FEW_USERS * n_items:
            for X in few:
                product = (X.T @ X).toarray()
                gram = gram + product if len(gram) else product
            few = []
    if not len(gram):
        X = sparse.vstack(few, format="csr")
        gram = (X @ X.T).toarray()
        gram[np.diag_indices_from(gram)] += _RIDGE
        inverse = X.T @ linalg.solve(gram, X.toarray(), overwrite_a=True, overwrite_b=True, assume_a="pos")
        inverse *= -1 / _RIDGE
        inverse[np.diag_indices_from(inverse)] += 1 / _RIDGE
        return np.asarray(inverse)
    gram[np.diag_indices_from(gram)] += _RIDGE
    return np.asarray(linalg.inv(gram, overwrite_a=True, assume_a="pos"))
