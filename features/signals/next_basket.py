"""What follows the items of a user's last active day."""

from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy import sparse

from features.log.decay import FIXED
from features.log.event_log import EventLog
from features.log.history import History
from features.signals.base import Signal
from features.signals.generator import Generator
from features.signals.similarity import reached, shrunk_cosine

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
        done, n_items = log.history, log.items.height
        return shrunk_cosine((_transitions(done, part, fit_day, n_items) for part in done.done.slices()), itself=True)


def _transitions(done: History, part: slice, fit_day: int, n_items: int) -> tuple[sparse.csr_matrix, sparse.csr_matrix]:
    """(N, items) ones: the active days before a day of some users that have a next one, and those next ones.

    Args:
        done: The engagements of all users.
        part: Slice of the engagements of some users.
        fit_day: The day.
        n_items: Items of the catalogue.
    """
    item, day, _ = done.taken(part)
    before = day < fit_day
    user = done.done.user[part][before]  # NOTE: users stand in the same order, and each at the same positions
    item, day = item[before], day[before]
    first = np.ones(len(user), np.bool_)
    first[1:] = (user[1:] != user[:-1]) | (day[1:] != day[:-1])
    begins, owner = np.flatnonzero(first), user[first]
    cells = (np.ones(len(item), np.int32), item.astype(np.int32), np.append(begins, len(item)))
    baskets = sparse.csr_matrix(cells, shape=(len(begins), n_items))
    former = np.flatnonzero(owner[1:] == owner[:-1])
    return baskets[former], baskets[former + 1]


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
