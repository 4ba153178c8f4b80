"""Read all tables at once and check them against their contracts; bad rows go to the quarantine."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from pathlib import Path
from typing import Any

import dataframely as dy
import polars as pl

from features.errors import ContractError, require_columns
from features.families.registry import chosen
from features.log.event_log import Calendar, EventLog, date_of, day_of
from features.tables.clocks import Clock
from features.tables.contracts import (
    ROW,
    RULES,
    Checked,
    check_references,
    check_table,
    enforce,
    refuse_written_twice,
)
from features.tables.dtypes import text_ids, with_text_ids
from features.tables.schemas import Events, Items, Users
from features.tables.text import item_texts
from pipelines.base.config import Config, TableConfig
from pipelines.inputs.event_files import kept_columns
from pipelines.inputs.supplied import with_supplied
from pipelines.inputs.tables import RawTable, read_raw
from pipelines.stores.storage import write_parquet

__all__ = [
    "JOINED_IDS",
    "Inputs",
    "TextField",
    "checked_tables",
    "clock_of",
    "joint_text_ids",
    "raw_tables",
    "read_inputs",
    "refuse_unknown",
    "refuse_unknown_names",
    "set_aside",
    "summary",
    "text_fields",
    "with_joint_ids",
]

_REQUIRED = {
    "items": ("item_id",),
    "events": ("user_id", "item_id", "event", "timestamp"),
    "users": ("user_id",),
}
_FREE_TEXTS = (Events.text.name, Events.query.name)
JOINED_IDS = ("user_id", "item_id")
"""Ids that tables are joined on, and that therefore have one type in all of them."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """All input tables, checked.

    Attributes:
        tables: Result of each table's contract, by table name.
        fingerprints: sha256 of each table's files.
        quarantine: File of the rows set aside, for each table that has any.
        log: Events and catalogue on codes and days.
        left_out: Paths of the files that were not read, by table.
    """

    tables: Mapping[str, Checked]
    fingerprints: Mapping[str, str]
    quarantine: Mapping[str, Path]
    log: EventLog
    left_out: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def span(self) -> tuple[datetime, datetime]:
        """First and last event."""
        return self.log.label_events.ends


@dataclass(frozen=True, slots=True)
class TextField:
    """Measures of a text field under the configured encoder's tokenizer.

    Attributes:
        name: The field.
        filled_share: Share of items that have a text there.
        unknown_share: Share of its tokens that the encoder's vocabulary does not know.
        truncated_share: Share of its texts, cut to the field's own limit, that are longer than `encoder.max_tokens`.
    """

    name: str
    filled_share: float
    unknown_share: float
    truncated_share: float


def read_inputs(config: Config, *, allow_empty: bool = False, write: bool = True) -> Inputs:
    """Read and check all tables, the whole log at once, as `check` and a dry run do: they leave no state behind.

    All other commands read the log file by file (`pipelines.inputs.read`), with the same result.

    Args:
        config: Where they lie and what is allowed.
        allow_empty: Whether partitions without rows are fine.
        write: Whether rows that break the contracts are written to the quarantine.

    Raises:
        ContractError: Every fault of every table in one message.
        IntegrityError: A file is truncated or empty.
        ConfigError: A file is not there, or the configuration names a family or a column that is not.
    """
    raw = raw_tables(config, _REQUIRED, allow_empty=allow_empty)
    refuse_unknown_names(raw, config)
    checked = checked_tables(with_joint_ids(raw, joint_text_ids(raw)), config)
    checked["events"] = check_references(checked["items"], checked["events"])
    quarantine = set_aside(checked, config, write=write)
    users = checked["users"].good if "users" in checked else None
    events = EventLog.build(
        events=checked["events"].good,
        items=checked["items"].good.drop(ROW),
        users=users,
        calendar=Calendar(config.calendar),
        gains=config.labels.gains,
        keep=kept_columns(config),
    )
    refuse_written_twice(events.user_ids, "user_id", tables="events and users")
    log, supplied = with_supplied(events.without_far_days(), config)
    fingerprints = {name: table.fingerprint for name, table in raw.items()} | supplied
    return Inputs(checked, fingerprints, quarantine, log, {name: table.left_out for name, table in raw.items()})


def joint_text_ids(raw: Mapping[str, RawTable]) -> frozenset[str]:
    """Which ids are text in some table, and so in all."""
    return text_ids((table.frame for table in raw.values()), JOINED_IDS)


def with_joint_ids(raw: Mapping[str, RawTable], text: frozenset[str]) -> dict[str, RawTable]:
    """The tables, with some ids as text in all of them."""
    return {name: replace(table, frame=with_text_ids(table.frame, text)) for name, table in raw.items()}


def clock_of(config: Config, table: TableConfig) -> Clock:
    """The clock by which a table's times are read; a date without a time is a day of the calendar."""
    calendar = Calendar(config.calendar)

    def opens(day: date) -> datetime:
        return calendar.cutoff(day_of(day))

    return Clock(config.data.timezone, opens, table.times)


