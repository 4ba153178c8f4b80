"""What is kept of a night's feature columns, in the bins of the night before."""

from datetime import date

import numpy as np
import polars as pl
import pytest

from pipelines.night.columns import ColumnSample, columns_of
from pipelines.stores.publish import Attempt


@pytest.fixture
def keep(tmp_path):
    def kept(day, values):
        attempt = Attempt(tmp_path, f"{date(2024, 5, day)}-one")
        attempt.write("shard-00000", pl.DataFrame({"user_id": ["ann"]}))
        attempt.finish(["shard-00000"], {})
        sample = ColumnSample(attempt, ["price"])
        sample.add(pl.DataFrame({"price": np.asarray(values, np.float64), "other": 1}))
        sample.keep()
        attempt.publish()
        return columns_of(attempt)["price"]

    return kept


def test_bins_are_those_of_the_night_before(keep):
    first = keep(1, [1, 2, 3, 4])
    second = keep(2, [1, 1, 1, 9])
    assert first.edges == second.edges == (1, 2, 3, 4)
    assert first.shares == (0.25, 0.25, 0.25, 0.25, 0, 0)
    assert second.shares == (0.75, 0, 0, 0, 0.25, 0)


def test_what_is_not_finite_counts_as_undefined(keep):
    assert keep(1, [1, np.nan, np.inf, -np.inf]).null_share == 0.75


def test_what_was_kept_once_stays(keep, tmp_path):
    keep(1, [1, 2])
    again = ColumnSample(Attempt(tmp_path, "2024-05-01-one"), ["price"])
    again.add(pl.DataFrame({"price": [9.0]}))
    again.keep()
    assert columns_of(Attempt(tmp_path, "2024-05-01-one"))["price"].largest == 2


def test_no_row_and_a_file_that_is_no_such_file_are_no_statistics(tmp_path):
    attempt = Attempt(tmp_path, "2024-05-01-one")
    attempt.write("shard-00000", pl.DataFrame({"user_id": ["ann"]}))
    ColumnSample(attempt, ["price"]).keep()
    assert columns_of(attempt) is None
    (attempt.folder / "columns.json").write_text("[]", encoding="utf-8")
    assert columns_of(attempt) is None


def test_a_large_night_is_sampled_the_same_way_each_time(tmp_path):
    kept = []
    for name in ("one", "two"):
        attempt = Attempt(tmp_path / name, "2024-05-01-one")
        attempt.write("shard-00000", pl.DataFrame({"user_id": ["ann"]}))
        sample = ColumnSample(attempt, ["price"])
        for _ in range(30):
            sample.add(pl.DataFrame({"price": np.arange(10_000.0) % 100}))
        sample.keep()
        kept.append(columns_of(attempt)["price"])
    assert kept[0] == kept[1]
    assert kept[0].rows == 20_000
    assert kept[0].mean == pytest.approx(49.5, abs=1)
