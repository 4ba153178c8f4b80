"""Tables that need more than reading: lists of what was shown, in the form of MIND, become a row an item."""

from collections.abc import Sequence
from dataclasses import replace

import polars as pl

from pipelines.setup.files import Table
from pipelines.setup.profile import Column

__all__ = ["SHOWN", "unfolded"]

SHOWN, CLICKED = "impression", "click"
_BEHAVIORS = ("impression_id", "user_id", "time", "history", "impressions")
_NEWS = ("news_id", "category", "subcategory", "title", "abstract", "url", "title_entities", "abstract_entities")
_UNFOLDED = (
    "its lists of what was shown are unfolded: a row for each item, with its position, and one more where "
    "it was clicked"
)


def unfolded(tables: Sequence[Table]) -> list[Table]:
    """The tables, those with labelled lists (`N1-0 N2-1`) as a row for each item that was shown or clicked.

    Where such a table and the one beside it have no header but MIND's number of columns, they have MIND's names.
    """
    lists = {table.name: _list_column(table) for table in tables}
    if not any(lists.values()):
        return list(tables)
    return [_unfolded(table, lists[table.name]) for table in tables]


def _list_column(table: Table) -> str | None:
    return next((name for name, column in table.columns.items() if column.kind == "labelled"), None)


def _unfolded(table: Table, lists: str | None) -> Table:
    names = _BEHAVIORS if lists else _NEWS
    named = dict(zip(table.sample.columns, names, strict=False)) if table.headless and _fits(table, names) else {}
    frame = table.read(table.sample.columns)
    if lists is None:
        return replace(table, sample=frame.rename(named), whole=True, n_rows=frame.height)
    rows = _rows(frame.rename(named), named.get(lists, lists))
    return replace(table, sample=rows, n_rows=rows.height, whole=True, converted=(*table.converted, _UNFOLDED))


def _fits(table: Table, names: Sequence[str]) -> bool:
    return table.sample.width == len(names)


def _rows(frame: pl.DataFrame, lists: str) -> pl.DataFrame:
    """A row for each item that was shown, and one for each that was clicked, with the list's other columns."""
    others = {name: Column(name, frame[name]) for name in frame.columns if name != lists}
    key = next((name for name, column in others.items() if column.distinct_share == column.filled_share == 1), None)
    kept = [name for name, column in others.items() if name != key and (column.may_be_id or column.times is not None)]
    request = pl.col(key) if key else pl.int_range(pl.len()).cast(pl.String)
    shown = (
        frame.select(
            *kept, request.alias("request_id"), pl.col(lists).str.strip_chars().str.split(" ").alias("item_id")
        )
        .with_columns(position=pl.int_ranges(1, pl.col("item_id").list.len() + 1))
        .explode("item_id", "position")
        .with_columns(
            clicked=pl.col("item_id").str.ends_with("-1"), item_id=pl.col("item_id").str.replace(r"-[01]$", "")
        )
    )
    clicked = shown.filter("clicked")
    return pl.concat([shown.with_columns(event=pl.lit(SHOWN)), clicked.with_columns(event=pl.lit(CLICKED))]).drop(
        "clicked"
    )
