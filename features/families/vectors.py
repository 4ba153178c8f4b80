"""Cosine similarity of vectors that items carry (of an image, a sound, ...) with those of the user's history."""

import numpy as np
import numpy.typing as npt
import polars as pl

from features.errors import ContractError
from features.log.asof import Floats, Ints
from features.log.event_log import EventLog
from features.log.history import History
from features.log.inventory import slugs
from features.signals.family import Columns, Family, Plan, Rows, Values
from features.tables.text import GRID

__all__ = ["VectorMatch", "on_grid"]

_MOST_ITEMS = 100  # latest distinct items of a history that are compared


def on_grid(vectors: pl.Series) -> npt.NDArray[np.float32]:
    """Unit vectors rounded to multiples of 1/GRID, as whole numbers: their float32 dot products are exact.

    Args:
        vectors: One list (or array) of numbers an item, or null.

    Returns:
        (items, width); zero for a null, an empty vector, or one that is not finite.

    Raises:
        ContractError: They differ in length.
    """
    lists = vectors.cast(pl.List(pl.Float64))
    sizes = lists.list.len().fill_null(0)
    widths = sizes.filter(sizes > 0).unique()
    if len(widths) > 1:
        raise ContractError(f"items: vectors in {vectors.name!r} have {len(widths)} lengths. Write vectors of one.")
    width = int(widths[0]) if len(widths) else 1
    matrix = np.zeros((len(vectors), width))
    there = (sizes > 0).to_numpy()
    matrix[there] = lists.filter(sizes > 0).explode().fill_null(np.nan).to_numpy().reshape(-1, width)
    matrix[~np.isfinite(matrix).all(axis=1)] = 0
    norms = np.sqrt((matrix**2).sum(axis=1, keepdims=True))
    return np.round(matrix / np.where(norms > 0, norms, 1) * GRID).astype(np.float32)


class VectorMatch(Family):
    """Cosine of the candidate's vector with those of the history.

    The history are the 100 latest distinct items of the user that have a vector, ties by item code. NaN where the
    candidate has no vector, or no item of the history has one.
    """

    name = "vectors"
    keys = ("user", "item")
    reads = ("user", "item", "gain", "day")
    is_text = True

    def __init__(self, log: EventLog, plan: Plan, column: str | None = None) -> None:
        column = column or plan.config.vectors[0]
        self._prefix = _prefixes(plan)[column]
        self._vectors = on_grid(log.items[column])
        self._has_vector: npt.NDArray[np.bool_] = np.any(self._vectors != 0, axis=1)
        self._log = log

    @classmethod
    def columns_of(cls, plan: Plan) -> Columns:
        """See `Family`."""
        meanings = {
            "nearest": "with the most similar item of the history",
            "mean": "with the items of the history, on average",
            "last": "with the most similar item of the user's last active day",
        }
        return {
            f"{prefix}_{name}": f"cosine of {column} {meaning}"
            for column, prefix in _prefixes(plan).items()
            for name, meaning in meanings.items()
        }

    @classmethod
    def members(cls, log: EventLog, plan: Plan) -> "tuple[VectorMatch, ...]":
        """See `Family`: one for each column."""
        return tuple(cls(log, plan, column) for column in _prefixes(plan))

    def compute(self, rows: Rows) -> Values:
        """See `Family`."""
        values = {f"{self._prefix}_{name}": np.full(len(rows), np.nan) for name in ("nearest", "mean", "last")}
        users, of_row = rows.distinct(("user",))
        history = self._log.only(rows.users).history
        start, end = history.slices(users.user, users.as_of_day)
        order = np.argsort(of_row, kind="stable")
        order = order[self._has_vector[rows.item[order]]]
        user_day = of_row[order]
        edges = np.searchsorted(user_day, np.arange(len(users) + 1))
        for user in np.flatnonzero(np.diff(edges)):
            past, last = self._latest(history, int(start[user]), int(end[user]))
            if len(past):
                of_user = order[edges[user] : edges[user + 1]]
                for name, column in zip(values, self._similar(rows.item[of_user], past, last), strict=True):
                    values[name][of_user] = column
        return values

    def _latest(self, history: History, start: int, end: int) -> tuple[Ints, npt.NDArray[np.bool_]]:
        """The latest distinct items of a slice of the history, and which of them are of its last day."""
        of_items, day, _ = history.taken(slice(start, end))
        item = of_items.astype(np.int64)
        valued = self._has_vector[item]
        item, day = item[valued], day[valued]
        order = np.lexsort((item, -day))
        _, first = np.unique(item[order], return_index=True)
        kept = order[np.sort(first)[:_MOST_ITEMS]]
        latest: npt.NDArray[np.bool_] = np.equal(day[kept], day.max(initial=0))
        return item[kept], latest

    def _similar(self, item: Ints, past: Ints, last: npt.NDArray[np.bool_]) -> tuple[Floats, Floats, Floats]:
        dots = (self._vectors[item] @ self._vectors[past].T).astype(np.int64)
        nearest, latest = dots.max(axis=1), dots[:, last].max(axis=1)
        return nearest / GRID**2, dots.sum(axis=1) / len(past) / GRID**2, latest / GRID**2


def _prefixes(plan: Plan) -> dict[str, str]:
    """What the names of each column's features begin with, for those that hold anything."""
    named = slugs(plan.config.vectors)
    return {column: f"vector_{name}" for column, name in named.items() if plan.inventory.has([f"items.{column}"])}
