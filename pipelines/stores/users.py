"""Where a user's id stands in files of ours, and published nights without it."""

import re
from contextlib import AbstractContextManager, suppress
from pathlib import Path

import polars as pl

from pipelines.stores.publish import FORGOTTEN, Attempt
from pipelines.stores.storage import atomic_writer, read_json, read_parquet, write_json
from pipelines.stores.trash import discard, emptied

__all__ = ["holds", "is_user", "revised", "rows_of_user"]

_REVISION = re.compile(r"(.*?)(?:-r(\d+))?")


def is_user(user: str, column: str = "user_id") -> pl.Expr:
    """Whether a value is a user's id, as text or as a number; null is none."""
    return (pl.col(column).cast(pl.String, strict=False) == user).fill_null(value=False)


def rows_of_user(path: Path, user: str, column: str = "user_id") -> int:
    """How many rows of a Parquet file are a user's; none where it has no such column, or is no such file."""
    with suppress(pl.exceptions.PolarsError, OSError):
        rows = pl.scan_parquet(path, glob=False, hive_partitioning=False)
        if column in rows.collect_schema():
            return int(rows.select(is_user(user, column).sum()).collect().item())
    return 0


def _shards_of(attempt: Attempt) -> list[str]:
    """The parts of users' lists that there are, finished or not."""
    return sorted(path.stem for path in attempt.folder.glob("shard-*.parquet"))


def holds(attempt: Attempt, user: str) -> bool:
    """Whether a user has a list in an attempt."""
    return any(rows_of_user(attempt.folder / f"{part}.parquet", user) for part in _shards_of(attempt))


def revised(attempt: Attempt, user: str, *, guard: AbstractContextManager[None]) -> Attempt:
    """A published attempt without a user, in whose place it stands from one moment to the next.

    It is written whole beside the other one first, which is removed last: a kill at any point leaves one that is whole,
    and a rerun finishes.

    Args:
        attempt: An attempt that the journal names; verified first.
        user: The user.
        guard: Context in which the pointer may move.

    Raises:
        IntegrityError: The attempt is damaged.
        TryAgainError: The disk is full or refuses, or another night took over.
    """
    manifest = attempt.verify_published()
    match = _REVISION.fullmatch(attempt.name)
    assert match is not None  # of any text
    new = Attempt(attempt.root, f"{match[1]}-r{int(match[2] or 0) + 1}")
    if new.folder.exists():  # of a run that was killed
        emptied(discard(new.folder))
    _write_without(user, attempt, new)
    parts = {part: read_json(new.folder / f"{part}.json", what="rankings") for part in manifest["parts"]}
    changed = {"parts": parts, FORGOTTEN: manifest.get(FORGOTTEN, 0) + 1}
    write_json({**manifest, **changed}, new.folder / "manifest.json")
    new.replace(attempt, guard=guard)
    emptied(discard(attempt.folder))
    return new


def _write_without(user: str, attempt: Attempt, new: Attempt) -> None:
    """Write all files of an attempt but its manifest again, those of users without one of them."""
    shards = [part for part in _shards_of(attempt) if rows_of_user(attempt.folder / f"{part}.parquet", user)]
    for part in shards:
        new.write(part, read_parquet(attempt.folder / f"{part}.parquet").filter(~is_user(user)))
    for path in sorted(attempt.folder.glob("[!.]*")):
        if path.stem not in {*shards, "manifest"}:
            with atomic_writer(new.folder / path.name) as file:
                file.write(path.read_bytes())
