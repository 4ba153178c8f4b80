"""The candidate against what the user searched for last."""

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy import sparse

from features.asof import Floats, Ints, before, stamps_of
from features.families.base import Columns, Family, Plan, Rows, Values, known
from features.families.lexical import BM25_B, BM25_K1
from features.families.tokens import Tokens, words_of
from features.timeline import EventLog

__all__ = ["QueryMatch"]


class QueryMatch(Family):
    """BM25 of the candidate for the user's latest query before the as-of, and how long ago that was.

    Of several queries of the last day with one, the latest by timestamp counts, ties by the query's text. A request of
    the batch has no query of its own.
    """

    name = "text_query"
    keys = ("user", "item")
    reads = ("user", "day", "timestamp", "events.query")
    is_text = True
    columns = {
        "text_bm25_query": "BM25 of the item for the user's latest query",
        "text_days_since_query": "days since the user's latest query",
    }

    def __init__(self, log: EventLog, plan: Plan) -> None:
        tokens = Tokens.of(words_of(log.items, plan.supply.text), log.items.height, most=plan.config.max_words)
        asked = log.events.filter(pl.col("query").is_not_null()).sort("user", "day", "timestamp", "query")
        last = asked.group_by("user", "day", maintain_order=True).agg(pl.col("query").last()).with_row_index("item")
        self._day = last["day"].cast(pl.Int64).to_numpy()
        self._stamps = stamps_of(last["user"].cast(pl.Int64).to_numpy(), self._day)
        self._scores = self._weighted(tokens)
        self._words = _coded(words_of(last, ("query",)), tokens, last.height)

    @classmethod
    def columns_of(cls, plan: Plan) -> Columns:
        """See `Family`."""
        return super().columns_of(plan) if plan.supply.text else {}

    def compute(self, rows: Rows) -> Values:
        """See `Family`."""
        users, of_row = rows.distinct(("user",))
        end = before(self._stamps, users.user, users.as_of_day)
        has = end > before(self._stamps, users.user, np.zeros_like(users.user))
        place = np.where(has, end - 1, 0)
        since = known(np.where(has, users.as_of_day - self._day[place] if len(self._day) else 0, -1))
        scores = self._bm25(rows.item, place[of_row], has[of_row])
        return {"text_bm25_query": scores, "text_days_since_query": since[of_row]}

    def _bm25(self, item: Ints, query: Ints, has: npt.NDArray[np.bool_]) -> Floats:
        """Sum over the words that query and item share, in the order of word codes; NaN without a query."""
        scores = np.full(len(item), np.nan)
        if has.any():
            shared = self._scores[item[has]].multiply(self._words[query[has]])
            scores[has] = np.asarray(shared.sum(axis=1)).ravel()
        return scores

    @staticmethod
    def _weighted(tokens: Tokens) -> sparse.csr_matrix:
        """CSR (items, tokens): BM25 of each item for each of its words."""
        lengths = tokens.counts / max(tokens.counts.mean(), 1e-9)
        saturation = (BM25_K1 + 1) / (1 + BM25_K1 * (1 - BM25_B + BM25_B * lengths))
        return sparse.csr_matrix(sparse.diags(saturation) @ tokens.matrix @ sparse.diags(tokens.idf()))


def _coded(words: pl.DataFrame, tokens: Tokens, count: int) -> sparse.csr_matrix:
    """CSR (queries, tokens) of ones."""
    codes = tokens.vocabulary.to_frame("token").with_row_index("place")
    found = words.unique().join(codes, on="token")
    places = (found["item"].to_numpy(), found["place"].to_numpy())
    matrix = sparse.csr_matrix((np.ones(found.height), places), shape=(count, len(tokens.vocabulary)))
    matrix.sort_indices()
    return matrix
