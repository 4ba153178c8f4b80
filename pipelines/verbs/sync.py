"""Verb `sync`: write to the tracking server what nights kept on disk because it did not answer."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from features.errors import ConfigError, IntegrityError, NightrankError
from pipelines.base.config import Config
from pipelines.base.progress import say
from pipelines.registry.last_champion import open_registry
from pipelines.registry.night_runs import KIND, write_night
from pipelines.registry.registry import CHAMPION, Registry
from pipelines.registry.tracking_errors import tracking_errors
from pipelines.stores.served import served
from pipelines.stores.spool import spooled

__all__ = ["KINDS", "sync"]


def sync(config: Config) -> dict[str, Any]:
    """Write every entry of the spool, and remove it once it is written.

    Returns:
        `written` and `left`: how many entries were and were not. `champion`: who it is by the registry; `agrees`:
        whether the live rankings are of that version, None where nothing is live.

    Raises:
        NightrankError: The registry does not answer, or refused an entry; what was not written stays on disk.
    """
    registry = open_registry(config)
    champion, live = registry.find(CHAMPION), None
    with suppress(IntegrityError):  # of which `status` warns
        live = served(Path(config.output) / "rankings")
    entries = spooled(Path(config.output))
    written, refusal = 0, None
    for path, entry in entries.items():
        try:
            _writer(entry)(registry, entry)
        except NightrankError as error:
            say("an entry of the spool was not written", file=str(path), because=str(error))
            refusal = error
            continue
        path.unlink(missing_ok=True)
        written += 1
    if refusal is not None:
        raise type(refusal)(f"{len(entries) - written} of {len(entries)} entries of the spool stay on disk: {refusal}")
    name = None if champion is None else champion.name
    return {
        "written": written,
        "left": len(entries) - written,
        "champion": name,
        "agrees": None if live is None else live.manifest["version"] == name,
    }


def _degraded(registry: Registry, entry: Mapping[str, Any]) -> None:
    """Tag the version that ranked a night although the registry did not say that it is champion."""
    with tracking_errors(registry.config, f"the degraded night of {entry['date']}"):
        number = str(entry["version"]).rpartition("/")[2]
        registry.client.set_model_version_tag(
            registry.model, number, f"nightrank.degraded.{entry['date']}", str(entry["why"])[:1000]
        )


KINDS: dict[str, Callable[[Registry, Mapping[str, Any]], None]] = {"degraded": _degraded, KIND: write_night}
"""What writes an entry of the spool, by its kind. Writing an entry twice must come to the same as writing it once."""


def _writer(entry: Mapping[str, Any]) -> Callable[[Registry, Mapping[str, Any]], None]:
    if entry["kind"] not in KINDS:
        raise ConfigError(f"entries of the kind {entry['kind']!r} are of another nightrank. Sync with that one.")
    return KINDS[entry["kind"]]
