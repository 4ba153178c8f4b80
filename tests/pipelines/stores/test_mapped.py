"""Tables in files: what is read back is what was written, in chunks, and no file stays."""

import errno
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.errors import TryAgainError
from pipelines.stores.mapped import MappedTables, give_back, let_go, list_batches, mapped, mapped_array, picked


@pytest.fixture
def config(tmp_path):
    return SimpleNamespace(output=str(tmp_path / "out"))


def rows(*requests):
    """A row each, of the requests in this order."""
    return pl.DataFrame(
        {"request": requests, "x": [float(at) for at in range(len(requests))], "name": ["é" * 20] * len(requests)},
        schema={"request": pl.UInt32, "x": pl.Float32, "name": pl.String},
    )


def test_tables_come_back_one_after_the_other_and_no_file_stays(config):
    one, other = rows(0, 0, 1), rows(2)
    found = mapped(iter([one, rows(), other]), config)
    assert found.equals(pl.concat([one, other]))
    assert found.schema == one.schema
    assert list(os.scandir(config.output)) == []
    assert mapped([rows()], config).equals(rows())


def files_open() -> int:
    return sum(1 for _ in os.scandir("/proc/self/fd"))


def test_tables_that_are_written_as_they_come_share_one_file(config):
    tables, before = MappedTables(config), files_open()
    frames = [rows(), rows(0, 1), rows(2), rows(), *(rows(n) for n in range(50))]
    for frame in frames:
        tables.add(frame)
    found = tables.read()
    assert [frame.rows() for frame in found] == [frame.rows() for frame in frames]
    assert {str(frame.schema) for frame in found} == {str(rows().schema)}
    assert files_open() == before + 1  # of the mapping
    assert MappedTables(config).read() == []


def test_tables_that_nobody_reads_leave_no_file_open(config):
    before = files_open()
    tables = MappedTables(config)
    tables.add(rows(1))
    del tables
    assert files_open() == before
    assert list(os.scandir(config.output)) == []


def test_rows_lie_in_the_file_and_not_in_memory(config):
    """100 MB that are written and read take a tenth of that of this process's own memory."""
    many = 250_000

    def own() -> int:
        return int(Path("/proc/self/status").read_text("ascii").split("RssAnon:")[1].split()[0]) * 1024

    part = pl.DataFrame({"request": [0] * many}).with_columns(
        pl.lit(1.5, pl.Float32).alias(f"x{at}") for at in range(10)
    )
    before = own()
    found = mapped((part.with_columns(request=pl.lit(at)) for at in range(10)), config)
    assert found.select(pl.all().sum()).row(0) == (many * 45, *[many * 15.0] * 10)
    assert own() - before < 50e6
    assert found.estimated_size() > 100e6


def test_an_array_in_a_file_is_written_and_read_like_any_other(config, monkeypatch):
    array = mapped_array(3, 4, config)
    assert array.shape == (3, 4)
    assert not array.any()
    array[1] = [1, -2, 3, 4]
    assert array.sum() == 6
    assert list(os.scandir(config.output)) == []
    assert mapped_array(0, 4, config).shape == (0, 4)
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    monkeypatch.setattr(os, "posix_fallocate", lambda *_: (_ for _ in ()).throw(full))
    with pytest.raises(TryAgainError, match="No space left"):
        mapped_array(3, 4, config)


def test_pages_that_were_read_are_given_back_and_found_again(config):
    def resident() -> int:
        return int(Path("/proc/self/status").read_text("ascii").split("RssFile:")[1].split()[0]) * 1024

    part = pl.DataFrame({"request": [0] * 1_000_000}).with_columns(pl.lit(1.5, pl.Float32).alias("x"))
    found = mapped((part for _ in range(10)), config)
    array = mapped_array(5_000_000, 2, config)
    array[:] = 3
    assert found["x"].sum() == 15e6
    before = resident()
    let_go()
    assert resident() < before - 50e6
    assert found["x"].sum() == 15e6
    assert (array == 3).all()


def test_freed_memory_is_given_back_to_the_system():
    def taken() -> int:
        return int(Path("/proc/self/status").read_text("ascii").split("RssAnon:")[1].split()[0]) * 1024

    pieces = [np.ones(8_000) for _ in range(4_000)]  # 256 MB, in parts so small that the C library keeps them
    last = pieces[-1]  # above all others, so that none of them lies at the end
    pieces.clear()
    before = taken()
    give_back()
    assert taken() < before - 100e6
    assert last.sum() == 8_000


def test_a_full_disk_is_said_with_the_remedy(config):
    def refusing():
        yield rows(0)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(TryAgainError, match="No space left"):
        mapped(refusing(), config)


@settings(deadline=None)
@given(
    sizes=st.lists(st.integers(1, 9), max_size=12),
    about=st.integers(1, 20),
)
def test_batches_hold_whole_requests_and_no_more_rows_than_asked(sizes, about):
    told = rows(*(request for request, size in enumerate(sizes) for _ in range(size)))
    batches = list(list_batches(told, about=about))
    assert pl.concat(batches).equals(told)
    seen = [set(batch["request"]) for batch in batches]
    assert sum(map(len, seen)) == len(set().union(*seen))
    assert all(batch.height <= about or batch["request"].n_unique() == 1 for batch in batches)


def test_what_is_picked_sees_each_request_whole(config):
    told = rows(*([0] * 70_000), *([1] * 70_000), *([2] * 3))
    found = picked(told, lambda some: some.filter(pl.len().over("request") == 70_000).head(2), config)
    assert found["request"].to_list() == [0, 0, 1, 1]
