"""Verb `registry gc`: versions that nobody needs any more, told apart from those that somebody does, and removed."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.registry.approvals import Approvals
from pipelines.registry.champion import Champion
from pipelines.registry.decisions import last_move
from pipelines.registry.registry import Registry, Version
from pipelines.registry.tracking_errors import tracking_errors
from pipelines.stores.publish import attempts_on_disk, journal_of
from pipelines.stores.storage import read_json
from pipelines.stores.trash import ABANDONED_SECONDS, discard, emptied, size_of

__all__ = ["KEEP_VERSIONS", "Collected", "Judged", "collect_versions"]

KEEP_VERSIONS = 5
"""Newest versions that are kept, if nobody names another number."""
_UNFINISHED = (".fetch-*", ".staging-*")


@dataclass(frozen=True, slots=True)
class Judged:
    """A version, and whether somebody needs it.

    Attributes:
        version: The version.
        reasons: Why it is kept; none for one that goes.
        orphaned: Whether its bundle is neither here nor in its run, so that it can never be loaded.
        same_as: Name of an earlier version with the same bundle; empty if there is none.
        size_bytes: Of the files that go with it.
    """

    version: Version
    reasons: tuple[str, ...]
    orphaned: bool
    same_as: str
    size_bytes: int

    @property
    def state(self) -> str:
        """What it is, in words."""
        if self.orphaned:
            return "orphaned: its bundle is nowhere"
        return f"the same bundle as {self.same_as}" if self.same_as else "whole"


@dataclass(frozen=True, slots=True)
class Collected:
    """What was removed, or would be.

    Attributes:
        judged: All versions, the latest first.
        unregistered: Bundles that are of no version.
        unfinished: Folders that killed processes left among the bundles.
        skipped: Versions that somebody came to need while this ran.
        is_dry: Whether all of it is still there.
        on_server: Whether a server keeps the bundles of runs, which stay there.
    """

    judged: list[Judged]
    unregistered: list[Path]
    unfinished: list[Path]
    skipped: list[str]
    is_dry: bool
    on_server: bool

    @property
    def removed(self) -> list[Judged]:
        """The versions that go."""
        return [each for each in self.judged if not each.reasons and each.version.name not in self.skipped]

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "dry_run": self.is_dry,
            "removed": [each.version.name for each in self.removed],
            "kept": {each.version.name: list(each.reasons) for each in self.judged if each.reasons},
            "orphaned": [each.version.name for each in self.judged if each.orphaned],
            "same_bundle": {each.version.name: each.same_as for each in self.judged if each.same_as},
            "unregistered": [str(path) for path in self.unregistered],
            "skipped": self.skipped,
            "freed_bytes": sum(each.size_bytes for each in self.removed),
        }


def collect_versions(registry: Registry, *, keep: int = KEEP_VERSIONS, delete: bool = False) -> Collected:
    """Judge every version, and remove those that nobody needs.

    Kept are versions with an alias, the tag `pinned` or an approval, those that the last decision or a night names, and
    the newest ones. An orphaned version is not kept for being new. Runs with their figures stay.

    Args:
        registry: The versions.
        keep: How many of the newest whole versions are kept.
        delete: Remove them; else this only says what would go.

    Raises:
        IntegrityError: A decision or a pointer cannot be read: then nothing is removed.
        TryAgainError: The registry does not answer.
    """
    versions = registry.versions()
    judged = _judged(registry, versions, keep)
    bundles = Path(registry.config.output) / "bundles"
    unfinished = [path for pattern in _UNFINISHED for path in bundles.glob(pattern) if _is_old(path)]
    digests = {version.digest[:32] for version in versions}
    unregistered = sorted(
        path for path in bundles.glob("*") if not path.name.startswith(".") and path.name not in digests
    )
    skipped = []
    if delete:
        for path in unfinished:
            emptied(path)
        skipped = [each.version.name for each in judged if not each.reasons and not _remove(registry, each.version)]
    on_server = bool(versions) and registry.run_bundle(versions[0]) is None
    return Collected(judged, unregistered, unfinished, skipped, not delete, on_server)


def _is_old(path: Path) -> bool:
    return time.time() - path.stat().st_mtime >= ABANDONED_SECONDS


def _judged(registry: Registry, versions: list[Version], keep: int) -> list[Judged]:
    """All versions with the reasons why each is kept, the latest first."""
    nights, decided = _named_by_nights(Path(registry.config.output) / "rankings"), _decided(registry)
    approved = {approval.digest for approval in Approvals(registry).read()}
    first = {version.digest: version.name for version in versions}  # the latest come first: the earliest stays
    orphaned = {version.number for version in versions if not _is_anywhere(registry, version)}
    newest = [version.number for version in versions if version.number not in orphaned][:keep]
    reasons: dict[str, tuple[str, ...]] = {}
    for version in versions:
        why = [f"alias {alias}" for alias in version.aliases]
        why += ["pinned"] if version.pinned else []
        why += ["approved"] if version.digest in approved else []
        why += [f"decision {decided[version.number]}"] if version.number in decided else []
        why += [f"ranked {nights[version.name]}"] if version.name in nights else []
        why += [f"newest {keep}"] if version.number in newest else []
        reasons[version.number] = tuple(why)
    staying = [version for version in versions if reasons[version.number]]
    return [
        Judged(
            version,
            reasons[version.number],
            version.number in orphaned,
            "" if first[version.digest] == version.name else first[version.digest],
            _size(registry, version, [*staying, *versions[index + 1 :]]),
        )
        for index, version in enumerate(versions)
    ]


def _named_by_nights(root: Path) -> Mapping[str, str]:
    """Versions that published nights, or nights on disk, were ranked by, with the latest day of each."""
    journal = [(str(entry["date"]), entry.get("version")) for entry in journal_of(root)]
    finished = [attempt for attempt in attempts_on_disk(root) if (attempt.folder / "manifest.json").is_file()]
    on_disk = [
        (str(attempt.day), read_json(attempt.folder / "manifest.json", what="rankings").get("version"))
        for attempt in finished
    ]
    return {str(name): day for day, name in sorted(night for night in (*journal, *on_disk) if night[1])}


def _decided(registry: Registry) -> Mapping[str, int]:
    """The versions before and after the last decision, with its number."""
    move = last_move(Champion(registry).decisions.read())
    return {} if move is None else {number: move.number for number in (move.before, move.after) if number}


def _is_anywhere(registry: Registry, version: Version) -> bool:
    """Whether its bundle lies here or in its run; whether it is whole, `registry verify` says."""
    return bool(version.digest) and (registry.cached_bundle(version).is_dir() or registry.run_has_bundle(version))


def _files(registry: Registry, version: Version, others: Sequence[Version]) -> list[Path]:
    """What lies here of a version and of no other one."""
    output, run = Path(registry.config.output), registry.run_bundle(version)
    of_run = [] if run is None or version.run_id in {other.run_id for other in others} else [run]
    if not version.digest or version.digest in {other.digest for other in others}:
        return of_run
    return [*of_run, registry.cached_bundle(version), output / "parsed" / f"{version.digest}.json"]


def _size(registry: Registry, version: Version, others: Sequence[Version]) -> int:
    others = [other for other in others if other.number != version.number]
    return sum(size_of(path) for path in _files(registry, version, others))


def _remove(registry: Registry, version: Version) -> bool:
    """Remove a version and its files, unless it got an alias or a decision meanwhile; returns whether it went."""
    now = registry.find(version.number)
    if now is None or now.aliases or now.pinned or version.number in _decided(registry):
        return False
    with tracking_errors(registry.config, "the registry"):
        registry.client.delete_model_version(registry.model, version.number)
    for path in _files(registry, version, registry.versions()):
        emptied(discard(path) if path.is_dir() else path)
    return True
