"""The vector store: what a text's vector is under an encoder is computed once.

A folder an encoder digest holds append-only segments, each a Parquet file (sha256 of the text, vector) named by its own
sha256. A segment appears whole or not at all, and one whose bytes do not match its name is never read.
"""

import hashlib
import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from features.errors import IntegrityError
from pipelines.storage import atomic_writer

__all__ = ["VectorStore"]

Encode = Callable[[list[str]], npt.NDArray[np.int16]]


class VectorStore:
    """Vectors of texts under one encoder.

    Args:
        root: Folder of all stores.
        digest: Digest of encoder and backend.
    """

    def __init__(self, root: Path, digest: str) -> None:
        self._folder = root / digest[:32]
        self.encoded = 0
        """Texts that this object had to encode, rather than find."""

    def vectors(self, texts: Sequence[str], encode: Encode) -> npt.NDArray[np.int16]:
        """Vectors of distinct texts, in order; what is new is encoded and kept.

        Args:
            texts: Distinct texts.
            encode: Gives (texts, width) int16 for texts.

        Raises:
            IntegrityError: A segment was altered.
        """
        keys = [hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest() for text in texts]
        known = self._load()
        place = {key: row for row, key in enumerate(known["text"].to_list())}
        new = [row for row, key in enumerate(keys) if key not in place]
        fresh = encode([texts[row] for row in new]) if new else None
        self.encoded += len(new)
        if fresh is None:
            return self._matrix(known)[[place[key] for key in keys]]
        self._append([keys[row] for row in new], fresh)
        result = np.empty((len(texts), fresh.shape[1]), np.int16)
        result[new] = fresh
        old = [row for row, key in enumerate(keys) if key in place]
        if old:
            result[old] = self._matrix(known)[[place[keys[row]] for row in old]]
        return result

    def put(self, texts: Sequence[str], vectors: npt.NDArray[np.int16]) -> None:
        """Keep vectors that were computed elsewhere, of texts the store does not hold yet."""
        self.vectors(texts, lambda new: vectors[_positions(texts, new)])

    def _load(self) -> pl.DataFrame:
        frames = [pl.DataFrame(schema={"text": pl.Binary, "vector": pl.Binary})]
        for path in sorted(self._folder.glob("*.parquet")):
            content = path.read_bytes()
            if hashlib.sha256(content).hexdigest() != path.stem:
                raise IntegrityError(
                    f"{path} was altered since it was written. Delete it; its texts are encoded again."
                )
            frames.append(pl.read_parquet(io.BytesIO(content)))
        return pl.concat(frames).unique("text", maintain_order=True)

    @staticmethod
    def _matrix(frame: pl.DataFrame) -> npt.NDArray[np.int16]:
        return np.frombuffer(b"".join(frame["vector"].to_list()), np.int16).reshape(frame.height, -1)

    def _append(self, keys: list[bytes], vectors: npt.NDArray[np.int16]) -> None:
        frame = pl.DataFrame(
            {"text": keys, "vector": [row.tobytes() for row in vectors]},
            schema={"text": pl.Binary, "vector": pl.Binary},
        )
        buffer = io.BytesIO()
        frame.write_parquet(buffer, compression="uncompressed")
        content = buffer.getvalue()
        with atomic_writer(self._folder / f"{hashlib.sha256(content).hexdigest()}.parquet") as file:
            file.write(content)


def _positions(texts: Sequence[str], wanted: list[str]) -> list[int]:
    place = {text: row for row, text in enumerate(texts)}
    return [place[text] for text in wanted]
