"""Item texts as sets of tokens: words, or whole text fields."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import polars as pl
from scipy import sparse

from features.log.asof import Floats, Ints
from features.tables.text import folded

__all__ = ["WORD", "Tokens", "phrases_of", "words_of"]

_K1, _B = 1.2, 0.75  # BM25's usual constants

WORD = r"[\p{L}\p{N}]+"
"""A word: letters and digits of any script, lower-cased."""


def words_of(items: pl.DataFrame, fields: Sequence[str]) -> pl.DataFrame:
    """The words of each item's text fields: item, token, one row each."""
    parts = [
        items.select("item", token=pl.col(name).str.to_lowercase().str.extract_all(WORD)).explode("token")
        for name in fields
    ]
    return pl.concat(parts).drop_nulls("token")


def phrases_of(items: pl.DataFrame, fields: Sequence[str]) -> pl.DataFrame:
    """Each text field as one token, lower-cased, white space folded; in another field the same text is another."""
    parts = []
    for number, name in enumerate(fields):
        some = items.select("item", text=folded(pl.col(name).str.to_lowercase())).filter(
            pl.col("text").str.len_bytes() > 0
        )
        parts.append(some.select("item", token=pl.format("{} {}", pl.lit(number), pl.col("text"))))
    return pl.concat(parts)


@dataclass(frozen=True, slots=True)
class Tokens:
    """The distinct tokens of each item.

    Attributes:
        matrix: CSR (items, tokens), float64 ones, sorted indices.
        vocabulary: The token of each column, sorted.
    """

    matrix: sparse.csr_matrix
    vocabulary: pl.Series

    @classmethod
    def of(cls, occurring: pl.DataFrame, n_items: int, *, most: int) -> Self:
        """Keep the tokens of most items, ties by token.

        Args:
            occurring: item, token; repetitions within an item count once.
            n_items: Items of the catalogue.
            most: Tokens kept.
        """
        once = occurring.unique()
        frequent = once["token"].value_counts().sort(["count", "token"], descending=[True, False]).head(most)
        vocabulary = frequent["token"].sort()
        coded = once.join(vocabulary.to_frame("token").with_row_index("code"), on="token")
        cells = (coded["item"].to_numpy(), coded["code"].to_numpy())
        matrix = sparse.csr_matrix((np.ones(coded.height), cells), shape=(n_items, len(vocabulary)))
        matrix.sort_indices()
        return cls(matrix, vocabulary)

    @property
    def counts(self) -> Ints:
        """Distinct tokens of each item."""
        counts: Ints = np.diff(self.matrix.indptr).astype(np.int64)
        return counts

    @property
    def holders(self) -> Ints:
        """Items that have each token."""
        return np.bincount(self.matrix.indices, minlength=len(self.vocabulary)).astype(np.int64)

    def saturation(self) -> Floats:
        """(items,) BM25's factor of a token that occurs once, by the length of the item's text."""
        lengths = self.counts / max(self.counts.mean(), 1e-9)
        saturation: Floats = (_K1 + 1) / (1 + _K1 * (1 - _B + _B * lengths))
        return saturation

    def idf(self) -> Floats:
        """``log(1 + (D - d + 0.5) / (d + 0.5))``, d of D items have the token (Robertson & Zaragoza 2009).

        Rounded to multiples of 1/64, so that sums of squares weighted by counts are exact in float64.
        """
        holders, items = self.holders, self.matrix.shape[0]
        idf: Floats = np.round(np.log1p((items - holders + 0.5) / (holders + 0.5)) * 64) / 64
        return idf
