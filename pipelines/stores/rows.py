"""Kept training rows of a version's ranker, for a training that continues it and for ablations.

A file of `output`/training is named by its own sha256, which stands in the bundle's manifest: rows are those of the
version, or refused. They hold the user's own ids, since codes are those of one log.
"""

import os
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import polars as pl
import pyarrow.parquet as pq

from features.errors import ConfigError, ContractError, IntegrityError
from features.log.event_log import EventLog
from features.log.event_parts import OPEN_END
from features.tables.frames import LabelRows
from pipelines.base.config import Config
from pipelines.base.outside import written
from pipelines.stores.mapped import let_go, mapped
from pipelines.stores.storage import read_json, sha256_of, write_json
from pipelines.stores.users import is_user, rows_of_user

__all__ = ["forget_rows", "keep_rows", "kept_rows", "sweep_rows"]

_CODES = {"user": "user_id", "item": "item_id"}
_GROUP_ROWS = 100_000  # of a Parquet row group
_ABANDONED_SECONDS = 86_400  # a training that is under way names its rows when it is done


def keep_rows(rows: pl.DataFrame, log: EventLog, config: Config) -> str:
    """Keep a ranker's rows; returns the sha256 by which `kept_rows` finds them.

    Args:
        rows: `pipelines.training.labelled.Labelled.rows` of any number of spans.
        log: The log that gives their codes.
        config: The output folder.

    Raises:
        TryAgainError: The disk is full or refuses.
    """
    folder, codes = _folder(config), {code: _ids(log, code) for code in _CODES}
    temporary = folder / f".{uuid4().hex}.tmp"
    try:
        with written(folder):
            folder.mkdir(parents=True, exist_ok=True)
            _write(rows, codes, temporary)
        digest = sha256_of(temporary)
        with written(folder):
            temporary.replace(folder / f"{digest}.parquet")
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    return digest


def _write(rows: pl.DataFrame, codes: Mapping[str, pl.Series], path: Path) -> None:
    """Write rows with ids instead of codes, a batch at a time."""
    writer = None
    for start in range(0, max(rows.height, 1), _GROUP_ROWS):
        some = rows.slice(start, _GROUP_ROWS)
        with_ids = some.with_columns(ids.gather(some[code]).alias(code) for code, ids in codes.items()).rename(_CODES)
        table = with_ids.rechunk().to_arrow()
        if writer is None:
            writer = pq.ParquetWriter(path, table.schema, compression="zstd", compression_level=1)
        writer.write_table(table, row_group_size=len(table))
        let_go()
    assert writer is not None  # there is a slice of no rows too
    writer.close()
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def kept_rows(digest: str, log: EventLog, config: Config) -> pl.DataFrame:
    """The rows passed to `keep_rows`, under today's codes; without users and items that are no longer there.

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
        actual = sha256_of(path)
    except OSError as error:
        raise ConfigError(
            f"no rows of the earlier training at {path}: they are kept for versions with an alias, in the folder "
            "that they were trained in. Bring the file there, or train from the start (without --continue)."
        ) from error
    if actual != digest and actual not in _thinned(path):
        raise IntegrityError(f"{path} was altered. Fetch it again, or train from the start (without --continue).")
    n_positives = _positives(pl.scan_parquet(path, glob=False, hive_partitioning=False))
    ids = {code: _ids(log, code).alias(name) for code, name in _CODES.items()}
    rows = mapped((_coded(group, ids) for group in _groups(path)), config)
    _refuse_another(rows, n_positives, log, config)
    return rows


def forget_rows(user: str, config: Config) -> int:
    """Take a user's rows out of all kept ones; returns of how many files.

    A file keeps its name, by which its version finds it. What its content is then stands beside it before it changes,
    so that it is whole at any point.

    Raises:
        TryAgainError: The disk is full or refuses.
    """
    changed = 0
    for path in sorted(_folder(config).glob("[!.]*.parquet")):
        if not rows_of_user(path, user):
            continue
        temporary = path.with_name(f".{uuid4().hex}.tmp")
        try:
            with written(path):
                _thin(path, user, temporary)
            digests = [*_thinned(path), sha256_of(temporary)]
            write_json({"without_forgotten_users": digests}, path.with_suffix(".json"))
            with written(path):
                temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        changed += 1
    return changed


def _thin(path: Path, user: str, to: Path) -> None:
    """Write a file again without a user's rows."""
    with pq.ParquetFile(path) as file:
        schema = file.schema_arrow
    with pq.ParquetWriter(to, schema, compression="zstd", compression_level=1) as writer:
        for group in _groups(path):
            table = group.filter(~is_user(user)).to_arrow().cast(schema)
            writer.write_table(table, row_group_size=max(len(table), 1))
    with to.open("rb+") as opened:
        os.fsync(opened.fileno())


