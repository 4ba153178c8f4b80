"""Which words and phrases a text holds, as rows of a sparse matrix."""

# T texts, V n-grams of the vocabulary
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Self

import numpy as np
import numpy.typing as npt
from scipy import sparse

from features.tables.text import MAX_TEXT_CHARS

__all__ = ["NGrams"]

_TOKEN = re.compile(r"\w+|[^\w\s]")


@dataclass(frozen=True, slots=True)
class NGrams:
    """TF-IDF over runs of words and punctuation marks, case kept: how a text is written, not only what it says.

    Of a text the first `features.tables.text.MAX_TEXT_CHARS` characters are read.

    Attributes:
        vocabulary: The n-grams, sorted, their tokens joined by one space.
        idf: (V,) ``1 + log((1 + T) / (1 + texts that hold it))``.
        longest: Most tokens of an n-gram.
    """

    vocabulary: tuple[str, ...]
    idf: npt.NDArray[np.float64]
    longest: int

    @classmethod
    def fit(cls, texts: Sequence[str], *, longest: int, min_texts: int) -> Self:
        """The vocabulary of some texts.

        Args:
            texts: T texts.
            longest: Most tokens of an n-gram; 0 for none at all.
            min_texts: Texts that must hold an n-gram.
        """
        texts_with = Counter(chain.from_iterable(set(_ngrams(text, longest)) for text in texts))
        kept = sorted(ngram for ngram, count in texts_with.items() if count >= min_texts)
        counts = np.array([texts_with[ngram] for ngram in kept], np.float64)
        return cls(tuple(kept), 1 + np.log((1 + len(texts)) / (1 + counts)), longest)

    def transform(self, texts: Iterable[str]) -> sparse.csr_array:
        """(T, V) float64 rows of norm 1: ``(1 + log count) * idf``; a text without a known n-gram is a row of zeros."""
        column_of = {ngram: at for at, ngram in enumerate(self.vocabulary)}
        columns, values, starts = [np.empty(0, np.int64)], [np.empty(0)], [0]
        for text in texts:
            count_of = Counter(column_of[ngram] for ngram in _ngrams(text, self.longest) if ngram in column_of)
            at = np.array(sorted(count_of), np.int64)
            value = (1 + np.log([count_of[column] for column in at])) * self.idf[at]
            columns.append(at)
            values.append(value / np.sqrt((value**2).sum()) if len(at) else value)
            starts.append(starts[-1] + len(at))
        shape = len(starts) - 1, len(self.vocabulary)
        return sparse.csr_array((np.concatenate(values), np.concatenate(columns), np.array(starts)), shape=shape)


def _ngrams(text: str, longest: int) -> Iterator[str]:
    tokens = _TOKEN.findall(text[:MAX_TEXT_CHARS])
    for length in range(1, longest + 1):
        for start in range(len(tokens) - length + 1):
            yield " ".join(tokens[start : start + length])
