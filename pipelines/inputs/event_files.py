"""Spills to disk the single events that training and evaluation need, file by file of the log.

Label events (`features.log.label_events`) and events with more than cells hold (`features.log.raw_events`) lie in
nameless files that are mapped into memory (`pipelines.stores.mapped`): at most one file of the log is in memory at a
time.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import polars as pl

from features.calendar import Calendar
from features.families.registry import reads_of_every_event
from features.log.asof import Ints
from features.log.event_log import graded_on_days
from features.log.event_parts import Part
from features.log.label_events import LabelEvents, day_spans, label_rows
from features.log.raw_events import OPTIONAL, RawEvents, raw_rows
from features.tables.contracts import Checked
from features.tables.frames import RawRows
from pipelines.base.config import Config
from pipelines.stores.mapped import MappedTables

__all__ = ["EventFiles", "kept_columns"]

_PART_ROWS = 200_000  # small files share a part


def kept_columns(config: Config) -> tuple[str, ...]:
    """Columns of single events that the configuration reads, beside `RawRows` and `OPTIONAL`."""
    columns = (*config.features.sentiment_columns, *config.requests.log_columns, *reads_of_every_event(config.features))
    return tuple(dict.fromkeys(columns))


class EventFiles:
    """Collects the single events of files, one after the other.

    Args:
        config: Gains, calendar, what is read, and the folder that the parts lie in.
        labels: Whether labels will be made.

    Attributes:
        as_missing: See `features.tables.contracts.Checked`; of all files.
        cut: See there.
    """

    def __init__(self, config: Config, *, labels: bool = True) -> None:
        self._config = config
        self._calendar = Calendar(config.calendar)
        self._keep = kept_columns(config)
        self._with_labels = labels
        self.forget()

    def forget(self) -> None:
        """Drop all that was added."""
        self.as_missing: Counter[str] = Counter()
        self.cut: Counter[str] = Counter()
        self._label_parts, self._raw_parts = _Parts(self._config), _Parts(self._config)
        self._spans: list[pl.DataFrame] = []
        self._file_rows = 0

    def note(self, checked: Checked) -> None:
        """Count the values that the contract read as missing or cut, and the rows of files."""
        self.as_missing.update(checked.as_missing)
        self.cut.update(checked.cut)
        self._file_rows = max([self._file_rows, *(rows for _, rows in checked.files)])

    def add(self, good: pl.DataFrame, *, user: Ints, item: Ints) -> None:
        """Add the events of a file.

        Args:
            good: The rows that keep the contract.
            user: Number of each one's user.
            item: Code of each one's item, below 0 for none: such rows are left out.
        """
        further = [name for name in dict.fromkeys((*OPTIONAL, *self._keep)) if name in good.columns]
        coded = graded_on_days(good, self._calendar, self._config.labels.gains).with_columns(
            pl.Series("user", user, dtype=RawRows.user.dtype), pl.Series("item", item)
        )
        single = coded.select(*dict.fromkeys((*RawRows.column_names(), "value", *further)))
        single = single.filter(pl.col("item") >= 0).cast({"item": RawRows.item.dtype})
        if self._with_labels:
            self._spans.append(day_spans(single))
            self._label_parts.add(label_rows(single))
        self._raw_parts.add(raw_rows(single, self._keep))

    def labels(self, codes: Ints) -> LabelEvents | None:
        """The label events; None where labels are not wanted.

        Args:
            codes: Code of each user number.
        """
        parts = self._label_parts.all()
        if not self._with_labels or not parts:
            return None
        return LabelEvents(parts, codes.astype(np.uint32), spans=pl.concat(self._spans), file_rows=self._file_rows)

    def raw(self, codes: Ints) -> RawEvents | None:
        """The raw events; None where no column needs them.

        Args:
            codes: See `labels`.
        """
        events = RawEvents.of_parts(self._raw_parts.all(), self._keep)
        return None if events is None else events.coded_by(codes.astype(np.uint32))


class _Parts:
    """Tables of files as parts on disk, small ones together."""

    def __init__(self, config: Config) -> None:
        self._tables = MappedTables(config)
        self._waiting: list[pl.DataFrame] = []
        self._n_waiting = 0

    def add(self, frame: pl.DataFrame) -> None:
        self._waiting.append(frame)
        self._n_waiting += frame.height
        if self._n_waiting >= _PART_ROWS:
            self._write()

    def all(self) -> Sequence[Part]:
        """All that was added, one part at least where anything was; no more may be added."""
        if self._waiting:
            self._write()
        return tuple(Part.of(frame, is_mapped=not frame.is_empty()) for frame in self._tables.read())

    def _write(self) -> None:
        rows = pl.concat(self._waiting)
        self._waiting, self._n_waiting = [], 0
        self._tables.add(rows)
