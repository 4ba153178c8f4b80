"""Bytes a cell of the log's cells, of its indexes and of what families make of it, and how far memory rises meanwhile.

    python tests/benchmarks/log_memory.py [--events 5_000_000]

A drawn log of users with 25 events each, of four event types that all count, in 112 days with 4,000 items; purchases
have a value.
Each line is a stage: bytes that stay, bytes that were held at most meanwhile (anonymous memory of the process, seen
every 2 ms), both by cells of the log, and seconds.
"""

import argparse
import gc
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from features.calendar import Calendar
from features.config import CalendarConfig, CandidatesConfig, FeaturesConfig
from features.families.attribute import UserCategory
from features.families.exposure import ItemExposure
from features.families.item import ItemPopularity
from features.families.pair import PairHistory
from features.families.value import EventValue
from features.log.engagements import first_days
from features.log.event_log import EventLog
from features.log.inventory import FeatureInventory
from features.log.packed_values import pack_values
from features.signals.cache import AsOfCache
from features.signals.co_visitation import CoVisitation
from features.signals.ease import Ease
from features.signals.family import Plan
from features.signals.next_basket import BasketTransitions
from features.signals.similar_users import NearestUsers
from pipelines.stores.snapshot import added_up

KINDS = ("cart", "click", "purchase", "view")
GAINS = {"view": 1, "click": 1, "cart": 2, "purchase": 3}
ITEMS, DAYS, EVENTS_A_USER = 4000, 112, 25
FIRST_DAY = (date(2024, 1, 1) - date(1970, 1, 1)).days
REQUESTED_USERS, PORTIONS = 1000, 5
_STATUS = Path("/proc/self/status")
_EVERY_SECONDS = 0.002


