"""Tables that are larger than memory: written to nameless files as they come, then mapped into memory."""

import ctypes
import mmap
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO
from weakref import WeakSet, finalize

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from pipelines.base.config import Config
from pipelines.base.outside import written

__all__ = ["MappedTables", "give_back", "let_go", "list_batches", "mapped", "mapped_array", "picked"]

_ROWS = 50_000  # rows that are filtered at a time
_MAPPINGS: WeakSet[mmap.mmap] = WeakSet()  # of files that something still reads


class MappedTables:
    """Tables of the same columns in one uncompressed Arrow file, written as they come, then mapped into memory.

    The file has no name: nobody else sees it, and it goes with the last table that reads it, or with the process.
    However many tables there are, one file is open.

    Args:
        config: The output folder, on whose disk the file lies.
    """

    def __init__(self, config: Config) -> None:
        self._folder = Path(config.output)
        self._file: IO[bytes] | None = None
        self._writer: pa.RecordBatchFileWriter | None = None
        self._empty: list[tuple[int, pl.DataFrame]] = []
        self._count = 0

    def add(self, frame: pl.DataFrame) -> None:
        """Write a table.

        Raises:
            TryAgainError: The disk is full or refuses.
        """
        self._count += 1
        if frame.is_empty():  # of which a file keeps nothing
            self._empty.append((self._count - 1, frame))
            return
        with written(self._folder):
            if self._file is None:
                self._folder.mkdir(parents=True, exist_ok=True)
                self._file = TemporaryFile(dir=self._folder)  # noqa: SIM115 - it is open until all is written
                finalize(self, self._file.close)
            table = frame.rechunk().to_arrow(compat_level=pl.CompatLevel.newest())
            if self._writer is None:
                self._writer = pa.ipc.new_file(self._file, table.schema)
            self._writer.write_table(table)

    def read(self) -> list[pl.DataFrame]:
        """All tables in the order in which they came; no more may be added.

        Raises:
            TryAgainError: The disk is full or refuses.
        """
        frames = []
        if self._file is not None and self._writer is not None:
            with written(self._folder), self._file as file:
                self._writer.close()
                file.flush()
                pages = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            _MAPPINGS.add(pages)
            reader = pa.ipc.open_file(pa.py_buffer(pages))
            for number in range(reader.num_record_batches):
                frame = pl.from_arrow(pa.Table.from_batches([reader.get_batch(number)]), rechunk=False)
                assert isinstance(frame, pl.DataFrame)  # of a table
                frames.append(frame)
        for position, frame in self._empty:
            frames.insert(position, frame)
        return frames


def mapped(frames: Iterable[pl.DataFrame], config: Config) -> pl.DataFrame:
    """One table of several, in a file mapped into memory (`MappedTables`); each of them is a chunk.

    Args:
        frames: One or more of the same columns; each is let go when it is written.
        config: The output folder, on whose disk the file lies.

    Raises:
        TryAgainError: The disk is full or refuses.
    """
    tables = MappedTables(config)
    with written(Path(config.output)):  # what makes the tables may write too
        for frame in frames:
            tables.add(frame)
            del frame
    parts = tables.read()
    give_back()
    if not parts:
        raise ValueError("no table to write")
    return pl.concat(parts, rechunk=False)


def mapped_array(rows: int, width: int, config: Config) -> npt.NDArray[np.int16]:
    """A writable array of zeros, (rows, width), in a nameless mapped file.

    Raises:
        TryAgainError: The disk is full or refuses.
    """
    folder = Path(config.output)
    size = max(rows * width * np.dtype(np.int16).itemsize, 1)
    with written(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with written(folder), TemporaryFile(dir=folder) as file:
        os.posix_fallocate(file.fileno(), 0, size)  # now, since a write into a mapping cannot say that the disk is full
        pages = mmap.mmap(file.fileno(), size)
    _MAPPINGS.add(pages)
    give_back()
    return np.frombuffer(pages, np.int16, rows * width).reshape(rows, width)


def let_go() -> None:
    """Release the memory of all mapped pages; reading them again takes them from the system's cache."""
    for pages in _MAPPINGS:
        pages.madvise(mmap.MADV_DONTNEED)


def give_back() -> None:
    """Give memory that was freed back to the system: the C library keeps gigabytes of it, which count as taken."""
    with suppress(OSError, AttributeError, TypeError):  # a library of another kind keeps none, or has no such call
        ctypes.CDLL(None).malloc_trim(0)


def list_batches(rows: pl.DataFrame, *, about: int = _ROWS) -> Iterator[pl.DataFrame]:
    """Batches of rows without a copy, never splitting a request; one empty batch for no rows.

    Args:
        rows: With `request`; rows of a request together.
        about: Rows of a batch, unless a single request has more.
    """
    ends = np.cumsum(rows["request"].rle().struct.field("len").to_numpy().astype(np.int64))
    start = 0
    while start < rows.height:
        end = ends[max(np.searchsorted(ends, start + about, side="right") - 1, np.searchsorted(ends, start + 1))]
        yield rows.slice(start, end - start)
        let_go()
        start = int(end)
    if rows.is_empty():
        yield rows


def picked(rows: pl.DataFrame, pick: Callable[[pl.DataFrame], pl.DataFrame], config: Config) -> pl.DataFrame:
    """Apply `pick` to batches of whole requests, and keep the result as `mapped` does."""
    return mapped(map(pick, list_batches(rows)), config)
