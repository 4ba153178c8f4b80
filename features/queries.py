"""What users search for, and how well each item answers: BM25 (Robertson & Zaragoza 2009) over words."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy import sparse

from features.asof import NEVER, Ints, before, stamps_of
from features.families.tokens import Tokens, words_of
from features.timeline import EventLog

__all__ = ["Asked", "Queries"]

# N askers, Q distinct queries, I items, T words of the catalogue


@dataclass(frozen=True, slots=True)
class Asked:
    """The query of each asker.

    Attributes:
        words: CSR (Q, T) of ones: the words of each query that is asked; a query of unknown words has none.
        place: (N,) row of each asker's query in `words`, -1 where there is none.
        days_since: (N,) days since it was made, 0 for a request's own, `NEVER` where there is none.
    """

    words: sparse.csr_matrix
    place: Ints
    days_since: Ints


class Queries:
    """The queries of a log, and the catalogue they are held against.

    Args:
        log: The event log, with `query` and `timestamp`.
        text: Text fields of the catalogue.
        max_words: Distinct words kept, those of most items.
        online: Whether a request's own query is known when it is answered.

    Attributes:
        scores: CSR (I, T), float64: BM25 of each item for each of its words. An item's score for a query is the sum
            over the words that both have, in the order of word codes.
    """

    def __init__(self, log: EventLog, text: Sequence[str], *, max_words: int, online: bool = False) -> None:
        self._online = online
        tokens = Tokens.of(words_of(log.items, text), log.items.height, most=max_words)
        asked = log.raw_events.holding("query").sort("user", "day", "timestamp", "query")
        last = asked.group_by("user", "day", maintain_order=True).agg(pl.col("query").last())
        self._vocabulary = tokens.vocabulary
        self._queries = last["query"]
        self._day = last["day"].cast(pl.Int64).to_numpy()
        self._stamps = stamps_of(last["user"].cast(pl.Int64).to_numpy(), self._day)
        self.scores = sparse.csr_matrix(sparse.diags(tokens.saturation()) @ tokens.matrix @ sparse.diags(tokens.idf()))

    def asked(self, user: Ints, as_of_day: Ints, own: pl.Series | None = None) -> Asked:
        """The query of each asker: in online mode the request's own; else the user's latest of the days before.

        Of several queries of the last day with one, the latest by timestamp counts, ties by the query's text.

        Args:
            user: (N,) user codes.
            as_of_day: (N,) only queries of days before count.
            own: (N,) the query of the request itself, null where it has none; None where no request has.
        """
        end = before(self._stamps, user, as_of_day)
        has = end > before(self._stamps, user, np.zeros_like(user))
        last = end[has] - 1
        days_since = np.full(len(user), NEVER, np.int64)
        days_since[has] = as_of_day[has] - self._day[last]
        asked = pl.Series([None] * len(user), dtype=pl.String).scatter(np.flatnonzero(has), self._queries.gather(last))
        if own is not None and self._online:
            days_since[own.is_not_null().to_numpy()] = 0
            asked = own.zip_with(own.is_not_null(), asked)
        distinct = asked.drop_nulls().unique().sort().to_frame("query").with_row_index("item")
        place = asked.to_frame("query").join(distinct, on="query", how="left", maintain_order="left")["item"]
        return Asked(self._coded(distinct), place.cast(pl.Int64).fill_null(-1).to_numpy(), days_since)

    def _coded(self, queries: pl.DataFrame) -> sparse.csr_matrix:
        """CSR (Q, T) of ones."""
        codes = self._vocabulary.to_frame("token").with_row_index("place")
        found = words_of(queries, ("query",)).unique().join(codes, on="token")
        places = (found["item"].to_numpy(), found["place"].to_numpy())
        matrix = sparse.csr_matrix((np.ones(found.height), places), shape=(queries.height, len(self._vocabulary)))
        matrix.sort_indices()
        return matrix
