"""A table of features from a table of questions and a log of any size: Parquet in, Parquet out, in bounded memory.

The log is read in batches, of which nothing is kept but one integer an event. The users are cut into parts; where
all of them would not fit into `features.max_memory_gb`, a part's integers wait in a file until its turn. In how many
parts, and by how many threads, does not change a bit of any feature.
"""

import math
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from uuid import uuid4

import numpy as np
import numpy.typing as npt
import polars as pl

from features.asof import Ints
from features.codes import Codes
from features.config import FeaturesConfig
from features.daily import Daily, FoldedLog
from features.errors import ConfigError
from features.families.base import Plan
from features.families.supply import Supply
from features.partition import part_of
from features.stream import PARTED, PartedFeatures
from features.timeline import Calendar
from pipelines.storage import write_parquet

__all__ = ["Featurised", "Log", "featurise", "parts_needed"]

_GIB = 1 << 30
_BASE_BYTES = 500_000_000  # interpreter, libraries, and the batch being read
_EVENT_BYTES = 120  # of a part, while it is folded and indexed
_ROW_BYTES = 400  # of a part, while its features are computed and written
_INDEX_BYTES = 24  # of each (item, day) in an index of the sums over everybody, and while two of them are added
_INDICES = 9  # of these, beside one for each event type
_BATCH_EVENTS = 1_000_000
_AT_ONCE_EVENTS = 4_000_000  # a log of so many is read once, a larger one twice
_FAMILIES = tuple(family.name for family in PARTED)
_SPARSE = 4  # integers between the smallest and the largest user id that one event is worth


@dataclass(frozen=True, slots=True)
class Log:
    """A log that is not read yet.

    Attributes:
        events: user_id, item_id, event, timestamp (UTC) as the contract of `Events` has them; those of items that
            are not in `items` and of types without a gain count for nothing.
        items: The catalogue: `Items`.
        calendar: Where days are cut.
        gains: Gain of each event type that counts.
        features: The families, of those in `features.stream.PARTED`, and what they are told.
    """

    events: pl.LazyFrame
    items: pl.DataFrame
    calendar: Calendar
    gains: dict[str, int]
    features: FeaturesConfig = field(default_factory=lambda: FeaturesConfig(families=_FAMILIES))

    @property
    def plan(self) -> Plan:
        """What columns there are: as of a log that has each event type with a gain, and no other."""
        kinds = tuple(sorted(self.gains))
        priced = (name for name in ("category", "price") if name in self.items.columns)
        inputs = tuple(f"items.{name}" for name in priced if not self.items[name].is_null().all())
        counted = kinds if len(kinds) > 1 else ()
        return Plan(self.features, Supply(kinds=kinds, counted=counted, inputs=inputs, text=(), vocabularies={}))


@dataclass(frozen=True, slots=True)
class Featurised:
    """What came out.

    Attributes:
        files: The feature table: `row` (0-based number of the row in the table of questions), its user_id, item_id
            and as_of, then the features (Float32, NaN undefined); a file for each part of the users, by `row`.
        events: Events read.
        parts: In how many parts.
        spilled: Whether they waited on disk.
    """

    files: tuple[Path, ...]
    events: int
    parts: int
    spilled: bool


def featurise(
    log: Log, rows: pl.LazyFrame, to: Path, *, max_memory_gb: float, threads: int = 0, parts: int = 0
) -> Featurised:
    """Compute the features of every row and write them.

    Args:
        log: What happened.
        rows: user_id, item_id (one of the catalogue), as_of (a cut-off of the calendar).
        to: Folder of the feature table; replaced.
        max_memory_gb: Memory (GiB) that this process may take.
        threads: Parts worked on at a time; 0 for one a core.
        parts: Parts of the users that wait on disk; 0 for as few as the memory allows.

    Raises:
        ConfigError: The memory is too small for one part in a thousand, or a family cannot be computed in parts.
    """
    features = PartedFeatures(log.plan)
    job = _Job.open(log, rows)
    workers = threads or os.cpu_count() or 1
    fit = parts or parts_needed(
        job.n_events, job.rows.height, job.item_days, kinds=len(job.kinds), max_memory_gb=max_memory_gb
    )
    shutil.rmtree(to, ignore_errors=True)
    spill = to / f".spill-{uuid4().hex}"
    spill.mkdir(parents=True)
    try:
        held = _Held(job, fit * workers, spill if fit > 1 else None)
        for user, cells in job.cells():
            held.add(user, cells)
        files = _worked_through(job, held, features, to, workers)
    finally:
        shutil.rmtree(spill, ignore_errors=True)
    return Featurised(files, job.n_events, held.parts, spilled=fit > 1)


