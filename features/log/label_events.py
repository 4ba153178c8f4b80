"""The events that labels and requests are made of: those with a gain, by the day that they make labels for.

Only training and evaluation keep them; a night has the daily counts (`features.log.engagements`) alone.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime

import polars as pl

from features.log.event_parts import OPEN_END, EventParts, Part
from features.tables.frames import LabelRows
from features.tables.schemas import Events

__all__ = ["REQUEST_ID", "LabelEvents", "day_spans", "label_rows"]

REQUEST_ID = Events.request_id.name


@dataclass(frozen=True, eq=False)
class LabelEvents(EventParts):
    """Events whose gain is above 0: `LabelRows`, with `REQUEST_ID` where requests are logged.

    Attributes:
        spans: `DaySpans` of all events, those without a gain too, once or more for each pair of days; what the log's
            ends are read from.
        file_rows: Rows of the largest file that they were read from; 0 where they came from no file.
    """

    spans: pl.DataFrame = field(default_factory=pl.DataFrame)
    file_rows: int = 0

    @classmethod
    def of(cls, single: pl.DataFrame) -> "LabelEvents":
        """Of single events in memory.

        Args:
            single: All events, with the columns of `LabelRows`.
        """
        return cls((Part.of(label_rows(single)),), spans=day_spans(single))

    def between(self, first_day: int, end_day: int) -> pl.DataFrame:
        """The events of the label days ``first_day <= label_day < end_day``.

        Returns:
            The columns of the class, file by file and in each in the order in which they were kept. What is made of
            them must not depend on that order.
        """
        return self.table(first_label_day=first_day, end_label_day=end_day)

    def by_part(self, first_day: int, end_day: int, *columns: str) -> Iterator[pl.DataFrame]:
        """The same, some columns and a file at a time: the whole table is never in memory."""
        return self.frames(*columns, first_label_day=first_day, end_label_day=end_day)

    @property
    def days(self) -> pl.Series:
        """The label days that have an event that counts, ascending."""
        days_of_parts = [frame["label_day"].unique() for frame in self.frames("label_day")]
        return pl.concat([LabelRows.create_empty()["label_day"], *days_of_parts]).unique().sort()

    @property
    def last_day(self) -> int:
        """The last label day of any event."""
        last = self._spans["label_day"].max()
        assert isinstance(last, int)  # the contract refuses an empty table
        return last

    @property
    def ends(self) -> tuple[datetime, datetime]:
        """First and last instant of any event."""
        first, last = self._spans["first"].min(), self._spans["last"].max()
        assert isinstance(first, datetime)  # the contract refuses an empty table
        assert isinstance(last, datetime)
        return first, last

    @property
    def _spans(self) -> pl.DataFrame:
        in_batch = pl.col("day").is_between(self.first_day, self.end_day, closed="left")
        return self.spans if self._is_open else self.spans.filter(in_batch & (pl.col("label_day") < self.end_label_day))

    @property
    def _is_open(self) -> bool:
        return (self.first_day, self.end_day, self.end_label_day) == (0, OPEN_END, OPEN_END)


def label_rows(events: pl.DataFrame) -> pl.DataFrame:
    """The events that have a gain, with the columns that `LabelEvents` keeps."""
    further = [name for name in (REQUEST_ID,) if name in events.columns]
    return events.filter(pl.col("gain") > 0).select(*LabelRows.column_names(), *further)


def day_spans(events: pl.DataFrame) -> pl.DataFrame:
    """`DaySpans` of events, once for each pair of days that they have."""
    stamp = pl.col("timestamp")
    return events.group_by("day", "label_day").agg(first=stamp.min(), last=stamp.max()).sort("day", "label_day")
