"""Published rankings: immutable attempt folders, and one small pointer file that readers follow.

``rankings/attempts/<date>-<id>/`` holds shards, their sidecars and a manifest; ``rankings/published.json`` names the
attempt that is live, and ``rankings/journal.jsonl`` says when each became so. The pointer is replaced in one step,
after everything it points to was verified, and never by an attempt of an earlier day than the one that is live, unless
somebody goes back on purpose; what somebody went back from does not return by itself. The pointer carries its own entry
of the journal: where a kill came between the two, the entry is read from there, and the next who publishes appends it.
An attempt of an earlier day is entered in the journal as published for its own date: what the journal does not name was
never published, such as the attempt of a version that is not the champion.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import polars as pl

from features.errors import BlockedError, ConfigError, IntegrityError, listed
from pipelines.stores.journal import (
    ENTRY,
    POINTER,
    REPLACES,
    REVISED,
    append_entry,
    day_of_attempt,
    journal_of,
    last_token,
    names_attempt,
    newest_names,
    pending_entry,
    read_pointer,
    settle,
)
from pipelines.stores.storage import read_json, read_parquet, sha256_of, write_json, write_parquet

__all__ = [
    "FORGOTTEN",
    "UNAUDITED",
    "Attempt",
    "Published",
    "attempts_on_disk",
    "journal_of",
    "last_token",
    "live_day",
    "published",
    "published_attempts",
    "published_on",
    "refuse_blocked",
    "were_live",
]

_MANIFEST = "manifest.json"
FORGOTTEN = "forgotten"
"""Key of a manifest: how many of its users were taken out, see `pipelines.verbs.forget`."""
_REMARKS = ("degraded", FORGOTTEN)
"""Keys of a manifest that do not follow from the attempt's name."""