def parts_needed(events: int, rows: int, item_days: int, *, kinds: int, max_memory_gb: float) -> int:
    """In how many parts the users are worked through, so that each part fits.

    Args:
        events: Events of the log.
        rows: Rows asked about.
        item_days: Items times days: the most cells that an index of items can have.
        kinds: Event types that are counted.
        max_memory_gb: Memory (GiB) there is.

    Raises:
        ConfigError: The memory is too small for one part in a thousand.
    """
    fixed = _BASE_BYTES + min(item_days, events) * _INDEX_BYTES * (_INDICES + kinds)
    needed = events * _EVENT_BYTES + rows * _ROW_BYTES
    room = max_memory_gb * _GIB - fixed
    if room * 1000 < needed:
        least = math.ceil((fixed + needed / 1000) / _GIB * 10) / 10
        raise ConfigError(
            f"features.max_memory_gb: {max_memory_gb:g} GiB is too little for {events} events and {rows} rows; "
            f"allow {least:g}."
        )
    return max(1, math.ceil(needed / room))


@dataclass(frozen=True, slots=True)
class _Job:
    """The tables, and the codes of their ids."""

    log: Log
    read: pl.LazyFrame
    rows: pl.DataFrame
    catalogue: pl.DataFrame
    users: Codes
    items: Codes
    n_events: int
    item_days: int

    @classmethod
    def open(cls, log: Log, rows: pl.LazyFrame) -> "_Job":
        """Read what is small: the questions, and who there is."""
        asked = rows.select("user_id", "item_id", "as_of").with_row_index("row").collect()
        catalogue = log.items.sort("item_id").with_row_index("item")
        kinds = pl.Enum(sorted(log.gains))
        kind = pl.col("event").cast(kinds, strict=False).to_physical().alias("kind")
        n_events = int(log.events.select(pl.len()).collect().item())
        read = log.events.select("user_id", "item_id", kind, "timestamp").filter(pl.col("kind").is_not_null())
        if n_events <= _AT_ONCE_EVENTS:
            read = read.collect(engine="streaming").lazy()
        stamp, user = pl.col("timestamp"), pl.col("user_id")
        edges = {"low": user.min(), "high": user.max(), "first": stamp.min(), "last": stamp.max()}
        span = read.select(**edges).collect(engine="streaming").row(0, named=True)
        n_days = 1 if span["first"] is None else (span["last"] - span["first"]).days + 2
        return cls(
            log,
            read,
            asked,
            catalogue,
            Codes.of(_users(read, asked["user_id"], n_events, span["low"], span["high"])),
            Codes.of(catalogue["item_id"]),
            n_events,
            n_days * catalogue.height,
        )

    @property
    def kinds(self) -> tuple[str, ...]:
        """The event types that are folded."""
        return tuple(sorted(self.log.gains))

    def cells(self) -> Iterator[tuple[Ints, Ints]]:
        """Batch by batch the user code and the daily cell of each event that counts."""
        for batch in self.read.collect_batches(chunk_size=_BATCH_EVENTS, maintain_order=False):
            item = self.items.code(batch["item_id"])
            days = self.log.calendar.days(batch["timestamp"]).astype(np.int64)
            codes = [self.users.code(batch["user_id"]), item, days, batch["kind"].cast(pl.Int64).to_numpy()]
            if (item < 0).any():
                codes = [code[item >= 0] for code in codes]
            yield codes[0], Daily.cell(*codes, n_items=len(self.items), n_kinds=len(self.kinds))

    def folded(self, daily: Daily) -> FoldedLog:
        """A log of some users."""
        return FoldedLog(
            daily,
            user_ids=self.users.ids,
            items=self.catalogue,
            calendar=self.log.calendar,
            gains=self.log.gains,
        )


