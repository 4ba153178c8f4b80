"""Verb `vectors`: statistics of the vector stores, verification, and removal of those that nobody needs."""

import fcntl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from features.errors import IntegrityError, listed
from pipelines.base.config import Config
from pipelines.base.outside import written
from pipelines.registry.registry import Registry
from pipelines.stores.storage import read_json
from pipelines.stores.trash import discard, emptied
from pipelines.stores.vectors import LOCK, segment_files, verified

__all__ = ["Store", "collect", "stores", "verify"]

_DAY = 86_400.0  # seconds


@dataclass(frozen=True, slots=True)
class Store:
    """The vectors of one encoder.

    Attributes:
        folder: Where they lie; its name is how the encoder's digest begins.
        segments: Files.
        texts: Vectors in them; what two processes added at once counts twice.
        size_bytes: Of all files.
        used_by: Registered versions with this encoder, with their aliases.
        last_used: When vectors were last read or added, in seconds since 1970.
    """

    folder: Path
    segments: int
    texts: int
    size_bytes: int
    used_by: tuple[str, ...]
    last_used: float

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "encoder": self.folder.name,
            "segments": self.segments,
            "texts": self.texts,
            "bytes": self.size_bytes,
            "used_by": list(self.used_by),
            "last_used": datetime.fromtimestamp(self.last_used, UTC).isoformat(timespec="seconds"),
        }


def stores(config: Config) -> list[Store]:
    """All stores of the output folder, last used first.

    Raises:
        IntegrityError: A registered version's bundle, or the header of a segment, is not as it was written.
        TryAgainError: The registry does not answer.
    """
    users = _users(config)
    return sorted(
        (_store(folder, users) for folder in _folders(config)), key=lambda store: (-store.last_used, store.folder.name)
    )


def verify(config: Config) -> dict[str, Any]:
    """Check every segment of every store against its checksum.

    Returns:
        How many stores, segments and bytes there are, all of them whole.

    Raises:
        IntegrityError: Names the damaged files and the remedy.
    """
    damaged, segments, size = [], 0, 0
    for folder in _folders(config):
        for path in segment_files(folder):
            try:
                size += path.stat().st_size
                verified(path)
            except IntegrityError:
                damaged.append(path)
            except FileNotFoundError:  # merged into another one meanwhile
                continue
            segments += 1
    if damaged:
        raise IntegrityError(
            f"vectors: {len(damaged)} of {segments} segments were altered since they were written: "
            f"{listed(map(str, damaged), most=20)}. Delete them; their texts are encoded again."
        )
    return {"stores": len(_folders(config)), "segments": segments, "bytes": size}


def collect(config: Config, *, dry_run: bool) -> dict[str, Any]:
    """Remove the stores that no registered version uses, `vectors.keep_days` after their last use.

    Files that killed writers left in the others are removed after a day.

    Args:
        config: Output folder, registry, days.
        dry_run: Only report what would be removed.

    Returns:
        Stores removed and kept, and the bytes that are free now (or would be).

    Raises:
        IntegrityError: A registered version's bundle is not as it was written: then nothing is removed.
        TryAgainError: The registry does not answer: then nothing is removed.
    """
    removed: list[Store] = []
    kept: list[Store] = []
    for store in stores(config):
        idle_days = (time.time() - store.last_used) / _DAY
        goes = not store.used_by and idle_days >= config.vectors.keep_days
        (removed if goes and (dry_run or _removed(store.folder)) else kept).append(store)
    left = [path for store in kept for path in _left_behind(store.folder)]
    freed = sum(store.size_bytes for store in removed) + sum(path.stat().st_size for path in left)
    for path in () if dry_run else left:
        with written(path):
            path.unlink(missing_ok=True)
    return {
        "dry_run": dry_run,
        "removed": [store.folder.name for store in removed],
        "kept": [store.folder.name for store in kept],
        "freed_bytes": freed,
    }


def _folders(config: Config) -> list[Path]:
    root = Path(config.output) / "vectors"
    return sorted(path for path in root.glob("*") if path.is_dir() and not path.name.startswith("."))


def _users(config: Config) -> Mapping[str, tuple[str, ...]]:
    """Registered versions by the name of the store they use."""
    registry = Registry(config)
    users: dict[str, tuple[str, ...]] = {}
    for version in registry.versions():
        label = " ".join([version.name, *(f"@{alias}" for alias in version.aliases)])
        manifest = read_json(registry.bundle_folder(version) / "manifest.json", what="bundle")
        for digest in set(manifest["encoder"].values()):
            users[digest[:32]] = (*users.get(digest[:32], ()), label)
    return users


def _store(folder: Path, users: Mapping[str, tuple[str, ...]]) -> Store:
    files = [path for path in folder.iterdir() if path.is_file()]
    segments = segment_files(folder)
    return Store(
        folder=folder,
        segments=len(segments),
        texts=sum(_texts(path) for path in segments),
        size_bytes=sum(path.stat().st_size for path in files),
        used_by=users.get(folder.name, ()),
        last_used=(folder / LOCK if (folder / LOCK).is_file() else folder).stat().st_mtime,
    )


def _texts(path: Path) -> int:
    try:
        return len(np.load(path, mmap_mode="r"))
    except (ValueError, EOFError) as error:
        raise IntegrityError(f"{path} is no segment. Delete it; its texts are encoded again.") from error


def _left_behind(folder: Path) -> list[Path]:
    """Files older than a day that are no part of a store."""
    others = set(folder.iterdir()) - {folder / LOCK, *segment_files(folder)}
    return sorted(path for path in others if time.time() - path.stat().st_mtime > _DAY)


def _removed(folder: Path) -> bool:
    """Remove a store, unless a process is using it: then it stays."""
    with _alone(folder) as alone:
        if alone:
            emptied(discard(folder))  # NOTE: a process that comes now finds all of the store or nothing of it.
    return alone


@contextmanager
def _alone(folder: Path) -> Iterator[bool]:
    with written(folder / LOCK):
        opened = (folder / LOCK).open("a")
    with opened as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
