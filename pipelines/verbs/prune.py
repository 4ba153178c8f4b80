"""Verb `prune`: removes nights that nobody needs any more, and what kills left.

What is removed is decided and renamed while nobody can begin a night or move the pointer, so that no night, and no way
back, loses what it reads. While a night runs its attempts stay, all of them, until the next time.
"""

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

from rich.table import Table

from pipelines.base.config import Config
from pipelines.night.guard import NIGHTS
from pipelines.stores.journal import journal_of
from pipelines.stores.lease import pointer_mutex, running_night
from pipelines.stores.publish import Attempt, attempts_on_disk, published_attempts, published_on
from pipelines.stores.trash import ABANDONED_SECONDS, discard, emptied, leftovers, size_of
from pipelines.verbs.vector_stores import collect

__all__ = ["KEEP_NIGHTS", "Pruned", "Removal", "prune", "removals_table"]

KEEP_NIGHTS = 14
"""Good nights that are kept, if nobody names another number."""
_BACK_DAYS = 14  # for which what somebody went back to stays
_QUARANTINE_DAYS = 30  # after which rows that were set aside, and never again since, go


@dataclass(frozen=True, slots=True)
class Removal:
    """Something that nobody needs.

    Attributes:
        kind: What it is: attempt, leftover, quarantine, vectors.
        path: Where it lies.
        why: Why nobody needs it.
        size_bytes: Of all its files.
    """

    kind: str
    path: Path
    why: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Pruned:
    """What was removed, or would be.

    Attributes:
        removals: What goes.
        kept: Attempts that stay, by the reason.
        night: The night that was under way, for which all attempts stay.
        freed_vectors: Bytes of text vectors, which `pipelines.verbs.vector_stores` removes.
        is_dry: Whether all of it is still there.
    """

    removals: list[Removal]
    kept: Mapping[str, int]
    night: str | None
    freed_vectors: int
    is_dry: bool

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "dry_run": self.is_dry,
            "removed": dict(Counter(removal.kind for removal in self.removals)),
            "kept": dict(self.kept),
            "freed_bytes": sum(removal.size_bytes for removal in self.removals) + self.freed_vectors,
            **({} if self.night is None else {"night_under_way": self.night}),
        }


def prune(config: Config, *, keep: int = KEEP_NIGHTS, delete: bool = False) -> Pruned:
    """Remove the attempts that no reader, audit or way back needs, unused vectors, and what kills left.

    Args:
        config: The output folder, the registry, `vectors.keep_days`.
        keep: Good nights that stay.
        delete: Whether anything is removed; else it is only said.

    Raises:
        IntegrityError: A registered version's bundle is not as it was written: then nothing is removed.
        TryAgainError: The registry does not answer: then nothing is removed. Or the disk refuses.
    """
    output = Path(config.output)
    vectors = collect(config, dry_run=True)  # NOTE: asks the registry, and raises before anything is gone.
    with pointer_mutex(output) if delete else nullcontext():
        night = running_night(output)
        reasons = _reasons(output / "rankings", keep=keep)
        attempts = [] if night is not None else list(_attempts(output / "rankings", reasons))
        gone = [discard(removal.path) for removal in attempts] if delete else []
    others = [*_leftovers(output, attempts, gone), *_old_quarantine(output)]
    if delete:
        for path in (*gone, *(removal.path for removal in others)):
            emptied(path)
        vectors = collect(config, dry_run=False)
    unused = [Removal("vectors", output / "vectors" / name, "no version uses it", 0) for name in vectors["removed"]]
    kept = (
        Counter(reasons.values())
        if night is None
        else {"a night is under way": len(attempts_on_disk(output / "rankings"))}
    )
    return Pruned([*attempts, *others, *unused], kept, night, vectors["freed_bytes"], is_dry=not delete)


