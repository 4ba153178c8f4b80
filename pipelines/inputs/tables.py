"""Tables on disk: lists their files, reads them one by one, and brings each column to one type.

No file is skipped silently: those that are not read are counted and named, and an unreadable one stops the job.
"""

import glob
import gzip
import hashlib
import io
import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import dataframely as dy
import polars as pl

from features.errors import ConfigError, ContractError, IntegrityError, TryAgainError, listed
from features.tables.dtypes import as_ids, stacked
from features.tables.schemas import Clicks, Events, Items, Offers, SuppliedCandidates, Users
from pipelines.base.config import TableConfig
from pipelines.inputs.delimited import parse_csv
from pipelines.inputs.json_lines import parse_json_lines

__all__ = [
    "SUFFIXES",
    "Files",
    "RawTable",
    "content_of",
    "fingerprint_of",
    "read_file",
    "read_raw",
    "refuse_empty",
    "stacked_files",
    "table_files",
    "with_partition_columns",
]

_PARQUET, _DELIMITED = (".parquet",), (".csv", ".tsv", ".inter", ".item", ".user")
_JSON_LINES = (".jsonl", ".ndjson")
_TEXTS = tuple(suffix + packed for suffix in (*_DELIMITED, *_JSON_LINES) for packed in ("", ".gz"))
SUFFIXES = (*_PARQUET, *_TEXTS)
"""How the names of files end that are read."""
_GZIP, _PARQUET_MAGIC, _ZIP = b"\x1f\x8b", b"PAR1", b"PK\x03\x04"
_HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"
_SCHEMAS: dict[str, type[dy.Schema]] = {
    "items": Items,
    "events": Events,
    "users": Users,
    "candidates": SuppliedCandidates,
    "offers": Offers,
    "clicks": Clicks,
}


@dataclass(frozen=True, slots=True)
class Files:
    """The files of a table.

    Attributes:
        root: The folder that the table's path starts from.
        paths: The files that are read, in order.
        left_out: Paths below the root of those that are not: hidden ones, and those with another suffix.
    """

    root: Path
    paths: Sequence[Path]
    left_out: Sequence[str]

    def relative(self, file: Path) -> str:
        """A file's path below the root."""
        return file.relative_to(self.root).as_posix()


@dataclass(frozen=True, slots=True)
class RawTable:
    """A table as it lies on disk, with the contract's column names.

    Attributes:
        frame: All its rows; file by file in the order of paths.
        fingerprint: sha256 over paths (below the table's folder) and contents of its files.
        files: Path below the table's folder and number of rows of each file, in order.
        left_out: Paths of the files that were not read.
    """

    frame: pl.DataFrame
    fingerprint: str
    files: Sequence[tuple[str, int]]
    left_out: Sequence[str] = ()


def read_raw(table: TableConfig, *, name: str, allow_empty: bool = False) -> RawTable:
    """Read all files of a table.

    Args:
        table: Path, column names, constants.
        name: How messages call the table.
        allow_empty: Whether a partition without rows is fine.

    Raises:
        ConfigError: No file there.
        IntegrityError: A file is truncated, empty or otherwise unreadable.
        ContractError: A partition has no rows, a CSV is not one, an id is none, or files disagree about the type of a
            column; the faults of all files are named.
    """
    files = table_files(table, name=name)
    parts: list[pl.DataFrame] = []
    read: list[tuple[str, str]] = []
    faults: list[str] = []
    for file in files.paths:
        try:
            frame, sha256 = read_file(file, files, table, name=name)
        except ContractError as error:
            faults.append(str(error))
            continue
        parts.append(frame)
        read.append((files.relative(file), sha256))
    if faults:
        raise ContractError("\n".join(faults))
    if not allow_empty:
        refuse_empty([path for (path, _), frame in zip(read, parts, strict=True) if frame.is_empty()], read, name)
    counted = [(path, frame.height) for (path, _), frame in zip(read, parts, strict=True)]
    return RawTable(stacked_files(parts, table, name=name), fingerprint_of(read), counted, files.left_out)