UNAUDITED = "unaudited"
"""What stands for the names of audits where an attempt never was audited."""


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
        return day_of_attempt(self.name)

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
            raise IntegrityError(f"{file} is missing or was altered since it was written. Run it again.")
        return True

    def drop_damaged(self, parts: Sequence[str]) -> list[str]:
        """Names of parts that were written and altered since; what says that they are there is removed."""
        damaged = []
        for part in parts:
            try:
                self.has(part)
            except IntegrityError:
                (self.folder / f"{part}.json").unlink(missing_ok=True)
                damaged.append(part)
        return damaged

    def write(self, part: str, rankings: pl.DataFrame) -> None:
        """Write a part and then its sidecar."""
        digest = write_parquet(rankings, self.folder / f"{part}.parquet")
        write_json({"rows": rankings.height, "sha256": digest}, self.folder / f"{part}.json")

    def finish(self, parts: list[str], facts: dict[str, Any], *, remarks: Mapping[str, Any] | None = None) -> bool:
        """Write the manifest of all parts, unless it is there already; one that was altered is written anew.

        Args:
            parts: Names of all parts.
            facts: What follows from the attempt's name.
            remarks: What only this run knows; those of the run that wrote the manifest stay.

        Returns:
            Whether there was one that was altered.
        """
        path = self.folder / _MANIFEST
        sidecars = {part: read_json(self.folder / f"{part}.json", what="rankings") for part in parts}
        manifest = {"parts": sidecars, **facts}
        was_there = path.is_file()
        if was_there and _without_remarks(path) == manifest:
            return False
        write_json({**manifest, **(remarks or {})}, path)
        return was_there

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
                f"{self.folder}: {listed(wrong)} missing or altered. Score the day again, which makes them anew."
            )
        return manifest  # type: ignore[no-any-return]

    def verify_published(self) -> dict[str, Any]:
        """The same of an attempt that was published: its manifest must be one that the journal has a hash of, too."""
        manifest = self.verify()
        entries = [entry for entry in journal_of(self.root) if entry["attempt"] == self.name]
        hashes = {entry["manifest_sha256"] for entry in entries if "manifest_sha256" in entry}
        if hashes and sha256_of(self.folder / _MANIFEST) not in hashes:
            raise IntegrityError(f"{self.folder}: the manifest was altered since it was published.")
        return manifest

    def recorded(self, name: str) -> str | None:
        """sha256 that the manifest has of a file beside the parts; None where it has none, or is damaged."""
        with suppress(IntegrityError, AttributeError):
            files: dict[str, str] = read_json(self.folder / _MANIFEST, what="rankings").get("files", {})
            return files.get(name)
        return None

    @property
    def newest(self) -> "Attempt":
        """What readers see in its place: itself, or the same lists without forgotten users."""
        return Attempt(self.root, newest_names(self.root).get(self.name, self.name))

    @property
    def is_finished(self) -> bool:
        """Whether its manifest was written, which is last."""
        return (self.folder / _MANIFEST).is_file()

    @property
    def is_live(self) -> bool:
        """Whether the pointer names this attempt; not where it is damaged."""
        with suppress(IntegrityError):
            live = _pointed(self.root)
            return live is not None and live[0] == self
        return False

    @property
    def is_withdrawn(self) -> bool:
        """Whether it was published, and somebody has gone back to another attempt on purpose since."""
        later = False
        for entry in reversed(journal_of(self.root)):
            if entry["attempt"] == self.name:
                return later
            later = later or entry.get("action") == "back"
        return False

    @property
    def is_published(self) -> bool:
        """Whether publishing would change nothing: it is live, or stands in the journal and does not go live."""
        return self.is_named_rightly or (not self.would_go_live() and self._last_entry() is not None)

    def would_go_live(self, *, again: bool = False) -> bool:
        """Whether publishing would move the pointer: it is not there yet, and nothing later is live.

        Args:
            again: Whether it may although somebody went back from it.
        """
        live = live_day(self.root)
        return (
            (live is None or live <= self.day)
            and not self.is_named_rightly
            and (again or self.is_live or not self.is_withdrawn)
        )

    def publish(
        self,
        *,
        guard: AbstractContextManager[None] | None = None,
        facts: Mapping[str, Any] | None = None,
        blocked: Mapping[str, str] | None = None,
        reason: str | None = None,
    ) -> bool:
        """Move the pointer here, unless it points to a later day, and write that down in the journal.

        An attempt of an earlier day than the live one is entered in the journal as published for its own date. All is
        decided within the guard.

        Args:
            guard: Context in which the pointer may move; it raises where it may not any more.
            facts: What else the entry says: the version, the cut-off, the lease's token.
            blocked: Names of the audits that block the night, and their words.
            reason: Why it goes live although audits block it, or somebody went back from it; in the words of who says
                so.

        Returns:
            Whether the pointer moved.

        Raises:
            BlockedError: It would go live, audits block it, and there is no reason.
        """
        self.verify()
        if self.is_published and not self.would_go_live(again=reason is not None) and pending_entry(self.root) is None:
            return False
        with guard or nullcontext():
            settle(self.root)
            if self.would_go_live(again=reason is not None):
                if reason is None:
                    refuse_blocked(self.day, blocked or {})
                forced = {"forced": list(blocked)} if blocked else {}
                self._point("live", {**(facts or {}), **forced, **({} if reason is None else {"reason": reason})})
                return True
            if not self.is_published:
                append_entry(self.root, self._entry("dated", {**(facts or {}), "blocked": sorted(blocked or {})}))
            return False

    def go_back(
        self, reason: str, *, guard: AbstractContextManager[None] | None = None, although_blocked: bool = False
    ) -> bool:
        """Move the pointer here whatever it points to, and write that down; returns whether it moved.

        Args:
            reason: Why.
            guard: Context in which the pointer may move.
            although_blocked: Whether it may be one that audits blocked, or that never was audited.

        Raises:
            BlockedError: It is such a one, and may not be.
        """
        self.verify_published()
        with guard or nullcontext():
            settle(self.root)
            if self.is_named_rightly:
                return False
            before = self._last_entry() or {}
            overruled = _objections(before)
            if overruled and not although_blocked:
                raise BlockedError(
                    f"the rankings of {self.day} were published beside what was live, and "
                    f"{'never audited' if overruled == [UNAUDITED] else f'audits block them ({listed(overruled)})'}. "
                    "Name another day, or put them live all the same with --force."
                )
            kept: dict[str, Any] = {key: before[key] for key in ("version", "cutoff") if key in before}
            forced = {"forced": overruled} if overruled else {}
            self._point("back", {**kept, **forced, "reason": reason})
            return True

    def replace(self, other: "Attempt", *, guard: AbstractContextManager[None] | None = None) -> None:
        """Stand for another attempt wherever the pointer or the journal names that one; what it says stays true.

        Args:
            other: What readers see until now.
            guard: Context in which the pointer may move.
        """
        self.verify()
        with guard or nullcontext():
            settle(self.root)
            facts = {REPLACES: other.name}
            if other.is_live:
                self._point(REVISED, facts)
            else:
                append_entry(self.root, self._entry(REVISED, facts))

    def mend(self, entry: Mapping[str, Any] | None) -> None:
        """Let a damaged pointer name this attempt.

        Args:
            entry: Of the journal, by which it is live already; None where it stands in for a later one.
        """
        if entry is not None:
            write_json({**self._pointer(), ENTRY: entry}, self.root / POINTER)
        else:
            self._point("mended", {"reason": "what was live is damaged, and so was the pointer"})

    def _point(self, action: str, facts: Mapping[str, Any]) -> None:
        """Replace the pointer by one to this attempt, which carries its entry, and append that to the journal."""
        entry = self._entry(action, facts)
        write_json({**self._pointer(), ENTRY: entry}, self.root / POINTER)
        append_entry(self.root, entry)

    def _pointer(self) -> dict[str, str]:
        return {"attempt": self.name, "manifest_sha256": sha256_of(self.folder / _MANIFEST)}

    @property
    def is_named_rightly(self) -> bool:
        """Whether the pointer names this attempt as it is."""
        with suppress(IntegrityError):
            live = _pointed(self.root)
            named = live is not None and live[0] == self and self.is_finished
            return live is not None and named and live[1].items() >= self._pointer().items()
        return False

    def _last_entry(self) -> dict[str, Any] | None:
        """What the journal says of it last."""
        return next((entry for entry in reversed(journal_of(self.root)) if entry["attempt"] == self.name), None)

    def _entry(self, action: str, facts: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "action": action,
            "attempt": self.name,
            "date": str(self.day),
            "manifest_sha256": sha256_of(self.folder / _MANIFEST),
            **facts,
        }


