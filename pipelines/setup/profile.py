"""What a column looks like by its values: numbers, texts, times, ids, and how many different ones."""

import math
import re
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

import polars as pl

from features.tables.clocks import Clock, EpochUnit, instants, likely_unit
from features.tables.dtypes import as_text

__all__ = ["INVENTED", "LABELLED_LIST", "Column", "Times", "columns_of", "plain_ids", "read_times"]

LABELLED_LIST = r"^(\S+-[01])( \S+-[01])*$"
"""How MIND writes a list that was shown: ids, each with whether it was clicked."""

INVENTED = "column_"
"""How the names begin that columns get whose file has no header."""

_MOSTLY = 0.95
_LOOKED_AT = 10_000  # values whose form is looked at
_FIRST_YEAR, _LAST_YEAR = 1985, 2100
_URL = r"^(https?://|www\.|/\S+/)\S*$|\.(jpe?g|png|gif|webp)$"
_STRUCTURED = r"^\s*[\[{].*[\]}]\s*$"
_NUMBER = r"^\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*$"
_INTEGER = r"^\s*[+-]?\d+(\.0+)?\s*$"
_DAYS = (
    "%m/%d/%Y",
    "%d/%m/%Y",
    "%m/%d/%y",
    "%d/%m/%y",
    "%d.%m.%Y",
    "%d.%m.%y",
    "%d-%m-%Y",
    "%m-%d-%Y",
    "%Y/%m/%d",
    "%Y.%m.%d",
    "%d-%b-%Y",
    "%d %b %Y",
    "%b %d, %Y",
    "%d %B %Y",
    "%B %d, %Y",
    "%Y年%m月%d日",
    "%Y-%m-%d",
)
_HOURS = ("", " %H:%M:%S", " %H:%M", " %I:%M:%S %p", " %I:%M %p", ", %H:%M:%S", ", %H:%M", " %H:%M:%S%.f", " %H时%M分")
_TURNED = {"%m/%d": "%d/%m", "%d/%m": "%m/%d", "%d-%m": "%m-%d", "%m-%d": "%d-%m"}
_UTC = pl.Datetime("us", "UTC")


@dataclass(frozen=True, slots=True)
class Times:
    """How the times of a column are written.

    Attributes:
        unit: What numbers count from 1970; None where they are no numbers.
        form: The strptime form of texts that the contracts do not read; None where they do.
        turned: A form with day and month the other way round that fits all values too.
        first: Of the values seen.
        last: Of the values seen.
        zoned: Whether they carry a zone.
        clocks: How many values name a time of the day.
    """

    unit: EpochUnit | None
    form: str | None
    turned: str | None
    first: datetime
    last: datetime
    zoned: bool
    clocks: bool

    @property
    def direct(self) -> bool:
        """Whether the contracts read them as they are."""
        return self.form is None


