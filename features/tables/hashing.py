"""A hash of ids that is our own, and so the same in every version of every library: users and requests are drawn by it.

Integers go through the finaliser of splitmix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom
number generators"). A text is read eight bytes at a time, least significant first, each word mixed into what
went before, then its length; the empty text and all-zero words therefore have different hashes. Of a text longer than
`MOST_BYTES` the rest is mixed in as one word, its BLAKE2b digest: 10 MB take milliseconds.
"""

import hashlib

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

__all__ = ["MOST_BYTES", "part_of", "stable_hash"]

Hashes = npt.NDArray[np.uint64]

_WORD = 8

MOST_BYTES = 1024
"""Bytes of a text that are read word by word."""


def stable_hash(ids: pl.Series) -> Hashes:
    """64-bit hash of each id.

    Args:
        ids: Text or integers, no nulls. A text and an integer written alike have different hashes.

    Returns:
        (ids,) the hashes, in the order of the ids.
    """
    if ids.dtype != pl.String:
        return _mixed(ids.cast(pl.Int64).to_numpy().view(np.uint64))
    chunk = (
        pa.array(ids.to_arrow(), type=pa.large_string()) if ids.is_empty() else ids.to_arrow().cast(pa.large_string())
    )
    starts = np.frombuffer(chunk.buffers()[1], np.int64)[chunk.offset : chunk.offset + len(ids) + 1]
    content = chunk.buffers()[2]
    data = np.frombuffer(content, np.uint8) if content is not None else np.empty(0, np.uint8)
    lengths = np.diff(starts)
    padded = np.concatenate([data, np.zeros(_WORD, np.uint8)])
    hashes = np.zeros(len(ids), np.uint64)
    for offset in range(0, min(int(lengths.max(initial=0)), MOST_BYTES), _WORD):
        reaching = np.flatnonzero(lengths > offset)
        words = _words(padded, starts[reaching] + offset, lengths[reaching] - offset)
        hashes[reaching] = _mixed(hashes[reaching] ^ words)
    longer = np.flatnonzero(lengths > MOST_BYTES)
    ends = zip(starts[longer] + MOST_BYTES, starts[longer] + lengths[longer], strict=True)
    rest = [hashlib.blake2b(data[start:end].tobytes(), digest_size=_WORD).digest() for start, end in ends]
    hashes[longer] = _mixed(hashes[longer] ^ np.frombuffer(b"".join(rest), "<u8"))
    return _mixed(hashes ^ lengths.astype(np.uint64))


def part_of(ids: pl.Series, parts: int) -> npt.NDArray[np.int64]:
    """Part (0 to `parts` - 1) of each id; about as many ids in each."""
    # NOTE: from the upper bits, which a multiplication mixes best.
    return ((stable_hash(ids) >> np.uint64(32)) % np.uint64(parts)).astype(np.int64)


def _mixed(words: Hashes) -> Hashes:
    """The finaliser of splitmix64, after its increment."""
    z = words + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: Hashes = z ^ (z >> np.uint64(31))
    return mixed


def _words(padded: npt.NDArray[np.uint8], starts: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]) -> Hashes:
    """The eight bytes at each start, little-endian, those past `lengths` as 0."""
    words = np.zeros(len(starts), np.uint64)
    for byte in range(_WORD):
        values = np.where(byte < lengths, padded[starts + byte], 0).astype(np.uint64)
        words |= values << np.uint64(_WORD * byte)
    return words
