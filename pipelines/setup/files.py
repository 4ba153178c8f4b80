"""The tables in a folder: which files belong together, and enough of their rows to say what they are.

Of a large table only parts are read: the first rows and, of Parquet, some from its midst and its end.
"""

import csv
import gzip
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import polars as pl

from features.errors import ConfigError, ContractError, IntegrityError, listed
from pipelines.base.config import TableConfig
from pipelines.inputs.delimited import parse_csv, parse_unquoted
from pipelines.inputs.json_lines import parse_json_lines
from pipelines.inputs.tables import SUFFIXES, Files, content_of, read_file, table_files, with_partition_columns
from pipelines.setup.profile import INVENTED, LABELLED_LIST, Column, columns_of

__all__ = ["CONVERTED", "Table", "is_headless", "look", "table_at"]

CONVERTED = "nightrank-tables"
"""Folder of the tables that are written, where somebody's own cannot be read as they are."""

_WHOLE_BYTES = 48_000_000  # of a text file as it lies on disk: smaller ones are read whole
_HEAD_BYTES = 8_000_000
_WHOLE_ROWS = 300_000  # of Parquet: smaller tables are read whole
_PART_ROWS, _PARTS = 20_000, 8
_FILES_SEEN = 5
_SEPARATORS = "\t,;|"
_FIRST_LINES = 200
_EXCEL = (".xlsx", ".xls", ".ods")
_DATA = r"^[+-]?\d+([.,]\d+)?$|^\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}([ T].*)?$"


@dataclass(frozen=True, eq=False)
class Table:
    """A table in a folder.

    Attributes:
        name: Its path below the folder: a file, a folder, or a glob.
        files: Its files.
        sample: Some of its rows; all of them where `whole`.
        n_rows: How many it has; of large text files an estimate.
        whole: Whether the sample is the table.
        headless: Whether its files have no header, so that the names of its columns are invented.
        converted: Why it is written anew, where its files cannot be read as they are; empty where they can.
    """

    name: str
    files: Files
    sample: pl.DataFrame
    n_rows: int
    whole: bool
    headless: bool = False
    converted: tuple[str, ...] = ()

    @property
    def counted(self) -> bool:
        """Whether `n_rows` is exact."""
        return self.whole or all(file.name.lower().endswith(".parquet") for file in self.files.paths)

    @cached_property
    def columns(self) -> dict[str, Column]:
        """Its columns, by the rows seen."""
        return columns_of(self.sample, invented=self.headless)

    def read(self, columns: Sequence[str]) -> pl.DataFrame:
        """All rows of some columns."""
        if self.whole:
            return self.sample.select(columns)
        return pl.concat([_columns(file, self, columns) for file in self.files.paths], how="vertical_relaxed")


def look(folder: Path) -> list[Table]:
    """The tables in a folder, by name.

    Files below one folder are one table where they have the same columns, and so are files whose names differ in digits
    alone. Folders and files of ours, hidden ones, and what is no table are left out.

    Raises:
        ConfigError: No such folder, or no table in it.
        ContractError: A file is not what it seems; see `pipelines.inputs.tables.read_file`.
        IntegrityError: A file is truncated.
    """
    if not folder.is_dir():
        raise ConfigError(f"init: no folder at {str(folder)!r}. Name the folder that holds your files.")
    names = sorted(_data_files(folder))
    if not names:
        raise ConfigError(
            f"init: no table in {str(folder)!r}: no .parquet, .csv, .tsv or .jsonl file. {_excel(folder)}"
        )
    return sorted(_grouped(folder, names), key=lambda table: table.name)


def table_at(folder: Path, path: str) -> Table:
    """The table that a path names: a file, a folder or a glob; below the folder, or else anywhere.

    Raises:
        ConfigError: No file there.
    """
    there = folder / path
    if not there.exists() and Path(path).exists():
        there = Path(path)
    if not there.exists() and not set(path) & set("*?["):
        raise ConfigError(f"init: no file or folder at {str(there)!r}. Name one that lies below {str(folder)!r}.")
    return _table(path if there.is_relative_to(folder) and there != Path(path) else str(there), there)


