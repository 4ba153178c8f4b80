"""Tables written anew, where somebody's own cannot be read as they are: under our names, with times as times.

Nobody's file is altered. What is dropped is counted and said.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime

import polars as pl

from pipelines.setup.files import Table
from pipelines.setup.profile import plain_ids, read_times
from pipelines.setup.roles import Log
from pipelines.setup.words import affinity

__all__ = ["amounts", "converted_events", "converted_items", "described_items", "returns_in"]

_FIT = 0.7
_MOSTLY = 0.95
_CANCELLED = r"^[Cc]\d+$"
_NUMBERED = r"^[A-Za-z]?\d+$"


def amounts(table: Table) -> tuple[str | None, str | None, str | None]:
    """The columns of a log that hold quantity, price a piece, and number of the order; None where there is none."""
    numbers = [column for column in table.columns.values() if column.kind in {"integer", "number"}]
    quantity = _best({column.name: affinity(column.label, "quantity") for column in numbers})
    price = _best({column.name: affinity(column.label, "price") for column in numbers if column.name != quantity})
    orders = {
        name: affinity(column.label, "order") + affinity(column.label, "id")
        for name, column in table.columns.items()
        if column.may_be_id and affinity(column.label, "order") >= _FIT
    }
    return quantity, price, max(orders, key=orders.__getitem__, default=None)


def _best(fits: Mapping[str, float]) -> str | None:
    best = max(fits, key=fits.__getitem__, default=None)
    return best if best is not None and fits[best] >= _FIT else None


def returns_in(table: Table) -> bool:
    """Whether a log of sales holds returns: rows of a quantity below zero, or orders numbered `C...` beside others."""
    quantity, _, order = amounts(table)
    rows = table.sample
    below = quantity is not None and bool((_numbers(rows, quantity) < 0).any())
    numbered = order is not None and float(rows[order].cast(pl.String).str.contains(_NUMBERED).mean() or 0) > _MOSTLY  # type: ignore[arg-type]
    return below or (
        numbered and order is not None and bool(rows[order].cast(pl.String).str.contains(_CANCELLED).any())
    )


def _numbers(rows: pl.DataFrame, name: str) -> pl.Series:
    return rows[name].cast(pl.Float64, strict=False)


def converted_events(
    log: Log, event: str | None, *, constant: str, sales: bool, goods_alone: bool
) -> tuple[pl.DataFrame, list[str]]:
    """The log under our names.

    Args:
        log: The log and its columns.
        event: Column of the event types, if there is one.
        constant: The type of all rows, if there is none.
        sales: Whether it may hold returns, which become events of type `return`; the value is quantity times price.
        goods_alone: Whether ids without a digit among numbered ones (postage, fees) are left out.

    Returns:
        The events, and what was left out, in words.
    """
    table = log.table
    time = table.columns[log.picks["timestamp"].column].times
    assert time is not None
    rows = table.read(table.sample.columns)
    named = {ours: pl.col(pick.column) for ours, pick in log.picks.items() if ours in _KEPT}
    named["event"] = pl.lit(constant) if event is None else pl.col(event).cast(pl.String)
    stamps = read_times(rows[log.picks["timestamp"].column], time).alias("timestamp")
    events = rows.select(
        **named,
        **(_sale_columns(rows, table) if sales else {}),
        timestamp=stamps,
    ).with_columns(pl.Series(name, plain_ids(rows[log.picks[name].column])) for name in ("user_id", "item_id"))
    if sales:
        return _without_strays(_sales(events, constant), goods_alone=goods_alone)
    return _without_strays(events, goods_alone=goods_alone)


_KEPT = ("event_id", "extracted_at", "propensity", "request_id", "position", "value", "query", "text")


def _sale_columns(rows: pl.DataFrame, table: Table) -> dict[str, pl.Series | pl.Expr]:
    quantity, price, order = amounts(table)
    amount_columns: dict[str, pl.Series | pl.Expr] = {
        "quantity": _numbers(rows, quantity) if quantity else pl.lit(None, pl.Float64),
        "price": _numbers(rows, price) if price else pl.lit(None, pl.Float64),
        "order": pl.col(order).cast(pl.String) if order else pl.lit(None, pl.String),
    }
    return amount_columns


def _sales(events: pl.DataFrame, constant: str) -> pl.DataFrame:
    """Sales with their value, and returns as such."""
    back = (pl.col("quantity") < 0) | pl.col("order").str.contains(_CANCELLED)
    money = (pl.col("quantity").abs() * pl.col("price")) if events["price"].count() else pl.lit(None, pl.Float64)
    value = pl.coalesce(money, "value") if "value" in events.columns else money
    return events.with_columns(
        event=pl.when(back.fill_null(value=False)).then(pl.lit("return")).otherwise(pl.lit(constant)),
        value=value.cast(pl.Float64),
        unpaid=(pl.col("price") <= 0).fill_null(value=False),
    ).drop("quantity", "price", "order")


def _without_strays(events: pl.DataFrame, *, goods_alone: bool) -> tuple[pl.DataFrame, list[str]]:
    """Rows with user, item and time; sales with a price, of things that are goods."""
    lacking = {
        "without a user": pl.col("user_id").fill_null("") == "",
        "without an item": pl.col("item_id").fill_null("") == "",
        "without a readable time": pl.col("timestamp").is_null(),
    }
    if "unpaid" in events.columns:
        lacking["without a price above zero"] = pl.col("unpaid")
    digits = pl.col("item_id").str.contains(r"\d")
    if goods_alone and _MOSTLY <= float(events["item_id"].str.contains(r"\d").mean() or 0) < 1:  # type: ignore[arg-type]
        lacking["of no goods (codes without a digit: postage, fees)"] = ~digits.fill_null(value=False)
    dropped = []
    for why, broken in lacking.items():
        kept = events.filter(~broken)
        if kept.height < events.height:
            dropped.append(f"{events.height - kept.height:,} rows {why} are left out")
        events = kept
    return events.drop("unpaid", strict=False).sort("timestamp", maintain_order=True), dropped


def described_items(
    log: Log, columns: Sequence[str], events: pl.DataFrame, *, until: datetime, returned: str
) -> pl.DataFrame:
    """A catalogue of a log that tells of its items itself: the value that most rows of an item carry, ties by alphabet.

    Rows from `until` on count only for items that had none before, so that the test learns nothing of its own days.

    Args:
        log: The log.
        columns: The columns that the item decides.
        events: The log as `converted_events` makes it: only its items are in the catalogue.
        until: When the test begins.
        returned: The event type of returns, whose rows tell nothing.
    """
    table = log.table
    time = table.columns[log.picks["timestamp"].column].times
    assert time is not None
    rows = table.read(table.sample.columns)
    sold = set(events.filter(pl.col("event") != returned)["item_id"].unique())
    quantity, price, _ = amounts(table)
    plain = pl.lit(value=True)
    for number in (quantity, price):
        if number is not None:
            plain &= pl.col(number).cast(pl.Float64, strict=False) > 0
    rows_sold = rows.with_columns(
        plain_ids(rows[log.picks["item_id"].column]).alias("_item"),
        read_times(rows[log.picks["timestamp"].column], time).alias("_at"),
    ).filter(plain, pl.col("_item").is_in(list(sold)), ~pl.col(log.picks["user_id"].column).is_null())
    items = pl.DataFrame({"item_id": sorted(sold)})
    for name in columns:
        text = pl.col(name).cast(pl.String).str.replace_all(r"\s+", " ").str.strip_chars()
        counts = rows_sold.select("_item", "_at", text.alias(name)).drop_nulls(name).filter(pl.col(name) != "")
        ranked = (
            counts.group_by("_item", name)
            .agg(before=(pl.col("_at") < until).sum(), all=pl.len())
            .sort("_item", "before", "all", name, descending=[False, True, True, False])
            .unique("_item", keep="first", maintain_order=True)
        )
        items = items.join(ranked.select(item_id="_item", **{name: name}), on="item_id", how="left")
    return items


def converted_items(table: Table, columns: Mapping[str, str], texts: Sequence[str]) -> pl.DataFrame:
    """A catalogue under our names, with its texts and whatever else has a name of its own.

    Args:
        table: The catalogue.
        columns: Our name: theirs.
        texts: The columns that are read as texts.
    """
    rows = table.read(table.sample.columns)
    named = {ours: pl.col(theirs) for ours, theirs in columns.items()}
    others = [name for name in rows.columns if name not in _OURS and name not in columns.values()]
    kept = list(dict.fromkeys([*others, *(text for text in texts if text not in columns)]))
    frame = rows.select(**named, **{name: pl.col(name) for name in kept if name not in named})
    return frame.with_columns(plain_ids(rows[columns["item_id"]]).alias("item_id"))


_OURS = frozenset(("category", "price", "available_from", "available_until", "item_id"))
