"""How the columns of a contract are read from what files have: ids, numbers, times and texts, whatever their types.

Nothing here drops a row: what cannot be read becomes null, and its row is named with the rule it broke.
"""

from collections.abc import Collection, Mapping
from typing import NamedTuple

import dataframely as dy
import polars as pl

from features.errors import ContractError
from features.tables.clocks import FORMS, Clock, dates, instants, likely_unit, shape_of
from features.tables.dtypes import as_ids, as_text
from features.tables.frames import SetAside
from features.tables.text import MAX_TEXT_CHARS, has_personal, masked

__all__ = [
    "ROW",
    "RULES",
    "Columns",
    "plain",
    "read_columns",
    "remarks",
    "remedy",
    "unreadable",
    "without_personal",
    "written_twice",
]

ROW = SetAside.row.name
"""Column of the quarantine that holds the 0-based number of the row in its table."""
RULES = SetAside.rules.name
"""Column of the quarantine that holds the names of the rules the row broke, comma-separated."""

_IDS = (pl.String, pl.Int64, pl.Null)
_CLOCKS = (pl.String, pl.Date, pl.Datetime, pl.Null)
_UNREADABLE, _DTYPE, _TOO_LONG = "_unreadable", "_dtype", "_too_long"
_MOST_ID_BYTES = 1024
_MISSING = r"(?i)^\s*na[nt]\s*$"  # how pandas writes a missing number, a missing time
_NUMBERS = "a number, with a point for its fraction and nothing else beside its digits"


class Columns(NamedTuple):
    """A table as it was read.

    Attributes:
        table: Its rows.
        as_missing: By column: how many NaN (and texts `nan`, `NaT`) were read as missing.
        cut: By column: how many texts were cut.
        masked: By column: in how many texts personal data were masked.
    """

    table: pl.DataFrame
    as_missing: Mapping[str, int]
    cut: Mapping[str, int]
    masked: Mapping[str, int]


def plain(frame: pl.DataFrame, schema: type[dy.Schema]) -> tuple[pl.DataFrame, list[str]]:
    """Ids as text or Int64, categories and bytes as the text that they hold; and what cannot be."""
    columns, faults = [], []
    for name, declared in schema.columns().items():
        if name not in frame.columns or name == ROW:
            continue
        try:
            if isinstance(declared, dy.Any):
                columns.append(as_ids(frame[name]))
            elif frame.schema[name] in (pl.Categorical, pl.Enum, pl.Binary):
                columns.append(as_text(frame[name]))
        except ContractError as error:
            faults.append(f"column {name!r}: {error}")
    return frame.with_columns(columns), faults


def written_twice(ids: pl.Series) -> int:
    """How many ids end in `.0` while the same number stands without it."""
    if ids.dtype != pl.String:
        return 0
    pointed = ids.filter(ids.str.ends_with(".0")).unique()
    return int(pointed.str.strip_suffix(".0").is_in(ids.implode()).sum()) if len(pointed) else 0


def remedy(declared: dy.Column, column: pl.Series, clock: Clock, *, table: str) -> str | None:
    """How to write a column that cannot be read as what is declared; None where it can."""
    dtype = column.dtype
    if isinstance(declared, dy.Any):
        fits, wanted = dtype in _IDS, "ids as text or integers"
    elif isinstance(declared, dy.Datetime):
        fits, wanted = dtype in _CLOCKS or (clock.unit is not None and dtype.is_numeric()), _clock_remedy(column, table)
    elif isinstance(declared, dy.Date):
        # NOTE: a clock with a zone has another date elsewhere, and a number might count from anywhere.
        is_date = dtype in (pl.Date, pl.String, pl.Null) or (isinstance(dtype, pl.Datetime) and dtype.time_zone is None)
        fits, wanted = is_date, "it as Date or as text like 2024-12-31"
    elif isinstance(declared, dy.List):
        is_list = isinstance(dtype, pl.List | pl.Array) and dtype.inner.is_numeric()
        fits, wanted = dtype == pl.Null or is_list, "a list of numbers in each row"
    elif declared.dtype.is_numeric():
        fits, wanted = dtype.is_numeric() or dtype in (pl.String, pl.Null, pl.Boolean), "it as numbers"
    else:
        fits, wanted = not (dtype.is_nested() or dtype in (pl.Binary, pl.Object, pl.Duration)), "it as text"
    return None if fits else wanted


def _clock_remedy(column: pl.Series, table: str) -> str:
    as_time = "it as Datetime or as ISO 8601 text"
    return f"{as_time}; {_by_unit(column, table)}" if column.dtype.is_numeric() else as_time


def _by_unit(column: pl.Series, table: str) -> str:
    return f"or, where it counts from 1970, set data.{table}.times (by its size: {likely_unit(column)})"


