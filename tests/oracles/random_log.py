"""A small random event log, with all that a family can read, and what assembles its requests."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl

from features.assemble import Assembler
from features.config import (
    AttributesConfig,
    CalendarConfig,
    CandidatesConfig,
    FeaturesConfig,
)
from features.log.event_log import Calendar, EventLog, date_of, day_of
from features.log.inventory import FeatureInventory
from features.log.offers import coded_offers
from features.requests.engaged import requests_tonight
from features.signals.family import Plan
from features.tables.text import GRID

START = datetime(2024, 3, 20, tzinfo=UTC)  # Europe and America change their clocks within the first weeks
GAINS = {"click": 1, "cart": 2, "purchase": 3}
KINDS = ("impression", "click", "cart", "purchase")
TEXT = ("title", "note")
FEATURES = FeaturesConfig(
    attributes=AttributesConfig(items=("brand", "size"), users=("age", "country")),
    vectors=("picture",),
    sentiment="mood",
)
"""Every input that a family can read."""
CONTEXT = ("device", "depth")
"""Columns of events that tell of a request."""


@dataclass(frozen=True)
class Tables:
    """Tables that keep their contracts, and the calendar to read them by."""

    events: pl.DataFrame
    items: pl.DataFrame
    users: pl.DataFrame
    calendar: Calendar
    text_vectors: np.ndarray
    plan: Plan | None = None
    offers: pl.DataFrame | None = None

    def log(self) -> EventLog:
        log = EventLog.build(
            events=self.events,
            items=self.items,
            users=self.users,
            calendar=self.calendar,
            gains=GAINS,
            keep=("query", "text", "mood", "value", *CONTEXT),
        )
        return log if self.offers is None else log.with_tables(offers=coded_offers(self.offers, log))

    @property
    def first_day(self) -> int:
        return day_of(START.date())

    def requests_on(self, *days: int, after: int = 0) -> pl.DataFrame:
        """A request of every user on each of some days after the log's first, numbered from `after`."""
        users = pl.int_range(self.users.height, dtype=pl.UInt32, eager=True)
        requests = pl.concat([requests_tonight(users, self.first_day + day) for day in days])
        return requests.with_columns(request=pl.int_range(after, after + pl.len(), dtype=pl.UInt32))


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
    tables = Tables(
        events=pl.concat([events, twice]),
        items=items,
        users=pl.DataFrame({"user_id": user_ids}),
        calendar=clock,
        text_vectors=grid_vectors(n_items, 6, rng),
    )
    return _enriched(tables, np.random.default_rng([seed, 1]))


def _enriched(tables: Tables, rng: np.random.Generator) -> Tables:
    """With all that any feature reads: prices, attributes, texts, comments, queries, vectors; some of it missing."""

    def some(values: list[Any], count: int, share: float = 0.8) -> list[Any]:
        picked = rng.integers(len(values), size=count)
        return [values[n] if there else None for n, there in zip(picked, rng.random(count) < share, strict=True)]

    def phrase(most: int) -> str:
        return " ".join(rng.choice(["Red", "blue", "mug", "Lamp-7", "kettle", "big", "Чай"], rng.integers(most + 1)))

    n_items, n_events, n_users = tables.items.height, tables.events.height, tables.users.height
    items = tables.items.with_columns(
        category=pl.Series(some(["toys", "food", "shoes"], n_items), dtype=pl.String),
        price=pl.Series(some([0.0, 0.5, 2.0, 3.25, 9.99], n_items), dtype=pl.Float64),
        brand=pl.Series(some(["acme", "Zed"], n_items), dtype=pl.String),
        size=pl.Series(some([1.0, 2.5], n_items), dtype=pl.Float64),
        title=pl.Series([phrase(4) for _ in range(n_items)], dtype=pl.String),
        note=pl.Series(some(["red mug", "Blue  kettle", "", "gift"], n_items), dtype=pl.String),
        picture=pl.Series(
            some([[1.0, 0.0], [0.0, 0.0], [3.0, 4.0], [-1.0, 1.0], [2.0, 1.0]], n_items), dtype=pl.List(pl.Float64)
        ),
    )
    sent_back = (pl.col("event") == "impression") & pl.Series(rng.random(n_events) < 0.2)
    events = tables.events.with_columns(
        event=pl.when(sent_back).then(pl.lit("return")).otherwise("event"),
        query=pl.Series(some(["red mug", "lamp", "ЧАЙ tea"], n_events, 0.2), dtype=pl.String),
        text=pl.Series(some(["good", "so-so, really"], n_events, 0.3), dtype=pl.String),
        mood=pl.Series(some([-1.0, 0.5, 0.25], n_events, 0.6), dtype=pl.Float64),
    )
    users = tables.users.with_columns(
        age=pl.Series(some([20.0, 33.0], n_users), dtype=pl.Float64),
        country=pl.Series(some(["de", "fr"], n_users), dtype=pl.String),
    )
    events = events.with_columns(
        device=pl.Series(some(["phone", "desk"], n_events), dtype=pl.String),
        depth=pl.Series(some([1.0, 2.5], n_events), dtype=pl.Float64),
    )
    rich = replace(tables, items=items, events=events, users=users, offers=_offers(items["item_id"], rng))
    inventory = FeatureInventory.of(rich.log(), FEATURES, text=TEXT, context=CONTEXT)
    return replace(rich, plan=Plan(FEATURES, inventory))


def _offers(item_ids: pl.Series, rng: np.random.Generator, count: int = 25) -> pl.DataFrame:
    """Offers of two kinds that begin within the log's days or before, some of them side by side."""
    first = day_of(START.date()) + rng.integers(-10, 45, count)
    return pl.DataFrame(
        {
            "item_id": rng.choice(item_ids.to_numpy(), count),
            "offer": rng.choice(["leaflet", "Front page"], count),
            "first_day": [date_of(int(day)) for day in first],
            "last_day": [date_of(int(day + more)) for day, more in zip(first, rng.integers(0, 20, count), strict=True)],
            "reach": pl.Series(rng.choice([0.25, 0.5, 1.0], count)).replace(1.0, None),
        }
    ).unique(maintain_order=True)


def assembler_of(tables: Tables, config: CandidatesConfig | None = None) -> Assembler:
    return Assembler(tables.log(), config or CandidatesConfig(segment="country"), tables.text_vectors, tables.plan)
