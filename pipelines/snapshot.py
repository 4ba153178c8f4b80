"""Cells of many files added up: what a night starts from, in place of the cells of each file."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Self

import numpy as np
import polars as pl

from features.codes import UNKNOWN, Codes
from features.engagements import Engagements
from pipelines.state import Snapshot, StateStore

__all__ = ["Summed"]


@dataclass(frozen=True, slots=True)
class Summed:
    """A snapshot that was read.

    Attributes:
        record: Its files, and what they hold.
        daily: The cells, without values.
        user_ids: Id of each user code, ascending.
        item_ids: Id of each item code, ascending.
    """

    record: Snapshot
    daily: Engagements
    user_ids: pl.Series
    item_ids: pl.Series

    @classmethod
    def read(
        cls,
        store: StateStore,
        record: Snapshot | None,
        *,
        cells: Collection[str],
        items: Codes,
        seen: pl.Series,
    ) -> Self | None:
        """Read a snapshot if it still tells the truth, which it does not where an item came or went.

        Args:
            store: Where the files are.
            record: The snapshot; None is none.
            cells: `Entry.cells` of the files that there are now.
            items: The catalogue.
            seen: Ids of all items that ever had an event.
        """
        if record is None or not set(record.holds) <= set(cells):
            return None
        held, users, known = (store.get(name) for name in record.files)
        if held is None or users is None or known is None:
            return None
        item_ids = known["id"]
        came = Codes.of(item_ids).code(items.ids) == UNKNOWN
        back = Codes.of(seen.sort()).code(items.ids.filter(pl.Series(came))) != UNKNOWN
        if (items.code(item_ids) == UNKNOWN).any() or back.any():
            return None
        cell, n, worth = (held[name].to_numpy() for name in ("cell", "n", "worth"))
        daily = Engagements(cell, n, len(item_ids), tuple(record.kinds), worth)
        return cls(record, daily, users["id"], item_ids)

    @property
    def active_ids(self) -> pl.Series:
        """Ids of the users with an event."""
        return self.user_ids.gather(np.flatnonzero(self.daily.cells_of_users(len(self.user_ids))))

    def under(self, users: Codes, items: Codes, kinds: tuple[str, ...]) -> Engagements:
        """The cells under the codes of today."""
        return self.daily.recoded(users.code(self.user_ids), items.code(self.item_ids), n_items=len(items), kinds=kinds)

    @staticmethod
    def put(store: StateStore, daily: Engagements, users: Codes, items: Codes, holds: Collection[str]) -> Snapshot:
        """Keep cells that were added up."""
        held = pl.DataFrame({"cell": daily.cells, "n": daily.counts, "worth": daily.worth})
        cells = store.put(held, compression="lz4")
        ids = [store.put(pl.DataFrame({"id": codes.ids})) for codes in (users, items)]
        return Snapshot(cells, ids[0], ids[1], list(daily.kinds), sorted(holds))
