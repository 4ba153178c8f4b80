"""Users alike and what they engaged with lately: collaborative filtering by users (Resnick et al. 1994) as of any day.

Two users are alike as far as they engaged with the same items. Weights are whole numbers, and sums of products exact,
so that a user gets the same neighbours to the last bit beside whomever they are asked.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy import sparse

from features.asof import Floats, Ints
from features.by_day import RowsByDay
from features.decay import FIXED
from features.neighbours import best_of_many
from features.timeline import EventLog

__all__ = ["UserNeighbours"]

_NEIGHBOURS = 400  # of a user
_POOL = 20_000  # users that neighbours are looked for among: those of the latest activity
_GRID = 1024  # weights of items are multiples of 1/1024: sums of their products are exact in float64
_DAYS_HELD = 100  # days whose answers are kept: a portion of requests, or the days of a window, span no more


@dataclass(frozen=True, slots=True)
class _Histories:
    """What users had engaged with before a day.

    Attributes:
        weight: CSR (users, items): of each of their items.
        norm: (users,) length of each row, 1 for an empty one.
        pool: (P,) users that neighbours are looked for among, ascending.
    """

    weight: sparse.csr_matrix
    norm: Floats
    pool: Ints


class UserNeighbours:
    """The 400 nearest users of a user, and how many of them had engaged with an item lately.

    The weight of an item in a user's history is ``log(1 + n)`` for n engagements before the day; the similarity of two
    users is the cosine of their histories. Neighbours are looked for among the 20,000 users that were active last (of
    one day, those of the smallest codes).

    Args:
        log: The event log.
    """

    def __init__(self, log: EventLog) -> None:
        self._size = (log.user_ids.len() + 1, log.items.height)  # and nobody, as the list for unknown users asks
        events = log.engagements.cast(pl.Int64)  # by (user, item, day)
        self._user, self._item, self._day, self._n = (events[name].to_numpy() for name in ("user", "item", "day", "n"))
        self._by_day = np.argsort(self._day, kind="stable")
        self._found = RowsByDay(self._nearest, days=_DAYS_HELD)
        self._histories = lru_cache(maxsize=1)(self._histories_before)

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
        edges = [as_of_day - window for window in (*reversed(windows), 0)]
        first, *ends = np.searchsorted(self._day, edges, sorter=self._by_day)
        rows = self._by_day[first : ends[-1]][::-1]
        _, last = np.unique(self._user[rows] * self._size[1] + self._item[rows], return_index=True)
        last = rows[last]
        narrowest = len(windows) - np.searchsorted(edges, self._day[last], side="right")
        found = []
        for place in range(len(windows)):
            cells = last[narrowest == place]
            held = sparse.csr_matrix(
                (np.ones(len(cells), np.int64), (self._user[cells], self._item[cells])), shape=self._size
            )
            found.append(sparse.csr_matrix(weights @ held))
        return found

    def _nearest(self, user: Ints, as_of_day: int) -> sparse.csr_matrix:
        histories = self._histories(as_of_day)
        pool = histories.pool
        if not len(pool):
            return sparse.csr_matrix((len(user), self._size[0]), dtype=np.int64)
        others, norm = histories.weight[pool].T.tocsr(), histories.norm[pool]

        def similarities(rows: slice) -> Ints:
            mine = user[rows]
            dots = (histories.weight[mine] @ others).toarray()
            cosine = dots / (histories.norm[mine][:, None] * norm)
            cosine[mine[:, None] == pool] = 0.0
            found: Ints = np.rint(cosine * FIXED).astype(np.int64)
            return found

        asked = np.arange(len(user), dtype=np.uint32)
        near = best_of_many(asked, pool, similarities, _NEIGHBOURS, np.ones(len(user), np.int64))
        cells = (near["score"].to_numpy().astype(np.int64), (near["request"].to_numpy(), near["item"].to_numpy()))
        return sparse.csr_matrix(cells, shape=(len(user), self._size[0]))

    def _histories_before(self, as_of_day: int) -> _Histories:
        known = self._day < as_of_day
        user, item = self._user[known], self._item[known]
        count = sparse.csr_matrix((self._n[known].astype(np.float64), (user, item)), shape=self._size)
        count.sort_indices()
        active = np.diff(count.indptr) > 0
        weight = count
        weight.data = np.rint(np.log1p(count.data) * _GRID) / _GRID
        norm = np.sqrt(np.asarray(weight.multiply(weight).sum(axis=1)).ravel())
        return _Histories(weight, np.where(norm > 0, norm, 1.0), self._latest(user, self._day[known], active))

    def _latest(self, user: Ints, day: Ints, active: npt.NDArray[np.bool_]) -> Ints:
        """The users of the latest activity, by code."""
        there = np.flatnonzero(active)
        if len(there) <= _POOL:
            return there
        last = np.zeros(len(active), np.int64)
        np.maximum.at(last, user, day)
        return np.sort(there[np.lexsort((there, -last[there]))[:_POOL]])
