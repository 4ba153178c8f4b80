"""The nearest users of a user and their recent items: user-based collaborative filtering (Resnick et al. 1994).

Two users are similar as far as they engaged with the same items. Weights are whole numbers and sums of products exact,
so that a user's neighbours do not depend, to the last bit, on the other users of a batch.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy import sparse

from features.log.asof import Floats, Ints
from features.log.decay import FIXED
from features.log.event_log import EventLog
from features.signals.base import Signal, UserSignal
from features.signals.cache import AsOfCache
from features.signals.generator import Generator, best_of_users
from features.signals.top_k import NO_SCORES, leaders, top_k

__all__ = ["LatelyEngaged", "NearestUsers", "SimilarUsers", "engaged_lately"]

_NEIGHBOURS = 400  # of a user
_POOL = 20_000  # users that neighbours are looked for among: those of the latest activity
_GRID = 1024  # weights of items are multiples of 1/1024: sums of their products are exact in float64
_NO_DAY = 1 << 17  # after all days
_NOT_POOLED = -1
_ROWS = 500  # users whose similarities to the pool are in memory at a time


class _Pool(NamedTuple):
    """Users that neighbours are looked for among.

    Attributes:
        users: (P,) codes, ascending.
        weight: CSR (items, P): of each item in each one's history before the day.
        norm: (P,) length of each one's history.
    """

    users: Ints
    weight: sparse.csr_matrix
    norm: Floats


@dataclass(frozen=True)
class NearestUsers(UserSignal[_Pool]):
    """The 400 nearest users of a user: CSR (N, pool), int64, similarities in multiples of 1/65536, above 0.

    The weight of an item in a user's history is ``log(1 + n)`` for n engagements before the day; the similarity of two
    users is the cosine of their histories. Neighbours are looked for among the 20,000 users that were active last (of
    one day, those of the smallest codes).

    Only what the pool and the users themselves did is read, and similarities are made where two users share an item.
    """

    name = "nearest_users"

    def fit(self, log: EventLog, fit_day: int) -> _Pool:
        """See `Signal`."""
        users = _latest(log, fit_day)
        weight, norm = _histories(log, users, fit_day)
        return _Pool(users, sparse.csr_matrix(weight.T), norm)

    def scores(self, fitted: _Pool, log: EventLog, user: Ints, day: int) -> sparse.csr_matrix:
        """See `UserSignal`."""
        mine, norm = _histories(log, user, day)
        parts = [NO_SCORES]
        for start in range(0, len(user), _ROWS):
            rows = slice(start, start + _ROWS)
            alike = sparse.csr_matrix(mine[rows] @ fitted.weight)
            row = np.repeat(np.arange(start, start + alike.shape[0]), np.diff(alike.indptr))
            cosine = alike.data / (norm[row] * fitted.norm[alike.indices])
            cosine[fitted.users[alike.indices] == user[row]] = 0.0
            alike.data = np.rint(cosine * FIXED)
            alike.eliminate_zeros()
            parts.append(leaders(alike, _NEIGHBOURS, requests=np.arange(start, start + alike.shape[0])))
        best = top_k(pl.concat(parts), _NEIGHBOURS)
        row, column, value = (best[name].to_numpy() for name in ("request", "item", "score"))
        return sparse.csr_matrix((value.astype(np.int64), (row, column)), shape=(len(user), len(fitted.users)))


@dataclass(frozen=True)
class LatelyEngaged(Signal[tuple[sparse.csr_matrix, ...]]):
    """What each user of the pool engaged with, by when they did last: for each window, CSR (pool, items) of ones.

    A pair of user and item stands in the narrowest window that its last engagement lies in.

    Attributes:
        windows: Days that they look back, ascending.
    """

    windows: tuple[int, ...]
    name = "lately_engaged"

    def fit(self, log: EventLog, fit_day: int) -> tuple[sparse.csr_matrix, ...]:
        """See `Signal`."""
        done, users = log.interactions, AsOfCache(log).fitted(NearestUsers(), fit_day).users
        row_of = np.full(_n_users(log), _NOT_POOLED)
        row_of[users] = np.arange(len(users))
        edges = np.array([fit_day - window for window in (*reversed(self.windows), 0)])
        positions = done.between(int(edges[0]), fit_day)
        positions = np.sort(positions[row_of[done.user[positions]] != _NOT_POOLED])  # by user, item and day
        row, item, day = row_of[done.user[positions]], done.item[positions], done.day[positions]
        last = np.ones(len(positions), np.bool_)
        last[:-1] = (row[1:] != row[:-1]) | (item[1:] != item[:-1])
        row, item = row[last], item[last]
        narrowest = len(self.windows) - np.searchsorted(edges, day[last], side="right")
        shape, of_window = (len(users), log.items.height), []
        for number in range(len(self.windows)):
            cells = row[narrowest == number], item[narrowest == number]
            of_window.append(sparse.csr_matrix((np.ones(len(cells[0]), np.int64), cells), shape=shape))
        return tuple(of_window)


def engaged_lately(
    cache: AsOfCache, weights: sparse.csr_matrix, day: int, windows: tuple[int, ...]
) -> list[sparse.csr_matrix]:
    """The neighbours that engaged with each item, by when they did last.

    Args:
        cache: Of the log.
        weights: Rows of `NearestUsers`.
        day: What happened before it counts.
        windows: See `LatelyEngaged`.

    Returns:
        For each window, CSR (N, items), int64, indices in no order: the summed weight of the neighbours whose last
        engagement lies in it, and in no narrower one.
    """
    return [sparse.csr_matrix(weights @ engaged) for engaged in cache.fitted(LatelyEngaged(windows), day)]


class SimilarUsers(Generator):
    """What users alike engaged with lately."""

    name = "similar_users"
    meaning = "items that the nearest users engaged with in the popular window, by their summed similarity"

    def propose(self, requests: pl.DataFrame, history: pl.DataFrame) -> pl.DataFrame:  # noqa: ARG002 - one signature
        """Items inside and outside the history, by the share of the neighbours' summed similarity."""
        return best_of_users(requests, self._shares, self.most)

    def _shares(self, user: Ints, day: int) -> sparse.csr_matrix:
        cache = self.inputs.cache
        weights = cache.rows(NearestUsers(), user, day)
        (shares,) = engaged_lately(cache, weights, day, (self.inputs.config.popular_days,))
        total = np.maximum(np.asarray(weights.sum(axis=1)).ravel(), 1)
        shares.data = shares.data / np.repeat(total, np.diff(shares.indptr))
        return shares


