"""The nights that were published, as they lie on disk: one attempt a day, what it measured, and the lists it gave."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import polars as pl

from features.errors import IntegrityError
from features.log.event_log import EventLog, batch_day
from pipelines.base.config import Config
from pipelines.base.progress import say
from pipelines.monitor.realised import Realised, is_closed, realised
from pipelines.night.guard import measures_of
from pipelines.night.measures import Measures
from pipelines.stores.publish import Attempt, Published, journal_of, published
from pipelines.training.request_source import request_source

__all__ = ["PublishedNight", "judged_nights", "nights_of"]


@dataclass(frozen=True)
class PublishedNight:
    """An undamaged attempt that was published for its day.

    Attributes:
        night: Its files, verified.
        measures: What was measured of it; None for a night of before there were measures.
    """

    night: Published
    measures: Measures | None

    @property
    def day(self) -> date:
        """The day that it was for."""
        return self.night.attempt.day

    @property
    def version(self) -> str:
        """The version that ranked it."""
        return str(self.night.manifest["version"])

    def lists_of(self, users: pl.Series, log: EventLog) -> pl.DataFrame:
        """user_id, rank, item_id and score of some users' lists, with ids of the types that the log has."""
        rows = _with_ids_of(log, pl.scan_parquet(self.night.shards, glob=False, hive_partitioning=False))
        chosen = rows.filter(pl.col("user_id").is_in(users.implode()))
        return chosen.select("user_id", "rank", "item_id", "score").collect()

    def fallback(self, log: EventLog) -> pl.DataFrame:
        """rank, item_id and score of the list for users without one."""
        return _with_ids_of(log, self.night.fallback().lazy()).select("rank", "item_id", "score").collect()


def _with_ids_of(log: EventLog, rows: pl.LazyFrame) -> pl.LazyFrame:
    dtypes = {"user_id": log.user_ids.dtype, "item_id": log.items["item_id"].dtype}
    there = rows.collect_schema().names()
    return rows.with_columns(pl.col(name).cast(dtype, strict=False) for name, dtype in dtypes.items() if name in there)


def nights_of(root: Path, *, until: date | None = None, most: int) -> list[PublishedNight]:
    """The latest published nights, one a day, oldest first; damaged ones are left out, which is said.

    A day's night is the attempt that was live last, or the last one that was published for its date alone.

    Args:
        root: The folder `rankings`.
        until: The last day; None for the one that is live, whatever was published after it.
        most: How many.
    """
    last = until or (None if (live := published(root)) is None else live.attempt.day)
    if last is None:
        return []
    names: dict[date, tuple[bool, str]] = {}
    for entry in journal_of(root):
        attempt = Attempt(root, entry["attempt"])
        was_live = entry.get("action") != "dated"
        if attempt.day <= last and (was_live or not names.get(attempt.day, (False, ""))[0]):
            names[attempt.day] = was_live, attempt.name
    nights = []
    for _, (_, name) in sorted(names.items())[-most:]:
        attempt = Attempt(root, name)
        try:
            nights.append(PublishedNight(Published(attempt, attempt.verify()), measures_of(attempt)))
        except IntegrityError:
            say("a night that is damaged is left out", attempt=name)
    return nights


def judged_nights(
    nights: list[PublishedNight], log: EventLog, config: Config, *, end_day: int
) -> Iterator[tuple[PublishedNight, Realised]]:
    """Each night with what became of it: see `pipelines.monitor.realised.realised`.

    Args:
        nights: The nights.
        log: The log, with the events that labels are made of.
        config: As `realised` takes it.
        end_day: As `realised` takes it.
    """
    source = request_source(log, config)
    for night in nights:
        batch = batch_day(night.day)
        acted = source.between(batch, batch + 1)["user"].unique()
        closed = is_closed(night.day, log.calendar, config, end_day=end_day)
        lists = night.lists_of(log.user_ids.gather(acted if closed else acted.clear()), log)
        yield night, realised(night.day, night.version, lists, night.fallback(log), log, config, end_day=end_day)
