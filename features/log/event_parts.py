"""Single events as they are kept beside the cells: a table a file of the log, looked through one at a time.

A part may be mapped from disk: columns that are not read take no memory, and the others are read part by part.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import numpy.typing as npt
import polars as pl

__all__ = ["OPEN_END", "EventParts", "Part"]

OPEN_END = 1 << 17
"""A day after all that there are."""


@dataclass(frozen=True, slots=True)
class Part:
    """The events of a file, or of a few.

    Attributes:
        frame: user, item (codes; see `EventParts.codes`), day (Int32: visible to later batches), label_day (Int32: the
            day it makes labels for), and whatever else is kept.
        days: First and last `day`.
        label_days: First and last `label_day`.
        is_mapped: Whether the rows lie on disk.
    """

    frame: pl.DataFrame
    days: tuple[int, int]
    label_days: tuple[int, int]
    is_mapped: bool = False

    @classmethod
    def of(cls, frame: pl.DataFrame, *, is_mapped: bool = False) -> Self:
        """Of one row or more, or of none."""
        edges = [(frame[name].min(), frame[name].max()) for name in ("day", "label_day")]
        days, label_day = (tuple(int(edge) if isinstance(edge, int) else 0 for edge in pair) for pair in edges)
        return cls(frame, days, label_day, is_mapped)  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False)
class EventParts:
    """Events, file by file.

    Attributes:
        parts: In the order of the files; days of different parts may overlap.
        codes: User code of each number that stands as `user` in the parts; None where codes stand there.
        first_day: First `day` that is looked at.
        end_day: The one after the last.
        end_label_day: The day after the last `label_day` that is looked at.
    """

    parts: Sequence[Part]
    codes: npt.NDArray[np.uint32] | None = None
    first_day: int = 0
    end_day: int = OPEN_END
    end_label_day: int = OPEN_END

    def within(self, first_day: int, last_day: int) -> Self:
        """Those of some days, the first and the last of them included."""
        return replace(self, first_day=max(first_day, self.first_day), end_day=min(last_day + 1, self.end_day))

    def before(self, day: int) -> Self:
        """Those that are visible to the batch of a day."""
        return replace(self, end_day=min(day, self.end_day))

    def until(self, day: int) -> Self:
        """Those that happened before a day opened."""
        return replace(self, end_label_day=min(day, self.end_label_day))

    @property
    def memory_bytes(self) -> int:
        """Bytes of memory that the rows take: none where they lie on disk."""
        return sum(int(part.frame.estimated_size()) for part in self.parts if not part.is_mapped)

    def frames(
        self, *columns: str, first_label_day: int = 0, end_label_day: int = OPEN_END, where: pl.Expr | None = None
    ) -> Iterator[pl.DataFrame]:
        """Some columns of each part with an event of the label days ``first_label_day <= label_day < end_label_day``.

        Args:
            columns: Which; all for none.
            first_label_day: First label day.
            end_label_day: The one after the last.
            where: Which events; None for all.
        """
        first, end = first_label_day, min(end_label_day, self.end_label_day)
        for part in self.parts:
            if part.label_days[1] < first or part.label_days[0] >= end:
                continue
            if part.days[1] < self.first_day or part.days[0] >= self.end_day:
                continue
            wanted = [] if where is None else [where]
            if part.label_days[0] < first or part.label_days[1] >= end:
                wanted.append(pl.col("label_day").is_between(first, end, closed="left"))
            if part.days[0] < self.first_day or part.days[1] >= self.end_day:
                wanted.append(pl.col("day").is_between(self.first_day, self.end_day, closed="left"))
            frame = part.frame.lazy().filter(wanted) if wanted else part.frame.lazy()
            yield self._coded(frame.select(*(columns or part.frame.columns)).collect())

    def _coded(self, frame: pl.DataFrame) -> pl.DataFrame:
        if self.codes is None or "user" not in frame.columns:
            return frame
        return frame.with_columns(pl.Series("user", self.codes[frame["user"].to_numpy()], dtype=pl.UInt32))

    def table(
        self, *columns: str, first_label_day: int = 0, end_label_day: int = OPEN_END, where: pl.Expr | None = None
    ) -> pl.DataFrame:
        """The same as one table, part after part."""
        frames = list(self.frames(*columns, first_label_day=first_label_day, end_label_day=end_label_day, where=where))
        if not frames:
            schema = self.parts[0].frame.clear()
            return schema.select(*(columns or schema.columns))
        return pl.concat(frames, rechunk=False)
