"""What the texts of a catalogue look like, as shares that can be compared from night to night and hold no text."""

from zlib import crc32

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import BaseModel, ConfigDict

__all__ = ["SCRIPTS", "TextMeasures", "measure_texts"]

SCRIPTS = (
    *("Latin", "Cyrillic", "Greek", "Arabic", "Hebrew", "Devanagari", "Thai"),
    *("Han", "Hiragana", "Katakana", "Hangul"),
)
"""Writing systems that are told apart, by Unicode's names."""
_LENGTHS = 12  # bins of powers of two: 1, 2-3, 4-7, ... 1024-2047, and more
_WORDS = 64  # buckets that words are hashed to
_MOST = 5_000  # texts that are looked at, evenly over the catalogue


class TextMeasures(BaseModel):
    """Shares of some texts, evenly drawn from those that are not empty.

    Attributes:
        lengths: Of the texts, by number of characters: 1, 2 to 3, 4 to 7, and so on by powers of two; the last bin has
            all that are longer.
        scripts: Of the letters, by writing system, in the order of `SCRIPTS`; letters of others come last.
        words: Of the words, in small letters, by a hash to as many buckets: another language, or other words, fill
            others.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    lengths: tuple[float, ...]
    scripts: tuple[float, ...]
    words: tuple[float, ...]


def measure_texts(texts: pl.Series) -> TextMeasures:
    """Measure the texts of a catalogue; of one without any, all shares are 0."""
    there = texts.filter(texts.str.len_bytes() > 0)
    some = there.gather_every(len(there) // _MOST + 1)
    letters = [int(some.str.count_matches(rf"\p{{{script}}}").sum()) for script in SCRIPTS]
    others = int(some.str.count_matches(r"\p{Alphabetic}").sum()) - sum(letters)
    lengths = np.log2(some.str.len_chars().to_numpy()).astype(np.int64).clip(max=_LENGTHS - 1)
    buckets = [crc32(word.encode()) % _WORDS for text in some for word in text.lower().split()]
    return TextMeasures(
        lengths=_shares(np.bincount(lengths, minlength=_LENGTHS)),
        scripts=_shares(np.array([*letters, max(others, 0)])),
        words=_shares(np.bincount(np.array(buckets, np.int64), minlength=_WORDS)),
    )


def _shares(counts: npt.NDArray[np.int64]) -> tuple[float, ...]:
    return tuple((counts / max(int(counts.sum()), 1)).tolist())
