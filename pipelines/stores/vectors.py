"""The vector store: each text's vector under an encoder is computed once and kept.

A folder an encoder digest (weights, tokenizer, backend) holds append-only segments: NumPy files of (sha256 of the text,
vector), sorted by the former and named by their own sha256. A segment appears whole or not at all, and one whose bytes
do not match its name is never read.

A component takes 16 bits: whole multiples of 1/GRID (`features.tables.text.GRID`), not float16, which has the same
size. On the grid float32 dot products are exact, whatever the batch, the threads or the BLAS.
"""

import fcntl
import hashlib
import io
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from features.errors import IntegrityError
from pipelines.base.outside import written
from pipelines.stores.storage import atomic_writer, sha256_of

__all__ = ["LOCK", "MERGED_BYTES", "SEGMENT_TEXTS", "VectorStore", "segment_files", "verified"]

Encode = Callable[[list[str]], npt.NDArray[np.int16]]
_Bytes = npt.NDArray[np.bytes_]
_Segment = npt.NDArray[np.void]

SEGMENT_TEXTS = 1 << 16
"""Most texts of a segment: so many are encoded before they are written."""
LOCK = "lock"
"""Lock file of a store, locked shared while it is used; its modification time is that of the last use."""

MERGED_BYTES = 1 << 26
"""Most bytes of the small segments that are merged into one."""

_MERGED = 16  # small segments before they become one


class VectorStore:
    """Vectors of texts under one encoder.

    Any number of processes may use one store: they add segments, and what two of them add twice is the same.

    Args:
        root: Folder of all stores.
        digest: Digest of encoder and backend.
    """

    def __init__(self, root: Path, digest: str) -> None:
        self._folder = root / digest[:32]
        self.encoded = 0
        """Number of texts that this object had to encode because the store lacked them."""

    def vectors(self, texts: Sequence[str], encode: Encode) -> npt.NDArray[np.int16]:
        """Vectors of distinct texts, in order; new texts are encoded and kept, `SEGMENT_TEXTS` at a time.

        Args:
            texts: Distinct texts.
            encode: Gives (texts, width) int16 for texts.

        Returns:
            (texts, width); (0, 0) for no texts.

        Raises:
            IntegrityError: A segment was altered.
            TryAgainError: The disk is full or refuses.
        """
        with self._in_use():
            keys = _keys(texts)
            result, new = self._find(keys)
            for start in range(0, len(new), SEGMENT_TEXTS):
                part = new[start : start + SEGMENT_TEXTS]
                fresh = encode([texts[row] for row in part])
                self.encoded += len(part)
                self._append(keys[part], fresh)
                if result is None:
                    result = np.empty((len(texts), fresh.shape[1]), np.int16)
                result[part] = fresh
            if len(new):
                self._merge()
        return np.empty((0, 0), np.int16) if result is None else result

    def put(self, texts: Sequence[str], vectors: npt.NDArray[np.int16]) -> None:
        """Keep vectors that were computed elsewhere; texts that the store has already stay as they are."""
        with self._in_use():
            keys = _keys(texts)
            _, new = self._find(keys, copy=False)
            for start in range(0, len(new), SEGMENT_TEXTS):
                part = new[start : start + SEGMENT_TEXTS]
                self._append(keys[part], vectors[part])
            if len(new):
                self._merge()

    @contextmanager
    def _in_use(self) -> Iterator[None]:
        """Context in which `pipelines.verbs.vector_stores.collect` does not remove the store."""
        with self._lock_file() as file:
            with written(self._folder / LOCK):
                fcntl.flock(file, fcntl.LOCK_SH)
                os.utime(file.fileno())
            yield

    def _lock_file(self) -> IO[bytes]:
        while True:
            with written(self._folder), suppress(FileNotFoundError):  # the store was removed in between
                self._folder.mkdir(parents=True, exist_ok=True)
                return (self._folder / LOCK).open("ab")

    def _find(self, keys: _Bytes, *, copy: bool = True) -> tuple[npt.NDArray[np.int16] | None, npt.NDArray[np.int64]]:
        """Vectors of the texts that the store has (None if it has none), and the rows of those that it lacks."""
        while True:
            try:
                return self._search(keys, copy=copy)
            except FileNotFoundError:
                continue  # another process merged segments since they were listed

    def _search(self, keys: _Bytes, *, copy: bool) -> tuple[npt.NDArray[np.int16] | None, npt.NDArray[np.int64]]:
        result: npt.NDArray[np.int16] | None = None
        missing = np.arange(len(keys))
        for path in segment_files(self._folder):
            if not len(missing):
                break
            segment = verified(path)
            hashes = np.ascontiguousarray(segment["text"])
            at = np.minimum(np.searchsorted(hashes, keys[missing]), len(hashes) - 1)
            is_match = hashes[at] == keys[missing]
            if copy and is_match.any():
                if result is None:
                    result = np.empty((len(keys), segment["vector"].shape[1]), np.int16)
                result[missing[is_match]] = segment["vector"][at[is_match]]
            missing = missing[~is_match]
        return result, missing

    def _append(self, keys: _Bytes, vectors: npt.NDArray[np.int16]) -> Path:
        """Write one segment."""
        order = np.argsort(keys)
        segment = np.empty(len(keys), [("text", "S32"), ("vector", "<i2", (vectors.shape[1],))])
        segment["text"], segment["vector"] = keys[order], vectors[order]
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(segment))
        digest = hashlib.sha256(header.getvalue())
        digest.update(segment.view(np.uint8).data)
        path = self._folder / f"{digest.hexdigest()}.npy"
        with atomic_writer(path) as file:
            file.write(header.getvalue())
            file.write(segment.view(np.uint8).data)
        return path

    def _merge(self) -> None:
        """Make one segment of many small ones: a night adds one, however few texts are new.

        A segment goes only after its texts stand in another one, on disk: neither a kill nor a second process that does
        the same at the same time loses any.
        """
        paths = segment_files(self._folder)[::-1]
        try:
            total = np.cumsum([path.stat().st_size for path in paths])
            small = paths[: int(np.searchsorted(total, MERGED_BYTES, side="right"))]
            if len(small) < _MERGED:
                return
            both = np.concatenate([verified(path) for path in small])
        except FileNotFoundError:
            return  # another process is at it
        keys, first = np.unique(both["text"], return_index=True)
        merged = self._append(keys, both["vector"][first])
        for path in small:
            if path != merged:
                path.unlink(missing_ok=True)


def segment_files(folder: Path) -> list[Path]:
    """The segments of a store, large ones first."""
    sized = []
    for path in folder.glob("[!.]*.npy"):
        with suppress(FileNotFoundError):  # merged into another one meanwhile
            sized.append((-path.stat().st_size, path.name))
    return [folder / name for _, name in sorted(sized)]


def verified(path: Path) -> _Segment:
    """A segment, mapped into memory after its bytes were checked against the sha256 in its name.

    Raises:
        IntegrityError: It was altered.
        FileNotFoundError: It is gone.
    """
    if sha256_of(path) != path.stem:
        raise IntegrityError(f"{path} was altered since it was written. Delete it; its texts are encoded again.")
    segment: _Segment = np.load(path, mmap_mode="r")
    return segment


def _keys(texts: Sequence[str]) -> _Bytes:
    """sha256 of each text."""
    hashes = (hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest() for text in texts)
    return np.frombuffer(b"".join(hashes), "S32")
