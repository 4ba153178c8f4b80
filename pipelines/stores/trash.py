"""What is removed so that a kill leaves nothing half-readable, and what kills left.

A folder is first renamed to a name that nothing of ours reads (``.HEX.gone``) and then removed, so that who comes
meanwhile finds all of it or nothing. Files appear by a rename too (`pipelines.stores.storage.atomic_writer`), from
``.HEX.tmp``. Both kinds of names are left by kills alone.
"""

import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from pipelines.base.outside import written

__all__ = ["ABANDONED_SECONDS", "discard", "emptied", "leftovers", "size_of"]

ABANDONED_SECONDS = 86_400.0
"""Age from which a file that is being written is taken for one that a killed process left."""
_TEMPORARY = re.compile(r"\.[0-9a-f]{32}\.tmp")
_GONE = re.compile(r"\.[0-9a-f]{32}\.gone")


def discard(folder: Path) -> Path:
    """Take a folder out of the way in one step; returns what `emptied` removes.

    Raises:
        TryAgainError: The disk refuses.
    """
    gone = folder.with_name(f".{uuid4().hex}.gone")
    with written(folder):
        folder.rename(gone)
    return gone


def emptied(path: Path) -> None:
    """Remove a file or a folder that nobody reads any more.

    Raises:
        TryAgainError: The disk refuses.
    """
    with written(path), suppress(FileNotFoundError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def leftovers(root: Path, *, seconds: float = ABANDONED_SECONDS) -> Iterator[Path]:
    """What kills left below a folder: discarded folders, and unfinished files of some age."""
    for parent, folders, files in os.walk(root):
        gone = [name for name in folders if _GONE.fullmatch(name)]
        yield from (Path(parent, name) for name in gone)
        folders[:] = [name for name in folders if name not in gone]
        for path in (Path(parent, name) for name in files if _TEMPORARY.fullmatch(name)):
            with suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime >= seconds:
                    yield path


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files below a folder."""
    size = 0
    for file in path.rglob("*") if path.is_dir() else (path,):
        with suppress(FileNotFoundError):
            size += file.stat().st_size if file.is_file() else 0
    return size
