import numpy as np
import polars as pl
import pytest

from features.log.codes import Codes
from features.log.engagements import Engagements
from pipelines.stores.snapshot import FileCells, Summed, added_up
from pipelines.stores.state import StateStore

KINDS = ("click", "buy")
DAY = 19_800


def file_of(rows, worth=0):
    user, item, kind, day, n = zip(*rows, strict=True)
    told = {"user": user, "item": item, "kind": kind, "day": day, "n": n, "worth": [worth] * len(rows)}
    return pl.DataFrame(told, schema=FileCells.dtypes())


def cells_of(files):
    return added_up(files, np.arange(3), np.array([0, -1, 1]), n_items=2, kinds=KINDS)


@pytest.mark.parametrize("worth", [0, 1 << 42])
def test_cells_of_files_are_added_up_and_each_file_goes(worth):
    files = {"a": file_of([(2, 0, 0, DAY, 3), (0, 1, 0, DAY, 9)], worth), "b": file_of([(0, 2, 1, DAY, 1)], worth)}
    files["c"] = file_of([(2, 0, 0, DAY, 2**32 - 1)], worth)  # what a file may hold
    found = cells_of(files)
    assert files == {}
    assert found.frame().select("user", "item", "day", "n").rows() == [(0, 1, DAY, 1), (2, 0, DAY, 2**32 + 2)]
    assert (None if found.values is None else found.values.tolist()) == ([worth, 2 * worth] if worth else None)


@pytest.mark.parametrize("worth", [0, 1 << 42])
def test_a_sum_is_kept_in_the_format_that_nights_read(tmp_path, worth):
    store, users, items = StateStore(tmp_path), Codes.of(pl.Series([4, 5, 9])), Codes.of(pl.Series(["x", "y"]))
    cells = cells_of({"a": file_of([(2, 0, 0, DAY, 3), (0, 2, 1, DAY, 1)], worth)})
    record = Summed.put(store, cells, users, items, ["a"])
    held = store.get(record.cells)
    assert held.schema == {"cell": pl.Int64, "n": pl.Int64, "worth": pl.Int64}
    assert held["worth"].to_list() == [worth, worth]
    read = Summed.read(store, record, cells=["a", "b"], items=items, seen=items.ids).daily
    assert read.frame().equals(cells.frame())
    assert (read.counts.dtype, read.nbytes) == (np.int32, cells.nbytes)
    assert isinstance(read, Engagements)
    assert (read.values is None) == (worth == 0)
