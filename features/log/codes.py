"""Ids as the positions they have among all ids in order: small integers whose order is that of the ids."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import polars as pl

from features.log.asof import Ints

__all__ = ["UNKNOWN", "Codes", "Numbers"]

UNKNOWN = -1
"""Code of what is none of the ids."""

_TABLE_PER_ID = 16  # a table of all integers between the smallest and the largest is kept up to this size


@dataclass(frozen=True, slots=True)
class Codes:
    """Codes of some ids.

    Attributes:
        ids: The ids, ascending, each once; the code of an id is its position.
        table: Code of each integer from the smallest id to the largest, where ids are integers that lie close
            together.
        compact: Whether the ids are all integers from the smallest to the largest.
    """

    ids: pl.Series
    table: npt.NDArray[np.int64] | None
    compact: bool

    @classmethod
    def of(cls, ids: pl.Series) -> Self:
        """Of ids that are ascending, each once."""
        if ids.dtype == pl.String or ids.is_empty():
            return cls(ids, None, compact=False)
        numbers = ids.cast(pl.Int64).to_numpy()
        width = int(numbers[-1]) - int(numbers[0]) + 1
        if width == len(numbers):
            return cls(ids, None, compact=True)
        if width > _TABLE_PER_ID * len(numbers):
            return cls(ids, None, compact=False)
        table = np.full(width, UNKNOWN, np.int64)
        table[numbers - numbers[0]] = np.arange(len(numbers))
        return cls(ids, table, compact=False)

    def __len__(self) -> int:
        return len(self.ids)

    def code(self, ids: pl.Series) -> Ints:
        """Code of each id, `UNKNOWN` of what is none; text and integers never meet."""
        if self.ids.is_empty() or (self.ids.dtype == pl.String) != (ids.dtype == pl.String):
            return np.full(len(ids), UNKNOWN, np.int64)
        if self.ids.dtype == pl.String:
            codes = ids.cast(pl.Enum(self.ids), strict=False).to_physical()
            return codes.cast(pl.Int64).fill_null(UNKNOWN).to_numpy()
        return self._code_of_integers(ids.cast(pl.Int64).to_numpy())

    def _code_of_integers(self, wanted: Ints) -> Ints:
        low, high = int(self.ids[0]), int(self.ids[-1])
        if self.table is None and not self.compact:
            numbers = self.ids.cast(pl.Int64).to_numpy()
            position = np.minimum(np.searchsorted(numbers, wanted), len(numbers) - 1)
            return np.where(numbers[position] == wanted, position, UNKNOWN)
        inside = (wanted >= low) & (wanted <= high)
        position = wanted - low if inside.all() else np.where(inside, wanted - low, 0)
        codes = position if self.table is None else self.table[position]
        return codes if inside.all() else np.where(inside, codes, UNKNOWN)


@dataclass(slots=True)
class Numbers:
    """Ids and their numbers, in order of appearance."""

    ids: pl.Series

    def number(self, wanted: pl.Series) -> Ints:
        """Number of each id; new ones get the next."""
        if self.ids.is_empty():
            self.ids = self.ids.cast(wanted.dtype)
        distinct = wanted.unique().sort().to_frame("id")
        # NOTE: the few wanted ids are hashed, and not all those numbered before.
        old = pl.DataFrame({"id": self.ids}).with_row_index("number").join(distinct, on="id", how="semi")
        new = distinct.join(old, on="id", how="anti", maintain_order="left").with_row_index("number", len(self.ids))
        self.ids = pl.concat([self.ids, new["id"]])
        joined = wanted.to_frame("id").join(pl.concat([old, new]), on="id", how="left", maintain_order="left")
        return joined["number"].cast(pl.Int64).to_numpy()
