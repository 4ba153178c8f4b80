"""The rows that a version's ranker learned from, kept for the training that goes on from it, and for ablations.

A file of `output`/training is named by its own sha256, which stands in the bundle's manifest: rows are those of the
version, or refused. They hold the user's own ids, since codes are those of one log.
"""

import hashlib
import io
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

import polars as pl

from features.errors import ConfigError, ContractError, IntegrityError
from features.timeline import EventLog
from pipelines.config import Config
from pipelines.storage import atomic_writer

__all__ = ["keep_rows", "kept_rows", "sweep_rows"]

_CODES = {"user": "user_id", "item": "item_id"}
_ABANDONED_SECONDS = 86_400  # a training that is under way names its rows when it is done


def keep_rows(rows: pl.DataFrame, log: EventLog, config: Config) -> str:
    """Keep a ranker's rows; returns the sha256 that they are found by.

    Args:
        rows: `pipelines.train.Labelled.rows` of any number of spans.
        log: The log that gives their codes.
        config: The output folder.

    Raises:
        TryAgainError: The disk is full or refuses.
    """
    buffer = io.BytesIO()
    told = rows.with_columns(user=_ids(log, "user").gather(rows["user"]), item=_ids(log, "item").gather(rows["item"]))
    told.rename(_CODES).write_parquet(buffer, compression="zstd", compression_level=1)
    digest = hashlib.sha256(buffer.getbuffer()).hexdigest()
    with atomic_writer(_folder(config) / f"{digest}.parquet") as file:
        file.write(buffer.getbuffer())
    return digest


def kept_rows(digest: str, log: EventLog, config: Config) -> pl.DataFrame:
    """Rows as `keep_rows` was given them, under today's codes; without users and items that are no longer there.

    Args:
        digest: What `keep_rows` returned.
        log: Today's log.
        config: The output folder; and `data.quarantine.max_share`, the largest share of the rows' positives that the
            log may lack.

    Raises:
        ConfigError: They are not there.
        IntegrityError: They are not what was kept.
        ContractError: The log lacks what they know of it: it is another one.
    """
    path = _folder(config) / f"{digest}.parquet"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"no rows of the earlier training at {path}: they are kept for versions with an alias, in the folder "
            "that they were trained in. Bring the file there, or train from the start (without --continue)."
        ) from error
    if hashlib.sha256(content).hexdigest() != digest:
        raise IntegrityError(f"{path} was altered. Fetch it again, or train from the start (without --continue).")
    rows = pl.read_parquet(io.BytesIO(content))
    asked = _positives(rows)
    for code, name in _CODES.items():
        ids = _ids(log, code).alias(name)
        rows = rows.with_columns(pl.col(name).cast(ids.dtype, strict=False))
        rows = rows.join(ids.to_frame().with_row_index(code), on=name, maintain_order="left")
    order = [{name: code for code, name in _CODES.items()}.get(name, name) for name in pl.read_parquet_schema(path)]
    rows = rows.select(order)
    _refuse_another(rows, asked, log, config)
    return rows


def sweep_rows(needed: Collection[str], config: Config) -> None:
    """Remove the rows of versions that nobody goes on from, a day after they were written.

    Args:
        needed: What `keep_rows` returned for those that stay.
        config: The output folder.
    """
    for path in _folder(config).glob("*.parquet"):
        with suppress(OSError):
            if path.stem not in needed and time.time() - path.stat().st_mtime > _ABANDONED_SECONDS:
                path.unlink()


def _folder(config: Config) -> Path:
    return Path(config.output) / "training"


def _ids(log: EventLog, code: str) -> pl.Series:
    """Ids in the order of their codes."""
    return log.user_ids if code == "user" else log.items["item_id"]


def _positives(rows: pl.DataFrame) -> int:
    return rows.filter(pl.col("label") > 0).height


def _refuse_another(rows: pl.DataFrame, asked: int, log: EventLog, config: Config) -> None:
    """Stop where positives of the rows are no events of the log from their day on."""
    last = log.engaged.group_by("user", "item").agg(pl.col("due").max())
    held = rows.filter(pl.col("label") > 0).join(last, on=["user", "item"])
    gone, limit = asked - held.filter(pl.col("due") >= pl.col("as_of_day")).height, config.data.quarantine.max_share
    if gone > limit * asked:
        raise ContractError(
            f"events: {gone} of the {asked} positives that the earlier training learned from are not in the log, more "
            f"than data.quarantine.max_share ({limit:.0%}). Give the log that it was trained on, grown, or train from "
            "the start (without --continue)."
        )
