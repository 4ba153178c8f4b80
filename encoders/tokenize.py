"""Texts as token ids, each padded to the next multiple of 8 of its own length, whatever the other texts are."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

__all__ = ["MAX_CHARS_PER_TOKEN", "TextStatistics", "TokenisedTexts", "statistics", "tokenise"]

MAX_CHARS_PER_TOKEN = 24
"""A text is cut to this many characters for each token that is read: a 10 MB text costs what a short one does."""

_STEP = 8
_UNREADABLE = re.compile("[\0\ud800-\udfff]")
_CHUNK = 4096  # texts tokenised at a time


@dataclass(frozen=True, slots=True)
class TokenisedTexts:
    """Token ids of some texts.

    Attributes:
        ids: One int32 array a text, special tokens included, at most `max_tokens` long.
        lengths: (texts,) int64 padded length of each.
        pad_id: What they are padded with.
    """

    ids: Sequence[npt.NDArray[np.int32]]
    lengths: npt.NDArray[np.int64]
    pad_id: int

    def buckets(self, of: npt.NDArray[np.int64] | None = None) -> Iterator[tuple[int, npt.NDArray[np.int64]]]:
        """Positions of texts (all, or some) by padded length, short ones first."""
        chosen = np.arange(len(self.ids)) if of is None else of
        lengths = self.lengths[chosen]
        for length in np.unique(lengths):
            yield int(length), chosen[lengths == length]

    def take(self, positions: npt.NDArray[np.int64]) -> "TokenisedTexts":
        """Some of the texts, in the order of `positions`."""
        return TokenisedTexts([self.ids[position] for position in positions], self.lengths[positions], self.pad_id)

    def joined(self, other: "TokenisedTexts") -> "TokenisedTexts":
        """These texts and then others of the same tokenizer."""
        lengths = np.concatenate([self.lengths, other.lengths])
        return TokenisedTexts([*self.ids, *other.ids], lengths, self.pad_id)

    def padded(
        self, positions: npt.NDArray[np.int64], rows: int
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.bool_]]:
        """Ids and mask of texts of one bucket, filled up to `rows` rows with copies of the first."""
        length = int(self.lengths[positions[0]])
        ids = np.full((rows, length), self.pad_id, np.int32)
        mask = np.zeros((rows, length), np.bool_)
        for row in range(rows):
            tokens = self.ids[positions[row] if row < len(positions) else positions[0]]
            ids[row, : len(tokens)] = tokens
            mask[row, : len(tokens)] = True
        return ids, mask


def clean(text: str | None, max_tokens: int) -> str:
    """The text as the tokenizer gets it: null is empty, lone surrogates and NUL become U+FFFD, the length is capped."""
    if not text:
        return ""
    return _UNREADABLE.sub("\ufffd", text[: max_tokens * MAX_CHARS_PER_TOKEN])


def tokenise(
    texts: Sequence[str | None], tokenizer: Tokenizer, *, max_tokens: int, pad_id: int, prefix: str = ""
) -> TokenisedTexts:
    """Token ids of texts, truncated to `max_tokens` with the closing special token kept.

    Args:
        texts: Any texts; empty and null ones get the special tokens alone.
        tokenizer: Without padding and truncation; is left as it was, since its settings are part of digests.
        max_tokens: Most tokens a text keeps.
        pad_id: Padding's id.
        prefix: Put before every text, empty ones too.
    """
    tokenizer.enable_truncation(max_tokens)
    ids: list[npt.NDArray[np.int32]] = []
    try:
        for start in range(0, len(texts), _CHUNK):
            chunk = [prefix + clean(text, max_tokens) for text in texts[start : start + _CHUNK]]
            ids.extend(np.array(encoded.ids, np.int32) for encoded in tokenizer.encode_batch_fast(chunk))
    finally:
        tokenizer.no_truncation()
    lengths = np.array([max(-(-len(tokens) // _STEP) * _STEP, _STEP) for tokens in ids], np.int64)
    return TokenisedTexts(ids, lengths, pad_id)


@dataclass(frozen=True, slots=True)
class TextStatistics:
    """How well a tokenizer reads a text field.

    Attributes:
        unknown_share: Share of tokens (special ones aside) that the vocabulary does not know.
        truncated_share: Share of texts that are longer than what is read.
        mean_tokens: Tokens a text, before the cut.
    """

    unknown_share: float
    truncated_share: float
    mean_tokens: float


def statistics(texts: Sequence[str], tokenizer: Tokenizer, *, max_tokens: int) -> TextStatistics:
    """Measure unknown tokens and cut texts over non-empty texts."""
    tokenizer.no_truncation()
    unknown_id = next((i for i in map(tokenizer.token_to_id, ("[UNK]", "<unk>")) if i is not None), -1)
    unknown = total = truncated = 0
    special = tokenizer.num_special_tokens_to_add(is_pair=False)
    for start in range(0, len(texts), _CHUNK):
        chunk = [clean(text, max_tokens) for text in texts[start : start + _CHUNK]]
        for encoded in tokenizer.encode_batch_fast(chunk):
            total += len(encoded.ids) - special
            unknown += encoded.ids.count(unknown_id)
            truncated += len(encoded.ids) > max_tokens
    count = max(len(texts), 1)
    return TextStatistics(unknown / max(total, 1), truncated / count, total / count)
