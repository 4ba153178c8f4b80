"""The tables that metrics read and write: what they promise, and how they are cut to bound the memory."""

from collections.abc import Callable, Iterator, Sequence
from typing import Final

import dataframely as dy
import numpy as np
import polars as pl

from features.errors import ContractError
from features.tables.frames import PAIR, Frame
from ranker.ties import Ints, sorted_lists

__all__ = [
    "BLOCK_ROWS",
    "KEY",
    "KEY_HASH",
    "MAX_LABEL",
    "Ceiling",
    "Comparisons",
    "Means",
    "PerRequest",
    "blocks",
    "cutoff_faults",
    "dtype_faults",
    "refuse",
    "stretches",
    "table_faults",
    "together",
    "with_ids",
]

MAX_LABEL: Final = 30
BLOCK_ROWS: Final = 1 << 22
"""Rows judged at a time: memory stays flat."""

KEY: Final = ["request_id", "item_id"]
"""What lists and truth are keyed by, in whatever ids; from `PAIR` by `with_ids`."""
KEY_HASH: Final = pl.col("item_id").hash().cast(pl.UInt32, wrap_numerical=True)
"""Nearly always another one for each key of a request."""
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


class PerRequest(Frame):
    """Metrics of each system by request, in each slice in which the request has a positive; a column a metric."""

    system = dy.String()
    slice = dy.String()
    request = dy.UInt32()
    user = dy.UInt32()


class Means(Frame):
    """Mean of each metric, with its interval clustered by user (NaN over a single user)."""

    system = dy.String()
    slice = dy.String()
    metric = dy.String()
    mean = dy.Float64()
    low = dy.Float64(allow_nan=True)
    high = dy.Float64(allow_nan=True)
    requests = dy.Int64(min=1)
    users = dy.Int64(min=1)


class Comparisons(Frame):
    """Differences of two systems on the same requests, paired."""

    system = dy.String()
    against = dy.String()
    slice = dy.String()
    metric = dy.String()
    difference = dy.Float64()
    """Of `system` less `against`; then its interval, NaN over a single user."""
    low = dy.Float64(allow_nan=True)
    high = dy.Float64(allow_nan=True)
    p_value = dy.Float64(min=0.0, max=1.0)
    wins = dy.Int64(min=0)
    """Requests; then ties and losses."""
    ties = dy.Int64(min=0)
    losses = dy.Int64(min=0)
    detectable = dy.Float64(allow_nan=True)
    """The minimal detectable effect; NaN over a single user."""
    p_holm = dy.Float64(nullable=True, min=0.0, max=1.0)
    """The p-value adjusted for the slices that are judged: those with `detectable` up to `EvaluationConfig.effect`."""


class Ceiling(Frame):
    """Mean share of a request's positives that is among the candidates, by slice; null where none has one."""

    slice = dy.String()
    recall = dy.Float64(nullable=True)


def with_ids(frame: pl.DataFrame) -> pl.DataFrame:
    """A frame of `Pairs` as metrics take it: the pair under the names of `KEY`."""
    return frame.rename(dict(zip(PAIR, KEY, strict=True)))


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
        repeats = sum(_repeats(block) for (block,) in blocks(frame.select(KEY).drop_nulls()))
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
    """Count the rows that repeat an earlier row's key; only lists in which a hash repeats are looked at closely."""
    pairs = together(frame)
    _, start, length = stretches(pairs)
    hashes = sorted_lists(pairs.select(KEY_HASH).to_series().to_numpy(), start, length)
    again = np.flatnonzero(hashes.scores[1:] == hashes.scores[:-1]) + 1
    order = np.argsort(hashes.start)
    whose = order[np.searchsorted(hashes.start[order], again, side="right") - 1]
    suspect = np.zeros(len(start), np.bool_)
    suspect[whose[again > hashes.start[whose]]] = True  # the first of a list repeats nothing
    looked_at = pairs.filter(pl.Series(np.repeat(suspect, length), dtype=pl.Boolean))
    return looked_at.height - looked_at.unique().height


def together(frame: pl.DataFrame) -> pl.DataFrame:
    """A table in which the rows of each request stand together; itself, if they do."""
    runs = frame["request_id"].rle().struct.field("value")
    return frame if runs.n_unique() == len(runs) else frame.sort("request_id")


def stretches(frame: pl.DataFrame) -> tuple[pl.Series, Ints, Ints]:
    """The requests of a table in which their rows stand together, each with its first row and how many it has."""
    runs = frame["request_id"].rle().struct.unnest()
    length = runs["len"].cast(pl.Int64).to_numpy()
    return runs["value"].alias("request_id"), np.cumsum(length) - length, length


def blocks(*frames: pl.DataFrame) -> Iterator[tuple[pl.DataFrame, ...]]:
    """Cut tables, all alike, into blocks of whole requests, about `BLOCK_ROWS` rows of the first, to bound memory."""
    ids = frames[0]["request_id"]
    if len(ids) <= BLOCK_ROWS:
        yield frames
        return
    first = (ids if ids.is_sorted() else ids.sort()).gather_every(BLOCK_ROWS)[1:].unique(maintain_order=True)
    sliced = [_sliced(frame, first) for frame in frames]
    for number in range(len(first) + 1):
        yield tuple(cut(number) for cut in sliced)


def _sliced(frame: pl.DataFrame, first: pl.Series) -> Callable[[int], pl.DataFrame]:
    """Gives each block of a table by its number, the second and later ones beginning at these requests."""
    ids = frame["request_id"]
    if ids.is_sorted():
        cuts = [0, *ids.search_sorted(first), frame.height]
        return lambda number: frame[cuts[number] : cuts[number + 1]]
    block = first.search_sorted(ids, side="right")
    return lambda number: frame.filter(block == number)
