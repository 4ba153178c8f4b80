"""Exit codes of whatever ends a command: known ones for what the world does, a traceback for our own faults."""

import sqlite3

import lightgbm
import polars as pl
import pytest
import sqlalchemy.exc
from mlflow.exceptions import MlflowException

from features.errors import BlockedError
from pipelines.base.endings import ending


def polars_error() -> Exception:
    with pytest.raises(pl.exceptions.PolarsError) as raised:
        pl.Series(["their text"]).cast(pl.Int64)
    return raised.value


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (BlockedError("no"), 11),
        (PermissionError(13, "Permission denied", "/x"), 75),
        (OSError(36, "File name too long"), 2),
        (MemoryError(), 75),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), 75),
        (RuntimeError("No space left on device (os error 28)"), 75),
        (MlflowException("away"), 75),
        (sqlite3.OperationalError("database is locked"), 75),
        (sqlalchemy.exc.OperationalError("select", {}, Exception("gone")), 75),
        (polars_error(), 10),
        (lightgbm.basic.LightGBMError("bad parameter"), 2),
        (KeyboardInterrupt(), 130),
    ],
)
def test_what_the_world_does_ends_with_a_known_code_and_a_sentence(error, code):
    found, told = ending(error)
    assert found == code
    assert "Traceback" not in told
    assert told == "" or told.startswith("nightrank: ")


def test_no_value_of_the_data_is_told():
    assert "their text" not in ending(polars_error())[1]


@pytest.mark.parametrize("error", [KeyError("k"), AssertionError(), TypeError("t"), IndexError("i")])
def test_a_fault_of_our_own_shows_where_it_is_and_ends_with_1(error):
    with pytest.raises(type(error)) as raised:
        raise error
    code, told = ending(raised.value)
    assert code == 1
    assert "Traceback" in told
    assert "a fault of nightrank itself" in told


def test_fault_85_a_message_is_not_interpreted_by_the_terminal():
    told = ending(BlockedError("file \x1b[31m\x9b\u202e of http://u:s3cret@h\nsecond line"))[1]
    assert told == "nightrank: BlockedError\nfile \\x1b[31m\\x9b\\u202e of http://h\nsecond line\n"
