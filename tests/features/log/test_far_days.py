import os
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from features.log.event_log import day_of
from features.log.far_days import NO_FAR_DAYS, far_days

START = day_of(date(2024, 1, 1))


def found(counts: dict[int, int]):
    """What is far of days after the start, with so many events each."""
    days = np.array(sorted(counts), np.int64)
    told = far_days(days + START, np.array([counts[int(day)] for day in days], np.int64))
    return [(day - START, count) for day, count in told.counts], told


def shop(days: int = 49, events: int = 54, *, closed: range = range(0)) -> dict[int, int]:
    return {day: events for day in range(days) if day not in closed}


YEAR_2099 = day_of(date(2099, 5, 1)) - START
YEAR_1971 = day_of(date(1971, 5, 1)) - START


@pytest.mark.parametrize(
    "far",
    [
        {YEAR_2099: 1},
        {YEAR_1971: 1},
        {88: 1},  # 40 days after the last
        {58: 1},  # 10 days after the last
        {55: 1},  # a week after it
        {-40: 2},
        {YEAR_1971: 3, -60: 2, 88: 1, YEAR_2099: 1},
        {68: 2, 70: 1, 140: 1},
        {-41: 1, 88: 1},
        {YEAR_2099: 130},  # not thin, but decades away: at most a twentieth
        {YEAR_1971 - 1: 60, YEAR_2099: 60},
    ],
)
def test_fault_55_few_events_beyond_a_gap_such_as_there_is_none_within_are_far(far):
    days, told = found(shop() | far)
    assert days == sorted(far.items())
    assert (told.first_day, told.last_day) == (START, START + 48)
    assert told.events == sum(far.values())


@pytest.mark.parametrize(
    "log",
    [
        shop(),
        shop(1),
        shop(days=5),
        shop(closed=range(20, 35)),  # a closure in the middle
        shop(closed=range(34, 48)),  # and just opened again
        shop() | {49 + 365: 54},  # a season later
        shop() | {54: 1},  # less than a week
        {0: 2} | dict.fromkeys(range(5, 12), 60),  # a young shop, tried out before
        {7 * week: 3 for week in range(30)},  # a few events a week
        {9 * n * n: 2 for n in range(12)},  # fewer and fewer
        shop() | {day: 54 // 2 ** (day - 48) for day in range(49, 54)} | {57: 1},  # a shop that winds down
        shop(30, events=5) | {60: 1},  # too sparse to say
        {0: 1, 20000: 1},
        {0: 50, 20000: 50},
        {0: 100, 4000: 10},  # years away, and too many for a mistake
    ],
)
def test_fault_55_true_logs_have_no_far_days(log):
    assert found(log)[1] == NO_FAR_DAYS


def test_a_single_event_decades_away_is_far_in_the_smallest_log():
    assert found({0: 1, 1: 1, 27_000: 1})[0] == [(27_000, 1)]


def test_a_gap_must_be_longer_than_twice_the_longest_within():
    assert found(shop(closed=range(20, 29)) | {69: 1})[0] == [(69, 1)]  # 21 days after 10
    assert found(shop(closed=range(20, 29)) | {68: 1})[0] == []


def test_a_day_beyond_is_thin_with_a_tenth_of_a_usual_one():
    assert found(shop(events=50) | {88: 5})[0] == [(88, 5)]
    assert found(shop(events=50) | {88: 6})[0] == []


def test_far_days_are_named_as_dates_latest_first():
    _, told = found(shop() | {YEAR_1971: 1, YEAR_2099: 1})
    assert told.dates() == ["2099-05-01", "1971-05-01"]
    assert told.dates(most=1) == ["2099-05-01"]


def test_all_of_a_random_log_with_a_stray_is_kept_but_the_stray():
    rng = np.random.default_rng(0)
    for _ in range(50):
        log = {day: int(n) for day, n in enumerate(rng.poisson(40, 60)) if n}
        assert found(log)[0] == []
        stray = int(rng.integers(80, 30_000))
        assert found(log | {stray: 1})[0] == [(stray, 1)]


@pytest.mark.parametrize(("log", "far"), [("wikispeedia", []), ("ifdb", ["1980-01-01"])])
def test_fault_55_of_real_logs_the_date_for_none_is_far_and_nothing_else(log, far):
    path = Path(os.environ.get("NIGHTRANK_DATA", "")) / log / "events.parquet"
    if "NIGHTRANK_DATA" not in os.environ or not path.is_file():
        pytest.skip(f"FAR DAYS OF {log} ARE NOT TESTED: name the development data with NIGHTRANK_DATA")
    counts = pl.read_parquet(path).group_by(pl.col("timestamp").dt.date().cast(pl.Int64)).len().sort("timestamp")
    told = far_days(counts["timestamp"].to_numpy(), counts["len"].cast(pl.Int64).to_numpy())
    assert told.dates() == far
    assert told.events == (1806 if far else 0)
