"""Published rankings: immutable attempt folders, and one small pointer file that readers follow.

``rankings/attempts/<date>-<id>/`` holds shards, their sidecars and a manifest; ``rankings/published.json`` names the
attempt that is live, and ``rankings/journal.jsonl`` says when each became so. The pointer is replaced in one step,
after everything it points to was verified, and never by an attempt of an earlier day than the one that is live, unless
somebody goes back on purpose. An attempt of an earlier day is entered in the journal as published for its own date:
what the journal does not name was never published, such as the attempt of a version that is not the champion.
"""

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import polars as pl

from features.errors import ConfigError, IntegrityError, listed
from pipelines.base.outside import written
from pipelines.stores.storage import read_json, read_parquet, sha256_of, write_json, write_parquet

__all__ = [
    "Attempt",
    "Published",
    "journal_of",
    "last_token",
    "live_day",
    "published",
    "published_attempts",
    "published_on",
]

_POINTER = "published.json"
_MANIFEST = "manifest.json"
_JOURNAL = "journal.jsonl"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One night's folder of shards.

    Attributes:
        root: The folder `rankings`.
        name: `<date>-<id>`.
    """

    root: Path
    name: str

    @property
    def folder(self) -> Path:
        """Where its files lie."""
        return self.root / "attempts" / self.name

    @property
    def day(self) -> date:
        """The day that its rankings are for."""
        return date.fromisoformat(self.name[: len("YYYY-MM-DD")])

    def has(self, part: str) -> bool:
        """Whether a part (`shard-00000`, `fallback`) was written completely and is unaltered.

        Raises:
            IntegrityError: It was written and then altered.
        """
        sidecar, file = self.folder / f"{part}.json", self.folder / f"{part}.parquet"
        if not sidecar.is_file():
            return False
        recorded = read_json(sidecar, what="rankings")
        if not file.is_file() or not isinstance(recorded, dict) or sha256_of(file) != recorded.get("sha256"):
            raise IntegrityError(
                f"{file} is missing or was altered since it was written. Delete {self.folder}, and run it again."
            )
        return True

    def write(self, part: str, rankings: pl.DataFrame) -> None:
        """Write a part and then its sidecar."""
        digest = write_parquet(rankings, self.folder / f"{part}.parquet")
        write_json({"rows": rankings.height, "sha256": digest}, self.folder / f"{part}.json")

    def finish(self, parts: list[str], facts: dict[str, Any]) -> None:
        """Write the manifest of all parts, unless it is there already.

        Raises:
            IntegrityError: It is there and says otherwise.
        """
        path = self.folder / _MANIFEST
        sidecars = {part: read_json(self.folder / f"{part}.json", what="rankings") for part in parts}
        manifest = {"parts": sidecars, **facts}
        if not path.is_file():
            write_json(manifest, path)
        elif read_json(path, what="rankings") != manifest:
            raise IntegrityError(f"{path} was altered since it was written. Delete {self.folder}, and run it again.")

    def verify(self) -> dict[str, Any]:
        """Check every part against the manifest.

        Returns:
            The manifest.

        Raises:
            IntegrityError: A part is missing or altered; all are named.
        """
        manifest = read_json(self.folder / _MANIFEST, what="rankings")
        wrong = [
            part
            for part, recorded in manifest["parts"].items()
            if not (file := self.folder / f"{part}.parquet").is_file() or sha256_of(file) != recorded["sha256"]
        ]
        if wrong:
            raise IntegrityError(
                f"{self.folder}: {listed(wrong)} missing or altered. Delete the folder, and run it again."
            )
        return manifest  # type: ignore[no-any-return]

    @property
    def is_live(self) -> bool:
        """Whether the pointer names this attempt."""
        live = _pointed(self.root)
        return live is not None and live[0] == self

    def publish(
        self,
        *,
        guard: AbstractContextManager[None] | None = None,
        facts: Mapping[str, Any] | None = None,
        forced: Sequence[str] = (),
        reason: str | None = None,
    ) -> bool:
        """Move the pointer here, unless it points to a later day, and write that down in the journal.

        An attempt of an earlier day than the live one is entered in the journal as published for its own date.

        Args:
            guard: Context in which the pointer may move; it raises where it may not any more.
            facts: What else the entry says: the version, the cut-off, the lease's token.
            forced: Names of audits that blocked the night and were overruled.
            reason: Why, in the words of who did.

        Returns:
            Whether the pointer moved.
        """
        self.verify()
        entry = {**(facts or {}), **({"forced": list(forced), "reason": reason} if forced else {})}
        if self._is_done():
            return False
        with guard or nullcontext():
            live = live_day(self.root)
            if live is not None and live > self.day:
                self._note("dated", entry)
                return False
            moves = self._point()
            self._note("live", entry)  # too where a kill came between the pointer and the journal
            return moves

    def go_back(self, reason: str, *, guard: AbstractContextManager[None] | None = None) -> bool:
        """Move the pointer here whatever it points to, and write that down; returns whether it moved."""
        self.verify()
        before: dict[str, Any] = next(
            (entry for entry in reversed(journal_of(self.root)) if entry["attempt"] == self.name), {}
        )
        kept: dict[str, Any] = {key: before[key] for key in ("version", "cutoff") if key in before}
        with guard or nullcontext():
            if self.is_live:
                return False
            self._point()
            self._note("back", {**kept, "reason": reason})
            return True

    def _point(self) -> bool:
        """Replace the pointer by one to this attempt; returns whether it was another."""
        pointer = self._pointer()
        path = self.root / _POINTER
        if path.is_file() and read_json(path, what="rankings") == pointer:
            return False
        write_json(pointer, path)
        return True

    def _pointer(self) -> dict[str, str]:
        return {"attempt": self.name, "manifest_sha256": sha256_of(self.folder / _MANIFEST)}

    def _is_done(self) -> bool:
        """Whether pointer and journal say already what publishing would make them say."""
        entries = journal_of(self.root)
        live = _pointed(self.root)
        if live is not None and live[0].day > self.day:
            return any(entry["attempt"] == self.name for entry in entries)
        last = [entry["attempt"] for entry in entries if entry.get("action") != "dated"][-1:]
        return live is not None and live[1] == self._pointer() and last == [self.name]

    def _note(self, action: str, facts: Mapping[str, Any]) -> None:
        entry = {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "action": action,
            "attempt": self.name,
            "date": str(self.day),
            **facts,
        }
        path = self.root / _JOURNAL
        line = json.dumps(entry, sort_keys=True) + "\n"
        with written(path), path.open("a+b") as file:
            if file.seek(0, os.SEEK_END):
                file.seek(-1, os.SEEK_END)
                line = line if file.read(1) == b"\n" else f"\n{line}"  # after a line that was cut off
            file.write(line.encode())
            file.flush()
            os.fsync(file.fileno())


@dataclass(frozen=True, slots=True)
class Published:
    """Rankings that are live, or that are the last good ones of their date.

    Attributes:
        attempt: Its folder.
        manifest: Facts of the night: date, version, users, rows.
    """

    attempt: Attempt
    manifest: dict[str, Any]

    @property
    def shards(self) -> list[Path]:
        """The files of users' lists, in order."""
        parts = sorted(part for part in self.manifest["parts"] if part.startswith("shard-"))
        return [self.attempt.folder / f"{part}.parquet" for part in parts]

    @property
    def rows(self) -> int:
        """Rows of all users' lists."""
        return sum(part["rows"] for name, part in self.manifest["parts"].items() if name != "fallback")

    def rankings(self) -> pl.DataFrame:
        """All published rows, in order of shards."""
        return pl.concat([read_parquet(shard) for shard in self.shards])

    def fallback(self) -> pl.DataFrame:
        """The list for users that no night has seen: rank, item_id, score, model_version."""
        return read_parquet(self.attempt.folder / "fallback.parquet")


