"""The nights that were published, as they lie on disk: one attempt a day, what it measured, and the lists it gave."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl

from features.errors import IntegrityError
from features.log.event_log import EventLog, batch_day
from pipelines.base.config import Config
from pipelines.base.progress import say
from pipelines.monitor.drift import Watched
from pipelines.monitor.estimate import NightUsers, known_of
from pipelines.monitor.realised import Realised, is_closed, outcomes, summarised
from pipelines.night.columns import columns_of
from pipelines.night.guard import measures_of
from pipelines.night.measures import Measures
from pipelines.stores.journal import journal_of
from pipelines.stores.publish import Attempt, Published, published
from pipelines.stores.storage import read_json, read_parquet
from pipelines.training.request_source import request_source

_USERS = 20_000  # whose lists say what tonight's NDCG will be

__all__ = ["PublishedNight", "judged_nights", "nights_of", "watched"]


@dataclass(frozen=True)
class PublishedNight:
    """An undamaged attempt that was published for its day.

    Attributes:
        night: Its files, verified.
        measures: What was measured of it; None for a night of before there were measures.
        is_good: Whether no audit had to be overruled for it.
    """

    night: Published
    measures: Measures | None
    is_good: bool

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
    entries: dict[date, dict[str, Any]] = {}
    for entry in journal_of(root):
        day = Attempt(root, entry["attempt"]).day
        if day <= last and (_was_live(entry) or not _was_live(entries.get(day))):
            entries[day] = entry
    forced = {entry["attempt"] for entry in entries.values() if entry.get("forced")}
    attempts = [Attempt(root, entry["attempt"]) for _, entry in sorted(entries.items())]
    nights = []
    for attempt in [each for each in attempts if each.folder.is_dir()][-most:]:  # others were pruned
        try:
            published_night = Published(attempt, attempt.verify())
        except IntegrityError:
            say("a night that is damaged is left out", attempt=attempt.name)
            continue
        nights.append(PublishedNight(published_night, measures_of(attempt), attempt.name not in forced))
    return nights


def _was_live(entry: Mapping[str, Any] | None) -> bool:
    return entry is not None and entry.get("action") != "dated"


def watched(nights: Sequence[PublishedNight], config: Config) -> Watched:
    """The last of some nights beside the good ones before it.

    Args:
        nights: Nights, oldest first, one at least.
        config: How many are compared, and where bundles lie.
    """
    tonight = nights[-1]
    before = [night for night in nights[:-1] if night.is_good][-config.monitor.compared_nights :]
    kept = [columns for night in before if (columns := columns_of(night.night.attempt)) is not None]
    return Watched(
        tonight=tonight.measures,
        before=[night.measures for night in before if night.measures is not None],
        columns=columns_of(tonight.night.attempt),
        columns_before=kept,
        scores=read_parquet(tonight.night.shards[0], ["score"])["score"].cast(pl.Float64).to_numpy(),
        encoder_day=_encoder_day(Path(config.output) / "bundles" / str(tonight.night.manifest.get("bundle"))[:32]),
    )


def _encoder_day(bundle: Path) -> date | None:
    """The day before which everything lies that a bundle's encoder learned; None where the bundle is gone."""
    path = bundle / "manifest.json"
    if not path.is_file():
        return None
    recorded = read_json(path, what="bundle").get("training", {}).get("encoder_day")
    return None if recorded is None else date.fromisoformat(recorded)


def judged_nights(
    nights: Sequence[PublishedNight], log: EventLog, config: Config, *, end_day: int
) -> Iterator[tuple[Realised, NightUsers]]:
    """What became of each night, and of its users; in a large shop of some of them, drawn by their codes.

    Args:
        nights: The nights.
        log: The log, with the events that labels are made of.
        config: As `pipelines.monitor.realised.realised` takes it.
        end_day: As `pipelines.monitor.realised.realised` takes it.
    """
    source = request_source(log, config)
    every = pl.int_range(len(log.user_ids), dtype=pl.UInt32, eager=True)
    drawn = log.user_ids.gather(every.gather_every(len(every) // _USERS + 1))
    for night in nights:
        batch = batch_day(night.day)
        acted = log.user_ids.gather(source.between(batch, batch + 1)["user"].unique())
        lists = night.lists_of(pl.concat([drawn, acted]).unique(), log)
        known = known_of(lists.filter(pl.col("user_id").is_in(drawn.implode())), log, night.day)
        if is_closed(night.day, log.calendar, config, end_day=end_day):
            judged = outcomes(night.day, lists, night.fallback(log), log, config)
            became = summarised(night.day, night.version, judged, config)
        else:
            judged, became = None, Realised(night.day, night.version, "open", {})
        yield became, NightUsers.of(night.day, night.version, known, judged)
