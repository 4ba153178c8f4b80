"""The journal of what was published, and the pointer, which carries its own entry of it.

Both name attempts by their folders; what an attempt is, `pipelines.stores.publish` knows. Where a kill came between the
two, the entry is read from the pointer, and the next who publishes appends it.
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
    "append",
    "day_of_name",
    "entries_of",
    "journal_of",
    "last_token",
    "names_attempt",
    "newest_names",
    "pending",
    "pointer_of",
    "settle",
]

POINTER = "published.json"
"""File that names what is live."""
ENTRY = "entry"
"""Key of the pointer: its own entry of the journal."""
REVISED, REPLACES = "revised", "replaces"
"""Action of an entry that gives an attempt another name, and its key of the name that was."""
_JOURNAL = "journal.jsonl"


def last_token(root: Path) -> int:
    """The largest token of a lease in the journal."""
    return max((entry["token"] for entry in entries_of(root) if isinstance(entry.get("token"), int)), default=0)


def journal_of(root: Path) -> list[dict[str, Any]]:
    """The entries of the journal that name an attempt, oldest first; a last line that was cut off is left out.

    The last is the pointer's own, where a kill came before it was appended. An attempt that was replaced by the same
    lists without forgotten users has the name of these.
    """
    entries = entries_of(root)
    newest = newest_names(entries)
    return [
        {**entry, "attempt": newest.get(entry["attempt"], entry["attempt"])}
        for entry in entries
        if entry.get("action") != REVISED
    ]


def entries_of(root: Path) -> list[dict[str, Any]]:
    """The entries as they were written, and the pointer's own where it was not appended."""
    entries = _appended(root)
    last = pending(root, entries)
    return entries if last is None else [*entries, last]


def newest_names(entries: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """By the name of an attempt that was replaced: the name of what stands for it now."""
    newest: dict[str, str] = {}
    for entry in reversed(entries):
        if entry.get("action") == REVISED and isinstance(entry.get(REPLACES), str):
            newest[entry[REPLACES]] = newest.get(entry["attempt"], entry["attempt"])
    return newest


def _appended(root: Path) -> list[dict[str, Any]]:
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


def pending(root: Path, entries: Sequence[dict[str, Any]] | None = None) -> dict[str, Any] | None:
    """The entry that the pointer carries and the journal lacks; None where it has it, or the pointer is damaged.

    A pointer of an earlier version carries none; the journal lacks it where it does not name the attempt.
    """
    entries = _appended(root) if entries is None else entries
    try:
        pointer = pointer_of(root)
    except IntegrityError:
        return None
    if pointer is None:
        return None
    entry, name = pointer.get(ENTRY), pointer["attempt"]
    if isinstance(entry, dict) and entry.get("attempt") == name:
        return None if entry in entries else entry
    is_named = any(entry["attempt"] == name for entry in entries)
    return None if is_named else {"action": "live", "attempt": name, "date": str(day_of_name(name))}


def settle(root: Path) -> None:
    """Append the entry that the pointer carries and the journal lacks."""
    entry = pending(root)
    if entry is not None:
        append(root, entry)


def append(root: Path, entry: Mapping[str, Any]) -> None:
    """Append an entry, on disk when this returns."""
    path = root / _JOURNAL
    line = json.dumps(entry, sort_keys=True) + "\n"
    with written(path), path.open("a+b") as file:
        if file.seek(0, os.SEEK_END):
            file.seek(-1, os.SEEK_END)
            line = line if file.read(1) == b"\n" else f"\n{line}"  # after a line that was cut off
        file.write(line.encode())
        file.flush()
        os.fsync(file.fileno())


def pointer_of(root: Path) -> dict[str, Any] | None:
    """The pointer, which names an attempt; None if there is none.

    Raises:
        IntegrityError: It names none.
    """
    path = root / POINTER
    if not path.is_file():
        return None
    pointer = read_json(path, what="rankings")
    if not isinstance(pointer, dict) or not names_attempt(pointer.get("attempt")):
        raise IntegrityError(
            f"{path}: names no attempt folder. Delete it, and score the latest day again: what is there is found again."
        )
    return pointer


def names_attempt(name: object) -> bool:
    """Whether this is a name of a folder that begins with a date."""
    try:
        return isinstance(name, str) and Path(name).name == name and bool(day_of_name(name))
    except ValueError:
        return False


def day_of_name(name: str) -> date:
    """The day that an attempt's rankings are for."""
    return date.fromisoformat(name[: len("YYYY-MM-DD")])