def main() -> None:
    """Print a line a stage, and all of them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=lambda text: int(text.replace("_", "")), default=5_000_000)
    n_events = parser.parse_args().events
    n_users = n_events // EVENTS_A_USER
    files = dict(cells_by_day(n_events, n_users))
    watched = Watched()
    watched.stage("cells", lambda: added_up(files, np.arange(n_users), np.arange(ITEMS), n_items=ITEMS, kinds=KINDS))
    log = log_of(watched.made["cells"], n_users)
    watched.cells = len(log.cells.cells)
    for name, make in stages_of(log):
        watched.stage(name, make)
    sys.stdout.write("\n".join([*watched.lines(), json.dumps(watched.figures)]) + "\n")


def cells_by_day(n_events: int, n_users: int) -> Iterator[tuple[str, pl.DataFrame]]:
    """The cells of a file a day, as a night keeps them."""
    rng = np.random.default_rng(0)
    share = rng.lognormal(0, 0.8, n_users).cumsum()
    wanted = (1 / np.arange(1, ITEMS + 1) ** 0.8).cumsum()
    for day in range(DAYS):
        many = n_events // DAYS
        user = np.searchsorted(share, rng.random(many) * share[-1])
        item = np.searchsorted(wanted, rng.random(many) * wanted[-1])
        kind = rng.choice(len(KINDS), many, p=(0.1, 0.3, 0.1, 0.5))
        value = np.where(kind == KINDS.index("purchase"), rng.lognormal(3, 1, many), np.nan)
        events = pl.DataFrame({"user": user, "item": item, "kind": kind, "value": value})
        in_money = pl.col("value").fill_nan(None)
        sums = {"n": pl.len().cast(pl.UInt32), "worth": pack_values(in_money).sum()}
        key = [pl.col("user").cast(pl.UInt32), pl.col("item").cast(pl.UInt32), pl.col("kind").cast(pl.UInt16)]
        cells = events.group_by(key).agg(**sums).with_columns(day=pl.lit(FIRST_DAY + day, pl.Int32))
        yield str(day), cells.select("user", "item", "kind", "day", "n", "worth").sort("user", "item", "kind")


def log_of(cells: Any, n_users: int) -> EventLog:
    """The log as a night has it."""
    items = pl.DataFrame({"item_id": np.arange(ITEMS)}).with_row_index("item")
    items = items.with_columns(category=pl.format("of {}", pl.col("item") % 40), price=pl.col("item") * 1.5 + 1)
    calendar = Calendar(CalendarConfig())
    users = pl.Series("user_id", np.arange(n_users))
    return EventLog(cells=cells, gains=GAINS, user_ids=users, items=items, calendar=calendar)


def stages_of(log: EventLog) -> Iterator[tuple[str, Callable[[], Any]]]:
    """What is made of a log, in the order in which it is made."""
    inputs = ("events.value", "items.category", "items.price")
    plan = Plan(
        FeaturesConfig(),
        FeatureInventory(kinds=KINDS, counted=KINDS, inputs=inputs, text=(), vocabularies={}, offers=()),
    )
    end = FIRST_DAY + DAYS
    yield "questions: ends, kinds, users", lambda: summary_of(log.before(end - 7))
    yield "first days of items", lambda: first_days(log.cells)
    yield "interactions", lambda: log.interactions
    yield "interactions by day", lambda: log.interactions.between(end - 7, end)
    yield "history", lambda: log.history
    yield "item index", lambda: log.item_index
    yield "item return_gaps", lambda: log.item_return_gaps
    yield "family item", lambda: ItemPopularity(log, plan)
    yield "family pair", lambda: PairHistory(log, plan)
    yield "family category", lambda: UserCategory(log, plan)
    yield "family value", lambda: EventValue(log, plan)
    yield "family exposure", lambda: ItemExposure(log, plan)
    cache, config = AsOfCache(log), CandidatesConfig()
    yield "fit: users alike", lambda: cache.fitted(NearestUsers(), end)
    yield "fit: items seen together", lambda: cache.fitted(CoVisitation.of(config), end)
    yield "fit: next baskets", lambda: cache.fitted(BasketTransitions(config.refresh_days), end)
    yield "fit: ease", lambda: cache.fitted(Ease(), end)
    yield "portions", lambda: portions_of(log)


def summary_of(log: EventLog) -> tuple[Any, ...]:
    """What training and the night ask of the whole log."""
    ends = log.first_day, log.latest_day, len(log.kinds), len(log.active_users), log.has_values
    return (*ends, log.without_far_days().far.events, log.events_a_day[1].sum())


def portions_of(log: EventLog) -> int:
    """What families make of portions of users."""
    n_users, cells = len(log.user_ids), 0
    for users in np.array_split(
        np.random.default_rng(1).choice(n_users, REQUESTED_USERS * PORTIONS, replace=False), PORTIONS
    ):
        some = log.only(np.sort(users))
        cells += len(some.user_index.stamps) + len(some.history.slices(users, np.full_like(users, 1 << 16))[0])
    return cells


@dataclass(slots=True)
class Watched:
    """Stages that were measured.

    Attributes:
        figures: Bytes that stayed, most bytes meanwhile and seconds, by stage.
        made: What each made.
        cells: Cells of the log; 0 while they are not known.
    """

    figures: dict[str, dict[str, float]]
    made: dict[str, Any]
    cells: int
    _seen: set[int]

    def __init__(self) -> None:
        self.figures, self.made, self.cells, self._seen = {}, {}, 0, set()

    def stage(self, name: str, make: Callable[[], Any]) -> None:
        """Make something, and note what that took."""
        gc.collect()
        peak, ended, before = [0], threading.Event(), anonymous_bytes()

        def watch() -> None:
            while not ended.wait(_EVERY_SECONDS):
                peak[0] = max(peak[0], anonymous_bytes())

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        start = time.perf_counter()
        made = make()
        seconds = time.perf_counter() - start
        peak[0] = max(peak[0], anonymous_bytes())
        ended.set()
        watcher.join()
        self.made[name] = made
        stays = self._bytes(made)
        self.figures[name] = {"stays": stays, "most": max(peak[0] - before, 0), "rss": peak[0], "seconds": seconds}

    def _bytes(self, content: Any) -> int:
        """Bytes of arrays and tables in an object that were in none before."""
        if id(content) in self._seen:
            return 0
        self._seen.add(id(content))
        if isinstance(content, np.ndarray):
            return self._bytes(content.base) if isinstance(content.base, np.ndarray) else content.nbytes
        if isinstance(content, pl.DataFrame | pl.Series):
            return int(content.estimated_size())
        parts: list[Any] = []
        if is_dataclass(content) and not isinstance(content, EventLog):
            parts += [getattr(content, field.name) for field in fields(content)]
        if not isinstance(content, EventLog):
            parts += [*getattr(content, "__dict__", {}).values()]
        if isinstance(content, Mapping):
            parts += [*content.values()]
        if isinstance(content, tuple | list):
            parts += content
        return sum(self._bytes(part) for part in parts)

    def lines(self) -> Iterator[str]:
        """For people."""
        yield f"{self.cells:,} cells; bytes a cell that stay, most meanwhile; seconds"
        for name, stage in self.figures.items():
            a_cell = [stage[key] / self.cells for key in ("stays", "most")]
            yield f"{name:32}{a_cell[0]:8.1f}{a_cell[1]:8.1f}{stage['seconds']:8.2f} s{stage['rss'] / 1e6:9.0f} MB"


def anonymous_bytes() -> int:
    """Of this process now."""
    return int(_STATUS.read_text().split("RssAnon:")[1].split()[0]) * 1024


if __name__ == "__main__":
    main()
