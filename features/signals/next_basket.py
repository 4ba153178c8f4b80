"""What follows the items of a user's last active day."""

from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy import sparse

from features.asof import DAY_BITS
from features.decay import FIXED
from features.signals.base import Signal
from features.signals.generator import Generator
from features.signals.similarity import reached, shrunk_cosine
from features.timeline import EventLog

__all__ = ["BasketTransitions", "NextBasket"]


@dataclass(frozen=True)
class BasketTransitions(Signal[sparse.csr_matrix]):
    """How often an item of one active day was followed by another (or itself) on the user's next active day.

    ``c_ij / (sqrt(c_i c_j) + 10)``, where ``c_ij`` counts pairs of successive active days of one user with item i on
    the former and item j on the latter, ``c_i`` the former days with i and ``c_j`` the latter days with j (first-order
    transitions: Rendle et al. 2010); pairs seen once are left out. The fit is CSR (items, items), at most 100 a row.

    Attributes:
        refresh_days: See `Signal`.
    """

    refresh_days: int
    name = "basket_transitions"

    def fit(self, log: EventLog, fit_day: int) -> sparse.csr_matrix:
        """See `Signal`."""
        done = log.history
        before = done.day < fit_day
        stamps, item = done.stamps[before], done.item[before]
        first = np.diff(stamps, prepend=-1) != 0
        basket, owner = np.cumsum(first) - 1, stamps[first] >> DAY_BITS
        baskets = sparse.csr_matrix((np.ones(len(item)), (basket, item)), shape=(len(owner), log.items.height))
        former = np.flatnonzero(owner[1:] == owner[:-1])
        return shrunk_cosine(baskets[former], baskets[former + 1], itself=True)


class NextBasket(Generator):
    """Transitions from the user's last active day, as they stood at the last refresh."""

    name = "next_basket"
    meaning = "items that follow those of the user's last active day on others' next one"

    def propose(self, requests: pl.DataFrame, history: pl.DataFrame) -> pl.DataFrame:  # noqa: ARG002 - one signature
        """Items inside and outside the history, by the sum of similarities to the last basket."""
        last = history.filter(pl.col("last_day") == pl.col("last_day").max().over("request"))
        last = last.with_columns(weight=pl.lit(FIXED, pl.Int64))
        signal = BasketTransitions(self.inputs.config.refresh_days)
        return reached(self.inputs.cache, signal, last, self.most, outside=False)