class Column:
    """A column, by some of its rows.

    Args:
        name: What it is called.
        values: The rows seen.
        invented: Whether nobody named it: its file has no header.
    """

    def __init__(self, name: str, values: pl.Series, *, invented: bool = False) -> None:
        self.name = name
        self.label = "" if invented and name.startswith(INVENTED) else name
        self.values = values
        self._filled = _without_blanks(values)

    @cached_property
    def filled_share(self) -> float:
        """Share of rows that have a value."""
        return len(self._filled) / max(len(self.values), 1)

    @cached_property
    def n_distinct(self) -> int:
        """How many different values."""
        return 0 if self.values.dtype.is_nested() else self._filled.n_unique()

    @cached_property
    def distinct_share(self) -> float:
        """Different values over values."""
        return self.n_distinct / max(len(self._filled), 1)

    @cached_property
    def kind(self) -> str:
        """One of: empty, list, truth, clock, integer, number, labelled, text."""
        dtype = self.values.dtype
        if not len(self._filled):
            return "empty"
        if dtype.is_nested():
            return "list"
        if dtype == pl.Boolean or isinstance(dtype, pl.Datetime | pl.Date):
            return "truth" if dtype == pl.Boolean else "clock"
        if dtype.is_numeric():
            return "integer" if _whole(self._filled) else "number"
        return _kind_of_text(self.texts)

    @cached_property
    def texts(self) -> pl.Series:
        """Its values as text, without empty ones; some of them, evenly spread, where there are many."""
        some = self._filled.gather_every(max(len(self._filled) // _LOOKED_AT, 1))
        if some.dtype in (pl.Binary, pl.Categorical, pl.Enum):
            return as_text(some)
        return some.cast(pl.List(pl.String)).list.join(" ") if some.dtype.is_nested() else some.cast(pl.String)

    @cached_property
    def mean_words(self) -> float:
        """Words a value, counted by white space; letters of scripts without spaces are half a word each."""
        words = (
            self.texts.str.count_matches(r"\S+") + self.texts.str.count_matches(r"[\u3040-\u30ff\u4e00-\u9fff]") // 2
        )
        return float(words.mean() or 0.0)  # type: ignore[arg-type]

    @cached_property
    def long_words(self) -> int:
        """Words that nine of ten values do not exceed."""
        return int(self.texts.str.count_matches(r"\S+").quantile(0.9) or 0)

    @cached_property
    def times(self) -> Times | None:
        """How its values are written as times; None where they are none."""
        return _times(self)

    @cached_property
    def least(self) -> float:
        """The least of its numbers; NaN where it has none."""
        least = self.texts.cast(pl.Float64, strict=False).min()
        return least if isinstance(least, float) else math.nan

    @cached_property
    def is_prose(self) -> bool:
        """Whether its values are words for a reader: no codes, addresses, numbers or structures."""
        if self.kind != "text" or self.times is not None:
            return False
        texts = self.texts
        return not (
            _share(texts, _URL) > 0.5  # noqa: PLR2004
            or _share(texts, _STRUCTURED) > 0.8  # noqa: PLR2004
            or _share(texts, r"\p{L}{2}") < 0.3  # noqa: PLR2004
        )

    @cached_property
    def may_be_id(self) -> bool:
        """Whether its values could tell users, or items, apart."""
        if self.kind not in {"integer", "text"} or self.n_distinct < 2:  # noqa: PLR2004
            return False
        return self.kind == "integer" or (self.mean_words <= 3 and float(self.texts.str.len_chars().mean() or 0) <= 64)  # type: ignore[arg-type] # noqa: PLR2004

    @cached_property
    def ids(self) -> pl.Series:
        """Its different values, as ids are compared."""
        return plain_ids(self._filled).unique()


def columns_of(frame: pl.DataFrame, *, invented: bool = False) -> dict[str, Column]:
    """The columns of a table by name."""
    return {name: Column(name, frame[name], invented=invented) for name in frame.columns}


def plain_ids(values: pl.Series) -> pl.Series:
    """Ids as text, so that `101`, 101 and 101.0 are one."""
    if values.dtype.is_integer():
        return values.cast(pl.String)
    text = as_text(values) if values.dtype in (pl.Binary, pl.Categorical, pl.Enum) else values.cast(pl.String)
    return text.str.strip_chars().str.replace(r"^(-?\d+)\.0+$", "${1}")


def read_times(values: pl.Series, times: Times) -> pl.Series:
    """The instants (UTC) of a whole column, written as its sample is."""
    if times.form is not None:
        return _by_form(values.cast(pl.String), times.form)
    return instants(values, Clock(unit=times.unit))


def _without_blanks(values: pl.Series) -> pl.Series:
    filled = values.drop_nulls()
    if filled.dtype == pl.String:
        return filled.filter(filled.str.strip_chars() != "")
    return filled.drop_nans() if filled.dtype.is_float() else filled


def _whole(values: pl.Series) -> bool:
    return bool((values == values.round()).all())


def _share(texts: pl.Series, pattern: str) -> float:
    return float(texts.str.contains(pattern).mean() or 0.0)  # type: ignore[arg-type]


def _kind_of_text(texts: pl.Series) -> str:
    if _share(texts, LABELLED_LIST) > _MOSTLY:
        return "labelled"
    if _share(texts, _INTEGER) == 1.0:
        return "integer"
    return "number" if _share(texts, _NUMBER) > 0.99 else "text"  # noqa: PLR2004


def _times(column: Column) -> Times | None:
    if column.kind == "clock":
        values = column.values.drop_nulls()
        zone = getattr(values.dtype, "time_zone", None)
        return _spanned(instants(values, Clock()), zoned=zone is not None, clocks=values.dtype != pl.Date)
    if column.kind in {"integer", "number"}:
        return _times_of_numbers(column)
    return _times_of_texts(column.texts) if column.kind == "text" else None


def _times_of_numbers(column: Column) -> Times | None:
    texts = column.texts
    if _share(texts, r"^(19|20)\d\d(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])$") > 0.99:  # noqa: PLR2004
        read = _by_form(texts, "%Y%m%d")
        form = None if column.values.dtype == pl.String else "%Y%m%d"
        return _spanned(read, form=form, clocks=False)
    numbers = texts.cast(pl.Float64, strict=False).drop_nulls()
    if numbers.is_empty() or float(numbers.median() or 0) < 5e8:  # type: ignore[arg-type] # noqa: PLR2004 - seconds of 1985
        return None
    unit = likely_unit(numbers)
    read = instants(numbers, Clock(unit=unit))
    inside = read.dt.year().is_between(_FIRST_YEAR, _LAST_YEAR).mean() or 0.0
    return _spanned(read, unit=unit, zoned=True) if float(inside) >= 0.9 else None  # type: ignore[arg-type] # noqa: PLR2004


def _times_of_texts(texts: pl.Series) -> Times | None:
    seen = texts.head(2000)
    dated = r"(?i)\d{1,4}[-/.年 ](\d{1,2}|[a-z]{3,9})[-/.月 ]|^[a-z]{3,9} \d{1,2}, \d{4}"
    if _share(seen, dated) < _MOSTLY:
        return None
    read = instants(texts, Clock())
    clocks = _share(texts, r"\d:\d\d") > 0.5  # noqa: PLR2004
    if float(read.is_not_null().mean() or 0) >= _MOSTLY:  # type: ignore[arg-type]
        return _spanned(read, zoned=_share(texts, r"(Z|UTC|GMT|[+-]\d\d:?\d\d)$") > _MOSTLY, clocks=clocks)
    forms = [form for form in _FORMS if _reads(seen, form) and _reads(texts, form)]
    if not forms:
        return None
    form = _likelier(texts, forms)
    turned = next((other for other in forms if other == _turned(form)), None)
    return _spanned(_by_form(texts, form), form=form, turned=turned, clocks=clocks)


_FORMS = tuple(day + hour for day in _DAYS for hour in _HOURS)


def _reads(texts: pl.Series, form: str) -> bool:
    read = _by_form(texts, form)
    years = read.dt.year().is_between(_FIRST_YEAR, _LAST_YEAR)
    return float(years.fill_null(value=False).mean() or 0.0) >= _MOSTLY  # type: ignore[arg-type]


def _by_form(texts: pl.Series, form: str) -> pl.Series:
    stripped = texts.str.strip_chars().str.replace_all(r"\s+", " ")
    if re.search(r"%[HIp]", form):
        return stripped.str.to_datetime(form, time_unit="us", strict=False, ambiguous="earliest").dt.replace_time_zone(
            "UTC"
        )
    return stripped.str.to_date(form, strict=False).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")


def _likelier(texts: pl.Series, forms: list[str]) -> str:
    """Of forms that fit, the one by which the times are read and cover the fewest days; ties to the first."""

    def span(form: str) -> tuple[float, float]:
        read = _by_form(texts, form)
        days = read.dt.date().unique().drop_nulls().sort()
        return -float(read.is_not_null().mean() or 0), float((days[-1] - days[0]).days)  # type: ignore[arg-type]

    return min(forms, key=span)


def _turned(form: str) -> str | None:
    return next((form.replace(start, other, 1) for start, other in _TURNED.items() if form.startswith(start)), None)


def _spanned(
    read: pl.Series,
    *,
    unit: EpochUnit | None = None,
    form: str | None = None,
    turned: str | None = None,
    zoned: bool = False,
    clocks: bool = True,
) -> Times | None:
    first, last = read.min(), read.max()
    if not isinstance(first, datetime) or not isinstance(last, datetime):
        return None
    return Times(unit, form, turned, first, last, zoned, clocks)