def _histories(log: EventLog, users: Ints, day: int) -> tuple[sparse.csr_matrix, Floats]:
    """CSR (users, items) of the weight of each item in each history before a day, and the length of each history.

    The length of an empty history is 1.
    """
    done = log.interactions
    positions, begins = done.of_users(users)
    row = np.repeat(np.arange(len(users)), np.diff(begins))
    before = done.day[positions] < day
    positions, row = positions[before], row[before]
    cells = (done.n[positions].astype(np.float64), (row, done.item[positions]))
    weight = sparse.csr_matrix(cells, shape=(len(users), log.items.height))  # of several days, the sum
    weight.data = np.rint(np.log1p(weight.data) * _GRID) / _GRID
    norm = np.sqrt(np.asarray(weight.multiply(weight).sum(axis=1)).ravel())
    return weight, np.where(norm > 0, norm, 1.0)


def _latest(log: EventLog, before_day: int) -> Ints:
    """The users of the latest activity before a day, by code: day by day backwards until they are enough."""
    active = np.flatnonzero(log.shared(_first_days) < before_day)
    if len(active) <= _POOL:
        return active
    done, chosen, count, day = log.interactions, np.zeros(_n_users(log), np.bool_), 0, before_day
    while count < _POOL:
        day -= 1
        of_day = np.unique(done.user[done.between(day, day + 1)])
        new = of_day[~chosen[of_day]][: _POOL - count]
        chosen[new] = True
        count += len(new)
    return np.flatnonzero(chosen)


def _first_days(log: EventLog) -> npt.NDArray[np.int32]:
    """Day of the first engagement of each user, one after all days where there is none."""
    first = np.full(_n_users(log), _NO_DAY, np.int32)
    np.minimum.at(first, log.interactions.user, log.interactions.day)
    return first


def _n_users(log: EventLog) -> int:
    return log.user_ids.len() + 1  # and one for unknown users, who did nothing