def raw_tables(config: Config, names: Iterable[str], *, allow_empty: bool = False) -> dict[str, RawTable]:
    """Read those of the named tables that are configured; see `pipelines.inputs.tables.read_raw`."""
    configured = {name: getattr(config.data, name) for name in names}
    return {
        name: read_raw(table, name=name, allow_empty=allow_empty)
        for name, table in configured.items()
        if table is not None
    }


def set_aside(checked: Mapping[str, Checked], config: Config, *, write: bool = True) -> dict[str, Path]:
    """Write rows that break the contracts to the quarantine, if `write`; returns the file of each table.

    Raises:
        ContractError: More than `data.quarantine.max_share` of a table.
    """
    folder = Path(config.output) / "quarantine"
    quarantine = {name: folder / f"{name}.parquet" for name, table in checked.items() if table.bad.height and write}
    for name, path in quarantine.items():
        write_parquet(checked[name].bad.sort(ROW, RULES), path)
    enforce(list(checked.values()), config.data.quarantine.max_share, kept=quarantine)
    return quarantine


def text_fields(inputs: Inputs, config: Config) -> list[TextField]:
    """Measure each text field under the configured encoder's tokenizer."""
    from encoders.loading import load_tokenizer
    from encoders.tokenize import statistics

    tokenizer, _ = load_tokenizer(config.encoder.model)
    items = inputs.log.items
    measured = []
    for text_field in config.data.items.text:
        texts = [text for text in item_texts(items, (text_field,)).to_list() if text]
        measures = statistics(texts, tokenizer, max_tokens=config.encoder.max_tokens)
        filled = len(texts) / items.height
        measured.append(TextField(text_field.field, filled, measures.unknown_share, measures.truncated_share))
    return measured


def refuse_unknown(fields: list[TextField], config: Config) -> None:
    """Refuse text fields that the encoder's vocabulary does not cover.

    Raises:
        ContractError: A text field has more unknown tokens than `data.max_unknown_share`.
    """
    limit = config.data.max_unknown_share
    unread = [f"{field.name} ({field.unknown_share:.0%})" for field in fields if field.unknown_share > limit]
    if unread:
        raise ContractError(
            f"items: the encoder's vocabulary does not know the tokens of {', '.join(unread)}; more than "
            f"data.max_unknown_share ({limit:.0%}). Name an encoder of the texts' language under "
            "encoder.model (a multilingual one, say), or leave the field out of data.items.text."
        )


def summary(inputs: Inputs, fields: list[TextField]) -> dict[str, Any]:
    """What `nightrank check` reports, as plain values."""
    first, last = inputs.span
    log = inputs.log
    return {
        "tables": {
            name: {
                "rows": table.n_rows,
                "good": table.n_good,
                "duplicates": table.n_duplicates,
                "quarantined": table.bad.height,
                "rules": dict(zip(table.rules[RULES].to_list(), table.rules["rows"].to_list(), strict=True)),
                "ignored_columns": list(table.ignored),
                "read_as_missing": dict(table.as_missing),
                "texts_cut": dict(table.cut),
                "texts_masked": dict(table.masked),
                "files": len(table.files),
                "files_left_out": list(inputs.left_out.get(name, ())),
            }
            for name, table in inputs.tables.items()
        },
        "users": log.user_ids.len(),
        "items": log.items.height,
        "first_event": first.isoformat(),
        "last_event": last.isoformat(),
        "events": dict(sorted(log.event_counts.items(), key=lambda pair: (-pair[1], pair[0]))),
        "text": {
            field.name: {
                "filled_share": round(field.filled_share, 4),
                "unknown_share": round(field.unknown_share, 4),
                "truncated_share": round(field.truncated_share, 4),
            }
            for field in fields
        },
        "offers": {} if log.offers is None else _kinds(log.offers),
        "quarantine": {name: str(path) for name, path in inputs.quarantine.items()},
    }