def published_attempts(root: Path) -> list[Attempt]:
    """The attempts that were live, the latest first, each once; not those that somebody forced past an audit.

    Without a journal, as earlier versions left it, that is the attempt which the pointer names.
    """
    entries = journal_of(root)
    forced = {entry["attempt"] for entry in entries if entry.get("forced")}
    names = [entry["attempt"] for entry in reversed(entries) if entry.get("action") != "dated"]
    if not names and (live := _pointed(root)) is not None:
        names = [live[0].name]
    return [Attempt(root, name) for name in dict.fromkeys(names) if name not in forced]


def published_on(root: Path, day: date) -> list[Attempt]:
    """The attempts that were published for a day, the one that is live first, then the latest.

    Raises:
        ConfigError: There is none; the days that there are stand in the message.
    """
    live = _pointed(root)
    entries = [entry["attempt"] for entry in reversed(journal_of(root))]
    names = [*([] if live is None else [live[0].name]), *entries]
    attempts = [Attempt(root, name) for name in dict.fromkeys(names)]
    of_day = [attempt for attempt in attempts if attempt.day == day]
    if of_day:
        return of_day
    days = sorted({attempt.day for attempt in attempts}, reverse=True)
    there = f"There are {listed(map(str, days))}" if days else "Nothing was published yet: nightrank score --date DAY"
    raise ConfigError(f"nothing was published for {day}. {there}.")


def last_token(root: Path) -> int:
    """The largest token of a lease in the journal."""
    return max((entry["token"] for entry in journal_of(root) if isinstance(entry.get("token"), int)), default=0)


def journal_of(root: Path) -> list[dict[str, Any]]:
    """The entries of the journal that name an attempt, oldest first; a last line that was cut off is left out."""
    path = root / _JOURNAL
    if not path.is_file():
        return []
    entries = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        with suppress(ValueError):
            entry = json.loads(line)
            if isinstance(entry, dict) and _names_attempt(entry.get("attempt")):
                entries.append(entry)
    return entries


def live_day(root: Path) -> date | None:
    """The day of the live rankings, by the pointer alone; None if nothing was ever published.

    Raises:
        IntegrityError: The pointer names no attempt.
    """
    live = _pointed(root)
    return None if live is None else live[0].day


def _pointed(root: Path) -> tuple[Attempt, dict[str, Any]] | None:
    """The attempt that the pointer names, and the pointer; None if there is none."""
    path = root / _POINTER
    if not path.is_file():
        return None
    pointer = read_json(path, what="rankings")
    if not isinstance(pointer, dict) or not _names_attempt(pointer.get("attempt")):
        raise IntegrityError(
            f"{path}: names no attempt folder. Delete it, and score the latest day again: what is there is found again."
        )
    return Attempt(root, pointer["attempt"]), pointer


def _names_attempt(name: object) -> bool:
    """Whether this is a name of a folder that begins with a date."""
    try:
        return isinstance(name, str) and Path(name).name == name and bool(Attempt(Path(), name).day)
    except ValueError:
        return False


def published(root: Path) -> Published | None:
    """Follow the pointer and verify what it points to; None if nothing was ever published.

    Raises:
        IntegrityError: What the pointer names is missing or altered.
    """
    live = _pointed(root)
    if live is None:
        return None
    attempt, pointer = live
    manifest = attempt.folder / _MANIFEST
    if not manifest.is_file() or sha256_of(manifest) != pointer.get("manifest_sha256"):
        raise IntegrityError(f"{attempt.folder}: the manifest is missing, or was altered since it was published.")
    return Published(attempt, attempt.verify())
