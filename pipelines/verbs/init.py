"""Verb `init`: look at a folder of somebody's tables, and write a `nightrank.yaml` that says why for each choice."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from features.errors import ConfigError
from pipelines.setup.files import Table, look, table_at
from pipelines.setup.proposal import Proposal, TableProposal, propose
from pipelines.setup.write import yaml_text
from pipelines.stores.storage import atomic_writer, write_parquet

__all__ = ["Initialised", "init"]

_CONFIG = "nightrank.yaml"


@dataclass(frozen=True, slots=True)
class Initialised:
    """What `init` proposes, and where it lies.

    Attributes:
        proposal: All choices.
        text: The YAML.
        path: The configuration file.
        written: Paths of the tables that are written anew.
    """

    proposal: Proposal
    text: str
    path: Path
    written: tuple[Path, ...]

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        proposal = self.proposal
        tables = {"items": proposal.items, "events": proposal.events, "users": proposal.users}
        return {
            "config": str(self.path),
            "tables": {name: _columns(table) for name, table in tables.items() if table is not None},
            "text": [field.column for field in proposal.catalogue.texts],
            "gains": dict(proposal.types.gains),
            "timeline": dict(proposal.timeline.keys),
            "requests": {name: count for name, (_, _, count) in proposal.timeline.windows.items()},
            "doubts": list(proposal.doubts),
            "written": [str(path) for path in self.written],
        }


def init(
    folder: Path,
    *,
    to: Path | None = None,
    events: str | None = None,
    items: str | None = None,
    dry_run: bool = False,
    force: bool = False,
) -> Initialised:
    """Look at a folder and write a configuration for the tables in it.

    Args:
        folder: Where they lie; none of its files is altered.
        to: Where `nightrank.yaml` is written, and the tables that must be written anew; the folder itself if None.
        events: The log: a file, a folder or a glob below `folder`; found if None.
        items: The catalogue, likewise.
        dry_run: Whether nothing is written.
        force: Whether a `nightrank.yaml` that is there is overwritten.

    Raises:
        ConfigError: There is a configuration already, no table, or several that could be the log.
        ContractError: No log, no times, no catalogue or no text among the tables.
        IntegrityError: A file is truncated.
        TryAgainError: The disk refuses.
    """
    target = folder if to is None else to
    path = target / _CONFIG
    if path.exists() and not (dry_run or force):
        raise ConfigError(
            f"init: {str(path)!r} is there already, and stays. See what would be proposed with --dry-run, overwrite it "
            "with --force, or write elsewhere with --to."
        )
    chosen = {
        name: table_at(folder, path_named) for name, path_named in (("events", events), ("items", items)) if path_named
    }
    both = {"events", "items"} <= chosen.keys()
    tables: list[Table] = list(chosen.values()) if both else _without(look(folder), chosen)
    proposal = propose(tables, events=chosen.get("events"), items=chosen.get("items"))
    text = yaml_text(proposal, folder=folder, to=target)
    anew = [table for table in (proposal.items, proposal.events) if table.written is not None]
    paths = tuple(target / table.path for table in anew if table.path is not None)
    if not dry_run:
        for table, path_named in zip(anew, paths, strict=True):
            assert table.written is not None
            write_parquet(table.written, path_named)
        with atomic_writer(path) as file:
            file.write(text.encode())
    return Initialised(proposal, text, path, paths)


def _without(tables: list[Table], chosen: dict[str, Table]) -> list[Table]:
    """The tables that were looked at, those that somebody named as they were named."""
    named = {file for table in chosen.values() for file in table.files.paths}
    return [table for table in tables if not named & set(table.files.paths)] + list(chosen.values())


def _columns(table: TableProposal) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "from": table.source.name,
        "columns": {ours: pair[0] for ours, pair in table.columns.items()},
    }
    return facts | {name: value for name, (value, _) in table.constants.items()}
