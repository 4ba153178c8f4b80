"""The leak check: what of an answer moves when only what lies at or after its as-of is changed."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import polars as pl
from random_log import Tables, assembler_of

from features.assemble import Assembler, Portion
from features.log.event_log import date_of
from features.requests.engaged import requests_tonight


def differences(one: Portion, other: Portion) -> set[str]:
    """Names of the columns whose bytes differ, `candidates` if other items are ranked."""
    names = {f"history {name}" for name in _differing(one.history, other.history)}
    if _differing(one.rows.select("request", "item"), other.rows.select("request", "item")):
        names.add("candidates")
        one, other = (
            replace(
                left,
                rows=left.rows.join(right.rows, on=["request", "item"], how="semi", maintain_order="left"),
            )
            for left, right in ((one, other), (other, one))
        )
    return names | _differing(one.rows, other.rows)


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
    if tables.offers is not None:
        yield replace(tables, offers=_other_offers(tables, as_of, rng))


def _other_offers(tables: Tables, as_of: datetime, rng: np.random.Generator) -> pl.DataFrame:
    """What begins on the day of the batch or before is known, but not how long it will go on; the rest is another."""
    day = date_of(int(tables.calendar.days(pl.Series([as_of], dtype=pl.Datetime("us", "UTC")))[0]))
    begun = pl.col("first_day") <= day
    longer = pl.when(pl.col("last_day") >= day).then(pl.col("last_day") + timedelta(days=int(rng.integers(9))))
    offers = tables.offers.filter(begun).with_columns(last_day=longer.otherwise("last_day"))
    later = tables.offers.filter(~begun)
    return pl.concat(
        [offers, later.with_columns(later["item_id"].shuffle(int(rng.integers(1000))), offer=pl.lit("leaflet"))]
    ).unique(maintain_order=True)


def _scrambled(events: pl.DataFrame, as_of: datetime, rng: np.random.Generator) -> pl.DataFrame:
    """The same users, items and types in other combinations, a third of them at the very instant `as_of`."""
    hours = rng.choice([0, 1, 40], events.height)
    others = [name for name in events.columns if name not in {"timestamp", "value"}]
    moved = [as_of + timedelta(hours=int(hour)) for hour in hours]
    return events.select(
        *(events[name].gather(rng.permutation(events.height)) for name in others),
        pl.Series("timestamp", moved, pl.Datetime("us", "UTC")),
        "value",
    ).select(events.columns)


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
    moved: set[str] = set()
    rng = np.random.default_rng(seed)
    for other in other_futures(tables, tables.calendar.as_of(as_of_day), rng):
        after = make(other).portions(requests, size=4)
        for one, two in zip(before, after, strict=True):
            moved |= differences(one, two)
    return moved
