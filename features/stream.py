"""Features of any number of rows over a log that is held one part of the users at a time.

What is known of a user, or of a user with an item, lies whole in the part that holds the user. What is known of
an item is the sum over all parts: its families hold nothing but `AsOfIndex`, and these add up. So every part is
seen twice: once for what it adds to the items, once for its rows.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from features.asof import AsOfIndex, Ints
from features.behaviour import FAMILIES, Family, Rows
from features.timeline import EventLog

__all__ = ["PartedFeatures", "distinct_questions", "evaluated", "summed_families"]

_CELLS_PER_ROW = 8  # a table of all keys by all days is cheaper than a sort up to about this size

Columns = list[npt.NDArray[np.float32]]


class PartedFeatures:
    """Families over parts of the users, equal to the bit to the same families over the whole log.

    Args:
        families: Which, in the order of their columns.
    """

    def __init__(self, families: Sequence[type[Family]] = FAMILIES) -> None:
        self._families = tuple(families)
        self._of_items: dict[type[Family], Family] = {}
        self.columns = tuple(name for family in families for name in family.columns)

    def part(self, log: EventLog) -> list[Family]:
        """What a part knows of items; parts may be made side by side.

        Args:
            log: The part: all events of its users, under the codes that all parts share.
        """
        return [family(log) for family in self._families if "user" not in family.keys]

    def absorb(self, part: list[Family]) -> None:
        """Add what `part` made; every part once, in any order, before any `compute`."""
        for built in part:
            known = self._of_items.get(type(built))
            self._of_items[type(built)] = built if known is None else summed_families(known, built)

    def compute(self, log: EventLog, rows: pl.DataFrame) -> pl.DataFrame:
        """Features of rows of the part's users.

        Args:
            log: The part, as it was absorbed.
            rows: user, item, as_of_day; any order.

        Returns:
            One Float32 column a name of `columns`, one row a row of `rows`; NaN where a value is not defined.
        """
        asked = Rows.of(rows)
        values: Columns = []
        for family in self._families:
            values += evaluated(self._of_items[family] if family in self._of_items else family(log), asked)
        return pl.DataFrame(dict(zip(self.columns, values, strict=True)))


def summed_families(one: Family, other: Family) -> Family:
    """The family over the events of two logs that share no user.

    Raises:
        TypeError: It holds state that does not add up: something beside `AsOfIndex`.
    """
    both = object.__new__(type(one))
    for name, state in vars(one).items():
        if not isinstance(state, AsOfIndex):
            msg = f"family {one.name!r} depends on no user and holds {name!r}, which is no AsOfIndex."
            raise TypeError(msg)
        setattr(both, name, state.plus(vars(other)[name]))
    return both


def evaluated(family: Family, rows: Rows) -> Columns:
    """The family's columns: computed once for each distinct question, and given to all rows that ask it."""
    if len(family.keys) > 1:
        return [value.astype(np.float32) for value in family.compute(rows)]
    first, place = distinct_questions(getattr(rows, family.keys[0]), rows.as_of_day)
    asked = Rows(rows.user[first], rows.item[first], rows.as_of_day[first])
    return [value.astype(np.float32)[place] for value in family.compute(asked)]


def distinct_questions(key: Ints, day: Ints) -> tuple[Ints, Ints]:
    """Distinct (key, day), in ascending order.

    Returns:
        Position of a row with each, and which of them each row asks.
    """
    if len(key) == 0:
        return key, key
    n_days = int(day.max()) - int(day.min()) + 1
    cells = (key - key.min()) * n_days + (day - day.min())
    n_cells = int(cells.max()) + 1
    if n_cells > _CELLS_PER_ROW * len(cells):
        _, first, place = np.unique(cells, return_index=True, return_inverse=True)
        return first, place
    row = np.full(n_cells, -1, np.int64)
    row[cells] = np.arange(len(cells))
    asked = np.flatnonzero(row >= 0)
    first = row[asked]
    row[asked] = np.arange(len(asked))
    return first, row[cells]