def refuse_blocked(day: date, blocked: Mapping[str, str]) -> None:
    """Refuse a night that audits block.

    Args:
        day: Its day.
        blocked: Names of the audits, and their words.

    Raises:
        BlockedError: There are some.
    """
    if blocked:
        words = "; ".join(f"{name}: {finding}" for name, finding in blocked.items())
        raise BlockedError(
            f"the night of {day} does not go live: {words}. What was live stays live. Mend the input "
            "and run it again, or publish it all the same with --force --reason TEXT; night.audits has the limits."
        )


def _objections(entry: Mapping[str, Any]) -> list[str]:
    """Why an attempt should not go live, by what the journal says of it last."""
    if entry.get("action") == "dated":
        return list(entry.get("blocked", [UNAUDITED]))
    return list(entry.get("forced", []))


@dataclass(frozen=True, slots=True)
class Published:
    """Rankings that are live, or that are the last good ones of their date.

    Attributes:
        attempt: Its folder.
        manifest: Facts of the night: date, version, users, rows.
        damage: What is wrong with the rankings that the pointer names, where these are served in their stead.
    """

    attempt: Attempt
    manifest: dict[str, Any]
    damage: str | None = None

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
    """The attempts that were live, the latest first, each once; not those that somebody forced past an audit."""
    forced = {entry["attempt"] for entry in journal_of(root) if entry.get("forced")}
    return [attempt for attempt in were_live(root) if attempt.name not in forced]


def were_live(root: Path) -> list[Attempt]:
    """The attempts that were live by the journal, the latest first, each once."""
    names = [entry["attempt"] for entry in reversed(journal_of(root)) if entry.get("action") != "dated"]
    return [Attempt(root, name) for name in dict.fromkeys(names)]


def attempts_on_disk(root: Path) -> list[Attempt]:
    """All attempts that there are, finished or not, by name."""
    folders = sorted(path.name for path in (root / "attempts").glob("*") if path.is_dir())
    return [Attempt(root, name) for name in folders if names_attempt(name)]


def published_on(root: Path, day: date) -> list[Attempt]:
    """The attempts that were published for a day and are still there: the one that is live first, then the latest.

    Raises:
        ConfigError: There is none; the days that there are stand in the message.
    """
    live = None
    with suppress(IntegrityError):  # the journal names what the pointer would
        live = _pointed(root)
    entries = [entry["attempt"] for entry in reversed(journal_of(root))]
    names = [*([] if live is None else [live[0].name]), *entries]
    attempts = [each for name in dict.fromkeys(names) if (each := Attempt(root, name)).is_live or each.folder.is_dir()]
    of_day = [attempt for attempt in attempts if attempt.day == day]
    if of_day:
        return of_day
    days = sorted({attempt.day for attempt in attempts}, reverse=True)
    there = f"There are {listed(map(str, days))}" if days else "Nothing was published yet: nightrank score --date DAY"
    raise ConfigError(f"nothing was published for {day}. {there}.")


def live_day(root: Path) -> date | None:
    """The day of the live rankings, by the pointer alone; None if nothing was ever published.

    Raises:
        IntegrityError: The pointer names no attempt.
    """
    live = _pointed(root)
    return None if live is None else live[0].day


def _pointed(root: Path) -> tuple[Attempt, dict[str, Any]] | None:
    """The attempt that the pointer names, and the pointer; None if there is none."""
    pointer = read_pointer(root)
    return None if pointer is None else (Attempt(root, pointer["attempt"]), pointer)


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


def _without_remarks(path: Path) -> Any:  # noqa: ANN401 - whatever JSON holds
    """A manifest without what only the run that wrote it knew; None where it cannot be read."""
    with suppress(IntegrityError):
        manifest = read_json(path, what="rankings")
        if isinstance(manifest, dict):
            return {key: fact for key, fact in manifest.items() if key not in _REMARKS}
    return None
