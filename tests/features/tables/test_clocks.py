from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import polars as pl
import pytest

from features.tables.clocks import Clock, dates, instants, likely_unit, shape_of

TEN = datetime(2024, 5, 1, 10, tzinfo=UTC)


def read(*values, **clock):
    return instants(pl.Series("at", list(values)), Clock(**clock)).to_list()


@pytest.mark.parametrize(
    "written",
    [
        "2024-05-01T10:00:00Z",
        "2024-05-01 10:00:00+00",
        "2024-05-01 10:00:00 UTC",
        "2024-05-01 10:00:00.000000 UTC",
        "2024-05-01t10:00:00z",
        "2024-05-01T10:00:00GMT",
        "2024-05-01T19:00:00+0900",
        "2024-05-01T06:30:00-03:30",
        "2024-05-01T10",
        "2024-05-01T10:00",
        "20240501T100000Z",
        "2024-W18-3T10:00",
        "2024-122T10:00:00",
        " 2024-05-01 10:00 ",
        "2024-05-01T10:00:00,000Z",
    ],
)
def test_fault_44_iso_8601_is_read_whole(written):
    assert read(written) == [TEN]


@pytest.mark.parametrize(
    "written",
    [
        *("05/01/2024", "1 May 2024", "2024-13-01", "2024-02-30", "2024-05-01T25:00", "2024-05-01T10:60", "0000-00-00"),
        *("", "1714557600", "yesterday", "2024-05-01T10:00:00+", "2024-05-01 10:00 CEST"),
    ],
)
def test_what_is_no_instant_is_null(written):
    assert read(written) == [None]


def test_fractions_are_cut_to_microseconds_and_24_00_is_the_next_day():
    assert read("2024-05-01T10:00:00.1234567") == [TEN.replace(microsecond=123456)]
    assert read("2024-05-01T24:00:00") == [datetime(2024, 5, 2, tzinfo=UTC)]
    assert read("2024-05-01T24:00:01") == [None]


@pytest.mark.parametrize(
    ("zone", "day", "opens"),
    [
        ("America/Santiago", date(2024, 9, 8), datetime(2024, 9, 8, 4, tzinfo=UTC)),  # clocks skip midnight
        ("Asia/Beirut", date(2024, 3, 31), datetime(2024, 3, 30, 22, tzinfo=UTC)),
        ("America/Havana", date(2024, 11, 3), datetime(2024, 11, 3, 4, tzinfo=UTC)),  # midnight is there twice
        ("Pacific/Apia", date(2011, 12, 30), datetime(2011, 12, 30, 10, tzinfo=UTC)),  # a day that never was
        ("Europe/London", date(2024, 5, 1), datetime(2024, 4, 30, 23, tzinfo=UTC)),
    ],
)
def test_fault_45_a_date_is_its_day_in_every_zone(zone, day, opens):
    assert read(day, zone=zone) == [opens]
    assert read(str(day), zone=zone) == [opens]
    assert read(f"{day:%Y%m%d}", zone=zone) == [opens]


def test_dates_open_with_the_calendar_where_it_says_so():
    def six(day):
        return datetime(day.year, day.month, day.day, 6, tzinfo=ZoneInfo("America/New_York"))

    assert read("2024-05-01", "2024-05-01T10:00", opens=six) == [TEN, TEN]


def test_fault_17_a_time_that_clocks_skip_or_repeat_is_none():
    naive = [datetime(2024, *rest) for rest in ((3, 31, 2, 30), (10, 27, 2, 30), (5, 1, 12))]  # noqa: DTZ001
    assert read(*naive, zone="Europe/Berlin") == [None, None, TEN]
    assert read(*map(str, naive), zone="Europe/Berlin") == [None, None, TEN]


@pytest.mark.parametrize(("unit", "scale"), [("s", 1), ("ms", 10**3), ("us", 10**6), ("ns", 10**9)])
def test_fault_44_numbers_count_in_the_unit_that_is_named(unit, scale):
    count = int(TEN.timestamp()) * scale
    assert read(count, None, unit=unit) == [TEN, None]
    assert read(str(count), f"{count}.0", "2024-05-01T10:00", "x", unit=unit) == [TEN, TEN, TEN, None]
    assert likely_unit(pl.Series([count])) == unit


def test_fractions_of_seconds_and_numbers_that_are_no_time():
    half = TEN.replace(microsecond=500_000)
    assert read(TEN.timestamp() + 0.5, float("nan"), float("inf"), 1e300, unit="s") == [half, None, None, None]
    assert read(2**63 - 1, unit="s") == [None]
    assert read(str(TEN.timestamp() + 0.5), unit="s") == [half]


def test_a_time_without_a_zone_lies_on_its_date_and_midnight_in_utc_too():
    told = ["2024-05-01", "20240501", "2024-05-01 00:00:00", "2024-05-01T00:00:00.000Z", "2024-05-01 13:30"]
    told += ["2024-05-01T00:00:00+00:00", "2024-05-01T10:00Z", "2024-05-01T00:00:00+02:00", "x", None]
    assert dates(pl.Series(told)).to_list() == [date(2024, 5, 1)] * 6 + [None] * 4
    assert dates(pl.Series([datetime(2024, 5, 1, 13, 30)])).to_list() == [date(2024, 5, 1)]  # noqa: DTZ001


def test_a_shape_shows_no_value():
    assert shape_of("Ann 12.05.24\x1b[31m") == "aaa 99.99.99?[99a"
    assert shape_of("a" * 40) == "a" * 32 + "..."


def test_an_offset_that_no_zone_has_is_no_time():
    assert read("2024-01-01 10:00:00+99:99", "2024-01-01 10+24") == [None, None]
