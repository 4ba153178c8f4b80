"""Text features without a model: how well the words of a candidate match those of the user's history.

The history of a user as of a day is a bag of tokens: each past engagement adds one of every distinct token of its
item (or 2^-((age - 1) / half-life), decayed). Counts are whole numbers, so that no order of summing moves them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import polars as pl

from features.log.asof import Floats, Ints
from features.log.decay import FIXED, decay_weights
from features.log.engagements import spread
from features.log.event_log import EventLog
from features.log.history import History
from features.signals.family import Columns, Family, Plan, Rows, Values, ratio
from features.signals.tokens import Tokens, phrases_of, words_of

__all__ = ["TextPhrases", "TextWords", "TokenLift"]

# R rows of the block, T tokens of those rows one after another, U user-days of the block, V tokens in all
_CELLS = 250_000  # of the matrix of a block's token counts
_KEPT_DAYS = 64  # as-of days whose token shares are kept at hand
_REDUCED = {"mean": np.add, "max": np.maximum, "min": np.minimum}
_RARE_SHARE = 0.01  # a word in at most this share of the items (or in two) is rare


@dataclass(frozen=True, slots=True)
class Block:
    """Some user-days, and the rows of candidates that belong to them.

    Attributes:
        rows: Positions of the rows, those whose item has a token.
        item: (R,) their items.
        begins: (R,) where each row's tokens begin among T.
        row: (T,) the row of each token, by its position in the block.
        token: (T,) token codes.
        of_user: (R,) user-day of each row, by its position in the block.
        day: (R,) as-of days.
        counts: (U, V) tokens of the history, one matrix a weighting.
    """

    rows: Ints
    item: Ints
    begins: Ints
    row: Ints
    token: Ints
    of_user: Ints
    day: Ints
    counts: Mapping[str, Floats]
    _in_history: dict[str, Floats] = field(default_factory=dict)

    def in_history(self, weighting: str) -> Floats:
        """(T,) how often the history has each row's token."""
        if weighting not in self._in_history:
            counts = self.counts[weighting]
            self._in_history[weighting] = counts.ravel()[self.of_user[self.row] * counts.shape[1] + self.token]
        return self._in_history[weighting]

    def total(self, weighting: str) -> Floats:
        """(R,) tokens of the history."""
        total: Floats = self.counts[weighting].sum(axis=1)[self.of_user]
        return total


