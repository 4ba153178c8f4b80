"""Items that the same users engage with."""

from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy import sparse

from features.config import CandidatesConfig
from features.log.asof import DAY_BITS, DAY_MASK
from features.log.event_log import EventLog
from features.log.interactions import Interactions
from features.signals.base import Signal
from features.signals.generator import Generator, recent_items
from features.signals.similarity import reached, shrunk_cosine

__all__ = ["CoVisitation", "CoVisited"]


@dataclass(frozen=True)
class CoVisitation(Signal[sparse.csr_matrix]):
    """Cosine of two items' users before a day, shrunk (Sarwar et al. 2001; Deshpande & Karypis 2004).

    ``c_ij / (sqrt(c_ii c_jj) + 10)`` where ``c_ij`` counts users with both among their last `history_items` items;
    pairs of fewer than two users are left out. The fit is CSR (items, items), at most 100 a row, with no diagonal.

    Attributes:
        history_items: Latest items of a user that count.
        refresh_days: See `Signal`.
    """

    history_items: int
    refresh_days: int
    name = "co_visitation"

    @classmethod
    def of(cls, config: CandidatesConfig) -> "CoVisitation":
        """As candidates are configured."""
        return cls(config.history_items, config.refresh_days)

    def fit(self, log: EventLog, fit_day: int) -> sparse.csr_matrix:
        """See `Signal`."""
        used = (self._latest(part, fit_day, log.items.height) for part in log.interactions.parts())
        return shrunk_cosine(((part, part) for part in used), itself=False)

    def _latest(self, done: Interactions, fit_day: int, n_items: int) -> sparse.csr_matrix:
        """(users, items) ones: each user's latest items before a day, of one day those of lower code first.

        Args:
            done: All interactions of some users; users without any before the day have no row.
            fit_day: The day.
            n_items: Items of the catalogue.
        """
        before = np.flatnonzero(done.day < fit_day)
        user, item, day = done.user[before], done.item[before], done.day[before]
        last = np.ones(len(before), np.bool_)
        last[:-1] = (user[1:] != user[:-1]) | (item[1:] != item[:-1])
        user, item, day = user[last], item[last], day[last]
        order = np.argsort(user.astype(np.int64) << DAY_BITS | (DAY_MASK - day), kind="stable")
        user, item = user[order], item[order]
        latest = np.arange(len(user)) - np.searchsorted(user, user) < self.history_items
        user, item = user[latest], item[latest]
        begins = np.flatnonzero(np.diff(user.astype(np.int64), prepend=-1))
        cells = (np.ones(len(item), np.int32), item.astype(np.int32), np.append(begins, len(item)))
        return sparse.csr_matrix(cells, shape=(len(begins), n_items))


class CoVisited(Generator):
    """Neighbours by co-occurrence, as they stood at the last refresh at or before each request's day."""

    name = "co_visited"
    meaning = "neighbours of the history: items that the same users engage with"

    def propose(self, requests: pl.DataFrame, history: pl.DataFrame) -> pl.DataFrame:  # noqa: ARG002 - one signature
        """Items outside the history, by the sum of weight times similarity."""
        config = self.inputs.config
        recent = recent_items(history, config.history_items)
        return reached(self.inputs.cache, CoVisitation.of(config), recent, self.most)
