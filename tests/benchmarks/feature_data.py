"""A skewed log and candidate rows for the feature benchmark, drawn day by day: one day at a time is held."""

import shutil
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

__all__ = ["Size", "write_day", "write_tables"]

START = datetime(2024, 1, 1, tzinfo=UTC)
KINDS = ("click", "cart", "purchase")  # all have a gain: the opponents count what counts alone
SHARES = (0.78, 0.13, 0.09)
FAVOURITES = 30  # items that a user comes back to
_HALF = 0.5
_DAY_SECONDS = 86_400


@dataclass(frozen=True)
class Size:
    """How much is drawn."""

    events: int = 10_000_000
    users: int = 100_000
    items: int = 50_000
    days: int = 180
    requests: int = 10_000
    candidates: int = 200
    as_of_days: int = 28  # the last days, on which requests are made
    seed: int = 0


def write_tables(folder: Path, size: Size) -> Path:
    """Events as one Parquet file a day, items, and candidate rows, unless the folder has them already."""
    done = folder / "done"
    if done.exists() and done.read_text() == repr(size):
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "events").mkdir(parents=True)
    for day in range(size.days):
        write_day(folder, size, day)
    pl.DataFrame(
        {"item_id": np.arange(size.items) + 1, "title": pl.Series(["an item"]).new_from_index(0, size.items)}
    ).write_parquet(folder / "items.parquet")
    _rows(size).write_parquet(folder / "rows.parquet", compression="zstd")
    done.write_text(repr(size))
    return folder


def write_day(folder: Path, size: Size, day: int) -> Path:
    """The events of one day."""
    rng = np.random.default_rng([size.seed, 1, day])
    first, end = (size.events * edge // size.days for edge in (day, day + 1))
    users = _users(rng, end - first, size)
    seconds = np.sort(rng.integers(0, _DAY_SECONDS, len(users)))
    stamps = (int(START.timestamp()) + day * _DAY_SECONDS + seconds) * 1_000_000 + rng.integers(
        0, 1_000_000, len(users)
    )
    kinds = np.searchsorted(np.cumsum(SHARES), rng.random(len(users)))
    frame = pl.DataFrame(
        {
            "event_id": np.arange(first, end),
            "user_id": users + 1,
            "item_id": _items(rng, users, size) + 1,
            "event": pl.Series(KINDS).gather(kinds),
            "timestamp": pl.Series(stamps).cast(pl.Datetime("us", "UTC")),
            "value": np.round(rng.lognormal(2.0, 1.0, len(users)), 2),
        }
    )
    path = folder / "events" / f"{(START + timedelta(days=day)).date()}.parquet"
    frame.write_parquet(path, compression="zstd")
    return path


def _users(rng: np.random.Generator, count: int, size: Size) -> np.ndarray:
    """Few users do much: activity falls with the square root of the rank."""
    return _scrambled((rng.random(count) ** 2 * size.users).astype(np.int64), size.users)


def _items(rng: np.random.Generator, users: np.ndarray, size: Size) -> np.ndarray:
    """Half of what a user touches are favourites, the rest what is popular with all."""
    favourite = users * FAVOURITES + (rng.random(len(users)) ** 2 * FAVOURITES).astype(np.int64)
    draw = np.where(rng.random(len(users)) < _HALF, _unit(favourite), rng.random(len(users)))
    return _scrambled((draw**3 * size.items).astype(np.int64), size.items)


def _rows(size: Size) -> pl.DataFrame:
    """Candidates of requests on the last days: favourites and popular items, each once a request."""
    rng = np.random.default_rng([size.seed, 2])
    users = _users(rng, size.requests, size)
    days = np.sort(size.days - rng.integers(0, size.as_of_days, size.requests))
    tried = np.repeat(users, size.candidates * 3)
    items = _items(rng, tried, size).reshape(size.requests, -1)
    request = np.repeat(np.arange(size.requests), items.shape[1])
    drawn = pl.DataFrame({"request": request, "item_id": items.ravel() + 1})
    kept = drawn.unique(maintain_order=True).filter(pl.int_range(pl.len()).over("request") < size.candidates)
    at = kept["request"].to_numpy()
    stamps = (int(START.timestamp()) + days[at] * _DAY_SECONDS) * 1_000_000
    rows = kept.select(
        pl.Series("user_id", users[at] + 1), "item_id", pl.Series("as_of", stamps).cast(pl.Datetime("us", "UTC"))
    )
    return rows.select("user_id", "item_id", "as_of")


def _unit(numbers: np.ndarray) -> np.ndarray:
    """A fixed number in [0, 1) for each integer."""
    mixed = (numbers.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    mixed ^= mixed >> np.uint64(29)
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    return (mixed >> np.uint64(11)).astype(np.float64) / 2**53


def _scrambled(ranks: np.ndarray, count: int) -> np.ndarray:
    """Ranks spread over 0 .. count - 1, so that an id does not tell its rank."""
    return np.random.default_rng(count).permutation(count)[ranks]