def table_files(table: TableConfig, *, name: str) -> Files:
    """The files of a table: one that is named, all below a folder, or those that a glob finds.

    Links to files and folders are followed. Files and folders whose names begin with `.` or `_` are no data, nor are
    files with another suffix (in any case); `left_out` lists these.

    Raises:
        ConfigError: No file there.
        ContractError: A link leads nowhere, a folder cannot be read, or a name is no UTF-8.
    """
    root = _root(table.path)
    files = sorted(set(_all_files(table.path, root, name)))
    named = Path(table.path)
    data = [file for file in files if _is_data(file) and (file == named or not _is_hidden(file, root))]
    # NOTE: a link beside what it leads to is the same file, and is read once: where it really lies, if that is here.
    by_real_path = {
        os.path.realpath(file): file for file in sorted(data, key=lambda file: str(file) == os.path.realpath(file))
    }
    wanted = sorted(by_real_path.values())
    for file in files:
        _refuse_unnamed(file, root, name)
    left_out = [file.relative_to(root).as_posix() for file in files if file not in set(wanted)]
    if not wanted:
        there = f" It has {listed(left_out)}." if left_out else ""
        raise ConfigError(
            f"data.{name}.path: no {', '.join((*_PARQUET, *_DELIMITED, *_JSON_LINES))} file at {table.path!r}.{there}"
        )
    return Files(root, wanted, left_out)


def _root(path: str) -> Path:
    """The root folder of a path: itself, a file's folder, or the existing part before the first wildcard."""
    named = Path(path)
    if named.exists() or named.is_symlink():
        return named if named.is_dir() else named.parent
    # NOTE: what is there is no wildcard, even if it has brackets in its name.
    return next(parent for parent in named.parents if parent.is_dir() or parent == parent.parent)


def _all_files(path: str, root: Path, name: str) -> Iterator[Path]:
    """All files at a path; those of a folder that a glob finds too."""
    named = Path(path)
    if named.exists() or named.is_symlink():
        starts = [named]
    else:
        pattern = str(named.relative_to(root))
        starts = [root / match for match in glob.glob(pattern, root_dir=root, recursive=True)]  # noqa: PTH207
    for start in starts:
        if start.is_dir():
            yield from _below(start, name)
        else:
            yield _existing(start, name)


def _below(folder: Path, name: str) -> Iterator[Path]:
    """All files below a folder, through links, each folder once on any way down."""

    def refuse(error: OSError) -> None:
        raise ContractError(f"{name}: folder {error.filename!r} cannot be read ({error.strerror}). Make it readable.")

    start = Path(os.path.realpath(folder))
    above: dict[str, frozenset[str]] = {str(folder): frozenset(map(str, start.parents))}
    for parent, folders, files in os.walk(folder, followlinks=True, onerror=refuse):
        way = above.pop(parent) | {os.path.realpath(parent)}
        folders[:] = [inner for inner in folders if os.path.realpath(Path(parent, inner)) not in way]
        above |= {str(Path(parent, inner)): way for inner in folders}
        yield from (_existing(Path(parent, file), name) for file in files)


def _existing(file: Path, name: str) -> Path:
    if not file.exists():
        raise ContractError(f"{name}: {str(file)!r} is a link that leads nowhere. Restore what it meant, or remove it.")
    return file


def _is_data(file: Path) -> bool:
    return file.is_file() and file.name.lower().endswith(SUFFIXES)


def _is_hidden(file: Path, root: Path) -> bool:
    return any(part.startswith(("_", ".")) for part in file.relative_to(root).parts)


def _refuse_unnamed(file: Path, root: Path, name: str) -> None:
    relative = file.relative_to(root).as_posix()
    try:
        relative.encode()
    except UnicodeEncodeError as error:
        raise ContractError(f"{name}: the name of {relative!r} is no UTF-8 text. Rename it.") from error


def read_file(file: Path, files: Files, table: TableConfig, *, name: str) -> tuple[pl.DataFrame, str]:
    """The rows of one file, and its sha256: contract column names, partition columns, ids as text or Int64.

    Raises:
        IntegrityError: The file is truncated, empty or otherwise unreadable.
        ContractError: A CSV is not one, or an id is none; says the file, the column or line, and the remedy.
    """
    content = content_of(file, name)
    untyped = not content.startswith(_PARQUET_MAGIC)
    relative = files.relative(file)
    try:
        is_json = file.name.lower().removesuffix(".gz").endswith(_JSON_LINES)
        parse = parse_json_lines if is_json else parse_csv if untyped else _parquet
        whole = with_partition_columns(parse(content), Path(relative))
        named = _with_ids(_renamed(whole, table), _ids_of(name), untyped=untyped and not is_json)
        return named, hashlib.sha256(content).hexdigest()
    except ContractError as error:
        raise ContractError(f"{name}: {relative}: {error}") from error
    except pl.exceptions.DuplicateError as error:
        raise ContractError(
            f"{name}: {relative}: two of its columns have one name. Give each a name of its own."
        ) from error
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        words = next(iter(str(error).splitlines()), type(error).__name__)
        raise IntegrityError(f"{name}: {file} is no complete Parquet file ({words}). Fetch it again.") from error