def _kinds(offers: pl.DataFrame) -> dict[str, dict[str, Any]]:
    """Number of offers, their items, and the first and last begin, of each kind of offer."""
    first = pl.col("first_day")
    kinds = offers.group_by("offer").agg(
        rows=pl.len(), items=pl.col("item").n_unique(), first=first.min(), last=first.max()
    )
    return {
        kind: {"rows": rows, "items": items, "first": str(date_of(first)), "last": str(date_of(last))}
        for kind, rows, items, first, last in kinds.sort("offer").rows()
    }


def refuse_unknown_names(raw: Mapping[str, RawTable], config: Config) -> None:
    """Refuse families and columns that the configuration names and that are not there.

    Raises:
        ConfigError: Names the nearest family or column.
    """
    settings = config.features
    chosen(settings)
    for table, key, columns in (
        ("items", "features.attributes.items", settings.attributes.items),
        ("items", "features.vectors", settings.vectors),
        ("users", "features.attributes.users", settings.attributes.users),
        ("users", "candidates.segment", config.candidates.segment_columns),
        *((table, "promotion", config.promotion.columns(table)) for table in ("items", "users")),
        ("events", "features.sentiment", settings.sentiment_columns),
        ("events", "requests.context", config.requests.context_columns),
    ):
        if table == "events" and table not in raw:
            continue  # each of its files is held against the contract, which names these columns too
        require_columns(columns, raw[table].frame.columns if table in raw else (), key=key, table=table)


def _extra(name: str, frame: pl.DataFrame, config: Config) -> dict[str, dy.Column]:
    """Contracts of columns that the configuration names: texts, attributes, segment, vectors, sentiment, context."""
    settings = config.features
    attributes = {
        "items": (*settings.attributes.items, *_beside(Items, config.promotion.columns("items"))),
        "users": (
            *settings.attributes.users,
            *config.candidates.segment_columns,
            *_beside(Users, config.promotion.columns("users")),
        ),
        "events": (*settings.sentiment_columns, *config.requests.context_columns),
    }
    extra: dict[str, dy.Column] = {
        column: (
            dy.Float64(nullable=True, alias=column)
            if frame.schema[column].is_numeric()
            else dy.String(nullable=True, alias=column)
        )
        for column in attributes[name]
    }
    if name == "items":
        number = dy.Float64(nullable=True)
        extra |= {column: dy.List(number, nullable=True, alias=column) for column in settings.vectors}
        extra |= {column: dy.String(nullable=True, alias=column) for column in config.data.items.text_fields}
    return extra


def _beside(schema: type[dy.Schema], columns: Sequence[str]) -> list[str]:
    """Columns that a table's own contract does not have."""
    return [column for column in columns if column not in schema.column_names()]


def checked_tables(raw: Mapping[str, RawTable], config: Config) -> dict[str, Checked]:
    """Check every table against its contract; faults of whole tables are raised together."""
    schemas: dict[str, type[dy.Schema]] = {"items": Items, "events": Events, "users": Users}
    checked: dict[str, Checked] = {}
    faults = []
    for name, table in raw.items():
        table_config: TableConfig = getattr(config.data, name)
        try:
            checked_table = check_table(
                table.frame,
                schemas[name],
                name=name,
                required=_REQUIRED[name],
                extra=_extra(name, table.frame, config),
                clock=clock_of(config, table_config),
                free_texts=_FREE_TEXTS if name == "events" and config.data.events.mask_personal else (),
            )
        except ContractError as error:
            faults.append(str(error))
        else:
            ignored = [column for column in checked_table.ignored if column not in table_config.columns.values()]
            checked[name] = replace(checked_table, ignored=ignored, files=table.files)
    if faults:
        raise ContractError("\n".join(faults))
    return checked