class TokenLift(Family):
    """Query likelihood of the candidate's tokens under the user's history.

    For each token w of the candidate, ``lift_w = log((n(w) + mu p(w)) / ((N + mu) p(w)))``: n(w) of the N tokens of the
    history are w, p(w) is its share of all engagements' tokens as of the day (Dirichlet smoothing, Zhai & Lafferty
    2001). Where nobody has been seen with w, n/p counts as 0. Columns hold mean, largest and smallest over the
    candidate's distinct tokens, NaN where it has none.
    """

    prefix: ClassVar[str]
    what: ClassVar[str]
    keys = ("user", "item")
    reads = ("user", "item", "gain", "day")
    is_text = True
    zero_without_tokens: ClassVar[tuple[str, ...]] = ()

    def __init__(self, log: EventLog, plan: Plan) -> None:
        self._names = tuple(self.columns_of(plan))
        self.tokens = Tokens.of(self.tokenised(log, plan), log.items.height, most=plan.config.max_words)
        self._indptr = self.tokens.matrix.indptr.astype(np.int64)
        self._token = self.tokens.matrix.indices.astype(np.int64)
        self._log = log
        self._weights = decay_weights(plan.config.text_half_life_days)
        self._popular = log.item_index
        self._mu = plan.config.smoothing_events
        self._kept: dict[int, Floats] = {}

    @staticmethod
    def tokenised(log: EventLog, plan: Plan) -> pl.DataFrame:
        """item, token: what the items' texts are made of."""
        raise NotImplementedError

    @classmethod
    def columns_of(cls, plan: Plan) -> Columns:
        """See `Family`."""
        if not plan.inventory.text:
            return {}
        meanings = {"lift": "past engagements", "decayed_lift": "past engagements, decayed"}
        return {
            f"{cls.prefix}_{name}_{reduced}": f"{reduced} over the item's {cls.what} of the lift by the user's {what}"
            for name, what in meanings.items()
            for reduced in _REDUCED
        }

    def compute(self, rows: Rows) -> Values:
        """See `Family`."""
        empty = {name: 0.0 if name in self.zero_without_tokens else np.nan for name in self._names}
        values = {name: np.full(len(rows), value) for name, value in empty.items()}
        for block in self._blocks(rows, self._log.only(rows.users).history):
            for name, column in self.of_block(block).items():
                values[name][block.rows] = column
        return values

    def of_block(self, block: Block) -> Values:
        """Columns of a block's rows."""
        values = {}
        inverse = self._inverse_shares(block)
        for weighting, name in (("plain", "lift"), ("decayed", "decayed_lift")):
            total = block.total(weighting)
            ratio_T = (block.in_history(weighting) * inverse + self._mu) / (total + self._mu)[block.row]
            lift_T = np.log(ratio_T)
            for reduced, function in _REDUCED.items():
                column = function.reduceat(lift_T, block.begins)
                values[f"{self.prefix}_{name}_{reduced}"] = column
            values[f"{self.prefix}_{name}_mean"] = values[f"{self.prefix}_{name}_mean"] / self.tokens.counts[block.item]
        return values

    def _blocks(self, rows: Rows, history: History) -> Iterator[Block]:
        """The rows by user-day, as many at a time as the matrix of counts may hold."""
        users, of_row = rows.distinct(("user",))
        order = np.argsort(of_row, kind="stable")
        order = order[self.tokens.counts[rows.item[order]] > 0]
        user_day = of_row[order]
        size = max(1, _CELLS // max(len(self.tokens.vocabulary), 1))
        for start in range(0, len(users), size):
            users_of_block = users.take(np.arange(start, min(start + size, len(users))))
            first, last = np.searchsorted(user_day, [start, start + size])
            if last > first:
                counted = self._counted(users_of_block, history)
                yield self._block(rows, order[first:last], user_day[first:last] - start, counted)

    def _block(self, rows: Rows, positions: Ints, of_user: Ints, counted: dict[str, Floats]) -> Block:
        item = rows.item[positions]
        inside, begins = spread(self._indptr[item], self._indptr[item + 1])
        row = np.repeat(np.arange(len(item)), np.diff(begins))
        token = self._token[inside]
        return Block(positions, item, begins[:-1], row, token, of_user, rows.as_of_day[positions], counted)

    def _counted(self, users: Rows, history: History) -> dict[str, Floats]:
        """Tokens of the histories of some user-days, plain and decayed."""
        positions, begins = spread(*history.slices(users.user, users.as_of_day))
        owner = np.repeat(np.arange(len(users)), np.diff(begins))
        item, day, count = history.taken(positions)
        weight = count * self._weights[users.as_of_day[owner] - day]
        inside, starts = spread(self._indptr[item], self._indptr[item + 1])
        width, sizes = len(self.tokens.vocabulary), np.diff(starts)
        cells = np.repeat(owner * width, sizes) + self._token[inside]
        counts = {}
        for name, amount, unit in (("plain", count, 1), ("decayed", weight, FIXED)):
            summed = np.bincount(cells, np.repeat(amount, sizes), len(users) * width)  # exact: whole numbers
            counts[name] = summed.reshape(len(users), width) / unit
        return counts

    def _inverse_shares(self, block: Block) -> Floats:
        """(T,) 1 / p of each token as of its row's day; 0 where nobody was seen with it."""
        days, of_row = np.unique(block.day, return_inverse=True)
        table = np.stack([self._on(int(day)) for day in days])
        inverse: Floats = table.ravel()[of_row[block.row] * table.shape[1] + block.token]
        return inverse

    def _on(self, day: int) -> Floats:
        if day not in self._kept:
            items = np.arange(self.tokens.matrix.shape[0])
            engaged = self._popular.total(items, np.full_like(items, day)).astype(np.float64)
            token_counts = self.tokens.matrix.T @ engaged
            while len(self._kept) >= _KEPT_DAYS:
                self._kept.pop(next(iter(self._kept)))
            self._kept[day] = np.where(token_counts > 0, token_counts.sum() / np.maximum(token_counts, 1), 0.0)
        return self._kept[day]


class TextPhrases(TokenLift):
    """Lift of whole text fields: the very title, the very category."""

    name = "text_phrases"
    prefix = "text_phrases"
    what = "whole text fields"

    @staticmethod
    def tokenised(log: EventLog, plan: Plan) -> pl.DataFrame:
        """See `TokenLift`."""
        return phrases_of(log.items, plan.inventory.text)


class TextWords(TokenLift):
    """Lift of words; TF-IDF cosine and BM25 of the candidate against the history; rare words that both have."""

    name = "text_words"
    prefix = "text_words"
    what = "words"
    zero_without_tokens = ("text_shared_rare_words",)

    def __init__(self, log: EventLog, plan: Plan) -> None:
        super().__init__(log, plan)
        self._idf = self.tokens.idf()
        matrix = self.tokens.matrix
        self._norm = np.sqrt(matrix @ self._idf**2)
        self._saturation = self.tokens.saturation()
        self._rare = self.tokens.holders <= max(2, _RARE_SHARE * matrix.shape[0])

    @staticmethod
    def tokenised(log: EventLog, plan: Plan) -> pl.DataFrame:
        """See `TokenLift`."""
        return words_of(log.items, plan.inventory.text)

    @classmethod
    def columns_of(cls, plan: Plan) -> Columns:
        """See `Family`."""
        lifts = super().columns_of(plan)
        meanings = {
            "text_tfidf_cosine": "cosine of the TF-IDF vectors of the item and of all the user engaged with",
            "text_bm25_history": "BM25 of the item for the words of the history, each by its share of them",
            "text_shared_rare_words": "rare words (in at most 1 % of items, or two) of the item that the history has",
        }
        return {**lifts, **meanings} if lifts else {}

    def of_block(self, block: Block) -> Values:
        """See `TokenLift`; words count once an item, so that the TF of a candidate's word is 1."""
        in_history, idf_T = block.in_history("plain"), self._idf[block.token]
        counts = block.counts["plain"]
        length = np.sqrt(np.einsum("uv,uv,v->u", counts, counts, self._idf**2))[block.of_user]
        dots = np.add.reduceat(in_history * idf_T**2, block.begins)
        matched = np.add.reduceat(in_history * idf_T, block.begins)
        shared: npt.NDArray[np.bool_] = (in_history > 0) & self._rare[block.token]
        return {
            **super().of_block(block),
            "text_tfidf_cosine": ratio(dots, length * self._norm[block.item]),
            "text_bm25_history": ratio(matched, block.total("plain")) * self._saturation[block.item],
            "text_shared_rare_words": np.add.reduceat(shared.astype(np.int64), block.begins),
        }
