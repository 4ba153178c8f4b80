"""Search queries of users, and how well each item matches them: BM25 (Robertson & Zaragoza 2009) over words."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import polars as pl
from scipy import sparse

from features.log.asof import DAY_MASK, NEVER, Ints, before, stamps_of
from features.log.event_log import EventLog
from features.signals.base import Signal
from features.signals.tokens import Tokens, words_of

__all__ = ["Queries", "QueryIndex", "RequestQueries"]

# N requests, Q distinct queries, I items, T words of the catalogue


@dataclass(frozen=True, slots=True)
class RequestQueries:
    """The query of each of N requests.

    Attributes:
        words: CSR (Q, T) of ones: the words of each distinct query; a query without a word of the catalogue has none.
        row: (N,) row of each request's query in `words`, -1 where there is none.
        days_since: (N,) days since it was made, 0 for a request's own, `NEVER` where there is none.
    """

    words: sparse.csr_matrix
    row: Ints
    days_since: Ints


class QueryIndex(NamedTuple):
    """The queries of a log, and the words of the catalogue that they are matched with.

    Attributes:
        scores: CSR (I, T), float64: BM25 of each item for each of its words. An item's score for a query is the sum
            over the words that both have, in the order of word codes.
        items_of_words: CSR (T, I): the same by word.
        vocabulary: The words, sorted.
        queries: The latest query of each user and day, by user and day.
        stamps: user << 17 | day of each.
    """

    scores: sparse.csr_matrix
    items_of_words: sparse.csr_matrix
    vocabulary: pl.Series
    queries: pl.Series
    stamps: Ints

    def queries_of(self, user: Ints, as_of_day: Ints, own: pl.Series | None = None) -> RequestQueries:
        """The query of each request: its own; else the user's latest of the days before.

        Of several queries of the last day with one, the latest by timestamp counts, ties by the query's text.

        Args:
            user: (N,) user codes.
            as_of_day: (N,) only queries of days before count.
            own: (N,) the query of the request itself, null where it has none; None in batch mode.
        """
        end = before(self.stamps, user, as_of_day)
        has = end > before(self.stamps, user, np.zeros_like(user))
        last = end[has] - 1
        days_since = np.full(len(user), NEVER, np.int64)
        days_since[has] = as_of_day[has] - (self.stamps[last] & DAY_MASK)
        texts = pl.Series([None] * len(user), dtype=pl.String).scatter(np.flatnonzero(has), self.queries.gather(last))
        if own is not None:
            days_since[own.is_not_null().to_numpy()] = 0
            texts = own.zip_with(own.is_not_null(), texts)
        distinct = texts.drop_nulls().unique().sort().to_frame("query").with_row_index("item")
        rows = texts.to_frame("query").join(distinct, on="query", how="left", maintain_order="left")["item"]
        return RequestQueries(self._coded(distinct), rows.cast(pl.Int64).fill_null(-1).to_numpy(), days_since)

    def _coded(self, queries: pl.DataFrame) -> sparse.csr_matrix:
        """CSR (Q, T) of ones."""
        codes = self.vocabulary.to_frame("token").with_row_index("code")
        words = words_of(queries, ("query",)).unique().join(codes, on="token")
        cells = (words["item"].to_numpy(), words["code"].to_numpy())
        matrix = sparse.csr_matrix((np.ones(words.height), cells), shape=(queries.height, len(self.vocabulary)))
        matrix.sort_indices()
        return matrix


@dataclass(frozen=True)
class Queries(Signal[QueryIndex]):
    """Search queries; one fit answers as of any day, since it looks queries up by their day.

    Attributes:
        text: Text fields of the catalogue.
        max_words: Distinct words kept, those of most items.
        online: Whether requests are ranked at request time, with a query of their own.
    """

    text: tuple[str, ...]
    max_words: int
    online: bool = False
    name = "queries"

    def fit_day(self, log: EventLog, day: int) -> int:  # noqa: ARG002 - one signature
        """The day that the log ends on."""
        return log.end_day

    def fit(self, log: EventLog, fit_day: int) -> QueryIndex:  # noqa: ARG002 - the log has no later event
        """See `Signal`.

        Args:
            log: The event log, with `query` and `timestamp`.
            fit_day: The day that it ends on.
        """
        tokens = Tokens.of(words_of(log.items, self.text), log.items.height, most=self.max_words)
        queries = log.raw_events.holding("query").sort("user", "day", "timestamp", "query")
        last = queries.group_by("user", "day", maintain_order=True).agg(pl.col("query").last())
        user, day = (last[name].cast(pl.Int64).to_numpy() for name in ("user", "day"))
        scores = sparse.csr_matrix(sparse.diags(tokens.saturation()) @ tokens.matrix @ sparse.diags(tokens.idf()))
        return QueryIndex(scores, scores.T.tocsr(), tokens.vocabulary, last["query"], stamps_of(user, day))
