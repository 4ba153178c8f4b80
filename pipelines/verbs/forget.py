"""Verb `forget`: removes a user from what nightrank keeps, and says what it cannot remove.

Readers see a night with the user or without, never half of one. Run again, it finishes what a kill interrupted. The id
stands in no message, no journal and no name of a file.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.table import Table

from pipelines.base.config import Config
from pipelines.stores.journal import journal_of
from pipelines.stores.lease import Lease, night_lease
from pipelines.stores.publish import attempts_on_disk
from pipelines.stores.rows import forget_rows
from pipelines.stores.state import StateStore
from pipelines.stores.storage import read_parquet, write_parquet
from pipelines.stores.trash import discard, emptied, leftovers
from pipelines.stores.users import holds, is_user, revised, rows_of_user

__all__ = ["Forgotten", "Remains", "forget", "remains_table"]

_VERSIONS = ("bundles", "evaluations", "origins", "mlartifacts")


@dataclass(frozen=True, slots=True)
class Remains:
    """Something that may hold more of a user, and that nightrank does not change.

    Attributes:
        where: Where it lies.
        why: Why it stays.
        remedy: The command or place that mends it.
    """

    where: str
    why: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What was removed of a user.

    Attributes:
        removed: How much, by what it is.
        remains: What may be left elsewhere.
        checked: Files of versions that were searched for the id.
    """

    removed: Mapping[str, int]
    remains: list[Remains]
    checked: int

    @property
    def anything(self) -> bool:
        """Whether nightrank held anything of the user."""
        return any(self.removed.values())

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        remains = [{"where": each.where, "why": each.why, "remedy": each.remedy} for each in self.remains]
        return {"removed": dict(self.removed), "checked_files_of_versions": self.checked, "remains": remains}


def forget(config: Config, user: str) -> Forgotten:
    """Remove a user from published nights, folded state, kept rows and quarantine.

    Args:
        config: The output folder.
        user: The id, as text.

    Raises:
        IntegrityError: A published night that has a list for the user is damaged.
        TryAgainError: A night is under way, or the disk is full or refuses.
    """
    output = Path(config.output)
    removed = {"nights": 0, "unpublished nights": 0, "folded state": 0, "files of kept rows": 0, "rows set aside": 0}
    with night_lease(config, datetime.now(UTC).date()) as lease:
        for path in leftovers(output / "rankings", seconds=0):
            emptied(path)
        removed |= _from_nights(output / "rankings", user, lease)
        removed["folded state"] = int(StateStore(output / "state").forget(user))
        removed["files of kept rows"] = forget_rows(user, config)
        removed["rows set aside"] = sum(_from_quarantine(output / "quarantine", user))
    files = [path for folder in _VERSIONS for path in sorted((output / folder).rglob("*.parquet"))]
    holding = [path for path in files if rows_of_user(path, user)]
    return Forgotten(removed, _remains(config, holding), len(files))


def _from_nights(root: Path, user: str, lease: Lease) -> dict[str, int]:
    """Take a user's lists out of published nights, and remove nights that have one and were never published."""
    published = {entry["attempt"] for entry in journal_of(root)}
    counts = {"nights": 0, "unpublished nights": 0}
    for attempt in attempts_on_disk(root):
        if not holds(attempt, user):
            continue
        if attempt.is_live or attempt.name in published:
            revised(attempt, user, guard=lease.fenced())
            counts["nights"] += 1
        else:
            emptied(discard(attempt.folder))
            counts["unpublished nights"] += 1
    return counts


def _from_quarantine(folder: Path, user: str) -> Iterator[int]:
    """Remove a user's rows that were set aside; gives how many of each file."""
    for path in sorted(folder.glob("[!.]*.parquet")):
        if n_rows := rows_of_user(path, user):
            write_parquet(read_parquet(path).filter(~is_user(user)), path)
            yield n_rows


def _remains(config: Config, holding: list[Path]) -> list[Remains]:
    """What may hold more of the user, and what mends that."""
    tables = {name: getattr(config.data, name) for name in ("events", "users", "candidates")}
    paths = ", ".join(f"data.{name}.path" for name, table in tables.items() if table is not None)
    remains = [
        Remains(paths, "your own tables", "remove the user's rows there; else the next command folds and ranks them"),
        Remains("weights of trained models", "learned from all users together", "nightrank train, nightrank promote"),
        Remains("vectors/", "vectors of texts, without ids", "nightrank vectors gc, once no version needs a store"),
        Remains("copies", "files of read --to, backups, another output folder", "delete them, or run this there too"),
    ]
    if holding:
        where = f"{len(holding)} files such as {holding[0]}"
        remains.append(Remains(where, "files of versions do not change", "delete them with their version"))
    return remains


def remains_table(forgotten: Forgotten) -> Table:
    """What was not touched, for people."""
    table = Table("where", "what", "what mends it", title="What nightrank does not remove")
    for each in forgotten.remains:
        table.add_row(each.where, each.why, each.remedy)
    return table
