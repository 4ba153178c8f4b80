"""The tables that metrics read: what they promise, and how they are cut to bound the memory."""

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
import polars as pl

from features.errors import ContractError

__all__ = [
    "BLOCK_ROWS",
    "KEY",
    "KEY_HASH",
    "MAX_LABEL",
    "block_count",
    "blocks",
    "cutoff_faults",
    "dtype_faults",
    "refuse",
    "table_faults",
]

MAX_LABEL: Final = 30
BLOCK_ROWS: Final = 1 << 24
"""Rows judged at a time: memory stays flat."""

KEY: Final = ["request_id", "item_id"]
KEY_HASH: Final = pl.col("request_id").hash(0) ^ pl.col("item_id").hash(1)
_SCORE: Final = pl.col("score")
_LABEL: Final = pl.col("label").cast(pl.Float64)
_IDS: Final = {name: {f"have no {name}: drop them": pl.col(name).is_null()} for name in KEY}
# What each table promises: its columns and, for each, what is said of the rows that break it.
_CONTRACTS: Final[dict[str, dict[str, dict[str, pl.Expr]]]] = {
    "rankings": _IDS
    | {
        "score": {
            "have no score: drop them, and their items count as not retrieved": _SCORE.is_null(),
            "have a NaN score: it has no place in an order": _SCORE.is_nan(),
            "have an infinite score: clip it, or drop the row": _SCORE.is_infinite(),
        }
    },
    "truth": _IDS
    | {
        "label": {
            "have no label: drop them, or set 0": _LABEL.is_null(),
            "have a NaN label: drop them, or set 0": _LABEL.is_nan(),
            "have a label below 0: the least is 0, no positive": _LABEL < 0,
            "have a label that is not whole: grade in whole steps": _LABEL.is_finite() & (_LABEL % 1 != 0),
            f"have a label above {MAX_LABEL}: lower the grades": _LABEL.is_not_nan() & (_LABEL > MAX_LABEL),
        }
    },
}


def refuse(faults: list[str]) -> None:
    """Raise if there is any fault, naming them all."""
    if faults:
        raise ContractError("\n- ".join(["metrics: the input cannot be judged.", *faults]))


def cutoff_faults(cutoffs: Sequence[int]) -> list[str]:
    """What is wrong with the ranks at which metrics are cut."""
    whole = all(isinstance(k, int | np.integer) and not isinstance(k, bool) and k >= 1 for k in cutoffs)
    if cutoffs and whole and len(set(cutoffs)) == len(cutoffs):
        return []
    return [f"cut-offs are {list(cutoffs)}: give whole numbers from 1 up, none twice"]


def table_faults(name: str, frame: pl.DataFrame) -> list[str]:
    """All faults of one table; what an absent or odd column leaves without meaning is not checked."""
    faults: list[str] = []
    rules: dict[str, pl.Expr] = {}
    sound = set()
    for column, theirs in _CONTRACTS[name].items():
        dtype = frame.schema.get(column, pl.Null())
        wanted = "an integer or String" if column in KEY else "a number"
        if column not in frame.columns:
            faults.append(f"{name}: there is no column {column}")
        elif dtype.is_integer() or (dtype == pl.String if column in KEY else dtype.is_float()):
            sound.add(column)
            rules |= theirs
        else:
            faults.append(f"{name}: {column} is {dtype}: cast it to {wanted}")
    counts = {what: frame.select(rule.sum()).item() for what, rule in rules.items()}
    if sound.issuperset(KEY):
        repeats = sum(map(_repeats, blocks(frame.select(KEY), block_count(frame))))
        counts["repeat a (request_id, item_id): keep one row a pair"] = repeats
    return faults + [f"{name}: {count} of {frame.height} rows {what}" for what, count in counts.items() if count]


def dtype_faults(rankings: pl.DataFrame, truth: pl.DataFrame) -> list[str]:
    """Ids that could never meet."""
    dtypes = {name: (rankings.schema.get(name), truth.schema.get(name)) for name in KEY}
    return [
        f"{name} is {one} in rankings and {other} in truth: cast one to the other"
        for name, (one, other) in dtypes.items()
        if one is not None and other is not None and one != other
    ]


def _repeats(frame: pl.DataFrame) -> int:
    """Count the rows that repeat an earlier row's key. Where all hashes differ, so do the keys."""
    pairs = frame.select(KEY).drop_nulls()
    if pairs.select(KEY_HASH).to_series().n_unique() == pairs.height:
        return 0
    return pairs.height - pairs.unique().height


def block_count(frame: pl.DataFrame) -> int:
    """How many blocks of about `BLOCK_ROWS` rows a table makes."""
    return max(1, -(-frame.height // BLOCK_ROWS))


def blocks(frame: pl.DataFrame, count: int) -> Iterator[pl.DataFrame]:
    """Cut a table into `count` blocks of whole requests, the same in each table, to bound the memory."""
    if count == 1:
        yield frame
        return
    block = (pl.col("request_id").hash() % count).cast(pl.UInt32)
    blocks = frame.lazy().select(block).collect(engine="streaming").to_series()
    for number in range(count):
        yield frame.filter(blocks == number)
