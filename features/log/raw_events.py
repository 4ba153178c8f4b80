"""Single events with further columns: queries, comments, sentiments, context and logged requests."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import numpy.typing as npt
import polars as pl

from features.log.event_parts import EventParts, Part
from features.tables.frames import RawRows
from features.tables.schemas import Events

__all__ = ["OPTIONAL", "RawEvents", "asks_every_event", "raw_rows"]

OPTIONAL = (Events.query.name, Events.text.name)
"""Columns that are kept of every log that has them."""

_OF_EACH = tuple(RawRows.column_names())


@dataclass(frozen=True, eq=False)
class RawEvents(EventParts):
    """The rows with a value in a further column: `RawRows` with these; see `asks_every_event`.

    Attributes:
        further: The further columns: those of `OPTIONAL` that any row has, and those that the configuration reads.
        is_whole: Whether these are all events of the log.
    """

    further: tuple[str, ...] = ()
    is_whole: bool = False

    @classmethod
    def of(cls, single: pl.DataFrame, keep: Sequence[str]) -> Self | None:
        """Of single events in memory; None where they hold nothing more.

        Args:
            single: All events, with the columns of `RawRows`.
            keep: Further columns that the configuration reads.
        """
        return cls.of_parts([Part.of(raw_rows(single, keep))], keep)

    @classmethod
    def of_parts(cls, parts: Sequence[Part], keep: Sequence[str]) -> Self | None:
        """Of what `raw_rows` kept of each file."""
        if not parts:
            return None
        present = parts[0].frame.columns

        def has_values(name: str) -> bool:
            return any(part.frame[name].null_count() < part.frame.height for part in parts)

        further = [name for name in OPTIONAL if name in present and has_values(name)]
        further += [name for name in keep if name in present and name not in (*OPTIONAL, *_OF_EACH)]
        is_whole = asks_every_event(keep)
        return cls(parts, further=tuple(further), is_whole=is_whole) if further or is_whole else None

    def coded_by(self, codes: npt.NDArray[np.uint32]) -> Self:
        """The same, where numbers of users stand in the parts; see `EventParts.codes`."""
        return replace(self, codes=codes)

    def holding(self, column: str, *others: str) -> pl.DataFrame:
        """The rows that hold something in a column, in any order: `RawRows`, the column, and others."""
        return self.table(*_OF_EACH, *dict.fromkeys((column, *others)), where=pl.col(column).is_not_null())

    def values(self, column: str) -> pl.Series:
        """What stands in a column, without nulls, in any order."""
        return self.table(column, where=pl.col(column).is_not_null())[column]

    def has(self, column: str) -> bool:
        """Whether any row holds something in a column."""
        where = pl.col(column).is_not_null()
        return column in self.further and any(frame.height for frame in self.frames(column, where=where))

    @property
    def rows(self) -> pl.DataFrame:
        """All of them, in any order: `RawRows`, and `further`."""
        return self.table(*_OF_EACH, *self.further)


def asks_every_event(keep: Collection[str]) -> bool:
    """Whether all rows must be kept: some of the columns stand in every event, or describe logged lists."""
    return bool(set(keep) & ({*Events.column_names(), RawRows.label_day.name} - set(OPTIONAL)))


def raw_rows(single: pl.DataFrame, keep: Sequence[str]) -> pl.DataFrame:
    """The rows that `RawEvents` keeps of single events, with the columns that it may need."""
    names = [name for name in dict.fromkeys((*OPTIONAL, *keep)) if name in single.columns and name not in _OF_EACH]
    rows = single.select(*_OF_EACH, *names)
    if asks_every_event(keep):
        return rows
    return rows.filter(pl.any_horizontal(pl.col(name).is_not_null() for name in names)) if names else rows.clear()
