"""The golden tool sees what moved, and takes what is alike for alike."""

import math

import polars as pl
import pytest
from golden import differences, digest_of, drawn, unequal

BEFORE = pl.DataFrame({"item": [1, 2, 3], "score": [0.5, math.nan, -0.0]})


def test_nan_and_zero_have_one_form():
    other_nan = BEFORE["score"].replace(0.5, 0.25) * 2
    alike = pl.Series("score", [0.5, other_nan[1], 0.0])
    assert digest_of(alike) == digest_of(BEFORE["score"])
    assert digest_of(BEFORE["score"].fill_nan(None)) != digest_of(BEFORE["score"])


@pytest.mark.parametrize(
    ("moved", "tolerance", "faults"),
    [
        ({"score": [0.5 * (1 + 1e-7), math.nan, 0.0]}, 0.0, ["score"]),
        ({"score": [0.5 * (1 + 1e-7), math.nan, 0.0]}, 1e-6, []),
        ({"score": [0.5, 0.5, 0.0]}, 1e-6, ["score"]),
        ({"item": [1, 2, 4]}, 1.0, ["item"]),
        ({"item": [1.0, 2.0, 3.0]}, 1.0, ["item"]),
    ],
)
def test_what_moved_is_named(moved, tolerance, faults):
    now = BEFORE.with_columns(**{name: pl.Series(values) for name, values in moved.items()})
    unequal_columns = unequal(now, BEFORE, tolerance=tolerance)
    assert [fault.split(":")[0] for fault in unequal_columns] == faults


def test_rows_columns_and_tables_that_came_or_went_are_named(tmp_path):
    assert unequal(BEFORE.head(2), BEFORE, tolerance=1.0) == ["2 rows and not 3"]
    assert "['more']" in unequal(BEFORE.with_columns(more=1), BEFORE, tolerance=1.0)[0]
    for name, tables in {"now": ("one", "two"), "before": ("two",)}.items():
        (tmp_path / name).mkdir()
        for table in tables:
            BEFORE.write_parquet(tmp_path / name / f"{table}.parquet")
    faults = differences(tmp_path / "now", tmp_path / "before", tolerance=0.0)
    assert faults == ["now: one.parquet is in one run only"]


def test_the_draw_does_not_depend_on_who_else_is_there(shop):
    log = shop(0).log()
    requests = pl.DataFrame({"user": [0, 1, 2, 3, 4], "as_of_day": [9] * 5}).with_columns(request=pl.int_range(5))
    few, many = (set(drawn(requests, log, most)["user"]) for most in (2, 4))
    assert few < many
