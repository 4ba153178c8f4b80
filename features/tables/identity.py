"""The identity of an event in 64 bits, small enough to keep of every event.

Two rows are the same event where they agree in `event_id`, or, without one, in all columns of the contract but
`extracted_at`. Different events meet in 64 bits once in a few hundred million pairs of logs of ten million events; it
costs a full reading of the log, and no wrong number.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import polars as pl

from features.tables.hashing import Hashes, stable_hash
from features.tables.schemas import Events

__all__ = ["Identities"]

_SEPARATOR, _NULL = "\x1f", "\x00"


@dataclass(frozen=True, slots=True)
class Identities:
    """The events of a file.

    Attributes:
        hashes: One an event, ascending, each once.
        low: Smallest event_id: the integer, or the first eight bytes of the text as one. None where some event has
            no event_id.
        high: Largest event_id.
    """

    hashes: Hashes
    low: int | None
    high: int | None

    @classmethod
    def of(cls, events: pl.DataFrame) -> Self:
        """Of rows under the contract's column names, as they came."""
        named = Events.event_id.name
        telling = [
            name for name in Events.column_names() if name in events.columns and name != Events.extracted_at.name
        ]
        ids = events[named] if named in events.columns else pl.Series([None] * events.height, dtype=pl.Int64)
        missing = ids.is_null().to_numpy()
        hashes = np.empty(events.height, np.uint64)
        hashes[~missing] = stable_hash(ids.drop_nulls())
        nameless = events.filter(pl.Series(missing)).select(telling)
        if nameless.height:
            text = pl.concat_str(pl.all().cast(pl.String).fill_null(_NULL), separator=_SEPARATOR)
            hashes[missing] = stable_hash(nameless.select(text).to_series())
        bounds = [_number(ids.min()), _number(ids.max())] if not missing.any() and len(ids) else [None, None]
        return cls(np.unique(hashes), *bounds)

    def may_meet(self, low: int | None, high: int | None) -> bool:
        """Whether a file with these bounds may hold one of the events: not, where ids lie apart."""
        if low is None or high is None or self.low is None or self.high is None:
            return True
        return self.low <= high and low <= self.high

    def met(self, others: Hashes) -> int:
        """How many of the events are among others (ascending)."""
        if not len(others):
            return 0
        position = np.minimum(np.searchsorted(others, self.hashes), len(others) - 1)
        return int((others[position] == self.hashes).sum())


def _number(event_id: object) -> int | None:
    """An integer in the order of the ids (of texts, of their first eight bytes)."""
    if isinstance(event_id, int):
        return event_id
    return int.from_bytes(str(event_id).encode()[:8].ljust(8, b"\0"), "big")
