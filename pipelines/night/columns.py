"""What the feature columns of a night look like: statistics of a sample of its rows, kept in the attempt's folder.

Bins are those of the nights before, so that the shares of two nights compare.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
from pydantic import TypeAdapter, ValidationError

from features.errors import IntegrityError
from features.families.statistics import ColumnStatistics, column_statistics
from pipelines.base.progress import say
from pipelines.stores.publish import Attempt, published_attempts
from pipelines.stores.storage import read_json, write_json

__all__ = ["ColumnSample", "columns_of"]

COLUMNS = "columns.json"
"""File of an attempt's folder."""
_MOST = 2_000, 20_000
"""Rows that are taken of a portion, and that suffice in all."""
_KEPT = TypeAdapter(dict[str, ColumnStatistics])


class ColumnSample:
    """Some of the rows that a night ranks, drawn at random as they pass by, the same ones of the same portions.

    Args:
        attempt: The night's attempt.
        columns: The columns that the ranker reads.
    """

    def __init__(self, attempt: Attempt, columns: Sequence[str]) -> None:
        self._attempt, self._columns = attempt, list(columns)
        self._parts: list[pl.DataFrame] = []
        self._is_kept = (attempt.folder / COLUMNS).is_file()

    def add(self, rows: pl.DataFrame) -> None:
        """Take some of the rows of a portion, unless there are enough."""
        of_portion, of_all = _MOST
        if not self._is_kept and sum(part.height for part in self._parts) < of_all:
            drawn = np.random.default_rng(rows.height).permutation(rows.height)[:of_portion]
            self._parts.append(rows.select(self._columns)[np.sort(drawn)])

    def keep(self) -> None:
        """Write the statistics, unless they are there or no row passed by."""
        rows = pl.concat(self._parts) if self._parts else pl.DataFrame()
        if self._is_kept or rows.is_empty():
            return
        before = _last_columns(self._attempt)
        kept = {}
        for name in self._columns:
            values = rows[name].cast(pl.Float64).fill_null(np.nan).to_numpy()
            values = np.where(np.isfinite(values), values, np.nan)
            kept[name] = column_statistics(values, edges=before[name].edges if name in before else None)
        columns = {name: column.model_dump(mode="json") for name, column in kept.items()}
        write_json(columns, self._attempt.folder / COLUMNS)
        self._is_kept = True


def columns_of(attempt: Attempt) -> dict[str, ColumnStatistics] | None:
    """The statistics of a night's columns; None where they were not kept, or are not readable, which is said."""
    path = attempt.folder / COLUMNS
    if not path.is_file():
        return None
    try:
        return _KEPT.validate_python(read_json(path, what="columns"))
    except (IntegrityError, ValidationError):
        say("statistics of columns that cannot be read are left out", file=str(path))
        return None


def _last_columns(attempt: Attempt) -> Mapping[str, ColumnStatistics]:
    """Those of the last night before that went live and kept some."""
    earlier = (each for each in published_attempts(attempt.root) if each != attempt and each.day <= attempt.day)
    return next((columns for each in earlier if (columns := columns_of(each)) is not None), {})
