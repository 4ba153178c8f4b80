"""Hold a table against its contract: good rows go on, bad ones are set aside with the rules they broke.

Whatever is wrong with a whole table (columns missing, ids of a wrong kind) is collected and raised in one
message. Messages name tables, columns, counts and row numbers, never a value: ids and texts stay in the
quarantine.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import dataframely as dy
import polars as pl

from features.errors import ContractError, listed
from features.schemas import Events, Items

__all__ = ["ROW", "RULES", "STRAY", "Checked", "check_references", "check_table", "counted", "enforce"]

ROW = "row"
"""Column of the quarantine that holds the 0-based number of the row in its table."""
RULES = "rules"
"""Column of the quarantine that holds the names of the rules the row broke, comma-separated."""
STRAY = "item_not_in_items"
"""Rule of the events whose item is not in the catalogue."""

_IDS = (pl.String, pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64, pl.Null)
_CLOCKS = (pl.String, pl.Date, pl.Datetime, pl.Null)
_LARGEST_ID = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Checked:
    """A table after its contract.

    Attributes:
        name: The table's name in messages.
        good: Rows that keep the contract, in the order they came: `row` and the contract's columns and
            dtypes.
        bad: Rows set aside, as they came, with `row` (0-based number) and `rules` (names, comma-separated).
        rules: One row a broken rule: `rules` (its name), `rows` (how many broke it), `first` (number of the
            first).
        n_rows: Rows the table came with, exact duplicates included.
        n_duplicates: Rows dropped because an earlier row equals them in every column but `extracted_at`.
        ignored: Columns the contract does not know.
    """

    name: str
    good: pl.DataFrame
    bad: pl.DataFrame
    rules: pl.DataFrame
    n_rows: int
    n_duplicates: int
    ignored: Sequence[str]


def check_table(
    frame: pl.DataFrame,
    schema: type[dy.Schema],
    *,
    name: str,
    required: Sequence[str],
    extra: Mapping[str, dy.Column] | None = None,
    zone: str = "UTC",
) -> Checked:
    """Hold `frame` against `schema`.

    Args:
        frame: The table under our column names; optional columns may be absent, unknown ones are ignored.
        schema: One of `features.schemas`.
        name: How messages call the table.
        required: Columns that must be there.
        extra: Further columns that must be there and are kept (text fields, attributes), with their contract.
        zone: IANA zone of timestamps that carry none.

    Raises:
        ContractError: The table as a whole is unusable; every reason is named.
    """
    full = _widened(schema, extra or {})
    faults = _table_faults(frame, full, [*required, *(extra or {})])
    if faults:
        raise ContractError("\n".join(f"{name}: {fault}" for fault in faults))
    columns = [column for column in frame.columns if column in full.column_names() and column != ROW]
    # NOTE: an event may be exported twice, so when it was exported does not tell two events apart.
    telling = [column for column in columns if column != Events.extracted_at.name]
    unique = frame.select(columns).with_row_index(ROW).unique(telling, keep="first", maintain_order=True)
    absent = [column for column in full.column_names() if column not in unique.columns]
    told = unique.with_columns(pl.lit(None).alias(column) for column in absent)
    table = _read(told, full, zone)
    good, broken = _split(table, full, _unreadable(told, table, full))
    return Checked(
        name=name,
        good=good,
        bad=broken.with_columns(pl.col(RULES).list.join(",")).join(unique, on=ROW, maintain_order="left"),
        rules=counted(broken),
        n_rows=frame.height,
        n_duplicates=frame.height - unique.height,
        ignored=[column for column in frame.columns if column not in columns],
    )


def check_references(items: Checked, events: Checked) -> Checked:
    """Set aside events whose item is not in the catalogue (rule `STRAY`).

    Raises:
        ContractError: The two tables hold ids of different kinds, text here and integers there.
    """
    key = Items.item_id.name
    kinds = items.good.schema[key], events.good.schema[key]
    if set(kinds) == {pl.String, pl.Int64}:
        raise ContractError(
            f"item_id is {kinds[0]} in items and {kinds[1]} in events, so no event would find its item. "
            "Write both as text or both as integers."
        )
    known = pl.col(key).is_in(items.good[key].cast(kinds[1]).implode())
    stray = events.good.filter(~known).with_columns(pl.lit(STRAY).alias(RULES))
    if stray.is_empty():
        return events
    return replace(
        events,
        good=events.good.filter(known),
        bad=pl.concat([events.bad, stray], how="diagonal_relaxed"),
        rules=_ordered(pl.concat([events.rules, counted(stray.select(ROW, pl.concat_list(RULES)))])),
    )


def enforce(tables: Sequence[Checked], max_share: float) -> None:
    """Stop where too many rows were set aside.

    Args:
        tables: All tables of the job.
        max_share: Largest share (0-1) of a table's rows that may be set aside.

    Raises:
        ContractError: Names every table above the share, with the count of each rule.
    """
    faults = []
    for table in tables:
        if table.bad.height / table.n_rows > max_share:
            rules = ", ".join(f"{rule} {n} (first at row {row})" for rule, n, row in table.rules.rows())
            faults.append(f"{table.name}: {table.bad.height} of {table.n_rows} rows break the contract: {rules}.")
    if faults:
        faults.append(
            f"That is above data.quarantine.max_share ({max_share:g}). Mend them upstream, or raise that "
            "share; the rows lie in the quarantine."
        )
        raise ContractError("\n".join(faults))


def _widened(schema: type[dy.Schema], extra: Mapping[str, dy.Column]) -> type[dy.Schema]:
    """The schema with a row number and the columns that the configuration names."""
    members: dict[str, object] = {ROW: dy.UInt32(nullable=False)}
    members |= {f"extra_{i}": extra[name] for i, name in enumerate(extra) if name not in schema.column_names()}
    return type(schema.__name__, (schema,), members)


def _table_faults(frame: pl.DataFrame, schema: type[dy.Schema], required: Sequence[str]) -> list[str]:
    """All that makes the table as a whole unusable."""
    faults = []
    missing = [column for column in required if column not in frame.columns]
    if missing:
        faults.append(
            f"missing {'columns' if len(missing) > 1 else 'column'} {listed(missing, most=50)}; the table "
            f"has {listed(frame.columns, most=20)}. Map your own names under "
            f"data.{schema.__name__.lower()}.columns."
        )
    if frame.is_empty():
        faults.append("the table has no rows.")
    for column, declared in schema.columns().items():
        found = frame.schema.get(column, pl.Null())
        remedy = _remedy(declared, found)
        if remedy is not None and column != ROW:
            faults.append(f"column {column!r} is {found}; write {remedy}.")
        if found == pl.UInt64 and isinstance(declared, dy.Any) and (frame[column] > _LARGEST_ID).any():
            faults.append(f"column {column!r} has integers above {_LARGEST_ID}; write its ids as text.")
    return faults


def _remedy(declared: dy.Column, found: pl.DataType) -> str | None:
    """How to write a column that cannot be read as what is declared; None where it can."""
    if isinstance(declared, dy.Any):
        fits, remedy = found in _IDS, "ids as text or integers"
    elif isinstance(declared, dy.Datetime):
        fits, remedy = found in _CLOCKS, "it as Datetime or as ISO 8601 text"
    elif isinstance(declared, dy.Date):
        # NOTE: a clock with a zone has another date elsewhere, and a number might count from anywhere.
        is_date = found in (pl.Date, pl.String, pl.Null) or (isinstance(found, pl.Datetime) and found.time_zone is None)
        fits, remedy = is_date, "it as Date or as text like 2024-12-31"
    elif isinstance(declared, dy.List):
        fits, remedy = found == pl.Null or found.is_nested(), "a list of numbers in each row"
    elif declared.dtype.is_numeric():
        fits, remedy = found.is_numeric() or found in (pl.String, pl.Null), "it as numbers"
    else:
        fits, remedy = not (found.is_nested() or found in (pl.Binary, pl.Object)), "it as text"
    return None if fits else remedy


def _read(table: pl.DataFrame, schema: type[dy.Schema], zone: str) -> pl.DataFrame:
    """Integer ids as Int64, so that tables join, every clock in microseconds UTC, and every date as such.

    What is no time, not one time in its zone, or no date, becomes null.
    """
    clocks = [_utc(pl.col(name), table.schema[name], zone).alias(name) for name in _named(schema, dy.Datetime)]
    dates = [_date(pl.col(name), table.schema[name]).alias(name) for name in _named(schema, dy.Date)]
    ids = [name for name in _named(schema, dy.Any) if table.schema[name].is_integer()]
    return table.with_columns(*clocks, *dates, pl.col(ids).cast(pl.Int64))


def _named(schema: type[dy.Schema], kind: type[dy.Column]) -> list[str]:
    return [name for name, column in schema.columns().items() if isinstance(column, kind)]


def _unreadable(told: pl.DataFrame, table: pl.DataFrame, schema: type[dy.Schema]) -> pl.DataFrame:
    """`row` and list of rules of the rows with a clock or date that says something, but no time."""
    parts = [pl.DataFrame(schema={ROW: pl.UInt32, RULES: pl.String})]
    for name in (*_named(schema, dy.Datetime), *_named(schema, dy.Date)):
        lost = table.filter(told[name].is_not_null() & table[name].is_null())
        parts.append(lost.select(ROW, pl.lit(f"{name}_unreadable").alias(RULES)))
    return pl.concat(parts).group_by(ROW).agg(RULES)


def _utc(column: pl.Expr, found: pl.DataType, zone: str) -> pl.Expr:
    if found == pl.String:
        # NOTE: or else 01/02/2024 would be read, or not, by what stands in the column's first row.
        iso = column.str.contains(r"^\d{4}-\d\d-\d\d")
        has_zone = column.str.contains(r"(Z|[+-]\d\d:?\d\d)$")
        aware = pl.when(iso & has_zone).then(column).str.to_datetime(time_unit="us", time_zone="UTC", strict=False)
        naive = pl.when(iso & ~has_zone).then(column).str.to_datetime(time_unit="us", strict=False)
        return pl.coalesce(aware, _localized(naive, zone))
    if isinstance(found, pl.Datetime) and found.time_zone is not None:
        return column.dt.convert_time_zone("UTC").dt.cast_time_unit("us")
    return _localized(column.cast(pl.Datetime("us")), zone)


def _date(column: pl.Expr, found: pl.DataType) -> pl.Expr:
    return column.str.to_date("%Y-%m-%d", strict=False) if found == pl.String else column.cast(pl.Date)


def _localized(naive: pl.Expr, zone: str) -> pl.Expr:
    """A local time in UTC; in an hour that the clock change skips or repeats null, so that nobody guesses."""
    return naive.dt.replace_time_zone(zone, ambiguous="null", non_existent="null").dt.convert_time_zone("UTC")


def _split(table: pl.DataFrame, schema: type[dy.Schema], unreadable: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Rows that keep all rules, and for each other row its number and the list of rules it broke."""
    good, failure = schema.filter(table, cast=True)
    details = failure.details()
    broken = [
        pl.when(pl.col(rule) == "invalid").then(pl.lit(rule.replace("|", "_")))
        for rule in details.columns
        if rule not in schema.column_names()
    ]
    others = details.select(ROW, pl.concat_list(broken).list.drop_nulls().alias(RULES))
    return (
        good.join(unreadable, on=ROW, how="anti", maintain_order="left"),
        pl.concat([unreadable, others.join(unreadable, on=ROW, how="anti")]).sort(ROW),
    )


def counted(broken: pl.DataFrame) -> pl.DataFrame:
    """How many rows broke each rule, most first, and the first row that did."""
    counts = broken.explode(RULES).group_by(RULES).agg(rows=pl.len().cast(pl.Int64), first=pl.col(ROW).min())
    return _ordered(counts)


def _ordered(counts: pl.DataFrame) -> pl.DataFrame:
    return counts.sort("rows", RULES, descending=[True, False])
