"""The cells of many files added up, so that a night reads one sum instead of the cells of each file."""

from collections.abc import Collection, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, Self, TypeVar

import dataframely as dy
import numpy as np
import numpy.typing as npt
import polars as pl

from features.log.asof import Counts, Ints, narrowed
from features.log.codes import UNKNOWN, Codes
from features.log.engagements import Engagements
from features.tables.frames import Frame
from pipelines.stores.state import Snapshot, StateStore

__all__ = ["FileCells", "Summed", "added_up", "users_with_cells"]

Whole = TypeVar("Whole", bound=np.signedinteger[Any])


class FileCells(Frame):
    """A file's cells: users, items and event types by their numbers, which codes are looked up by."""

    user = dy.UInt32()
    item = dy.UInt32()
    kind = dy.UInt16()
    day = dy.Int32()
    n = dy.UInt32(min=1)
    worth = dy.Int64()
    """Sum of `features.log.packed_values`."""


@dataclass(frozen=True, slots=True)
class Summed:
    """A snapshot that was read.

    Attributes:
        record: Its files, and what they hold.
        daily: The cells.
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
        """Read a snapshot; None if it is damaged, or stale because an item came or went.

        Args:
            store: Where the files are.
            record: The snapshot; None is none.
            cells: `Entry.cells` of the files that there are now.
            items: The catalogue.
            seen: Ids of all items that ever had an event.
        """
        if record is None or not set(record.holds) <= set(cells):
            return None
        summed, users, item_table = (store.get(name) for name in record.files)
        if summed is None or users is None or item_table is None:
            return None
        item_ids = item_table["id"]
        came = Codes.of(item_ids).code(items.ids) == UNKNOWN
        back = Codes.of(seen.sort()).code(items.ids.filter(pl.Series(came))) != UNKNOWN
        if (items.code(item_ids) == UNKNOWN).any() or back.any():
            return None
        cell, n, value_sums = (summed[name].to_numpy() for name in ("cell", "n", "worth"))
        kept_sums = value_sums if value_sums.any() else None
        daily = Engagements(cell, narrowed(n), len(item_ids), tuple(record.kinds), kept_sums)
        return cls(record, daily, users["id"], item_ids)

    @property
    def active_ids(self) -> pl.Series:
        """Ids of the users with an event."""
        return self.user_ids.gather(np.flatnonzero(self.daily.cells_of_users(len(self.user_ids))))

    def under(self, users: Codes, items: Codes, kinds: tuple[str, ...]) -> Engagements:
        """The cells under today's codes."""
        return self.daily.recoded(users.code(self.user_ids), items.code(self.item_ids), n_items=len(items), kinds=kinds)

    @staticmethod
    def put(store: StateStore, daily: Engagements, users: Codes, items: Codes, holds: Collection[str]) -> Snapshot:
        """Keep cells that were added up."""
        value_sums = np.zeros(len(daily.cells), np.int64) if daily.values is None else daily.values
        frame = pl.DataFrame({"cell": daily.cells, "n": daily.counts.astype(np.int64), "worth": value_sums})
        cells = store.put(frame, compression="lz4")
        ids = [store.put(pl.DataFrame({"id": codes.ids})) for codes in (users, items)]
        return Snapshot(cells, ids[0], ids[1], list(daily.kinds), sorted(holds))


def users_with_cells(files: Mapping[str, pl.DataFrame], n_users: int, items: Ints) -> Ints:
    """Numbers of the users that have a cell with an item of the catalogue, ascending.

    Args:
        files: The cells of each file.
        n_users: Users that have a number.
        items: Code of each item number, below 0 for none.
    """
    active = np.zeros(n_users, np.bool_)
    for frame in files.values():
        active[frame["user"].to_numpy()[items[frame["item"].to_numpy()] >= 0]] = True
    return np.flatnonzero(active)


def added_up(
    files: MutableMapping[str, pl.DataFrame], users: Ints, items: Ints, *, n_items: int, kinds: tuple[str, ...]
) -> Engagements:
    """The cells of all files under the codes of today, without those of items that have none.

    Args:
        files: The cells of each file; each goes before the next is packed, so that no two forms of all are held.
        users: Code of each user number.
        items: Code of each item number, below 0 for none.
        n_items: Items of the catalogue.
        kinds: The event types.
    """
    cells, value_sums = ([np.empty(0, np.int64)] for _ in range(2))
    counts: list[Counts] = [np.empty(0, np.int32)]
    while files:
        _, frame = files.popitem()
        number, of_item, kind, day, n, of_cell = (
            frame[name].cast(pl.Int64).to_numpy() for name in FileCells.column_names()
        )
        there = items[of_item] >= 0
        keys = (part[there] for part in (users[number], items[of_item], day, kind))
        cells.append(Engagements.cell(*keys, n_items=n_items, n_kinds=len(kinds)))
        counts.append(narrowed(n[there]))
        value_sums.append(of_cell[there])
    packed = _joined(cells)
    return Engagements.fold(packed, n_items=n_items, kinds=kinds, counts=_joined(counts), values=_joined(value_sums))


def _joined(parts: list[npt.NDArray[Whole]]) -> npt.NDArray[Whole]:
    """One array of several; the list is emptied to free them."""
    whole = np.concatenate(parts)
    parts.clear()
    return whole