def _thinned(path: Path) -> list[str]:
    """What the content of a file of kept rows may be, since users were taken out of it."""
    beside = path.with_suffix(".json")
    return list(read_json(beside, what="kept rows")["without_forgotten_users"]) if beside.is_file() else []


def _groups(path: Path) -> Iterator[pl.DataFrame]:
    """A file's rows, some at a time."""
    with pq.ParquetFile(path) as file:
        for group in range(max(file.num_row_groups, 1)):
            table = file.read_row_group(group) if file.num_row_groups else file.read()
            rows = pl.from_arrow(table)
            assert isinstance(rows, pl.DataFrame)  # of a table
            yield rows


def _coded(rows: pl.DataFrame, ids: Mapping[str, pl.Series]) -> pl.DataFrame:
    """Rows with codes instead of ids, without those whose ids are no longer in the log."""
    order = [{name: code for code, name in _CODES.items()}.get(name, name) for name in rows.columns]
    for code, id_column in ids.items():
        rows = rows.with_columns(pl.col(id_column.name).cast(id_column.dtype, strict=False))
        rows = rows.join(id_column.to_frame().with_row_index(code), on=id_column.name, maintain_order="left")
    return rows.select(order)


def sweep_rows(needed: Collection[str], config: Config) -> None:
    """Remove the rows that no version needs, a day after they were written.

    Args:
        needed: What `keep_rows` returned for those that stay.
        config: The output folder.
    """
    folder = _folder(config)
    for path in (*folder.glob("*.parquet"), *folder.glob("*.json"), *folder.glob(".*.tmp")):
        with suppress(OSError):
            if path.stem not in needed and time.time() - path.stat().st_mtime > _ABANDONED_SECONDS:
                path.unlink()


def _folder(config: Config) -> Path:
    return Path(config.output) / "training"


def _ids(log: EventLog, code: str) -> pl.Series:
    """Ids in the order of their codes."""
    return log.user_ids if code == "user" else log.items["item_id"]


def _positives(rows: pl.LazyFrame) -> int:
    return int(rows.select((pl.col("label") > 0).sum()).collect().item())


def _refuse_another(rows: pl.DataFrame, n_positives: int, log: EventLog, config: Config) -> None:
    """Refuse rows whose positives are, beyond `max_share`, no events of the log from their day on."""
    positive = rows.lazy().select("user", "item", "as_of_day", "label").filter(pl.col("label") > 0).collect()
    pairs = positive.select("user", "item").unique()
    none = LabelRows.create_empty().select(*pairs.columns, "label_day")
    later = [
        part.join(pairs, on=pairs.columns, how="semi").group_by(pairs.columns).agg(pl.col("label_day").max())
        for part in log.label_events.by_part(0, OPEN_END, *none.columns)
    ]
    last = pl.concat([none, *later]).group_by(pairs.columns).agg(pl.col("label_day").max())
    in_log = positive.join(last, on=pairs.columns)
    gone, limit = (
        n_positives - in_log.filter(pl.col("label_day") >= pl.col("as_of_day")).height,
        config.data.quarantine.max_share,
    )
    if gone > limit * n_positives:
        raise ContractError(
            f"events: {gone} of the {n_positives} positives that the earlier training learned from are not in the "
            f"log, more than data.quarantine.max_share ({limit:.0%}). Give the log that it was trained on, grown, or "
            "train from the start (without --continue)."
        )
