"""Folds the log file by file into daily cells, which `pipelines.stores.state` keeps for the next command.

Cells add up, so that a night that folds one file has the same cells, to the bit, as one that folds them all, and an
event that comes late counts on its day. Where an event stands in two files, or files differ in their columns, all files
are read and judged together, which the line `state` reports.

Where single events are needed too (`pipelines.inputs.event_files`), every file is read, even if its cells are kept.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl

from features.errors import TryAgainError
from features.log.codes import Codes, Numbers
from features.log.engagements import Engagements, fold_events
from features.log.event_log import Calendar, EventLog, all_user_ids, refuse_gainless, users_by_code
from features.tables.contracts import ROW, RULES, STRAY, Checked, check_references, counted
from features.tables.dtypes import ids_like, kept_as_text, stacked, with_text_ids
from features.tables.frames import SetAside
from features.tables.identity import Identities
from pipelines.base.config import Config
from pipelines.base.progress import say
from pipelines.inputs.check import (
    JOINED_IDS,
    checked_tables,
)
from pipelines.inputs.event_files import EventFiles
from pipelines.inputs.tables import RawTable, fingerprint_of, read_file, refuse_empty, stacked_files, table_files
from pipelines.stores.mapped import MappedTables
from pipelines.stores.snapshot import FileCells, Summed, added_up, users_with_cells
from pipelines.stores.state import Entry, Manifest, StateStore, settings_key, stat_of

__all__ = ["Folding", "IdsAreTextError"]

_FRESH_SHARE = 0.2  # of cells beside the snapshot, before it is made anew


class IdsAreTextError(Exception):
    """Files of the log have ids as text that were integers so far; all tables must follow."""

    def __init__(self, names: frozenset[str]) -> None:
        super().__init__(*names)
        self.names = names


@dataclass(frozen=True, slots=True)
class _Read:
    """One file of the log, as it was read."""

    path: str
    stat: list[int]
    sha256: str
    frame: pl.DataFrame
    text_ids: list[str]


class Folding:
    """Brings the kept state up to date with the files of the log, and makes the event log from it.

    Args:
        config: Where the files and the state lie.
        items: The catalogue, checked.
        text_ids: Which ids are text in the other tables, and so here.
        gathered: Collects the single events of every file; None for cells alone.
    """

    def __init__(
        self, config: Config, items: Checked, text_ids: frozenset[str], gathered: EventFiles | None = None
    ) -> None:
        self._config = config
        self._items = items
        self._text_ids = text_ids
        self._gathered = gathered
        self._codes = Codes.of(items.good["item_id"].sort())
        self._calendar = Calendar(config.calendar)
        self._store = StateStore(Path(config.output) / "state")
        self._listing = table_files(config.data.events, name="events")
        self._files = self._listing.paths
        self._entries: dict[str, Entry] = {}
        self._summed: Summed | None = None
        self._forget()

    def update(self, *, allow_empty: bool = False) -> None:
        """Fold new and changed files, or all files where those do not suffice, and report which and why.

        Args:
            allow_empty: Whether files without rows are fine.

        Raises:
            IdsAreTextError: Files have ids as text that `text_ids` does not name.
        """
        manifest, rebuilt = self._opened()
        entries_before = {} if manifest is None else manifest.entries
        outcomes = {
            path: self._unchanged(entries_before.get(path), file)
            for path, file in zip(map(self._relative, self._files), self._files, strict=True)
        }
        unchanged = {path: entry for path, entry in outcomes.items() if isinstance(entry, Entry)}
        outcomes |= self._loaded(unchanged, manifest)
        self._entries = {path: entry for path, entry in outcomes.items() if isinstance(entry, Entry)}
        self._follow_text(frozenset(name for entry in self._entries.values() for name in entry.text_ids))
        folded = [file for file in self._files if self._relative(file) not in self._entries]
        frontier = max((entry.last for entry in self._entries.values() if entry.last is not None), default=None)
        causes = {path: entry for path, entry in outcomes.items() if isinstance(entry, str)}
        causes |= {path: "gone" for path in entries_before if path not in outcomes}
        anew = self._fold_each(folded, old={path for path in causes if path in entries_before})
        if anew is not None:
            rebuilt, folded = anew, list(self._files)
            self._fold_all()
        if not allow_empty:
            refuse_empty([path for path, entry in self._entries.items() if not entry.rows], self._files, "events")
        self._save()
        again = self._gather_unfolded([file for file in self._files if file not in set(folded)])
        folded_paths = {self._relative(file) for file in folded}
        late = [e for e in self._entries.values() if e.path in folded_paths and _is_late(e, frontier)]
        counts = {f"files_{cause}": n for cause, n in Counter(causes.values()).items() if rebuilt is None}
        facts = {"rebuilt_because": rebuilt} if rebuilt else {**counts, "files_late": len(late)}
        more = {} if self._gathered is None else {"read_again": again}
        say("state", files=len(self._files), folded=len(folded), **facts, **more)

    @property
    def fingerprint(self) -> str:
        """sha256 over paths and contents of the log's files, as `tables.RawTable` has it."""
        return fingerprint_of([(path, self._entries[path].sha256) for path in map(self._relative, self._files)])

    def events(self) -> Checked:
        """Result of the contract over all files together; `good` has no rows."""
        parts, rows = [], 0
        for path in map(self._relative, self._files):
            entry = self._entries[path]
            aside = None if entry.aside is None else self._store.get(entry.aside)
            if aside is not None:
                parts.append(self._still_aside(aside).with_columns(pl.col(ROW) + rows))
            rows += entry.rows
        bad = stacked(parts) if parts else SetAside.create_empty()
        entries = self._entries.values()
        return Checked(
            name="events",
            good=pl.DataFrame(),
            bad=bad,
            rules=counted(bad.select(ROW, pl.col(RULES).str.split(","))),
            n_rows=rows,
            n_duplicates=sum(entry.duplicates for entry in entries),
            ignored=sorted({name for entry in entries for name in entry.ignored}),
            remarks=self._remarks(),
            as_missing={} if self._gathered is None else self._gathered.as_missing,
            cut={} if self._gathered is None else self._gathered.cut,
            files=[(path, self._entries[path].rows) for path in map(self._relative, self._files)],
        )

    def _remarks(self) -> dict[str, str]:
        """The remark on each broken rule, from the first file that broke it."""
        entries = [self._entries[path] for path in map(self._relative, self._files)]
        return {rule: remark for entry in reversed(entries) for rule, remark in entry.remarks.items()}

    @property
    def left_out(self) -> Sequence[str]:
        """Paths of the log's files that are not read."""
        return self._listing.left_out

    def log(self, users: pl.DataFrame | None) -> EventLog:
        """The log of all cells of items in the catalogue.

        Args:
            users: `Users`, or None.

        Raises:
            ContractError: No event type of `labels.gains` occurs, or user ids differ in kind between tables.
        """
        kinds = tuple(self._kinds.ids)
        item = self._codes.code(self._item_ids.ids)
        files = {str(number): cells for number, cells in enumerate(self._cells.read())}
        active = self._users.ids.gather(users_with_cells(files, len(self._users.ids), item))
        if self._summed is not None:
            active = pl.concat([active, self._summed.active_ids])
        codes = Codes.of(all_user_ids(active, None if users is None else users["user_id"]))
        user = codes.code(self._users.ids)
        fresh = sum(frame.height for frame in files.values())
        daily = added_up(files, user, item, n_items=len(self._codes), kinds=kinds)
        if self._summed is not None:
            daily = self._summed.under(codes, self._codes, kinds).plus(daily)
        refuse_gainless(daily.present, int(daily.counts.sum()), self._config.labels.gains)
        self._sum_up(daily, codes, fresh=fresh)
        return EventLog(
            cells=daily,
            user_ids=codes.ids,
            items=self._items.good.drop(ROW).sort("item_id").with_row_index("item"),
            calendar=self._calendar,
            gains=self._config.labels.gains,
            users=None if users is None else users_by_code(users, codes.ids),
            labels=None if self._gathered is None else self._gathered.labels(user),
            raw=None if self._gathered is None else self._gathered.raw(user),
        )

    def _sum_up(self, daily: Engagements, users: Codes, *, fresh: int) -> None:
        """Keep the sum of all cells, unless the kept one lacks only a few."""
        if self._summed is None or fresh > _FRESH_SHARE * len(self._summed.daily.cells):
            holds = {entry.cells for entry in self._entries.values() if entry.cells is not None}
            record = Summed.put(self._store, daily, users, self._codes, holds)
            self._summed = Summed(record, daily, users.ids, self._codes.ids)
            self._save()

    def _forget(self) -> None:
        self._entries, self._summed = {}, None
        self._cells = MappedTables(self._config)  # of each file, until all are added up: they may be many
        self._users, self._item_ids = (Numbers(pl.Series([], dtype=pl.Null)) for _ in range(2))
        self._kinds = Numbers(pl.Series([], dtype=pl.String))
        self._entangled = False
        if self._gathered is not None:
            self._gathered.forget()

    def _opened(self) -> tuple[Manifest | None, str | None]:
        """The kept state and None, or None and the reason why it cannot be used."""
        manifest, why = self._store.manifest(settings_key(self._config))
        if manifest is None:
            return None, why
        if manifest.text_ids != sorted(self._text_ids):
            return None, "an id is text that was an integer, or the other way round"
        users, items = self._store.get(manifest.users), self._store.get(manifest.items)
        if users is None or items is None:
            return None, "a file of it is missing or damaged"
        self._users, self._item_ids = Numbers(users["id"]), Numbers(items["id"])
        self._kinds = Numbers(pl.Series(manifest.kinds, dtype=pl.String))
        self._entangled = manifest.entangled
        return manifest, None

    def _relative(self, file: Path) -> str:
        return self._listing.relative(file)

    def _unchanged(self, entry: Entry | None, file: Path) -> Entry | str:
        """The entry of a file if the file is unchanged, else the reason why it must be folded."""
        if entry is None:
            return "new"
        stat = stat_of(file)
        if stat == entry.stat:
            return entry
        if self._read(file).sha256 != entry.sha256:
            return "changed"
        return replace(entry, stat=stat)

    def _loaded(self, entries: dict[str, Entry], manifest: Manifest | None) -> dict[str, Entry | str]:
        """Read the cells of unchanged files; where that fails, the reason why a file must be folded again."""
        names = {entry.cells for entry in entries.values() if entry.cells is not None}
        record = None if manifest is None else manifest.snapshot
        seen = self._item_ids.ids
        self._summed = Summed.read(self._store, record, cells=names, items=self._codes, seen=seen)
        if any(self._lacks_aside(entry) for entry in entries.values()):
            self._summed = None  # what is folded again must not stand in the sum as well
        in_snapshot = set() if self._summed is None else set(self._summed.record.holds)
        return {path: entry if entry.cells in in_snapshot else self._kept(entry) for path, entry in entries.items()}

    def _kept(self, entry: Entry) -> Entry | str:
        """An entry whose cells were read, or the reason why the file must be folded again."""
        if self._lacks_aside(entry):
            return "damaged"
        if entry.cells is None:
            return entry
        cells = self._store.get(entry.cells, FileCells.column_names())
        if cells is None:
            return "damaged"
        aside = None if entry.aside is None else self._store.get(entry.aside)
        in_catalogue = self._codes.code(self._item_ids.ids) >= 0
        stray = int(cells["n"].to_numpy()[~in_catalogue[cells["item"].to_numpy()]].sum())
        if stray != (0 if aside is None else self._still_aside(aside).filter(pl.col(RULES) == STRAY).height):
            return "of_items_no_longer_there"
        self._cells.add(cells)
        return entry

    def _lacks_aside(self, entry: Entry) -> bool:
        """Whether the kept quarantine rows of a file are missing."""
        return entry.aside is not None and self._store.get(entry.aside) is None

    def _still_aside(self, aside: pl.DataFrame) -> pl.DataFrame:
        """Quarantine rows without those whose item has come into the catalogue since."""
        if not (aside[RULES] == STRAY).any():
            return aside
        ids = ids_like(aside["item_id"], self._items.good.schema["item_id"])
        in_catalogue = pl.Series(self._codes.code(ids) >= 0) & ids.is_not_null()
        return aside.filter(~(in_catalogue & (pl.col(RULES) == STRAY)))

    def _fold_each(self, files: Sequence[Path], *, old: set[str]) -> str | None:
        """Fold files one by one; returns None, or the reason why all files must be folded together.

        Args:
            files: The files to fold.
            old: Paths of files in the kept state that changed or are gone.
        """
        if self._entangled and old:
            return "an event stands in two files, and one of the log's files changed"
        kept = list(self._entries.values())
        schemas = {entry.schema for entry in kept}
        new: list[Identities] = []
        for file in files:
            read = self._read(file)
            schemas.add(_schema_key(read.frame))
            if len(schemas) > 1:
                return "its files differ in their columns"
            new += self._fold([read])
        met = _met(new, kept, self._store)
        return None if met == 0 else f"{met} events stand in two files"

    def _fold_all(self) -> None:
        """Fold all files together."""
        self._forget()
        self._entangled = True
        self._fold([self._read(file) for file in self._files])

    def _read(self, file: Path) -> _Read:
        stat = stat_of(file)
        frame, sha256 = read_file(file, self._listing, self._config.data.events, name="events")
        text = kept_as_text(frame, JOINED_IDS)
        self._follow_text(text)
        return _Read(self._relative(file), stat, sha256, with_text_ids(frame, self._text_ids), sorted(text))

    def _follow_text(self, names: frozenset[str]) -> None:
        """Require that ids which are text in a file of the log are text in all tables.

        Raises:
            IdsAreTextError: They are not yet.
        """
        if not names <= self._text_ids:
            raise IdsAreTextError(names)

    def _fold(self, read: Sequence[_Read]) -> list[Identities]:
        """Check files against the contract, together, and keep the entry of each."""
        frame, checked = self._checked(read)
        judged = check_references(self._items, checked) if checked.good.width else checked
        identities, start = [], 0
        for part in read:
            end = start + part.frame.height
            mine = pl.col(ROW).is_between(start, end, closed="left")
            named = Identities.of(frame[start:end])
            good, bad, aside = (
                table.filter(mine) if table.height else table for table in (checked.good, checked.bad, judged.bad)
            )
            self._enter(part, named, good, aside.with_columns(pl.col(ROW) - start) if aside.height else None)
            self._entries[part.path] = replace(
                self._entries[part.path],
                duplicates=part.frame.height - good.height - bad.height,
                ignored=list(checked.ignored),
                remarks=dict(judged.remarks),
            )
            identities.append(named)
            start = end
        self._gather(checked)  # NOTE: after the cells, so that users have the numbers that a night gives them
        return identities

    def _checked(self, read: Sequence[_Read]) -> tuple[pl.DataFrame, Checked]:
        """Files as one table, and the result of its contract."""
        frame = stacked_files([part.frame for part in read], self._config.data.events, name="events")
        if frame.is_empty() and len(self._files) > len(read):
            return frame, Checked("events", pl.DataFrame(), pl.DataFrame(), pl.DataFrame(), 0, 0, ())
        counted_files = [(part.path, part.frame.height) for part in read]
        return frame, checked_tables({"events": RawTable(frame, "", counted_files)}, self._config)["events"]

    def _gather_unfolded(self, files: Sequence[Path]) -> int:
        """Collect the single events of files that were not folded, if wanted; returns how many files were read."""
        if self._gathered is None or not files:
            return 0
        if self._entangled:  # what stands in two files counts once, so that all are judged together
            self._gathered.forget()
            self._gather(self._checked([self._read_again(file) for file in self._files])[1])
            return len(self._files)
        for file in files:
            self._gather(self._checked([self._read_again(file)])[1])
        return len(files)

    def _read_again(self, file: Path) -> _Read:
        """Read a file whose cells are kept.

        Raises:
            TryAgainError: It changed meanwhile.
        """
        read = self._read(file)
        if read.sha256 != self._entries[read.path].sha256:
            raise TryAgainError(f"events: {str(file)!r} changed while the log was read. Read it again.")
        return read

    def _gather(self, checked: Checked) -> None:
        """Collect the single events of checked rows, if wanted."""
        if self._gathered is None:
            return
        self._gathered.note(checked)
        good = checked.good
        if good.height:
            item = self._codes.code(good["item_id"])
            self._gathered.add(good, user=self._users.number(good["user_id"]), item=item)

    def _enter(self, part: _Read, named: Identities, good: pl.DataFrame, aside: pl.DataFrame | None) -> None:
        """Keep a file's cells, identities and quarantine rows, and enter them."""
        cells = None
        if good.height:
            folded = fold_events(good, self._calendar)
            cells = FileCells.of(
                user=self._users.number(folded["user_id"]),
                item=self._item_ids.number(folded["item_id"]),
                kind=self._kinds.number(folded["event"]),
                **{name: folded[name] for name in ("day", "n", "worth")},
            )
            self._cells.add(cells)
        stamps = good["timestamp"].to_physical() if good.height else pl.Series([], dtype=pl.Int64)
        self._entries[part.path] = Entry(
            path=part.path,
            stat=part.stat,
            sha256=part.sha256,
            schema=_schema_key(part.frame),
            rows=part.frame.height,
            duplicates=0,
            ignored=[],
            first=_edge(stamps.min()),
            last=_edge(stamps.max()),
            cells=None if cells is None else self._store.put(cells),
            identities=self._store.put(pl.DataFrame({"hash": named.hashes})) if part.frame.height else None,
            low=named.low,
            high=named.high,
            aside=None if aside is None else self._store.put(aside),
            remarks={},
            text_ids=part.text_ids,
        )

    def _save(self) -> None:
        users, items = (self._store.put(pl.DataFrame({"id": part.ids})) for part in (self._users, self._item_ids))
        kinds = self._kinds.ids.to_list()
        settings = settings_key(self._config)
        record = None if self._summed is None else self._summed.record
        text = sorted(self._text_ids)
        self._store.keep(Manifest(settings, self._entries, users, items, kinds, self._entangled, record, text))


def _met(new: Sequence[Identities], kept: Sequence[Entry], store: StateStore) -> int:
    """How many of the new events stand in another file too; a kept file that cannot be read counts as one."""
    if not new:
        return 0
    hashes = np.concatenate([part.hashes for part in new])
    hashes.sort()
    met = int((hashes[1:] == hashes[:-1]).sum())
    for entry in kept:
        near = [part for part in new if part.may_meet(entry.low, entry.high)]
        if entry.identities is not None and near:
            others = store.get(entry.identities)
            met += 1 if others is None else sum(part.met(others["hash"].to_numpy()) for part in near)
    return met


def _schema_key(frame: pl.DataFrame) -> str:
    columns = repr(sorted((name, str(dtype)) for name, dtype in frame.schema.items()))
    return hashlib.sha256(columns.encode()).hexdigest()


def _edge(stamp: object) -> int | None:
    assert stamp is None or isinstance(stamp, int)
    return stamp


def _is_late(entry: Entry, frontier: int | None) -> bool:
    """Whether a file has events from before the latest one of the kept files."""
    return frontier is not None and entry.first is not None and entry.first < frontier
