"""The EASE score of an item for the user's history."""

import numpy as np

from features.log.event_log import EventLog
from features.signals.cache import AsOfCache, cells_of
from features.signals.ease import Ease
from features.signals.family import Family, Plan, Rows, Values

__all__ = ["HistoryEase"]


class HistoryEase(Family):
    """The item's score by the user's history under `features.signals.ease`.

    0 where nothing of the history speaks for the item.
    """

    name = "ease"
    keys = ("user", "item")
    reads = ("user", "item", "gain", "day")
    null_policy = "0 where nothing of the history speaks for the item"
    columns = {"pair_ease": "what the user's history says of the item, by its ridge regression on all others (EASE)"}

    def __init__(self, log: EventLog, plan: Plan) -> None:  # noqa: ARG002 - one signature
        self._cache = AsOfCache(log)

    def compute(self, rows: Rows) -> Values:
        """See `Family`."""
        values = np.zeros(len(rows))
        for day in np.unique(rows.as_of_day).tolist():
            of_day = np.flatnonzero(rows.as_of_day == day)
            user, row = np.unique(rows.user[of_day], return_inverse=True)
            values[of_day] = cells_of(self._cache.rows(Ease(), user, day), row, rows.item[of_day])
        return {"pair_ease": values}
