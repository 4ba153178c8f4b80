"""The journal of published rankings and the pointer to what is live, by the names of attempts.

The pointer carries its own entry of the journal: where a kill came between the two, the entry is read from there.
"""

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import Any

from features.errors import IntegrityError
from pipelines.base.outside import written
from pipelines.stores.storage import read_json

__all__ = [
    "ENTRY",
    "POINTER",
    "REPLACES",
    "REVISED",
    "append_entry",
    "appended",
    "day_of_attempt",
    "journal_of",
    "last_token",
    "names_attempt",
    "newest_names",
    "pending_entry",
    "read_pointer",
    "settle",
    "under_newest_names",
]

POINTER = "published.json"
"""The pointer's file."""
ENTRY = "entry"
"""Key of the journal's entry in the pointer."""
REVISED, REPLACES = "revised", "replaces"
"""Action of an entry that lets one attempt stand for another, and its key of that other's name."""
_JOURNAL = "journal.jsonl"


def day_of_attempt(name: str) -> date:
    """The day that an attempt's name begins with.

    Raises:
        ValueError: It begins with none.
    """
    return date.fromisoformat(name[: len("YYYY-MM-DD")])


def names_attempt(name: object) -> bool:
    """Whether this is a name of a folder that begins with a date."""
    try:
        return isinstance(name, str) and Path(name).name == name and bool(day_of_attempt(name))
    except ValueError:
        return False


def read_pointer(root: Path) -> dict[str, Any] | None:
    """The pointer; None if there is none.

    Raises:
        IntegrityError: It names no attempt.
    """
    path = root / POINTER
    if not path.is_file():
        return None
    pointer = read_json(path, what="rankings")
    if not isinstance(pointer, dict) or not names_attempt(pointer.get("attempt")):
        raise IntegrityError(f"{path}: names no attempt folder. The next night mends it: nightrank score.")
    return pointer


def last_token(root: Path) -> int:
    """The largest token of a lease in the journal."""
    return max((entry["token"] for entry in journal_of(root) if isinstance(entry.get("token"), int)), default=0)


def journal_of(root: Path) -> list[dict[str, Any]]:
    """The entries of the journal that name an attempt, oldest first; a last line that was cut off is left out.

    The last is the pointer's own, where a kill came before it was appended. An attempt that was replaced by the same
    lists without forgotten users has the name of these.
    """
    return under_newest_names(_with_pending(root))


def newest_names(root: Path) -> dict[str, str]:
    """By the name of an attempt that was replaced: the name of what stands for it now."""
    return {name: entry["attempt"] for name, entry in _revisions(_with_pending(root)).items()}


def under_newest_names(entries: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Entries with the name, and the hash of the manifest, of what stands for each attempt now."""
    revisions = _revisions(entries)
    renamed = []
    for entry in entries:
        if entry.get("action") != REVISED:
            revision = revisions.get(entry["attempt"], {})
            renamed.append(entry | {key: revision[key] for key in ("attempt", "manifest_sha256") if key in revision})
    return renamed


def _revisions(entries: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """By the name of an attempt that was replaced: the entry of what stands for it now."""
    newest: dict[str, dict[str, Any]] = {}
    for entry in reversed(entries):
        if entry.get("action") == REVISED and isinstance(entry.get(REPLACES), str):
            newest[entry[REPLACES]] = newest.get(entry["attempt"], entry)
    return newest


def _with_pending(root: Path) -> list[dict[str, Any]]:
    """The entries as they were written, and the pointer's own where it was not appended."""
    entries = appended(root)
    pending = pending_entry(root, entries)
    return entries if pending is None else [*entries, pending]


def appended(root: Path) -> list[dict[str, Any]]:
    """The entries of the journal's file."""
    path = root / _JOURNAL
    if not path.is_file():
        return []
    entries = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        with suppress(ValueError):
            entry = json.loads(line)
            if isinstance(entry, dict) and names_attempt(entry.get("attempt")):
                entries.append(entry)
    return entries


def pending_entry(root: Path, entries: Sequence[dict[str, Any]] | None = None) -> dict[str, Any] | None:
    """The entry that the pointer carries and the journal lacks; None where it has it, or the pointer is damaged.

    A pointer of an earlier version carries none; the journal lacks it where it does not name the attempt.
    """
    entries = appended(root) if entries is None else entries
    try:
        pointer = read_pointer(root)
    except IntegrityError:
        return None
    if pointer is None:
        return None
    name, entry = pointer["attempt"], pointer.get(ENTRY)
    if isinstance(entry, dict) and entry.get("attempt") == name:
        return None if entry in entries else entry
    is_named = any(entry["attempt"] == name for entry in entries)
    return None if is_named else {"action": "live", "attempt": name, "date": str(day_of_attempt(name))}


def settle(root: Path) -> None:
    """Append the entry that the pointer carries and the journal lacks."""
    pending = pending_entry(root)
    if pending is not None:
        append_entry(root, pending)


def append_entry(root: Path, entry: Mapping[str, Any]) -> None:
    """Append an entry to the journal's file."""
    path = root / _JOURNAL
    line = json.dumps(entry, sort_keys=True) + "\n"
    with written(path), path.open("a+b") as file:
        if file.seek(0, os.SEEK_END):
            file.seek(-1, os.SEEK_END)
            line = line if file.read(1) == b"\n" else f"\n{line}"  # after a line that was cut off
        file.write(line.encode())
        file.flush()
        os.fsync(file.fileno())
