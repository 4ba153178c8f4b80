"""Tables larger than memory should hold: written to disk as they come, and read back as if they were there."""

import mmap
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryFile
from weakref import WeakSet

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from pipelines.config import Config
from pipelines.outside import written

__all__ = ["let_go", "list_batches", "mapped", "mapped_array", "picked"]

_ROWS = 50_000  # rows that are filtered at a time
_MAPPINGS: WeakSet[mmap.mmap] = WeakSet()  # that something still reads


def mapped(frames: Iterable[pl.DataFrame], config: Config) -> pl.DataFrame:
    """Some tables one after the other, in an uncompressed Arrow file that is mapped into memory.

    The file has no name: nobody else sees it, and it goes with the last table that reads it, or with the process. The
    columns stand in as many chunks as there were tables.

    Args:
        frames: One or more of the same columns; each is let go when it is written.
        config: The output folder, on whose disk the file lies.

    Raises:
        TryAgainError: The disk is full or refuses.
    """
    folder = Path(config.output)
    with written(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with written(folder), TemporaryFile(dir=folder) as file:
        writer = None
        for frame in frames:
            table = frame.rechunk().to_arrow(compat_level=pl.CompatLevel.newest())
            if writer is None:
                writer = pa.ipc.new_file(file, table.schema)
            writer.write_table(table)
            del frame, table
        if writer is None:
            raise ValueError("no table to write")
        writer.close()
        file.flush()
        pages = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    _MAPPINGS.add(pages)
    found = pl.from_arrow(pa.ipc.open_file(pa.py_buffer(pages)).read_all(), rechunk=False)
    assert isinstance(found, pl.DataFrame)  # a table was written
    return found


def mapped_array(rows: int, width: int, config: Config) -> npt.NDArray[np.int16]:
    """An array of (rows, width) zeros to be written, in such a file.

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
    return np.frombuffer(pages, np.int16, rows * width).reshape(rows, width)


def let_go() -> None:
    """Give back the memory of all pages that were read: whoever reads them again finds them in the system's cache."""
    for pages in _MAPPINGS:
        pages.madvise(mmap.MADV_DONTNEED)


def list_batches(rows: pl.DataFrame, *, about: int = _ROWS) -> Iterator[pl.DataFrame]:
    """Rows some at a time, without a copy, and never a part of a request; one without rows for none.

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
    """What is picked from rows, batch by batch and each request as a whole, as `mapped` keeps it."""
    return mapped(map(pick, list_batches(rows)), config)