def _users(events: pl.LazyFrame, asked: pl.Series, n_events: int, low: object, high: object) -> pl.Series:
    """Ids of all users, ascending; of integers that lie close together all between, which need no search."""
    if isinstance(low, int) and isinstance(high, int) and asked.dtype.is_integer():
        known = np.array([low, high, *asked.unique()])
        if known.max() - known.min() < _SPARSE * n_events:
            return pl.Series(np.arange(known.min(), known.max() + 1))
    users = events.select("user_id").unique().collect(engine="streaming")["user_id"]
    return pl.concat([users, asked.cast(users.dtype)]).unique().sort()


@dataclass(slots=True)
class _Held:
    """The parts of the log: their events as cells until they are folded, in memory or on disk."""

    job: _Job
    parts: int
    folder: Path | None
    part_of_user: npt.NDArray[np.int16] = field(init=False)
    asked: npt.NDArray[np.bool_] = field(init=False)
    batches: list[list[Ints]] = field(init=False)
    folded: dict[int, Daily] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.part_of_user = part_of(self.job.users.ids, self.parts).astype(np.int16)
        self.asked = np.zeros(len(self.job.users), bool)
        self.asked[self.job.users.code(self.job.rows["user_id"])] = True
        self.batches = [[] for _ in range(self.parts)]

    def add(self, user: Ints, cells: Ints) -> None:
        """Take in a batch."""
        part = self.part_of_user[user]
        for number in range(self.parts):
            piece = cells[part == number]
            if self.folder is None:
                self.batches[number].append(piece)
            else:
                with (self.folder / f"{number}.events").open("ab") as file:
                    piece.tofile(file)

    def fold(self, part: int) -> FoldedLog:
        """The log of a part; its events are then forgotten, and its cells but those of users that are asked about."""
        daily = Daily.fold(self._events(part), n_items=len(self.job.items), kinds=self.job.kinds)
        asked = daily.of_users(self.asked)
        if self.folder is None:
            self.folded[part] = asked
        else:
            asked.cells.tofile(self.folder / f"{part}.cells")
            asked.counts.tofile(self.folder / f"{part}.counts")
        return self.job.folded(daily)

    def again(self, part: int) -> FoldedLog:
        """The log of the users of a part that are asked about, after it was folded; in memory it is handed out once."""
        if self.folder is None:
            return self.job.folded(self.folded.pop(part))
        cells, counts = (np.fromfile(self.folder / f"{part}.{name}", np.int64) for name in ("cells", "counts"))
        return self.job.folded(Daily(cells, counts, len(self.job.items), self.job.kinds))

    def _events(self, part: int) -> Ints:
        if self.folder is None:
            pieces, self.batches[part] = self.batches[part], []
            return np.concatenate([*pieces, np.empty(0, np.int64)])
        path = self.folder / f"{part}.events"
        if not path.exists():
            return np.empty(0, np.int64)
        cells = np.fromfile(path, np.int64)
        path.unlink()
        return cells


def _worked_through(job: _Job, held: _Held, features: PartedFeatures, to: Path, workers: int) -> tuple[Path, ...]:
    """Every part twice: for what it adds to the sums over everybody, then for its rows."""
    user = job.users.code(job.rows["user_id"])
    coded = pl.DataFrame(
        {
            "user": user,
            "item": job.items.code(job.rows["item_id"]),
            "as_of_day": job.log.calendar.days(job.rows["as_of"]),
        }
    )
    part_of_row = held.part_of_user[user]
    adding = Lock()

    def written(part: int) -> Path:
        mine = np.flatnonzero(part_of_row == part)
        found = features.compute(held.again(part), coded[mine])
        path = to / f"part-{part:05d}.parquet"
        write_parquet(pl.concat([job.rows[mine], found], how="horizontal"), path)
        return path

    def add(part: int) -> None:
        sums = features.part(held.fold(part))
        with adding:  # NOTE: by who made them, or sums would pile up where adding takes longer than making.
            features.absorb(sums)

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(add, range(held.parts)))
        return tuple(pool.map(written, range(held.parts)))
