"""Check a table against its contract: good rows go on, bad ones are set aside with the rules they broke.

Whatever is wrong with a whole table (columns missing, ids of a wrong kind) is collected and raised in one
message. Messages name tables, columns, counts and row numbers, and how a value is written where that tells what is
wrong with it (`99/99/9999`), but never a value: ids and texts stay in the quarantine.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import dataframely as dy
import polars as pl

from features.errors import ContractError, listed
from features.tables.clocks import Clock
from features.tables.dtypes import dtype_name, stacked
from features.tables.reading import (
    ROW,
    RULES,
    plain,
    read_columns,
    remarks,
    remedy,
    unreadable,
    without_personal,
    written_twice,
)
from features.tables.schemas import Events, Items

__all__ = [
    "ROW",
    "RULES",
    "STRAY",
    "Checked",
    "check_references",
    "check_table",
    "counted",
    "enforce",
    "refuse_written_twice",
    "rules_broken",
    "written_otherwise",
]

STRAY = "item_not_in_items"
"""Rule of the events whose item is not in the catalogue."""

_WRITTEN_TWICE = (
    "{} ids in column {!r} end in `.0` beside the same numbers without it, which would be two ids each. Write whole "
    "numbers without `.0`."
)
_SIMILAR = {
    "spaces around them": pl.element().str.strip_chars(),
    "leading zeros": pl.element().str.replace(r"^0+(.)", "${1}"),
    "`.0` at their end": pl.element().str.strip_suffix(".0"),
    "another case": pl.element().str.to_lowercase(),
}
"""How ids of two tables may differ in writing: what to say of it, and what makes them alike."""


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
        remarks: By rule: how its first value is written, and what would be read.
        as_missing: By column: how many NaN were read as missing.
        cut: By column: how many texts are longer than `features.tables.text.MAX_TEXT_CHARS` and were cut to that.
        masked: By column: in how many texts of it personal data were masked, in `good` and `bad`.
        files: Path and number of rows of each file that the table was read from, in order; empty for a frame in memory.
    """

    name: str
    good: pl.DataFrame
    bad: pl.DataFrame
    rules: pl.DataFrame
    n_rows: int
    n_duplicates: int
    ignored: Sequence[str]
    remarks: Mapping[str, str] = field(default_factory=dict)
    as_missing: Mapping[str, int] = field(default_factory=dict)
    cut: Mapping[str, int] = field(default_factory=dict)
    masked: Mapping[str, int] = field(default_factory=dict)
    files: Sequence[tuple[str, int]] = ()

    @property
    def n_good(self) -> int:
        """How many rows keep the contract, also where `good` was not kept."""
        return self.n_rows - self.n_duplicates - self.bad.height

    def where(self, row: int) -> str:
        """A row for a message: its number, and where the table has several files the file that it stands in.

        >>> Checked("items", *(pl.DataFrame() for _ in range(3)), 5, 0, (), files=(("a.csv", 2), ("b.csv", 3))).where(3)
        "row 1 of 'b.csv'"
        """
        if len(self.files) > 1:
            for path, rows in self.files:
                if row < rows:
                    return f"row {row} of {path!r}"
                row -= rows
        return f"row {row}"


