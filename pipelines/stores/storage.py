"""Files out, written whole or not at all, and JSON in."""

import fcntl
import hashlib
import io
import json
import os
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

import polars as pl

from features.errors import IntegrityError, TryAgainError
from pipelines.base.outside import written

__all__ = [
    "alone",
    "apply_umask",
    "atomic_writer",
    "keep_json",
    "read_json",
    "read_parquet",
    "sha256_of",
    "write_json",
    "write_parquet",
]


@contextmanager
def atomic_writer(path: Path) -> Iterator[IO[bytes]]:
    """A file that appears under its name complete, or not at all.

    Raises:
        TryAgainError: The disk is full or refuses.
        ConfigError: There can be no file of that name.
    """
    folder = path.parent
    temporary = folder / f".{uuid4().hex}.tmp"
    try:
        with written(path):
            folder.mkdir(parents=True, exist_ok=True)
            with temporary.open("xb") as file:  # with the permissions that the umask gives, unlike tempfile's
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
            _sync_folder(folder)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def alone(lock: Path, *, seconds: float, doing: str) -> Iterator[None]:
    """Context that one process of a machine is in at a time, while others wait.

    Args:
        lock: File that is locked; it stays.
        seconds: For which others wait.
        doing: What the one in it does, for the message of those who have waited for long.

    Raises:
        TryAgainError: The file cannot be made, or another process does not come to an end.
    """
    with written(lock):
        lock.parent.mkdir(parents=True, exist_ok=True)
        file = lock.open("a")
    until = time.monotonic() + seconds
    with file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > until:
                    raise TryAgainError(
                        f"another command is {doing} and holds {lock}. Run it again when that is done."
                    ) from error
                time.sleep(0.05)
        yield


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_parquet(frame: pl.DataFrame, path: Path) -> str:
    """Write a table; returns its sha256."""
    buffer = io.BytesIO()
    frame.write_parquet(buffer, compression="zstd", statistics=True)
    with atomic_writer(path) as file:
        file.write(buffer.getvalue())
    return hashlib.sha256(buffer.getvalue()).hexdigest()


def read_parquet(path: Path, columns: Sequence[str] | None = None) -> pl.DataFrame:
    """Read one table of ours; no character of its path is a wildcard, and no folder's name a column."""
    chosen = None if columns is None else list(columns)
    return pl.read_parquet(path, columns=chosen, glob=False, hive_partitioning=False)


def write_json(value: Any, path: Path) -> None:  # noqa: ANN401 - whatever json takes
    """Write JSON with sorted keys, so that equal values make equal bytes."""
    with atomic_writer(path) as file:
        file.write(_json(value))


def keep_json(value: Any, path: Path) -> str:  # noqa: ANN401
    """The same, unless it stands there already; returns its sha256."""
    digest = hashlib.sha256(_json(value)).hexdigest()
    if not path.is_file() or sha256_of(path) != digest:
        write_json(value, path)
    return digest


def _json(value: Any) -> bytes:  # noqa: ANN401
    return (json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n").encode()


def read_json(path: Path, *, what: str) -> Any:  # noqa: ANN401
    """Read JSON.

    Raises:
        IntegrityError: Missing, or no JSON.
        TryAgainError: This account may not read it, or the disk refuses.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        raise IntegrityError(f"{what}: {path} is missing or no JSON.") from error
    except OSError as error:
        raise TryAgainError(f"{what}: {path} cannot be read ({error.strerror}). See to its permissions.") from error


def apply_umask(folder: Path) -> None:
    """Set permissions below a folder, and its own, as the umask would: some libraries write files for one account only.

    Raises:
        TryAgainError: The disk refuses.
    """
    sample = folder.parent / f".{uuid4().hex}"
    with written(folder):
        sample.mkdir()
        mode = stat.S_IMODE(sample.stat().st_mode)
        sample.rmdir()
        for path in (folder, *folder.rglob("*")):
            if not path.is_symlink():
                path.chmod(mode if path.is_dir() else mode & 0o666)


def sha256_of(path: Path) -> str:
    """sha256 of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
