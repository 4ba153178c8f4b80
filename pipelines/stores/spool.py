"""What could not be written to the tracking server, kept in ``jobs/spool`` until `nightrank sync` writes it.

A file holds one entry: JSON with its kind under ``kind``, and what the kind needs. It is named by its content, so that
what is kept twice is one file. An entry may be written to the server twice, should `sync` be killed in between:
whoever writes a kind makes that come to the same.
"""

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from features.errors import IntegrityError
from pipelines.base.progress import say
from pipelines.stores.storage import read_json, write_json

__all__ = ["spool", "spooled"]


def spool(output: Path, entry: Mapping[str, Any]) -> Path:
    """Keep an entry; returns its file.

    Args:
        output: The output folder.
        entry: Its `kind`, and what the kind needs.
    """
    name = hashlib.sha256(json.dumps(entry, sort_keys=True).encode()).hexdigest()[:32]
    path = _folder(output) / f"{name}.json"
    if not path.is_file():
        write_json(dict(entry), path)
    return path


def spooled(output: Path) -> dict[Path, dict[str, Any]]:
    """The entries that wait, oldest first; files that are none are said and left where they are."""
    entries = {}
    for path in sorted(_folder(output).glob("*.json"), key=lambda file: (file.stat().st_mtime_ns, file.name)):
        entry = None
        with suppress(IntegrityError):
            entry = read_json(path, what="spool")
        if isinstance(entry, dict) and isinstance(entry.get("kind"), str):
            entries[path] = entry
        else:
            say("a file of the spool that cannot be read is left out", file=str(path))
    return entries


def _folder(output: Path) -> Path:
    return output / "jobs" / "spool"
