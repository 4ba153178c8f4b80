"""Times as people's files write them, read as instants in UTC and as dates; what is no time becomes null.

Accepted as text: ISO 8601, which is a date (`2024-12-31`, `20241231`, `2024-W01-3`, `2024-366`), perhaps with a time
(`T` or a space, hours alone or with minutes, seconds and a fraction, 24:00 for the day's end), perhaps with a zone
(`Z`, ` UTC`, `+01`, `+0100`, `+01:00`). A number counts from 1970 in a unit that the configuration must name.

A date without a time is its day, whatever the zone: it becomes the instant at which that day opens in the calendar,
which is known even where clocks skip midnight. A time without a zone that clocks skip or repeat is no instant.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import Literal
from zoneinfo import ZoneInfo

import polars as pl

__all__ = ["FORMS", "Clock", "DayOpens", "EpochUnit", "dates", "instants", "likely_unit", "shape_of"]

EpochUnit = Literal["s", "ms", "us", "ns"]
"""What a number of a time column counts, from 1970-01-01 00:00 UTC."""
DayOpens = Callable[[date], datetime]
"""The instant (with a zone) at which a date opens."""

FORMS = "ISO 8601, such as 2024-12-31, 2024-12-31 23:59:59 or 2024-12-31T23:59:59.5+01:00"
"""For messages: the texts that are read as times."""

_UTC = pl.Datetime("us", "UTC")
_MICROSECONDS = {"s": 1e6, "ms": 1e3, "us": 1.0, "ns": 1e-3}
_LARGEST_MICROSECONDS = 2e17  # six thousand years: what lies beyond is no time
_LONGEST_SHAPE = 32
_CLOCK = r"^\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?"
_PARTS = (
    r"^(?P<date>\d{4}-?\d\d-?\d\d|\d{4}-?W\d\d-?\d|\d{4}-?\d{3})"
    r"(?:[Tt ](?P<hour>\d\d)(?::?(?P<minute>\d\d)(?::?(?P<second>\d\d)(?:[.,](?P<fraction>\d+))?)?)?)?"
    r" ?(?P<zone>[Zz]|UTC|GMT|[+-]\d\d(?::?\d\d)?)?$"
)
_DATE_FORMATS = ("%Y-%m-%d", "%Y%m%d", "%G-W%V-%u", "%GW%V%u", "%Y-%j", "%Y%j")


@dataclass(frozen=True, slots=True)
class Clock:
    """How the times of a table are meant.

    Attributes:
        zone: IANA zone of times that carry none.
        opens: When a date without a time opens; None for midnight of `zone`, or the first instant after it where clocks
            skip midnight.
        unit: What numbers count; None reads none.
    """

    zone: str = "UTC"
    opens: DayOpens | None = None
    unit: EpochUnit | None = None

    def opens_at(self, day: date) -> datetime:
        """The instant (UTC) at which a date opens."""
        opens = self.opens or (lambda when: datetime.combine(when, time(0), ZoneInfo(self.zone)))
        return opens(day).astimezone(UTC)


def instants(column: pl.Series, clock: Clock) -> pl.Series:
    """Times as instants.

    Args:
        column: Datetime, Date, text, or, with `clock.unit`, numbers.
        clock: How they are meant.

    Returns:
        Datetime, microseconds, UTC; null where there was nothing, or nothing that is one instant.
    """
    dtype = column.dtype
    if clock.unit is not None and dtype.is_numeric():
        return _from_epoch(column, clock.unit)
    if dtype == pl.String:
        return _from_text(column, clock)
    if dtype == pl.Date:
        return _opened(column, clock)
    if isinstance(dtype, pl.Datetime):
        if dtype.time_zone is None:
            return _localized(column.dt.cast_time_unit("us"), clock)
        return column.dt.convert_time_zone("UTC").dt.cast_time_unit("us")
    return column.cast(_UTC)


def dates(column: pl.Series) -> pl.Series:
    """Dates: of Date, of Datetime without a zone, and of text in ISO 8601; a time without a zone lies on its date.

    A time with a zone has another date elsewhere: text with one is null, but for midnight in UTC.
    """
    if column.dtype != pl.String:
        return column.cast(pl.Date)
    text = column.str.strip_chars().str.replace(r"[T ]00:00(:00([.,]0+)?)?(Z|[+-]00:?00)$", "")
    text = text.str.replace(r"[T ]\d\d:\d\d(:\d\d([.,]\d+)?)?$", "")
    return _dates_of(text)


def likely_unit(numbers: pl.Series) -> EpochUnit:
    """The unit in which the numbers of a time column most likely count: that which puts them into this century.

    >>> likely_unit(pl.Series([1_704_067_200_000]))
    'ms'
    """
    size = abs(float(numbers.cast(pl.Float64, strict=False).fill_nan(None).median() or 0.0))  # type: ignore[arg-type]
    if size > 1e17:  # noqa: PLR2004
        return "ns"
    if size > 1e14:  # noqa: PLR2004
        return "us"
    return "ms" if size > 1e11 else "s"  # noqa: PLR2004


def shape_of(value: object) -> str:
    """How a value is written, without what it says: letters as `a`, digits as `9`.

    >>> shape_of("12/31/2024 8:15 PM")
    '99/99/9999 9:99 aa'
    """
    text = str(value)
    shape = "".join(
        "9" if letter.isdigit() else "a" if letter.isalpha() else letter if letter.isprintable() else "?"
        for letter in text[:_LONGEST_SHAPE]
    )
    return f"{shape}..." if len(text) > _LONGEST_SHAPE else shape


def _from_epoch(column: pl.Series, unit: EpochUnit) -> pl.Series:
    scale, most = _MICROSECONDS[unit], _LARGEST_MICROSECONDS
    if column.dtype.is_integer():
        numbers = column.cast(pl.Int64, strict=False)
        near = pl.DataFrame({"n": numbers}).select(pl.when(pl.col("n").abs() < most / scale).then("n")).to_series()
        counted = near * int(scale) if scale >= 1 else near // 1000
    else:
        exact = (column.cast(pl.Float64).fill_nan(None) * scale).round()
        counted = exact.to_frame("n").select(pl.when(pl.col("n").abs() < most).then("n")).to_series().cast(pl.Int64)
    return counted.cast(_UTC)


def _from_text(column: pl.Series, clock: Clock) -> pl.Series:
    """Texts, in three passes: plain dates, what polars reads by itself, and the rarer forms of the standard."""
    text = column.str.strip_chars()
    forms = {"date": r"^\d{4}-\d\d-\d\d$", "aware": rf"{_CLOCK}(Z|[+-]\d\d:?\d\d)$", "naive": rf"{_CLOCK}$"}
    chosen = text.to_frame("text").select(
        pl.when(pl.col("text").str.contains(form)).then("text").alias(name) for name, form in forms.items()
    )
    read = [
        _opened(chosen["date"].str.to_date("%Y-%m-%d", strict=False), clock),
        _parsed(chosen["aware"], "UTC"),
        _localized(_parsed(chosen["naive"], None), clock),
    ]
    times = pl.select(pl.coalesce(read)).to_series()
    left = (times.is_null() & text.is_not_null() & (text != "")).arg_true()
    if len(left):
        others = _of_rarer_forms(text.gather(left), clock)
        times = times.scatter(left, others)
    return times.alias(column.name)


def _parsed(text: pl.Series, zone: str | None) -> pl.Series:
    """What polars reads by itself; null elsewhere, and where it finds no form at all."""
    try:
        return text.str.to_datetime(time_unit="us", time_zone=zone, strict=False)
    except pl.exceptions.ComputeError:
        return pl.Series([None] * len(text), dtype=pl.Datetime("us", zone))


def _of_rarer_forms(text: pl.Series, clock: Clock) -> pl.Series:
    parts = text.to_frame("text").select(pl.col("text").str.extract_groups(_PARTS)).unnest("text")
    day = _dates_of(parts["date"])
    hour, minute, second = (
        parts[name].cast(pl.Int64, strict=False).fill_null(0) for name in ("hour", "minute", "second")
    )
    fraction = parts["fraction"].fill_null("").str.head(6).str.pad_end(6, "0").cast(pl.Int64)
    of_day = ((hour * 60 + minute) * 60 + second) * 1_000_000 + fraction
    in_range = (minute < 60) & (second < 60) & (of_day <= 86_400_000_000)  # noqa: PLR2004 - 24:00 ends the day
    naive = (day.cast(pl.Datetime("us")).to_physical() + of_day).cast(pl.Datetime("us"))
    offset = _offset_minutes(parts["zone"])
    aware = (naive.to_physical() - offset * 60_000_000).cast(_UTC)
    frame = pl.DataFrame(
        {
            "day": _opened(day, clock),
            "aware": aware,
            "naive": _localized(naive, clock),
            "has_time": parts["hour"].is_not_null(),
            "has_zone": parts["zone"].is_not_null(),
            "in_range": in_range,
            "epoch": pl.Series([None] * len(text), dtype=_UTC)
            if clock.unit is None
            else _epochs_of_text(text, clock.unit),
        }
    )
    timed = pl.when("has_zone").then("aware").otherwise("naive")
    read = pl.when("in_range").then(pl.when("has_time").then(timed).otherwise("day"))
    return frame.select(pl.coalesce("epoch", read)).to_series()


def _epochs_of_text(text: pl.Series, unit: EpochUnit) -> pl.Series:
    whole = text.str.extract(r"^([+-]?\d+)(?:\.0+)?$").cast(pl.Int64, strict=False)
    other = text.str.extract(r"^([+-]?\d+\.\d+)$").cast(pl.Float64, strict=False)
    return pl.select(pl.coalesce(_from_epoch(whole, unit), _from_epoch(other, unit))).to_series()


def _offset_minutes(zone: pl.Series) -> pl.Series:
    """Minutes east of UTC; 0 for `Z`, ` UTC` and none, null for what is no offset."""
    parts = zone.to_frame("zone").select(pl.col("zone").str.extract_groups(r"^([+-])(\d\d):?(\d\d)?$")).unnest("zone")
    sign, hours, minutes = parts.get_columns()
    count = hours.cast(pl.Int64, strict=False).fill_null(0) * 60 + minutes.cast(pl.Int64, strict=False).fill_null(0)
    east = pl.when(sign == "-").then(-count).otherwise(count)
    return pl.select(pl.when(count < 24 * 60).then(east)).to_series()


def _dates_of(text: pl.Series) -> pl.Series:
    read = [text.str.to_date(form, strict=False) for form in _DATE_FORMATS]
    return pl.select(pl.coalesce(read)).to_series()


def _opened(days: pl.Series, clock: Clock) -> pl.Series:
    """The instants at which dates open; far from our time, midnight UTC, which the contracts then set aside."""
    plain = days.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    near = days.filter(days.is_between(date(1900, 1, 1), date(2400, 1, 1))).unique().sort()
    if near.is_empty():
        return plain
    opened = pl.Series([clock.opens_at(day) for day in near], dtype=_UTC)
    return pl.select(pl.coalesce(days.replace_strict(near, opened, default=None, return_dtype=_UTC), plain)).to_series()


def _localized(naive: pl.Series, clock: Clock) -> pl.Series:
    """A local time in UTC; in an hour that clocks skip or repeat null, so that nobody guesses."""
    return naive.dt.replace_time_zone(clock.zone, ambiguous="null", non_existent="null").dt.convert_time_zone("UTC")