def content_of(file: Path, name: str) -> bytes:
    """The bytes of a file, unpacked.

    Raises:
        IntegrityError: It is truncated or empty.
        ContractError: It is something else than its suffix says.
        TryAgainError: It cannot be read.
    """
    try:
        content = file.read_bytes()
        if file.name.lower().endswith(".gz") or content.startswith(_GZIP):
            content = gzip.decompress(content)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise IntegrityError(f"{name}: {file} is no complete gzip file. Fetch it again.") from error
    except OSError as error:
        raise TryAgainError(f"{name}: {file} cannot be read ({error.strerror}). See to its permissions.") from error
    if not content:
        raise IntegrityError(f"{name}: {file} has zero bytes. Fetch it again.")
    is_parquet = content.startswith(_PARQUET_MAGIC)
    named_parquet = file.name.lower().endswith(_PARQUET)
    if named_parquet and not is_parquet:
        raise IntegrityError(f"{name}: {file} is no complete Parquet file (it does not begin as one). Fetch it again.")
    if content.startswith(_ZIP) or is_parquet != named_parquet:
        kind = "a ZIP archive" if content.startswith(_ZIP) else "a Parquet file"
        raise ContractError(f"{name}: {file} is {kind}, whatever its name says. Unpack it, or give it its suffix.")
    return content


def _parquet(content: bytes) -> pl.DataFrame:
    return pl.read_parquet(io.BytesIO(content))


def with_partition_columns(frame: pl.DataFrame, path: Path) -> pl.DataFrame:
    """Add the columns of folder names such as ``extracted_at=2024-05-02``, unless the file has them."""
    pairs = dict(part.split("=", 1) for part in path.parts[:-1] if "=" in part)
    return frame.with_columns(
        pl.lit(None if value == _HIVE_NULL else unquote(value), pl.String).alias(key)
        for key, value in pairs.items()
        if key not in frame.columns
    )


def _renamed(frame: pl.DataFrame, table: TableConfig) -> pl.DataFrame:
    """Add the contract's column names; the file's own stay beside them, since an attribute may refer to them."""
    mapped = [pl.col(theirs).alias(ours) for ours, theirs in table.columns.items() if theirs in frame.columns]
    others = [column for column in frame.columns if column not in table.columns]
    return frame.select(*others, *mapped)


def _ids_of(table: str) -> frozenset[str]:
    """Id columns of a table; none of other systems' scores, whose reader counts the values that are no ids."""
    columns = _SCHEMAS[table].columns() if table in _SCHEMAS else {}
    return frozenset(name for name, column in columns.items() if isinstance(column, dy.Any))


def _with_ids(frame: pl.DataFrame, ids: frozenset[str], *, untyped: bool) -> pl.DataFrame:
    """Ids as text or Int64.

    Raises:
        ContractError: Values are no ids; all columns are named.
    """
    columns, faults = [], []
    for name in sorted(ids.intersection(frame.columns)):
        try:
            columns.append(as_ids(frame[name], untyped=untyped))
        except ContractError as error:
            faults.append(f"column {name!r}: {error}")
    if faults:
        raise ContractError("; ".join(faults))
    return frame.with_columns(columns)


def stacked_files(frames: Sequence[pl.DataFrame], table: TableConfig, *, name: str) -> pl.DataFrame:
    """Files as `read_file` reads them, one below the other, with the table's constants.

    Raises:
        ContractError: They disagree about the type of a column, or lack one that the configuration names.
    """
    try:
        frame = stacked(frames)
    except ContractError as error:
        raise ContractError(f"{name}: {error}") from error
    missing = [theirs for ours, theirs in table.columns.items() if ours not in frame.columns]
    if missing:
        raise ContractError(
            f"{name}: missing {'columns' if len(missing) > 1 else 'column'} {listed(missing, most=50)}, "
            f"which data.{name}.columns names; the table has {listed(frame.columns, most=20)}."
        )
    return frame.with_columns(pl.lit(value).alias(column) for column, value in table.constants.items())


def fingerprint_of(files: Iterable[tuple[str, str]]) -> str:
    """sha256 over paths (below the table's folder) and contents of a table's files, in order."""
    digest = hashlib.sha256()
    for path, sha256 in files:
        digest.update(path.encode() + bytes.fromhex(sha256))
    return digest.hexdigest()


def refuse_empty(empty: Sequence[str], files: Sequence[object], name: str) -> None:
    """Refuse files without rows.

    Raises:
        ContractError: Names them.
    """
    if empty:
        raise ContractError(
            f"{name}: {len(empty)} of {len(files)} files have no rows ({listed(empty)}). If that is right (a "
            "day without events), say so with --allow-empty."
        )
