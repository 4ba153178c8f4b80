"""A data set as a user's own project: plain Parquet files and a `nightrank.yaml` in a folder.

From there on it is treated as a user's own data: the same reader, the same contracts, the same commands.
"""

from datetime import date, timedelta
from pathlib import Path

import polars as pl
import yaml

from features.errors import ConfigError, listed
from pipelines.stores.storage import atomic_writer, read_parquet, write_parquet
from pipelines.verbs.datasets import Dataset, midnight

__all__ = ["write_dataset", "write_day"]

_CONFIG = "nightrank.yaml"
_WHERE = "# All keys, with unit, range and default: pipelines/base/config.py. For one run: --set key.path=value."
_NOTES = {
    "data": "The tables, each held against its contract; paths are relative to this file.",
    "labels": "Which events count as success, and how much.",
    "requests": "What is ranked: whole days of users, or the lists that the log has.",
    "timeline": "The days of the log, counted back from its last: test, validation, the ranker's training.",
    "candidates": "Which items are ranked for a request.",
    "features": "Which features are made, and of which columns.",
    "encoder": "How the encoder is fine-tuned.",
    "ranker": "How the ranker is trained.",
    "night": "What a night publishes.",
    "max_memory_gb": "Memory in GB, without cached files, that training, evaluation and nights may take.",
    "output": "The folder of everything that is written.",
}


def write_dataset(dataset: Dataset, folder: Path, *, until: date | None = None, partitioned: bool = False) -> Path:
    """Write the tables and `nightrank.yaml`, each file whole or not at all, the YAML last.

    Written again with the same arguments it changes nothing, or completes what an interrupted run left. What
    lies in the configuration's `output` folder does not matter.

    Args:
        dataset: What to write. The catalogue is written whole, whatever `until` is.
        folder: Made if it is not there.
        until: The first UTC day that is left out of the events; None keeps all.
        partitioned: A file a UTC day, `events/date=YYYY-MM-DD/events.parquet`, each with `extracted_at`, the
            end of its day; days without events have no file. Else one `events.parquet`.

    Returns:
        The path of `nightrank.yaml`.

    Raises:
        ConfigError: The folder holds other files (a later day too), or one of these with other content; or no
            event is before `until`.
    """
    tables = _tables(dataset, until, partitioned=partitioned)
    text = _yaml_text(dataset, partitioned=partitioned)
    config = folder / _CONFIG
    faults = _strays(dataset, folder, {*tables, _CONFIG})
    faults += [path for path, table in tables.items() if not _may_write(folder / path, table)]
    if config.exists() and config.read_bytes() != text.encode():
        faults.append(_CONFIG)
    if faults:
        raise ConfigError(
            f"{str(folder)!r} already holds {listed(sorted(faults))}, not as {dataset.name} would be "
            "written. Choose an empty folder, or remove them."
        )
    for path, table in tables.items():
        if not (folder / path).exists():
            write_parquet(table, folder / path)
    if not config.exists():
        with atomic_writer(config) as file:
            file.write(text.encode())
    return config


def write_day(dataset: Dataset, folder: Path, day: date) -> Path:
    """Add the extract of one UTC day to a folder that `write_dataset` wrote with `partitioned`.

    A day that is there already, with the same content, is left as it is.

    Returns:
        The path of the day's file.

    Raises:
        ConfigError: The folder is not of this data set or not partitioned, the day is there with other
            content, or nothing happened on that day.
    """
    config = folder / _CONFIG
    lines = config.read_text(encoding="utf-8").splitlines() if config.is_file() else []
    if lines[:1] != [_header(dataset)] or not (folder / "events").is_dir():
        raise ConfigError(
            f"{str(folder)!r} holds no day partitions of {dataset.source}. Write the data set there first."
        )
    path = folder / _day_path(day)
    table = _extract(_between(dataset.events, day, day + timedelta(days=1)), day)
    if table.is_empty():
        first, last = (stamp.date() for stamp in dataset.span)
        raise ConfigError(f"{dataset.name}: no events on {day}; its days run from {first} to {last}.")
    if not _may_write(path, table):
        raise ConfigError(f"{str(path)!r} is there with other content. Remove it to have the day written again.")
    if not path.exists():
        write_parquet(table, path)
    return path


def _tables(dataset: Dataset, until: date | None, *, partitioned: bool) -> dict[str, pl.DataFrame]:
    """Each file's path within the folder, and its content."""
    events = _between(dataset.events, None, until)
    if events.is_empty():
        raise ConfigError(f"{dataset.name}: no event is before {until}; the log begins {dataset.span[0]}.")
    tables = {"items.parquet": dataset.items}
    if dataset.users is not None:
        tables["users.parquet"] = dataset.users
    if dataset.offers is not None:
        tables["offers.parquet"] = dataset.offers
    if not partitioned:
        return tables | {"events.parquet": events}
    days = events.group_by(pl.col("timestamp").dt.date().alias("day"), maintain_order=True)
    return tables | {_day_path(day): _extract(rows, day) for (day,), rows in days if isinstance(day, date)}


def _between(events: pl.DataFrame, first: date | None, end: date | None) -> pl.DataFrame:
    kept = pl.lit(value=True)
    if first is not None:
        kept &= pl.col("timestamp") >= midnight(first)
    if end is not None:
        kept &= pl.col("timestamp") < midnight(end)
    return events.filter(kept)


def _extract(rows: pl.DataFrame, day: date) -> pl.DataFrame:
    """A day's rows as exported when it had ended."""
    ended = pl.lit(midnight(day + timedelta(days=1)), pl.Datetime("us", "UTC"))
    return rows.with_columns(extracted_at=ended)


def _day_path(day: date) -> str:
    return f"events/date={day:%Y-%m-%d}/events.parquet"


def _strays(dataset: Dataset, folder: Path, expected: set[str]) -> list[str]:
    """Files that are neither expected nor output nor a killed writer's leftover; the folder if it is a file."""
    if folder.is_file():
        return [folder.name]
    paths = (path.relative_to(folder) for path in folder.rglob("*") if not path.is_dir())
    return [
        path.as_posix()
        for path in paths
        if path.as_posix() not in expected
        and path.parts[0] != dataset.config["output"]
        and not (path.name.startswith(".") and path.suffix == ".tmp")
    ]


def _may_write(path: Path, table: pl.DataFrame) -> bool:
    """Whether the file is missing or holds just this table."""
    if not path.exists():
        return True
    try:
        there = read_parquet(path)
    except (pl.exceptions.PolarsError, OSError):
        return False
    return there.schema == table.schema and there.equals(table)


def _header(dataset: Dataset) -> str:
    return f"# {dataset.name}: {dataset.source}. Licence: {dataset.licence}."


def _yaml_text(dataset: Dataset, *, partitioned: bool) -> str:
    """The configuration as a person would write it: a comment and a block a section."""
    blocks = [f"{_header(dataset)}\n{_WHERE}\n"]
    for key, value in dataset.config.items():
        content = value
        if key == "data" and partitioned:
            content = value | {"events": value["events"] | {"path": "events"}}
        flow = None if isinstance(content, dict) else False  # lists and innermost mappings on one line
        block = yaml.safe_dump({key: content}, sort_keys=False, default_flow_style=flow, allow_unicode=True, width=110)
        blocks.append(f"# {_NOTES[key]}\n{block}")
    return "\n".join(blocks)
