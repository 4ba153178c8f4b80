"""How many of the nearest users engaged with the item lately."""

import numpy as np

from features.log.event_log import EventLog
from features.signals.cache import AsOfCache, cells_of
from features.signals.family import Family, Plan, Rows, Values, ratio
from features.signals.similar_users import NearestUsers, engaged_lately

__all__ = ["SimilarUsers"]


class SimilarUsers(Family):
    """How many of the user's nearest neighbours engaged with the item, each counting as far as they are alike.

    NaN for a user without neighbours: one without history, or whose items nobody else has.
    """

    name = "similar_users"
    keys = ("user", "item")
    reads = ("user", "item", "gain", "day")
    windows = (3, 7, 28, 90)
    columns = {
        f"similar_users_{days}d": f"share of the nearest users, by similarity, who engaged with it, last {days} days"
        for days in windows
    }

    def __init__(self, log: EventLog, plan: Plan) -> None:  # noqa: ARG002 - one signature
        self._cache = AsOfCache(log)

    def compute(self, rows: Rows) -> Values:
        """See `Family`."""
        values = {name: np.full(len(rows), np.nan) for name in self.columns}
        for day in np.unique(rows.as_of_day).tolist():
            of_day = np.flatnonzero(rows.as_of_day == day)
            user, row = np.unique(rows.user[of_day], return_inverse=True)
            weights = self._cache.rows(NearestUsers(), user, day)
            total = np.asarray(weights.sum(axis=1)).ravel()[row]
            engaged = np.zeros(len(of_day))
            for name, weight_sums in zip(values, engaged_lately(self._cache, weights, day, self.windows), strict=True):
                engaged += cells_of(weight_sums, row, rows.item[of_day])
                values[name][of_day] = ratio(engaged, total)
        return values
