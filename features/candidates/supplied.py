"""Supplied candidates: a table written by another system, checked against its contract and coded by the log."""

from dataclasses import replace

import polars as pl

from features.errors import ContractError
from features.log.event_log import EventLog
from features.tables.contracts import ROW, Checked, check_table, rules_broken
from features.tables.dtypes import dtype_name, ids_like
from features.tables.frames import CodedSupplied
from features.tables.schemas import SuppliedCandidates

__all__ = ["supplied_candidates"]

_NAME = "candidates"


def supplied_candidates(frame: pl.DataFrame, log: EventLog) -> pl.DataFrame:
    """Check a supplied table and code it.

    The key is (user_id, item_id), and `day` where there is one: the batch that the row was made for. A request uses
    its user's rows of the latest day at or before its own. Rows without a day count for all requests, past ones
    included, so a list that was made from the log must carry its day, or it leaks. Without a score, the order of the
    rows counts.

    Args:
        frame: user_id, item_id, and optionally day (a date) and score (higher is better).
        log: The log whose users and items it must name.

    Returns:
        `features.tables.frames.CodedSupplied`.

    Raises:
        ContractError: Columns are missing (a wrong key), rows are duplicated or break a rule, or users or items are
            unknown; all with counts.
    """
    users = log.user_ids.to_frame("user_id").with_row_index("user")
    items = log.items.select("item", "item_id")
    checked = check_table(frame, SuppliedCandidates, name=_NAME, required=("user_id", "item_id"))
    alike = [ids_like(checked.good[key], table.schema[key]) for key, table in (("user_id", users), ("item_id", items))]
    checked = replace(checked, good=checked.good.with_columns(alike))
    faults = _faults(checked, frame, users, items)
    if faults:
        raise ContractError(
            f"{_NAME}: {'; '.join(faults)}. Write one row a user and item (and day), of users and items that the "
            "other tables know."
        )
    coded = (
        checked.good.join(users, on="user_id", maintain_order="left")
        .join(items, on="item_id", maintain_order="left")
        .sort(ROW)
    )
    order = 1.0 / pl.int_range(1, pl.len() + 1).over("user", "day")
    score = pl.col("score") if "score" in frame.columns else order
    return CodedSupplied.cast(coded.with_columns(score=score))


def _faults(checked: Checked, frame: pl.DataFrame, users: pl.DataFrame, items: pl.DataFrame) -> list[str]:
    """Every fault of a table, with counts and the first row."""
    faults = [f"rows break {rule}" for rule in rules_broken(checked)]
    if checked.n_duplicates:
        faults.append(f"{checked.n_duplicates} rows repeat an earlier one")
    unscored = checked.good["score"].null_count() if "score" in frame.columns else 0
    if unscored:
        faults.append(f"{unscored} rows have no score while there is a column of them")
    for key, table in (("user_id", users), ("item_id", items)):
        strange = checked.good.filter(~pl.col(key).is_in(table[key].implode()).fill_null(value=False))
        if not strange.is_empty():
            faults.append(
                f"{strange.height} of {frame.height} rows name unknown {key.removesuffix('_id')}s (first at row "
                f"{strange[ROW][0]}{_kinds(frame[key].dtype, table[key].dtype)})"
            )
    return faults


def _kinds(here: pl.DataType, there: pl.DataType) -> str:
    """What to say of ids of two types, which seldom meet."""
    return "" if here == there else f"; they are {dtype_name(here)} here and {dtype_name(there)} in the log"
