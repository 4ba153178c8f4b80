"""Verbs `backup` and `restore`: the output folder and the registry in one file, while nights go on, and back.

What is in the file fits together because of the order in which it is read: the pointer and its journal before the
attempts that they name, the database of runs and versions before their artefacts; all of these appear complete or not
at all, and do not change.
"""

import hashlib
import io
import json
import shutil
import sqlite3
import tarfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import IO, Any
from uuid import uuid4

from features.errors import ConfigError, IntegrityError, listed
from pipelines.base.config import Config
from pipelines.base.outside import written
from pipelines.base.progress import say, task
from pipelines.registry.tracking import tracking_uri
from pipelines.registry.tracking_store import ARTEFACTS, is_made, move_artefacts, sqlite_file
from pipelines.stores.storage import apply_umask, atomic_writer

__all__ = ["Backup", "backup", "restore"]

_CONTENTS = "backup.json"
_DATABASE = "mlflow.db"
_FIRST = ("rankings/journal.jsonl", "rankings/published.json")  # a pointer without its entry mends itself
_ATTEMPTS = PurePosixPath("rankings/attempts")
_MADE_AGAIN = {"state", "vectors", "unfinished", "quarantine"}
"""Folders of `output` that commands make again."""


@dataclass(frozen=True, slots=True)
class Backup:
    """What a backup holds.

    Attributes:
        files: How many.
        size: Bytes of them.
        registry: Whether runs and versions are among them; they are not where a server keeps them.
    """

    files: int
    size: int
    registry: bool


