"""One simulated shop with as many users as a benchmark asks for: tables and configuration, made crowd by crowd.

All sizes are the same shop: its catalogue, its fashion and its days; a larger one has the users of a smaller one, who
do the same. Memory is bounded by one crowd's log and one day's.
"""

import shutil
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import polars as pl
import yaml

from features.shop.simulator import Shop, ShopConfig, simulate
from pipelines.stores.storage import read_json, write_json, write_parquet

__all__ = ["LargeShop", "events_of", "write_crowds", "write_project"]

_EVENTS = ("event_id", "user_id", "item_id", "event", "timestamp", "value")
_MOST_EVENTS = 1_000_000_000  # of a crowd: event ids of the next begin there
_DONE = "done.json"


@dataclass(frozen=True, slots=True)
class LargeShop:
    """What is simulated.

    Attributes:
        visits_a_day: Mean visits of a user; each leaves about two events.
        users_a_crowd: Users who are simulated together, and that the number of users is a multiple of.
        items: Size of the catalogue.
        days: Length of the log.
        seed: Of the shop.
    """

    visits_a_day: float = 0.1
    users_a_crowd: int = 10_000
    items: int = 4000
    days: int = 112
    seed: int = 0

    @property
    def config(self) -> ShopConfig:
        """One crowd's shop, which logs no impressions."""
        return ShopConfig(
            seed=self.seed,
            users=self.users_a_crowd,
            items=self.items,
            days=self.days,
            requests_per_user_per_day=self.visits_a_day,
            impressions=False,
        )

    @property
    def night(self) -> date:
        """The day after the last of the log."""
        return self.config.start + timedelta(days=self.days)

    def crowd(self, number: int) -> Shop:
        """The shop as one crowd has it, ids of users and events apart from those of all others."""
        shop = simulate(self.config, crowd=number)
        named = (f"u{number:03d}" + pl.col("user_id").str.strip_prefix("u")).alias("user_id")
        numbered = pl.int_range(pl.len(), dtype=pl.Int64) + number * _MOST_EVENTS
        return Shop(
            items=shop.items,
            users=shop.users.with_columns(named),
            events=shop.events.with_columns(named, event_id=numbered).select(_EVENTS),
            requests=shop.requests,
            truth=shop.truth,
        )


def write_crowds(shop: LargeShop, folder: Path, users: int) -> list[Path]:
    """A folder a crowd, with its users and events, and the catalogue in the first; what is there is left.

    Raises:
        ValueError: The users are no whole number of crowds.
    """
    if users < 1 or users % shop.users_a_crowd:
        raise ValueError(f"{users} users are no multiple of {shop.users_a_crowd}, the users of a crowd.")
    folders = [folder / f"crowd-{number:03d}" for number in range(users // shop.users_a_crowd)]
    for number, crowd in enumerate(folders):
        if (crowd / _DONE).exists():
            continue
        tables = shop.crowd(number)
        crowd.mkdir(parents=True, exist_ok=True)
        write_parquet(tables.items.sort("item_id"), crowd / "items.parquet")
        write_parquet(tables.users, crowd / "users.parquet")
        # NOTE: row groups of about a day, so that a day is found without reading the others.
        events = tables.events
        events.write_parquet(crowd / "events.parquet", row_group_size=max(events.height // shop.days, 1))
        write_json({"events": events.height}, crowd / _DONE)
    return folders


def write_project(shop: LargeShop, folder: Path, users: int, settings: dict[str, object]) -> Path:
    """Tables, events a file a day, and `nightrank.yaml`, whose path is returned; whole, or made anew.

    Args:
        shop: What is simulated.
        folder: Crowds go to `crowds` below it, the project to a folder named by its users.
        users: How many.
        settings: Sections of the configuration beside data and labels.
    """
    project = folder / f"users-{users}"
    config = project / "nightrank.yaml"
    if not (project / _DONE).exists():
        shutil.rmtree(project, ignore_errors=True)
        crowds = write_crowds(shop, folder / "crowds", users)
        project.mkdir(parents=True)
        shutil.copyfile(crowds[0] / "items.parquet", project / "items.parquet")
        pl.concat([pl.read_parquet(crowd / "users.parquet") for crowd in crowds]).sort("user_id").write_parquet(
            project / "users.parquet"
        )
        write_json({"events": _write_days(shop, crowds, project / "events")}, project / _DONE)
    config.write_text(yaml.safe_dump(_DATA | settings, sort_keys=False), encoding="utf-8")
    return config


def events_of(project: Path) -> int:
    """How many events a project of `write_project` has."""
    return int(read_json(project / _DONE, what="benchmark")["events"])


_DATA: dict[str, object] = {
    "data": {
        "items": {"path": "items.parquet", "text": ["title", "description"]},
        "events": {"path": "events"},
        "users": {"path": "users.parquet"},
    },
    "labels": {"gains": {"click": 1, "cart": 2, "purchase": 3}},
}


def _write_days(shop: LargeShop, crowds: list[Path], folder: Path) -> int:
    """The events of all crowds, a file a day, by time; how many there are."""
    log = pl.scan_parquet([crowd / "events.parquet" for crowd in crowds])
    total = 0
    for number in range(shop.days):
        day = shop.config.start + timedelta(days=number)
        opens = pl.lit(day).cast(pl.Datetime("us", "UTC"))
        within = (pl.col("timestamp") >= opens) & (pl.col("timestamp") < opens + pl.duration(days=1))
        events = log.filter(within).sort("timestamp", "event_id").collect()
        if events.height:
            write_parquet(events, folder / f"date={day:%Y-%m-%d}" / "events.parquet")
            total += events.height
    return total
