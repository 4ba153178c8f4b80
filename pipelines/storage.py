"""Files in and out: tables read file by file, everything written whole or not at all."""

import glob
import gzip
import hashlib
import io
import json
import os
import stat
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote
from uuid import uuid4

import polars as pl

from features.errors import ConfigError, ContractError, IntegrityError, TryAgainError, listed
from pipelines.config import TableConfig
from pipelines.outside import written

__all__ = [
    "RawTable",
    "apply_umask",
    "atomic_writer",
    "fingerprint_of",
    "read_file",
    "read_json",
    "read_raw",
    "refuse_empty",
    "sha256_of",
    "stacked",
    "table_files",
    "write_json",
    "write_parquet",
]

_SUFFIXES = (".parquet", ".csv", ".csv.gz")


@dataclass(frozen=True, slots=True)
class RawTable:
    """A table as it lies on disk, under our column names.

    Attributes:
        frame: All its rows; file by file in the order of paths.
        fingerprint: sha256 over places (below the table's folder) and contents of its files.
        files: How many.
    """

    frame: pl.DataFrame
    fingerprint: str
    files: int


def read_raw(table: TableConfig, *, name: str, allow_empty: bool = False) -> RawTable:
    """Read all files of a table.

    Args:
        table: Path, column names, constants.
        name: How messages call the table.
        allow_empty: Whether a partition without rows is fine.

    Raises:
        ConfigError: No file there.
        IntegrityError: A file is truncated, empty or otherwise unreadable.
        ContractError: A partition has no rows, or files disagree about the type of a column.
    """
    root, files = table_files(table, name=name)
    parts, told = [], []
    for file in files:
        frame, sha256 = read_file(file, root, name=name)
        parts.append(frame)
        told.append((file.relative_to(root).as_posix(), sha256))
    if not allow_empty:
        refuse_empty([place for (place, _), frame in zip(told, parts, strict=True) if frame.is_empty()], told, name)
    return RawTable(stacked(parts, table, name=name), fingerprint_of(told), len(files))


def table_files(table: TableConfig, *, name: str) -> tuple[Path, list[Path]]:
    """The folder that a table's path starts from, and its files in order.

    Raises:
        ConfigError: No file there.
    """
    root = _root(table.path)
    files = _files(table.path, root)
    if not files:
        raise ConfigError(f"data.{name}.path: no {', '.join(_SUFFIXES)} file at {table.path!r}.")
    return root, files


def read_file(file: Path, root: Path, *, name: str) -> tuple[pl.DataFrame, str]:
    """The rows of one file, under the names they have there and with what its folders say; and sha256 of its content.

    Raises:
        IntegrityError: The file is truncated, empty or otherwise unreadable.
    """
    content = _bytes(file, name)
    frame = _with_partition_columns(_parsed(file, content, name), file.relative_to(root))
    return frame, hashlib.sha256(content).hexdigest()


def fingerprint_of(files: Sequence[tuple[str, str]]) -> str:
    """sha256 over places (below the table's folder) and contents of a table's files, in order."""
    digest = hashlib.sha256()
    for place, sha256 in files:
        digest.update(place.encode() + bytes.fromhex(sha256))
    return digest.hexdigest()


def refuse_empty(empty: Sequence[str], files: Sequence[object], name: str) -> None:
    """Stop where files have no rows.

    Raises:
        ContractError: Names them.
    """
    if empty:
        raise ContractError(
            f"{name}: {len(empty)} of {len(files)} files have no rows ({listed(empty)}). If that is right (a "
            "day without events), say so with --allow-empty."
        )


def _root(path: str) -> Path:
    """The folder that a path starts from: itself, a file's own, or what stands before the first wildcard."""
    named = Path(path)
    if named.exists():
        return named if named.is_dir() else named.parent
    return Path(*takewhile(lambda part: not glob.has_magic(part), named.parts))


def _files(path: str, root: Path) -> list[Path]:
    """Table files at a path, in order; files and folders that are hidden or start with `_` are no data."""
    if Path(path).exists():
        found = root.rglob("*") if Path(path).is_dir() else iter([Path(path)])
    else:
        found = map(Path, glob.glob(path, recursive=True))  # noqa: PTH207
    return sorted(
        file
        for file in found
        if file.is_file()
        and file.name.endswith(_SUFFIXES)
        and not any(part.startswith(("_", ".")) for part in file.relative_to(root).parts)
    )


def _bytes(file: Path, name: str) -> bytes:
    try:
        content = file.read_bytes()
        if file.suffix == ".gz":
            content = gzip.decompress(content)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise IntegrityError(f"{name}: {file} is no complete gzip file. Fetch it again.") from error
    except OSError as error:
        raise TryAgainError(f"{name}: {file} cannot be read ({error.strerror}).") from error
    if not content:
        raise IntegrityError(f"{name}: {file} has zero bytes. Fetch it again.")
    return content


def _parsed(file: Path, content: bytes, name: str) -> pl.DataFrame:
    try:
        if file.suffix == ".parquet":
            return pl.read_parquet(io.BytesIO(content))
        # NOTE: All columns as text: the contract casts, and no id loses its leading zeros to a guess.
        return pl.read_csv(io.BytesIO(content), infer_schema=False, encoding="utf8-lossy")
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        kind = "Parquet" if file.suffix == ".parquet" else "CSV"
        raise IntegrityError(f"{name}: {file} is no complete {kind} file. Fetch it again.") from error


def _with_partition_columns(frame: pl.DataFrame, place: Path) -> pl.DataFrame:
    """Columns that folder names such as ``extracted_at=2024-05-02`` hold, unless the file has them."""
    pairs = dict(part.split("=", 1) for part in place.parts[:-1] if "=" in part)
    return frame.with_columns(
        pl.lit(unquote(value)).alias(key) for key, value in pairs.items() if key not in frame.columns
    )


def stacked(frames: Sequence[pl.DataFrame], table: TableConfig, *, name: str) -> pl.DataFrame:
    """Files one below the other, under our column names.

    Raises:
        ContractError: They disagree about the type of a column, or lack one that the configuration names.
    """
    try:
        return _renamed(pl.concat(frames, how="diagonal_relaxed"), table, name)
    except pl.exceptions.PolarsError as error:
        fault = str(error).splitlines()[0]
        raise ContractError(f"{name}: its files disagree about the type of a column ({fault}).") from error


def _renamed(frame: pl.DataFrame, table: TableConfig, name: str) -> pl.DataFrame:
    missing = [theirs for theirs in table.columns.values() if theirs not in frame.columns]
    if missing:
        raise ContractError(
            f"{name}: missing {'columns' if len(missing) > 1 else 'column'} {listed(missing, most=50)}, "
            f"which data.{name}.columns names; the table has {listed(frame.columns, most=20)}."
        )
    mapped = [pl.col(theirs).alias(ours) for ours, theirs in table.columns.items()]
    others = [column for column in frame.columns if column not in table.columns]
    constants = [pl.lit(value).alias(column) for column, value in table.constants.items()]
    return frame.select(*others, *mapped).with_columns(constants)


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


def write_json(value: Any, path: Path) -> None:  # noqa: ANN401 - whatever json takes
    """Write JSON with sorted keys, so that equal values make equal bytes."""
    with atomic_writer(path) as file:
        file.write((json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n").encode())


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
    """Give every file and folder below a folder, and itself, what the umask gives: libraries keep theirs to themselves.

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