def is_headless(first: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    """Whether the first line of a file is data like the others, and no header.

    It is where a field is a number, a date or a list such as stands below it, or an id like those below it, where
    two fields are alike, or where one is empty.

    >>> is_headless(["N1", "sports"], [["N2", "news"], ["N3", "food"]])
    True
    >>> is_headless(["user0", "item0"], [["0", "17"], ["1", "23"]])
    False
    """
    if any(_is_datum(field) for field in first):
        return True
    same = [row for row in rows if len(row) == len(first)]
    if not same:
        return False
    return any(
        _frame_of(field) is not None and sum(_frame_of(row[index]) == _frame_of(field) for row in same) > len(same) / 2
        for index, field in enumerate(first)
    )


def _is_datum(field: str) -> bool:
    return bool(re.match(_DATA, field.strip()) or (" " in field and re.match(LABELLED_LIST, field)))


def _frame_of(value: str) -> str | None:
    """The letters before the digits of a code; None of what is no code with digits."""
    match = re.match(r"^([A-Za-z]{0,4})\d{2,}$", value.strip())
    return match[1] if match else None


def _data_files(folder: Path) -> Iterable[str]:
    """Places below a folder of the files that are tables."""
    for path in folder.rglob("*"):
        below = path.relative_to(folder)
        hidden = any(part.startswith((".", "_")) for part in below.parts)
        ours = below.parts[0] in {CONVERTED, "out", "mlruns"}
        if not hidden and not ours and path.is_file() and path.name.lower().endswith(SUFFIXES):
            yield below.as_posix()


def _excel(folder: Path) -> str:
    sheets = [path.name for path in folder.rglob("*") if path.suffix.lower() in _EXCEL]
    if not sheets:
        return "Put the catalogue and the log there."
    return f"Spreadsheets are not read ({listed(sorted(sheets))}): save each sheet as CSV (UTF-8)."


def _grouped(folder: Path, names: Sequence[str]) -> Iterable[Table]:
    """Tables of files that belong together."""
    groups: dict[str, list[str]] = {}
    for below in names:
        groups.setdefault(_pattern(below.split("/", 1)[0]), []).append(below)
    for pattern, members in groups.items():
        yield from _tables_of(folder, pattern, members)


def _tables_of(folder: Path, pattern: str, members: Sequence[str]) -> Iterable[Table]:
    """One table of all, if they have the same columns; else one for each pattern of paths, else one for each file."""
    if len(members) == 1 and "/" not in members[0]:
        yield _table(members[0], folder / members[0])
        return
    headers = {below: _header(folder / below) for below in members}
    if _alike(headers.values()):
        name = _common_name(pattern, members)
        yield _table(name, folder / name)
        return
    parts: dict[str, list[str]] = {}
    for below in members:
        parts.setdefault(_pattern(below), []).append(below)
    for part, inner in parts.items():
        whole = _alike(headers[below] for below in inner)
        for name in [part] if whole and len(inner) > 1 else inner:
            yield _table(name, folder / name)


def _pattern(below: str) -> str:
    """A path with a wildcard for each run of digits, and for what follows `=` in a folder's name.

    >>> _pattern("date=2024-05-02/part-0.parquet"), _pattern("movies.csv")
    ('date=*/part-*.parquet', 'movies.csv')
    """
    parts = [re.sub(r"=.*", "=*", part) if "=" in part else re.sub(r"\d+", "*", part) for part in below.split("/")]
    return "/".join(re.sub(r"\*([-_.T]\*)+", "*", part) if re.match(r"[A-Za-z]", part) else part for part in parts)


def _common_name(pattern: str, members: Sequence[str]) -> str:
    """What names all files of a table: their folder, or the pattern of their paths where that folder has wildcards."""
    if "*" not in pattern:
        return pattern
    patterns = {_pattern(below) for below in members}
    return patterns.pop() if len(patterns) == 1 else f"{pattern}/**/*"


def _alike(headers: Iterable[frozenset[str]]) -> bool:
    seen = list(headers)
    common, every = frozenset.intersection(*seen), frozenset[str]().union(*seen)
    return len(common) * 3 >= len(every) * 2


def _header(file: Path) -> frozenset[str]:
    """Names of a file's columns; of a headless one how many it has."""
    if file.name.lower().endswith(".parquet"):
        return frozenset(_parquet_schema(file))
    if _is_json(file):
        return frozenset(_head(file, file.name, headless=False, most=200_000).columns)
    first, rows = _first_lines(file)
    return frozenset({f"{len(first)} columns"} if is_headless(first, rows) else first)


def _parquet_schema(file: Path) -> Sequence[str]:
    try:
        return pl.read_parquet_schema(file).keys()  # type: ignore[return-value]
    except (pl.exceptions.PolarsError, OSError) as error:
        raise IntegrityError(f"init: {file} is no complete Parquet file. Fetch it again.") from error


def _table(name: str, path: Path) -> Table:
    files = table_files(TableConfig(path=str(path)), name="init")
    chosen = _spread(files.paths, _FILES_SEEN)
    headless = not chosen[0].name.lower().endswith(".parquet") and not _is_json(chosen[0])
    headless = headless and is_headless(*_first_lines(chosen[0]))
    parts, n_rows, whole = [], 0, len(chosen) == len(files.paths)
    for file in chosen:
        part, rows = _seen(file, files, headless=headless)
        parts.append(part)
        n_rows += rows
        whole = whole and rows == part.height
    if len(chosen) < len(files.paths):
        n_rows = _all_rows(files.paths, n_rows // len(chosen))
    sample = pl.concat(parts, how="diagonal_relaxed") if len(parts) > 1 else parts[0]
    return Table(name, files, sample, n_rows, whole, headless, ("its files have no header",) if headless else ())


def _all_rows(paths: Sequence[Path], usual: int) -> int:
    """Rows of all files: counted where they are Parquet, else estimated."""
    if all(file.name.lower().endswith(".parquet") for file in paths):
        rows = (pl.scan_parquet(file, glob=False, hive_partitioning=False) for file in paths)
        return sum(int(some.select(pl.len()).collect().item()) for some in rows)
    return usual * len(paths)


def _spread(paths: Sequence[Path], most: int) -> Sequence[Path]:
    """The first, the last, and some between."""
    if len(paths) <= most:
        return paths
    return [paths[index * (len(paths) - 1) // (most - 1)] for index in range(most)]


def _seen(file: Path, files: Files, *, headless: bool) -> tuple[pl.DataFrame, int]:
    """Rows of a file, and how many it has."""
    below = files.relative(file)
    if file.name.lower().endswith(".parquet"):
        return _parquet_sample(file, below)
    size = file.stat().st_size
    if size > _WHOLE_BYTES:
        head = _head(file, below, headless=headless, most=_HEAD_BYTES)
        packed = 4 if file.name.lower().endswith(".gz") else 1
        return with_partition_columns(head, Path(below)), max(
            head.height * packed * size // _HEAD_BYTES, head.height + 1
        )
    frame = _whole(file, files, headless=headless)
    return frame, frame.height


def _whole(file: Path, files: Files, *, headless: bool) -> pl.DataFrame:
    if not headless:
        return read_file(file, files, TableConfig(path="."), name="init")[0]
    try:
        return _headless(content_of(file, "init"))
    except ContractError as error:
        raise ContractError(f"init: {files.relative(file)}: {error}") from error


def _parquet_sample(file: Path, below: str) -> tuple[pl.DataFrame, int]:
    try:
        rows = pl.scan_parquet(file, glob=False, hive_partitioning=False)
        n_rows = int(rows.select(pl.len()).collect().item())
        if n_rows <= _WHOLE_ROWS:
            frame = rows.collect()
        else:
            starts = [part * (n_rows - _PART_ROWS) // (_PARTS - 1) for part in range(_PARTS)]
            frame = pl.concat([rows.slice(start, _PART_ROWS).collect() for start in starts])
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise IntegrityError(f"init: {below} is no complete Parquet file. Fetch it again.") from error
    return with_partition_columns(frame, Path(below)), n_rows


def _columns(file: Path, table: Table, columns: Sequence[str]) -> pl.DataFrame:
    """All rows of a file, some columns of the table; what the file lacks is null."""
    if file.name.lower().endswith(".parquet"):
        there = [name for name in columns if name in _parquet_schema(file)]
        frame = pl.scan_parquet(file, glob=False, hive_partitioning=False).select(there).collect()
        frame = with_partition_columns(frame, Path(table.files.relative(file)))
    else:
        frame = _whole(file, table.files, headless=table.headless)
    lacking = [pl.lit(None, table.sample.schema[name]).alias(name) for name in columns if name not in frame.columns]
    return frame.with_columns(lacking).select(columns)


def _is_json(file: Path) -> bool:
    return file.name.lower().removesuffix(".gz").endswith((".jsonl", ".ndjson"))


def _open_head(file: Path, most: int) -> bytes:
    try:
        with gzip.open(file) if file.name.lower().endswith(".gz") else file.open("rb") as opened:
            content: bytes = opened.read(most)
    except (OSError, EOFError) as error:
        raise IntegrityError(f"init: {file.name} cannot be read ({type(error).__name__}). Fetch it again.") from error
    if not content:
        raise IntegrityError(f"init: {file.name} has zero bytes. Fetch it again.")
    return content


def _first_lines(file: Path) -> tuple[list[str], list[list[str]]]:
    """The first line's fields, and those of the lines after it."""
    text = _open_head(file, 1_000_000).decode("utf-8-sig", "replace")
    lines = [line for line in text.splitlines()[: _FIRST_LINES + 1] if line.strip()]
    if not lines:
        raise IntegrityError(f"init: {file.name} has no lines. Fetch it again.")
    separator = max(_SEPARATORS, key=lines[0].count)
    rows = _fields(lines, separator)
    return rows[0], rows[1:]


def _fields(lines: Sequence[str], separator: str) -> list[list[str]]:
    """The fields of lines; between tabs a quote is an ordinary character, as MIND and RecBole write it."""
    if separator == "\t":
        return [line.split(separator) for line in lines]
    return list(csv.reader(lines, delimiter=separator))


def _head(file: Path, below: str, *, headless: bool, most: int) -> pl.DataFrame:
    """The first rows of a text file."""
    content = _open_head(file, most)
    if len(content) == most:
        content = content[: _last_end(content)]
    try:
        if _is_json(file):
            return parse_json_lines(content)
        return _headless(content) if headless else parse_csv(content)
    except ContractError as error:
        raise ContractError(f"init: {below}: {error}") from error


def _last_end(content: bytes) -> int:
    """After the last line end that stands outside quotes, as far as that can be said."""
    end = content.rfind(b"\n") + 1
    for _ in range(50):
        if content.count(b'"', 0, end) % 2 == 0 or end == 0:
            return end
        end = content.rfind(b"\n", 0, end - 1) + 1
    return content.rfind(b"\n") + 1


def _headless(content: bytes) -> pl.DataFrame:
    """The rows of a file without a header, under invented names."""
    line = content.split(b"\n", 1)[0].decode("utf-8-sig", "replace")
    separator = max(_SEPARATORS, key=line.count)
    count = len(_fields([line.rstrip("\r")], separator)[0])
    names = [f"{INVENTED}{index + 1}" for index in range(count)]
    if separator == "\t":
        return parse_unquoted(content, separator, names)
    return parse_csv(separator.join(names).encode() + b"\n" + content.removeprefix(b"\xef\xbb\xbf"))