def backup(config: Config, file: Path) -> Backup:
    """Write the output folder and the registry's SQLite database into a tar file, which appears complete or not at all.

    Args:
        config: Names both.
        file: The file; one that is there is replaced.

    Raises:
        ConfigError: There is nothing to back up, or the file would lie in the output folder.
        TryAgainError: The disk is full or refuses.
    """
    root = Path(config.output)
    if not root.is_dir():
        raise ConfigError(f"there is no output folder {str(root)!r} to back up.")
    if file.resolve().is_relative_to(root.resolve()):
        raise ConfigError(f"{str(file)!r} lies in the output folder, which is backed up. Choose another folder.")
    sums: dict[str, str] = {}
    size = 0
    with atomic_writer(file) as stream, tarfile.open(fileobj=stream, mode="w") as tar, TemporaryDirectory() as folder:
        database = _copied_database(config, Path(folder) / _DATABASE)
        for name in (name for name in _FIRST if (root / name).is_file()):
            size += _add(tar, name, io.BytesIO((root / name).read_bytes()), sums)
        if database is not None:
            size += _add_file(tar, _DATABASE, database, sums)
        names = [name for name in _names(root) if name not in sums and name != _DATABASE]
        with task("Backing up", len(names), "files") as advance:
            for name in names:
                try:
                    size += _add_file(tar, name, root / name, sums)
                except FileNotFoundError:
                    say("a file that was removed meanwhile is left out", file=name)
                advance(1)
        facts = {
            "files": sums,
            "nightrank": version("nightrank"),
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        _add(tar, _CONTENTS, io.BytesIO(json.dumps(facts).encode()), {})
    return Backup(len(sums), size, database is not None)


def _copied_database(config: Config, to: Path) -> Path | None:
    """A copy of the SQLite database as it is at one moment; None where another server keeps runs and versions."""
    file = sqlite_file(tracking_uri(config))
    if file is None or not is_made(file):
        return None
    with closing(sqlite3.connect(file)) as source, closing(sqlite3.connect(to)) as copy:
        source.backup(copy)
    return to


def _names(root: Path) -> list[str]:
    """The files below `output` that a restore needs, by their paths in it: none that is unfinished or made again."""
    names = []
    for path in sorted(root.rglob("*")):
        inner = PurePosixPath(path.relative_to(root).as_posix())
        hidden = any(part.startswith(".") for part in inner.parts)
        if hidden or inner.parts[0] in _MADE_AGAIN or path.is_symlink() or not path.is_file():
            continue
        if inner.suffix in (".lock", ".mutex") or inner.name.startswith(f"{_DATABASE}-"):
            continue
        if inner.is_relative_to(_ATTEMPTS) and not (root / _ATTEMPTS / inner.parts[2] / "manifest.json").is_file():
            continue  # a night that is under way
        names.append(str(inner))
    return names


def _add_file(tar: tarfile.TarFile, name: str, path: Path, sums: dict[str, str]) -> int:
    with path.open("rb") as file:
        return _add(tar, name, file, sums)


def _add(tar: tarfile.TarFile, name: str, file: IO[bytes], sums: dict[str, str]) -> int:
    """Add a file as long as it is now, and note its checksum; returns its size."""
    info = tarfile.TarInfo(name)
    info.size = file.seek(0, io.SEEK_END)
    file.seek(0)
    summed = _Summed(file)
    tar.addfile(info, summed)  # of a file it uses `read` alone
    sums[name] = summed.sha256.hexdigest()
    return info.size


class _Summed:
    """A file that sums up what is read of it."""

    def __init__(self, file: IO[bytes]) -> None:
        self.sha256 = hashlib.sha256()
        self._file = file

    def read(self, size: int = -1) -> bytes:
        content = self._file.read(size)
        self.sha256.update(content)
        return content


def restore(file: Path, folder: Path) -> Backup:
    """Unpack a backup into a new output folder, which appears complete or not at all.

    Args:
        file: What `backup` wrote.
        folder: The output folder to be; empty, or not there.

    Raises:
        ConfigError: The folder holds something, or there is no such file.
        IntegrityError: The file is no backup, or was cut off or altered.
        TryAgainError: The disk is full or refuses.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{str(folder)!r} is there and not empty. Name a new folder, so that nothing is overwritten.")
    if not file.is_file():
        raise ConfigError(f"there is no file {str(file)!r}.")
    staging = folder.absolute().with_name(f".restore-{uuid4().hex}")
    try:
        with written(folder):
            staging.mkdir(parents=True)
            made = _unpacked(file, staging)
            if made.registry:
                move_artefacts(staging / _DATABASE, folder.absolute() / ARTEFACTS)
            apply_umask(staging)
            if folder.is_dir():
                folder.rmdir()
            staging.rename(folder.absolute())
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return made


def _unpacked(file: Path, staging: Path) -> Backup:
    sums: dict[str, str] = {}
    facts: Any = None
    try:
        with tarfile.open(file, mode="r:") as tar:
            for name, content in _contents(tar, file):
                if name == _CONTENTS:
                    facts = json.loads(content.read())
                    continue
                path = staging / name
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("xb") as target:
                    shutil.copyfileobj(content, target)
                with path.open("rb") as written_file:
                    sums[name] = hashlib.file_digest(written_file, "sha256").hexdigest()
    except (tarfile.TarError, EOFError, ValueError, FileExistsError) as error:
        raise IntegrityError(f"{file} is no backup of nightrank, or was cut off ({error}). Take another.") from error
    recorded = facts.get("files") if isinstance(facts, dict) else None
    if not isinstance(recorded, dict):
        raise IntegrityError(f"{file} is no backup of nightrank, or was cut off. Take another.")
    wrong = sorted(name for name in {*sums, *recorded} if sums.get(name) != recorded.get(name))
    if wrong:
        raise IntegrityError(f"{file}: {listed(wrong)} missing or altered. Take another backup.")
    size = sum((staging / name).stat().st_size for name in sums)
    return Backup(len(sums), size, _DATABASE in sums)


def _contents(tar: tarfile.TarFile, file: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """The plain files of a backup.

    Raises:
        IntegrityError: It holds something else, or a path that leads out of it.
    """
    for member in tar:
        path = PurePosixPath(member.name)
        content = tar.extractfile(member) if member.isreg() else None
        if content is None or path.is_absolute() or ".." in path.parts:
            raise IntegrityError(f"{file} holds {member.name!r}, which no backup of nightrank does. Take another.")
        yield member.name, content
