"""Users alike and what they engaged with lately: collaborative filtering by users (Resnick et al. 1994) as of any day.

Two users are alike as far as they engaged with the same items. Weights are whole numbers, and sums of products exact,
so that a user gets the same neighbours to the last bit beside whomever they are asked.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import sparse

from features.asof import Floats, Ints
from features.by_day import RowsByDay
from features.decay import FIXED
from features.neighbours import best_of_rows
from features.timeline import EventLog

__all__ = ["UserNeighbours"]

_NEIGHBOURS = 400  # of a user
_POOL = 20_000  # users that neighbours are looked for among: those of the latest activity
_GRID = 1024  # weights of items are multiples of 1/1024: sums of their products are exact in float64
_NO_DAY = 1 << 17  # after all days
_ROWS = 500  # users whose similarities to the pool are held at a time
_DAYS_HELD = 2  # days whose pool is kept: a portion of requests goes from day to day
_WINDOWS_HELD = 4  # of a day, or of two: what asks for windows asks for all of a day's users


@dataclass(frozen=True, slots=True)
class _Pool:
    """Users that neighbours are looked for among.

    Attributes:
        users: (P,) codes, ascending.
        weight: CSR (items, P): of each item in each one's history before the day.
        norm: (P,) length of each one's history.
    """

    users: Ints
    weight: sparse.csr_matrix
    norm: Floats


class UserNeighbours:
    """The 400 nearest users of a user, and how many of them had engaged with an item lately.

    The weight of an item in a user's history is ``log(1 + n)`` for n engagements before the day; the similarity of two
    users is the cosine of their histories. Neighbours are looked for among the 20,000 users that were active last (of
    one day, those of the smallest codes).

    Only what the pool and the asked users did is read, and similarities are made where two users share an item.

    Args:
        log: The event log.
    """

    def __init__(self, log: EventLog) -> None:
        self._size = (log.user_ids.len() + 1, log.items.height)  # and nobody, as the list for unknown users asks
        self._done = log.interactions
        self._first_day = np.full(self._size[0], _NO_DAY, np.int32)
        np.minimum.at(self._first_day, self._done.user, self._done.day)
        self._found = RowsByDay(self._nearest)
        self._pool = lru_cache(maxsize=_DAYS_HELD)(self._pool_on)
        self._engaged = lru_cache(maxsize=_WINDOWS_HELD)(self._engaged_on)

    def weights(self, user: Ints, as_of_day: int) -> sparse.csr_matrix:
        """Neighbours of users as of a day.

        Args:
            user: (N,) codes, ascending, each once.
            as_of_day: What happened before it counts.

        Returns:
            CSR (N, users), int64: the similarity of each neighbour in whole multiples of 1/65536, above 0; a user
            without history has none.
        """
        return self._found.of(user, as_of_day)

    def engaged(self, weights: sparse.csr_matrix, as_of_day: int, windows: Sequence[int]) -> list[sparse.csr_matrix]:
        """The neighbours that engaged with each item, by when they did last.

        Args:
            weights: Of the neighbours, by `weights`.
            as_of_day: What happened before it counts.
            windows: Days that they look back, ascending.

        Returns:
            For each window, CSR (N, items), int64, indices in no order: the summed weight of the neighbours whose last
            engagement lies in it, and in no narrower one.
        """
        return [sparse.csr_matrix(weights @ held) for held in self._engaged(as_of_day, tuple(windows))]

    def _engaged_on(self, as_of_day: int, windows: tuple[int, ...]) -> tuple[sparse.csr_matrix, ...]:
        """For each window, CSR (users, items) of ones: what each of the pool engaged with last in it."""
        edges = np.array([as_of_day - window for window in (*reversed(windows), 0)])
        places = self._done.between(int(edges[0]), as_of_day)
        pooled = np.zeros(self._size[0], np.bool_)
        pooled[self._pool(as_of_day).users] = True
        places = np.sort(places[pooled[self._done.user[places]]])  # by user, item and day
        user, item, day = self._done.user[places], self._done.item[places], self._done.day[places]
        last = np.ones(len(places), np.bool_)
        last[:-1] = (user[1:] != user[:-1]) | (item[1:] != item[:-1])
        user, item = user[last], item[last]
        narrowest = len(windows) - np.searchsorted(edges, day[last], side="right")
        held = []
        for place in range(len(windows)):
            cells = user[narrowest == place], item[narrowest == place]
            held.append(sparse.csr_matrix((np.ones(len(cells[0]), np.int64), cells), shape=self._size))
        return tuple(held)

    def _nearest(self, user: Ints, as_of_day: int) -> sparse.csr_matrix:
        pool = self._pool(as_of_day)
        mine, norm = self._histories(user, as_of_day)
        parts = []
        for start in range(0, len(user), _ROWS):
            rows = slice(start, start + _ROWS)
            alike = sparse.csr_matrix(mine[rows] @ pool.weight)
            row = np.repeat(np.arange(start, start + alike.shape[0]), np.diff(alike.indptr))
            cosine = alike.data / (norm[row] * pool.norm[alike.indices])
            cosine[pool.users[alike.indices] == user[row]] = 0.0
            alike.data = np.rint(cosine * FIXED)
            alike.eliminate_zeros()
            parts.append(best_of_rows(alike, np.arange(start, start + alike.shape[0]), _NEIGHBOURS))
        shape = (len(user), self._size[0])
        if not parts:
            return sparse.csr_matrix(shape, dtype=np.int64)
        row, column, value = (
            np.concatenate([part[name].to_numpy() for part in parts]) for name in ("request", "item", "score")
        )
        return sparse.csr_matrix((value.astype(np.int64), (row, pool.users[column])), shape=shape)

    def _pool_on(self, as_of_day: int) -> _Pool:
        users = self._latest(as_of_day)
        weight, norm = self._histories(users, as_of_day)
        return _Pool(users, sparse.csr_matrix(weight.T), norm)

    def _histories(self, users: Ints, as_of_day: int) -> tuple[sparse.csr_matrix, Floats]:
        """CSR (users, items) of the weight of each item in each history before a day, and the length of each history.

        The length of an empty history is 1.
        """
        places, begins = self._done.of_users(users)
        row = np.repeat(np.arange(len(users)), np.diff(begins))
        known = self._done.day[places] < as_of_day
        places, row = places[known], row[known]
        cells = (self._done.n[places].astype(np.float64), (row, self._done.item[places]))
        weight = sparse.csr_matrix(cells, shape=(len(users), self._size[1]))  # of several days, the sum
        weight.data = np.rint(np.log1p(weight.data) * _GRID) / _GRID
        norm = np.sqrt(np.asarray(weight.multiply(weight).sum(axis=1)).ravel())
        return weight, np.where(norm > 0, norm, 1.0)

    def _latest(self, as_of_day: int) -> Ints:
        """The users of the latest activity before a day, by code: day by day backwards until they are enough."""
        active = np.flatnonzero(self._first_day < as_of_day)
        if len(active) <= _POOL:
            return active
        chosen, held, day = np.zeros(self._size[0], np.bool_), 0, as_of_day
        while held < _POOL:
            day -= 1
            of_day = np.unique(self._done.user[self._done.between(day, day + 1)])
            new = of_day[~chosen[of_day]][: _POOL - held]
            chosen[new] = True
            held += len(new)
        return np.flatnonzero(chosen)