def read_columns(
    came: pl.DataFrame, schema: type[dy.Schema], clock: Clock, *, free_texts: Collection[str] = ()
) -> Columns:
    """Clocks in microseconds UTC, dates as such, NaN as null, whole floats as integers, long texts cut.

    What is no time, not one time in its zone, no date or no whole number becomes null. Personal data in `free_texts`
    are masked.
    """
    columns: list[pl.Series] = []
    as_missing, cut, personal = {}, {}, {}
    for name, declared in schema.columns().items():
        column = came[name]
        if name == ROW or isinstance(declared, dy.Any):
            continue
        if isinstance(declared, dy.String):
            if column.dtype == pl.String and (longer := int((column.str.len_bytes() > MAX_TEXT_CHARS).sum())):
                cut[name] = longer
                column = column.str.head(MAX_TEXT_CHARS)
            if name in free_texts:
                column, personal[name] = without_personal(column)
            columns.append(column)
            continue
        if missing := int(_is_missing(column).sum()):
            as_missing[name] = missing  # of a vector, where any of its numbers is NaN
        columns.append(_read(column, declared, clock).alias(name))
    return Columns(came.with_columns(columns), as_missing, cut, {name: n for name, n in personal.items() if n})


def without_personal(column: pl.Series) -> tuple[pl.Series, int]:
    """A column with its personal data masked, and in how many texts there were some; not of texts: as it is."""
    if column.dtype != pl.String:
        return column, 0
    personal = column.to_frame("text").select(has_personal(pl.col("text")).fill_null(value=False))["text"]
    if not personal.any():
        return column, 0
    texts = column.to_frame("text").select(pl.when(personal).then(masked(pl.col("text"))).otherwise("text"))
    return texts["text"].alias(column.name), int(personal.sum())


def _read(column: pl.Series, declared: dy.Column, clock: Clock) -> pl.Series:
    if isinstance(declared, dy.Datetime):
        return instants(column, clock)
    if isinstance(declared, dy.Date):
        return dates(column)
    if isinstance(declared, dy.List):
        return column.set(_is_missing(column), None)
    return _number(column, whole=declared.dtype.is_integer()) if declared.dtype.is_numeric() else column


def _number(column: pl.Series, *, whole: bool) -> pl.Series:
    """A column of numbers: NaN is null, and of whole numbers so is what is none."""
    if column.dtype == pl.String:
        text = column.str.strip_chars()
        text = text.set(_is_missing(text), None)
        return text.str.replace(r"^([+-]?\d+)\.0*$", "${1}") if whole else text
    if column.dtype.is_float():
        column = column.fill_nan(None)
    if not whole or not (column.dtype.is_float() or column.dtype.is_decimal()):
        return column
    return column.set((column != column.round()).fill_null(value=False), None)


def unreadable(came: pl.DataFrame, table: pl.DataFrame, schema: type[dy.Schema]) -> pl.DataFrame:
    """`row` and list of rules of the rows with a clock, date or whole number that says something, but is none.

    An id of more than a kilobyte is none either: it is a text in the wrong column. Nor is one with U+FFFD, which stands
    for characters that were lost, so that several ids may have become one.
    """
    parts: list[pl.DataFrame] = [SetAside.create_empty()]
    for name, declared in schema.columns().items():
        if isinstance(declared, dy.Any):
            if came.schema[name] == pl.String:
                replaced = pl.col(name).str.contains("\ufffd", literal=True)
                for broken, rule in (
                    (pl.col(name).str.len_bytes() > _MOST_ID_BYTES, _TOO_LONG),
                    (replaced, _UNREADABLE),
                ):
                    parts.append(table.filter(broken).select(ROW, pl.lit(name + rule).alias(RULES)))
            continue
        is_time = isinstance(declared, dy.Datetime | dy.Date)
        if name == ROW or not (is_time or declared.dtype.is_integer()):
            continue
        lost = came[name].is_not_null() & table[name].is_null()
        if lost.any():
            rule = name + (_UNREADABLE if is_time else _DTYPE)
            parts.append(table.filter(lost & ~_is_missing(came[name])).select(ROW, pl.lit(rule).alias(RULES)))
    return pl.concat(parts).group_by(ROW).agg(RULES)


def _is_missing(column: pl.Series) -> pl.Series:
    """Which values say that there is none: NaN, a list with a NaN, and `nan` or `NaT` as text."""
    if isinstance(column.dtype, pl.List | pl.Array):
        lists = column.cast(pl.List(pl.Float64)).to_frame("lists")
        return lists.select(
            pl.col("lists").list.eval(pl.element().is_nan()).list.any().fill_null(value=False)
        ).to_series()
    if column.dtype.is_float():
        return column.is_nan().fill_null(value=False)
    if column.dtype == pl.String:
        return column.str.contains(_MISSING).fill_null(value=False)
    return pl.Series([False]).new_from_index(0, len(column))


def remarks(
    rules: pl.DataFrame, came: pl.DataFrame, schema: type[dy.Schema], clock: Clock, *, table: str
) -> dict[str, str]:
    """How the first value that broke a rule about times or numbers is written, and what would be read."""
    by_rule = {}
    for rule, _, first in rules.rows():
        name = rule.removesuffix(_UNREADABLE).removesuffix(_DTYPE)
        if name == rule or name not in came.columns:
            continue
        declared = schema.columns()[name]
        shape = shape_of(came.filter(pl.col(ROW) == first)[name][0])
        accepted = "a date such as 2024-12-31" if isinstance(declared, dy.Date) else _NUMBERS
        if isinstance(declared, dy.Datetime):
            counts = clock.unit is None and not shape.strip("9.")
            accepted = f"{FORMS}; {_by_unit(came[name], table)}" if counts else FORMS
        by_rule[rule] = f"written like {shape!r}; read is {accepted}"
    return by_rule
