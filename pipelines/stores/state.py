"""The folded log on disk, which a night keeps so that the next one reads only new files.

Each file of the log has an entry: what it was made of (path and sha256 of the file), what its contract found, and
the names of the Parquet files with its daily cells and its events' identities. Those files are named by their own
sha256 and never change; the manifest, which names them, is replaced last and in one step. Users, items and event types
stand in the cells as numbers that are given out once, in order of appearance, and keep their meaning as long as the
state lives, whatever becomes of the catalogue.
"""

import hashlib
import io
import json
import os
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, Self

import polars as pl

from features.errors import IntegrityError
from pipelines.base.config import Config
from pipelines.stores.storage import atomic_writer, read_json, write_json
from pipelines.stores.trash import emptied
from pipelines.stores.users import rows_of_user

__all__ = ["Entry", "Manifest", "Snapshot", "StateStore", "settings_key", "stat_of"]

_FORMAT = 3  # of what is kept; another one is folded anew
_PATH_KEY = "place"  # of an entry's path, in the manifest on disk
_ABANDONED_SECONDS = 86_400.0


@dataclass(frozen=True, slots=True)
class Entry:
    """The entry of one file of the log.

    Attributes:
        path: Its path below the table's folder.
        stat: Size, times (ns) of the last change of content and of inode, and inode: where they are the same, so is the
            file.
        sha256: Of its content.
        schema: Hash of its columns and their types.
        rows: Rows it has.
        duplicates: Rows dropped as exact repetitions.
        ignored: Columns the contract does not know.
        first: Earliest timestamp of the rows that keep the contract, microseconds since 1970; None without any.
        last: Latest timestamp of these.
        cells: File of the daily cells: user, item, kind (codes), day, n, worth.
        identities: File of the events' hashes.
        low: Smallest event_id, see `features.tables.identity`.
        high: Largest event_id.
        aside: File of the rows set aside, numbered within the file; None where there are none.
        remarks: What is said of the rules that its rows broke, see `features.tables.contracts.Checked`.
        text_ids: Which of its ids are text.
    """

    path: str
    stat: list[int]
    sha256: str
    schema: str
    rows: int
    duplicates: int
    ignored: list[str]
    first: int | None
    last: int | None
    cells: str | None
    identities: str | None
    low: int | None
    high: int | None
    aside: str | None
    remarks: dict[str, str]
    text_ids: list[str]

    @property
    def files(self) -> list[str]:
        """All files it names."""
        return [name for name in (self.cells, self.identities, self.aside) if name is not None]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The cells of many files added up, so that a night need not add them up again.

    Attributes:
        cells: File of `features.log.engagements.Engagements`: cell, n and worth, under the positions of the ids below.
        users: File of the user ids, ascending.
        items: File of the item ids of that night's catalogue, ascending.
        kinds: The event types, by code.
        holds: `Entry.cells` of all that was added up.
    """

    cells: str
    users: str
    items: str
    kinds: list[str]
    holds: list[str]

    @property
    def files(self) -> list[str]:
        """All files it names."""
        return [self.cells, self.users, self.items]


@dataclass(frozen=True, slots=True)
class Manifest:
    """The manifest of the state: all entries, and the files that they share.

    Attributes:
        settings: `settings_key` it was made under.
        entries: By path below the table's folder.
        users: File of the user ids, by code.
        items: File of the item ids, by code.
        kinds: Event types, by code.
        entangled: Whether rows of one file were judged by those of another (an event that stands in both).
        snapshot: Most of the cells, added up; None where nothing was yet.
        text_ids: Which ids are text, in all files and tables.
    """

    settings: str
    entries: dict[str, Entry]
    users: str
    items: str
    kinds: list[str]
    entangled: bool
    snapshot: Snapshot | None
    text_ids: list[str]

    @classmethod
    def read(cls, value: Any) -> Self:  # noqa: ANN401 - whatever JSON holds
        """From JSON.

        Raises:
            IntegrityError: It is none.
        """
        try:
            body = json.dumps(value["body"], sort_keys=True)
            if hashlib.sha256(body.encode()).hexdigest() != value["sha256"]:
                raise IntegrityError("the manifest of the state is not what was written.")
            content = dict(value["body"])
            keys = {_PATH_KEY if field.name == "path" else field.name for field in fields(Entry)}
            entries = {
                path: Entry(path=entry[_PATH_KEY], **{key: entry[key] for key in keys - {_PATH_KEY}})
                for path, entry in content.pop("entries").items()
                if set(entry) == keys
            }
            snapshot = content.pop("snapshot")
            return cls(entries=entries, snapshot=None if snapshot is None else Snapshot(**snapshot), **content)
        except (KeyError, TypeError, AttributeError) as error:
            raise IntegrityError("the manifest of the state is of another form.") from error

    def as_json(self) -> dict[str, Any]:
        """The inverse of `read`."""
        body = asdict(self)
        for entry in body["entries"].values():
            entry[_PATH_KEY] = entry.pop("path")
        return {"body": body, "sha256": hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()}


class StateStore:
    """The files of the state.

    Args:
        folder: Where they lie; need not exist.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._manifest = folder / "manifest.json"

    def manifest(self, settings: str) -> tuple[Manifest | None, str | None]:
        """The manifest and None; or None and the reason why there is none to continue."""
        if not self._manifest.exists():
            return None, "there is none yet"
        try:
            manifest = Manifest.read(read_json(self._manifest, what="state"))
        except IntegrityError:
            return None, "its manifest is damaged or of another version"
        if manifest.settings != settings:
            return None, "the configuration of the events or of the calendar changed"
        return manifest, None

    def put(self, frame: pl.DataFrame, *, compression: Literal["zstd", "lz4"] = "zstd") -> str:
        """Keep a table, small or quick to read; returns its name."""
        buffer = io.BytesIO()
        frame.write_parquet(buffer, compression=compression, row_group_size=max(frame.height, 1))
        content = buffer.getvalue()
        name = hashlib.sha256(content).hexdigest()
        if self._content(name) is None:
            with atomic_writer(self._path(name)) as file:
                file.write(content)
        return name

    def get(self, name: str, columns: list[str] | None = None) -> pl.DataFrame | None:
        """A kept table; None where it is missing or damaged."""
        content = self._content(name)
        return None if content is None else pl.read_parquet(io.BytesIO(content), columns=columns)

    def keep(self, manifest: Manifest) -> None:
        """Replace the manifest, then remove files that none names and nobody is about to name."""
        content = manifest.as_json()
        with suppress(IntegrityError):
            if read_json(self._manifest, what="state") == content:
                return
        write_json(content, self._manifest)
        named = {manifest.users, manifest.items, *(name for e in manifest.entries.values() for name in e.files)}
        named |= set() if manifest.snapshot is None else set(manifest.snapshot.files)
        for path in self._folder.glob("*.parquet"):
            with suppress(OSError):
                if path.stem not in named and time.time() - path.stat().st_mtime > _ABANDONED_SECONDS:
                    path.unlink()

    def forget(self, user: str) -> bool:
        """Remove all of it if a user's id stands in any of its files: it is folded anew; returns whether it did."""
        files = sorted(self._folder.glob("[!.]*.parquet"))
        if not any(rows_of_user(path, user, column) for path in files for column in ("id", "user_id")):
            return False
        for path in (self._manifest, *files):  # NOTE: the manifest first, without which nobody reads the others.
            emptied(path)
        return True

    def _content(self, name: str) -> bytes | None:
        """Bytes of a file; None where it is missing or its sha256 is not its name."""
        try:
            content = self._path(name).read_bytes()
        except OSError:
            return None
        return content if hashlib.sha256(content).hexdigest() == name else None

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.parquet"


def settings_key(config: Config) -> str:
    """Hash of the settings that decide what is kept of a file."""
    events = config.data.events
    settings = [
        _FORMAT,
        events.columns,
        events.constants,
        events.times,
        config.data.timezone,
        config.calendar.model_dump(mode="json"),
    ]
    # NOTE: columns of one's own are held against a contract too, and tell events apart.
    settings += [] if events.mask_personal else ["unmasked"]  # NOTE: the rows set aside are kept with their texts.
    settings += [sorted(own)] if (own := {*config.features.sentiment_columns, *config.requests.context_columns}) else []
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def stat_of(file: Path) -> list[int]:
    """Size, times and inode, which change when the file does; see `Entry.stat`."""
    status: os.stat_result = file.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
