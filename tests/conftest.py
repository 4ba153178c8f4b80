"""Shared by the tests: a small random event log, and the check that nothing looks past its as-of."""

import os

os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # before any native import: OpenMP must not spin beside others

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from features.assemble import Assembler, Portion
from features.candidates import GRID
from features.config import CalendarConfig, CandidatesConfig
from features.requests import requests_tonight
from features.timeline import Calendar, EventLog, day_of

START = datetime(2024, 3, 20, tzinfo=UTC)  # Europe and America change their clocks within the first weeks
GAINS = {"click": 1, "cart": 2, "purchase": 3}
KINDS = ("impression", "click", "cart", "purchase")


@dataclass(frozen=True)
class Tables:
    """Tables that keep their contracts, and the calendar to read them by."""

    events: pl.DataFrame
    items: pl.DataFrame
    users: pl.DataFrame
    calendar: Calendar
    text_vectors: np.ndarray

    def log(self) -> EventLog:
        return EventLog.build(
            events=self.events, items=self.items, users=self.users, calendar=self.calendar, gains=GAINS
        )

    @property
    def first_day(self) -> int:
        return day_of(START.date())


def grid_vectors(count: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Random unit vectors on the grid of text vectors; about one in eight has no text and is zero."""
    vectors = rng.normal(size=(count, width)) + 0.5
    vectors *= rng.random((count, 1)) > 1 / 8
    norms = np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    return np.round(vectors / norms * GRID).astype(np.int16)


def random_tables(
    seed: int,
    *,
    n_users: int = 7,
    n_items: int = 12,
    n_days: int = 40,
    n_events: int = 250,
    calendar: CalendarConfig | None = None,
) -> Tables:
    """A log with repeated rows, with several events at one instant, and with events exactly at cut-offs."""
    rng = np.random.default_rng(seed)
    clock = Calendar(calendar or CalendarConfig())
    user_ids = np.array([f"u{n:02}" for n in rng.permutation(n_users)])
    item_ids = np.array([f"i{n:02}" for n in rng.permutation(n_items)])
    days = day_of(START.date()) + rng.integers(0, n_days, n_events)
    hours = rng.choice([0, 0, 3, 3, 9, 17, 23], n_events)
    stamps = [clock.as_of(int(day)) + timedelta(hours=int(hour)) for day, hour in zip(days, hours, strict=True)]
    events = pl.DataFrame(
        {
            "user_id": rng.choice(user_ids[: max(n_users - 1, 1)], n_events),  # the last user has no event
            "item_id": rng.choice(item_ids[: max(n_items - 2, 1)], n_events),
            "event": rng.choice(KINDS, n_events),
            "timestamp": stamps,
            "value": pl.Series(rng.choice([0.0, 1.5, 2.0], n_events)).replace(0.0, None),
        },
        schema_overrides={"timestamp": pl.Datetime("us", "UTC")},
    )
    events[0, "event"] = "click"  # there is a past on the first day
    events[0, "timestamp"] = clock.as_of(day_of(START.date())) - timedelta(hours=1)
    twice = events.sample(n_events // 10, seed=seed)
    opens = [START + timedelta(days=int(day)) if day > 0 else None for day in rng.integers(-20, 20, n_items)]
    shuts = [START + timedelta(days=int(day)) if day < 40 else None for day in rng.integers(25, 60, n_items)]
    items = pl.DataFrame(
        {"item_id": item_ids, "available_from": opens, "available_until": shuts},
        schema_overrides=dict.fromkeys(("available_from", "available_until"), pl.Datetime("us", "UTC")),
    )
    return Tables(
        events=pl.concat([events, twice]),
        items=items,
        users=pl.DataFrame({"user_id": user_ids}),
        calendar=clock,
        text_vectors=grid_vectors(n_items, 6, rng),
    )


def assembler_of(tables: Tables, config: CandidatesConfig | None = None) -> Assembler:
    return Assembler(tables.log(), config or CandidatesConfig(), tables.text_vectors)


def differences(one: Portion, other: Portion) -> set[str]:
    """Names of the columns whose bytes differ, `candidates` if other items are ranked."""
    found = {f"history {name}" for name in _differing(one.history, other.history)}
    if _differing(one.rows.select("request", "item"), other.rows.select("request", "item")):
        found.add("candidates")
        one, other = (
            replace(
                left,
                rows=left.rows.join(right.rows, on=["request", "item"], how="semi", maintain_order="left"),
            )
            for left, right in ((one, other), (other, one))
        )
    return found | _differing(one.rows, other.rows)


def _differing(one: pl.DataFrame, other: pl.DataFrame) -> set[str]:
    assert one.schema == other.schema
    if one.height != other.height:
        return set(one.columns)
    return {
        name
        for name in one.columns
        if one[name].null_count() + other[name].null_count()
        or one[name].to_numpy().tobytes() != other[name].to_numpy().tobytes()
    }


def other_futures(tables: Tables, as_of: datetime, rng: np.random.Generator) -> Iterator[Tables]:
    """The same past, with what happened at or after `as_of` scrambled, deleted, and added to."""
    past = tables.events.filter(pl.col("timestamp") < as_of)
    future = tables.events.filter(pl.col("timestamp") >= as_of)
    yield replace(tables, events=pl.concat([past, _scrambled(future, as_of, rng)]))
    yield replace(tables, events=past)
    yield replace(tables, events=pl.concat([past, future.filter(pl.Series(rng.random(future.height) < 1 / 2))]))
    added = _scrambled(tables.events, as_of, rng)
    yield replace(tables, events=pl.concat([added, future, past]))


def _scrambled(events: pl.DataFrame, as_of: datetime, rng: np.random.Generator) -> pl.DataFrame:
    """The same users, items and types in other combinations, a third of them at the very instant `as_of`."""
    hours = rng.choice([0, 1, 40], events.height)
    return events.select(
        *(events[name].gather(rng.permutation(events.height)) for name in ("user_id", "item_id", "event")),
        pl.Series("timestamp", [as_of + timedelta(hours=int(hour)) for hour in hours], pl.Datetime("us", "UTC")),
        "value",
    )


def moved_by_future(
    tables: Tables,
    as_of_day: int,
    seed: int = 0,
    *,
    make: Callable[[Tables], Assembler] = assembler_of,
) -> set[str]:
    """The leak check: names all that changes, for any user as of a day, with what happens at or after it.

    The past of a day is fixed, its future is not: a name in the answer is a column that saw the future.
    """
    users = pl.int_range(tables.users.height, dtype=pl.UInt32, eager=True)
    requests = requests_tonight(users, as_of_day)
    before = list(make(tables).portions(requests, size=4))
    found: set[str] = set()
    rng = np.random.default_rng(seed)
    for other in other_futures(tables, tables.calendar.as_of(as_of_day), rng):
        after = make(other).portions(requests, size=4)
        for one, two in zip(before, after, strict=True):
            found |= differences(one, two)
    return found


@pytest.fixture(scope="session")
def shop():
    """`random_tables`: a small shop's tables from a seed."""
    return random_tables


@pytest.fixture(scope="session")
def leak_check():
    """`moved_by_future`: what sees past its as-of."""
    return moved_by_future


@pytest.fixture(scope="session")
def portion_differences():
    """`differences` of two portions, bit by bit."""
    return differences
