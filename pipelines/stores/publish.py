"""Published rankings: immutable attempt folders, and one small pointer file that readers follow.

``rankings/attempts/<date>-<id>/`` holds shards, their sidecars and a manifest; ``rankings/published.json`` names the
attempt that is live, and ``rankings/journal.jsonl`` says when each became so. The pointer is replaced in one step,
after everything it points to was verified, and never by an attempt of an earlier day than the one that is live.
"""

import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import polars as pl

from features.errors import IntegrityError, listed
from pipelines.base.outside import written
from pipelines.stores.storage import read_json, read_parquet, sha256_of, write_json, write_parquet

__all__ = ["Attempt", "Published", "live_day", "published", "published_attempts"]

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

    def publish(self, *, forced: Sequence[str] = (), reason: str | None = None) -> bool:
        """Move the pointer here, unless it points to a later day, and write that down in the journal.

        Args:
            forced: Names of audits that blocked the night and were overruled.
            reason: Why, in the words of who did.

        Returns:
            Whether the pointer moved.
        """
        self.verify()
        pointer = {"attempt": self.name, "manifest_sha256": sha256_of(self.folder / _MANIFEST)}
        path = self.root / _POINTER
        if path.is_file() and read_json(path, what="rankings") == pointer:
            if not _journal(self.root) or _journal(self.root)[-1]["attempt"] != self.name:
                self._note(forced, reason)  # killed between the pointer and the journal
            return False
        live = live_day(self.root)
        if live is not None and live > self.day:
            return False
        write_json(pointer, path)
        self._note(forced, reason)
        return True

    def _note(self, forced: Sequence[str], reason: str | None) -> None:
        entry: dict[str, Any] = {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "attempt": self.name,
            "date": str(self.day),
        }
        if forced:
            entry |= {"forced": list(forced), "reason": reason}
        path = self.root / _JOURNAL
        with written(path), path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry, sort_keys=True) + "\n")
            file.flush()
            os.fsync(file.fileno())


@dataclass(frozen=True, slots=True)
class Published:
    """The rankings that are live.

    Attributes:
        attempt: Its folder.
        manifest: Facts of the night: date, version, users, rows.
    """

    attempt: Attempt
    manifest: dict[str, Any]

    def rankings(self) -> pl.DataFrame:
        """All published rows, in order of shards."""
        shards = sorted(part for part in self.manifest["parts"] if part.startswith("shard-"))
        return pl.concat([read_parquet(self.attempt.folder / f"{shard}.parquet") for shard in shards])

    def fallback(self) -> pl.DataFrame:
        """The list for users that no night has seen: rank, item_id, score, model_version."""
        return read_parquet(self.attempt.folder / "fallback.parquet")


def published_attempts(root: Path) -> list[Attempt]:
    """The attempts that were live, the latest first, each once; not those that somebody forced past an audit.

    Without a journal, as earlier versions left it, that is the attempt which the pointer names.
    """
    entries = [entry for entry in reversed(_journal(root)) if not entry.get("forced")]
    names = [str(entry["attempt"]) for entry in entries]
    if not names and (live := _pointed(root)) is not None:
        return [live[0]]
    return [Attempt(root, name) for name in dict.fromkeys(names) if Path(name).name == name and _is_dated(name)]


def _journal(root: Path) -> list[dict[str, Any]]:
    """The lines of the journal, oldest first; a last line that was cut off is left out."""
    path = root / _JOURNAL
    if not path.is_file():
        return []
    entries = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        with suppress(ValueError):
            entry = json.loads(line)
            if isinstance(entry, dict) and "attempt" in entry:
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
    name = str(pointer.get("attempt", "")) if isinstance(pointer, dict) else ""
    if Path(name).name != name or not _is_dated(name):
        raise IntegrityError(
            f"{path}: names no attempt folder. Delete it, and score the latest day again: what is there is found again."
        )
    return Attempt(root, name), pointer


def _is_dated(name: str) -> bool:
    try:
        return bool(Attempt(Path(), name).day)
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
