"""How well the candidate's words match the user's search query."""

import numpy as np

from features.log.event_log import EventLog
from features.signals.cache import AsOfCache
from features.signals.family import Columns, Family, Plan, Rows, Values, days_or_nan
from features.signals.queries import Queries

__all__ = ["QueryMatch"]


class QueryMatch(Family):
    """BM25 of the candidate for the user's query, and how long ago that was made; NaN without a query.

    In online mode a request's own query counts where it has one. Else, and always in batch mode, it is the user's
    latest before the as-of: of several of the last day with one, the latest by timestamp, ties by the query's text.
    """

    name = "text_query"
    keys: tuple[str, ...] = ("user", "item")
    reads = ("user", "day", "timestamp", "events.query")
    is_text = True
    columns = {
        "text_bm25_query": "BM25 of the item for the user's query: the request's own, if known, else the latest",
        "text_days_since_query": "days since that query",
    }

    def __init__(self, log: EventLog, plan: Plan) -> None:
        self.keys = ("request", "user", "item") if plan.online else ("user", "item")
        signal = Queries(plan.inventory.text, plan.config.max_words, plan.online)
        self._queries = AsOfCache(log).fitted(signal, log.end_day)

    @classmethod
    def columns_of(cls, plan: Plan) -> Columns:
        """See `Family`."""
        return super().columns_of(plan) if plan.inventory.text else {}

    def compute(self, rows: Rows) -> Values:
        """See `Family`."""
        askers, of_row = rows.distinct(self.keys[:-1])
        queries = self._queries.queries_of(
            askers.user, askers.as_of_day, None if askers.request_context is None else askers.request_context["query"]
        )
        query = queries.row[of_row]
        has = query >= 0
        scores = np.full(len(rows), np.nan)
        if has.any():
            shared = self._queries.scores[rows.item[has]].multiply(queries.words[query[has]])
            scores[has] = np.asarray(shared.sum(axis=1)).ravel()
        return {"text_bm25_query": scores, "text_days_since_query": days_or_nan(queries.days_since)[of_row]}