def check_table(
    frame: pl.DataFrame,
    schema: type[dy.Schema],
    *,
    name: str,
    required: Sequence[str],
    extra: Mapping[str, dy.Column] | None = None,
    clock: Clock = Clock(),  # noqa: B008 - it is frozen
    free_texts: Collection[str] = (),
) -> Checked:
    """Check `frame` against `schema`.

    A NaN is a missing number, a whole float (`3.0`) an integer, a date without a time its day.

    Args:
        frame: The table under our column names; optional columns may be absent, unknown ones are ignored.
        schema: One of `features.tables.schemas`.
        name: How messages call the table.
        required: Columns that must be there.
        extra: Further columns that must be there and are kept (text fields, attributes), with their contract.
        clock: How times are meant.
        free_texts: Columns of what people wrote, in which e-mail addresses and telephone numbers are masked.

    Raises:
        ContractError: The table as a whole is unusable; every reason is named.
    """
    if ROW in (extra or {}):
        raise ContractError(
            f"{name}: a column {ROW!r} cannot be read: the quarantine calls the number of a row so. Rename it."
        )
    full = _widened(schema, extra or {})
    frame, faults = plain(frame, full)
    faults += _table_faults(frame, full, [*required, *(extra or {})], clock, name)
    if faults:
        raise ContractError("\n".join(f"{name}: {fault}" for fault in faults))
    columns = [column for column in frame.columns if column in full.column_names() and column != ROW]
    # NOTE: an event may be exported twice, so when it was exported does not make two events different.
    telling = [column for column in columns if column != Events.extracted_at.name]
    unique = frame.select(columns).with_row_index(ROW).unique(telling, keep="first", maintain_order=True)
    absent = [column for column in full.column_names() if column not in unique.columns]
    came = unique.with_columns(pl.lit(None).alias(column) for column in absent)
    read = read_columns(came, full, clock, free_texts=free_texts)
    good, broken = _split(read.table, full, unreadable(came, read.table, full))
    rules = counted(broken)
    bad = broken.with_columns(pl.col(RULES).list.join(",")).join(unique, on=ROW, maintain_order="left")
    return Checked(
        name=name,
        good=good,
        bad=bad.with_columns(without_personal(bad[column])[0] for column in free_texts if column in bad.columns),
        rules=rules,
        n_rows=frame.height,
        n_duplicates=frame.height - unique.height,
        ignored=[column for column in frame.columns if column not in columns],
        remarks=remarks(rules, unique, full, clock, table=name),
        as_missing=read.as_missing,
        cut=read.cut,
        masked=read.masked,
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
    in_catalogue = pl.col(key).is_in(items.good[key].cast(kinds[1]).implode())
    stray = events.good.filter(~in_catalogue).with_columns(pl.lit(STRAY).alias(RULES))
    if stray.is_empty():
        return events
    like = written_otherwise(stray[key], items.good[key])
    return replace(
        events,
        good=events.good.filter(in_catalogue),
        bad=stacked([events.bad, stray]),
        rules=_ordered(pl.concat([events.rules, counted(stray.select(ROW, pl.concat_list(RULES)))])),
        remarks={**events.remarks, STRAY: like} if like else events.remarks,
    )


def written_otherwise(stray: pl.Series, catalogue_ids: pl.Series) -> str:
    """How ids that match nothing differ from those that they may mean; empty where nothing is alike."""
    if stray.dtype != pl.String:
        return ""
    likenesses = []
    for what, alike in _SIMILAR.items():
        mine, theirs = (ids.implode().list.eval(alike).explode() for ids in (stray, catalogue_ids))
        count = int(mine.is_in(theirs.implode()).sum())
        if count:
            likenesses.append(f"{count} would match without {what}")
    return "; ".join(likenesses) and f"{'; '.join(likenesses)}: write them alike in both tables"


def enforce(tables: Sequence[Checked], max_share: float, *, kept: Mapping[str, object] | None = None) -> None:
    """Stop where too many rows were set aside.

    Args:
        tables: All tables of the job.
        max_share: Largest share (0-1) of a table's rows that may be set aside.
        kept: By table: where its rows were put.

    Raises:
        ContractError: Names every table above the share, with the count of each rule.
    """
    above = [table for table in tables if table.bad.height / max(table.n_rows, 1) > max_share]
    if not above:
        return
    faults = [
        f"{table.name}: {table.bad.height} of {table.n_rows} rows break the contract: {', '.join(rules_broken(table))}."
        for table in above
    ]
    folders = [str(kept[table.name]) for table in above if kept and table.name in kept]
    lie = f"; the rows lie in {', '.join(folders)}" if folders else ""
    faults.append(
        f"That is above data.quarantine.max_share ({max_share:g}). Mend them upstream, or raise that share{lie}."
    )
    raise ContractError("\n".join(faults))


def rules_broken(table: Checked) -> list[str]:
    """Each rule that rows broke, for a message: how many did, which was the first, and how that is written."""
    lines = []
    for rule, rows, first in table.rules.rows():
        remark = f": {table.remarks[rule]}" if rule in table.remarks else ""
        lines.append(f"{rule} {rows} (first at {table.where(first)}{remark})")
    return lines


def refuse_written_twice(ids: pl.Series, column: str, *, tables: str) -> None:
    """Stop where ids of several files or tables are the same number, once with `.0` and once without.

    Args:
        ids: All of them.
        column: What their column is called, for the message.
        tables: Where they stand, for the message.

    Raises:
        ContractError: Some are; says how many.
    """
    if twice := written_twice(ids):
        raise ContractError(f"{tables}: {_WRITTEN_TWICE.format(twice, column)}")


def _widened(schema: type[dy.Schema], extra: Mapping[str, dy.Column]) -> type[dy.Schema]:
    """The schema with a row number and the columns that the configuration names."""
    members: dict[str, object] = {ROW: dy.UInt32(nullable=False)}
    members |= {f"extra_{i}": extra[name] for i, name in enumerate(extra) if name not in schema.column_names()}
    return type(schema.__name__, (schema,), members)


def _table_faults(
    frame: pl.DataFrame, schema: type[dy.Schema], required: Sequence[str], clock: Clock, name: str
) -> list[str]:
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
        if column == ROW or column not in frame.columns:
            continue
        wanted = remedy(declared, frame[column], clock, table=name)
        if wanted is not None:
            faults.append(f"column {column!r} is {dtype_name(frame.schema[column])}; write {wanted}.")
        elif isinstance(declared, dy.Any) and (twice := written_twice(frame[column])):
            faults.append(_WRITTEN_TWICE.format(twice, column))
    return faults


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