def _reasons(root: Path, *, keep: int) -> dict[str, str]:
    """Why attempts stay, by their names."""
    there = {attempt.name for attempt in attempts_on_disk(root)}
    reasons: dict[str, str] = {}

    def stay(attempts: Iterator[Attempt], why: str) -> None:
        for attempt in attempts:
            if attempt.name in there:
                reasons.setdefault(attempt.name, why)

    good = [attempt for attempt in published_attempts(root) if attempt.name in there]
    days = sorted({attempt.day for attempt in good}, reverse=True)[:keep]
    first = days[-1] if days else date.min
    stay((attempt for attempt in attempts_on_disk(root) if attempt.is_live), "live")
    stay((next(attempt for attempt in good if attempt.day == day) for day in days), "a good night")
    stay(iter(good[:NIGHTS]), "audits compare with it")
    stay(_gone_back_to(root), "somebody went back to it")
    stay(_left_lately(root), "it was live a day ago")
    published = {Attempt(root, entry["attempt"]) for entry in journal_of(root)}
    of_days = {attempt.day for attempt in published if attempt.day >= first and attempt.name in there}
    stay((published_on(root, day)[0] for day in of_days), "published for its date")
    beside = (attempt for attempt in attempts_on_disk(root) if attempt not in published)
    stay((attempt for attempt in beside if _is_wanted(attempt, first)), "written beside, or begun lately")
    return reasons


def _is_wanted(attempt: Attempt, first: date) -> bool:
    """Whether an attempt that was not published is complete and of the nights that are kept, or was begun lately."""
    age = time.time() - attempt.folder.stat().st_mtime
    return age < ABANDONED_SECONDS or (attempt.is_finished and attempt.day >= first)


def _gone_back_to(root: Path) -> Iterator[Attempt]:
    """What somebody went back to on purpose lately."""
    for entry in journal_of(root):
        if entry.get("action") == "back" and _age(entry) < timedelta(days=_BACK_DAYS):
            yield Attempt(root, entry["attempt"])


def _left_lately(root: Path) -> Iterator[Attempt]:
    """What was live within the last day: who opened it then may still be reading it."""
    moves = [entry for entry in journal_of(root) if entry.get("action") != "dated"]
    for before, after in pairwise(moves):
        if _age(after) < timedelta(seconds=ABANDONED_SECONDS):
            yield Attempt(root, before["attempt"])


def _age(entry: Mapping[str, Any]) -> timedelta:
    at = entry.get("at")
    return timedelta.max if at is None else datetime.now(UTC) - datetime.fromisoformat(at)


def _attempts(root: Path, reasons: Mapping[str, str]) -> Iterator[Removal]:
    """The attempts that nothing speaks for."""
    published = {entry["attempt"] for entry in journal_of(root)}
    for attempt in attempts_on_disk(root):
        if attempt.name not in reasons:
            why = "superseded, or older than what is kept" if attempt.name in published else "never published"
            yield Removal(
                "attempt", attempt.folder, why if attempt.is_finished else "unfinished", size_of(attempt.folder)
            )


def _leftovers(output: Path, attempts: list[Removal], gone: list[Path]) -> Iterator[Removal]:
    """What kills left, but for what goes with its attempt."""
    for path in leftovers(output):
        if path not in gone and not any(path.is_relative_to(removal.path) for removal in attempts):
            yield Removal("leftover", path, "a killed command left it", size_of(path))


def _old_quarantine(output: Path) -> Iterator[Removal]:
    """Rows that were set aside long ago, and never again since."""
    for path in sorted((output / "quarantine").glob("[!.]*.parquet")):
        if time.time() - path.stat().st_mtime > timedelta(days=_QUARANTINE_DAYS).total_seconds():
            yield Removal("quarantine", path, f"older than {_QUARANTINE_DAYS} days", size_of(path))


def removals_table(pruned: Pruned, output: Path) -> Table:
    """What goes, for people."""
    title = "What would be removed" if pruned.is_dry else "What was removed"
    table = Table("what", "where", "why", "MB", title=title)
    for removal in pruned.removals:
        size = f"{removal.size_bytes / 1e6:,.2f}" if removal.size_bytes else "-"
        table.add_row(removal.kind, str(removal.path.relative_to(output)), removal.why, size)
    return table
