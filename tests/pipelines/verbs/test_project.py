import shutil
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from features.errors import ConfigError
from features.shop.simulator import ShopConfig
from pipelines.base.config import load_config
from pipelines.inputs.check import read_inputs
from pipelines.verbs.datasets import Dataset, simulated
from pipelines.verbs.project import write_dataset, write_day


@pytest.fixture(scope="module")
def shop() -> Dataset:
    return simulated(ShopConfig(users=60, items=80, days=16, seed=3))


def at(day: int, hour: int = 0, minute: int = 0) -> datetime:
    return datetime(2024, 3, day, hour, minute, tzinfo=UTC)


@pytest.fixture
def tiny() -> Dataset:
    """Events on 1, 2 and 4 March: the first on a midnight, the last of the second day just before one."""
    events = pl.DataFrame(
        {
            "user_id": ["u1", "u2", "u1", "u1"],
            "item_id": ["a", "b", "b", "a"],
            "timestamp": [at(1), at(2), at(2, 23, 59), at(4, 12)],
            "value": [1.0, 2.0, 3.0, 4.0],
        }
    )
    config = {
        "data": {
            "items": {"path": "items.parquet", "text": ["title"]},
            "events": {"path": "events.parquet", "constants": {"event": "purchase"}},
        },
        "labels": {"gains": {"purchase": 1}},
        "output": "out",
    }
    items = pl.DataFrame({"item_id": ["a", "b"], "title": ["Apple", None]})
    return Dataset("tiny", items, events, None, config, "four hand-written lines", "none")


@pytest.mark.parametrize(("name", "n_days"), [("tiny", 3), ("shop", 16)])
def test_partitions_together_are_the_whole_log(name, n_days, request, tmp_path: Path) -> None:
    dataset: Dataset = request.getfixturevalue(name)
    write_dataset(dataset, tmp_path, partitioned=True)
    days = sorted((tmp_path / "events").iterdir())
    read = [pl.read_parquet(day / "events.parquet", hive_partitioning=False) for day in days]
    assert_frame_equal(pl.concat(read).drop("extracted_at"), dataset.events)
    assert len(days) == n_days  # none of a day without events
    for day, rows in zip(days, read, strict=True):
        opens = datetime.fromisoformat(day.name.removeprefix("date=")).replace(tzinfo=UTC)
        assert rows["extracted_at"].unique().to_list() == [opens + timedelta(days=1)]
        assert rows["timestamp"].is_between(opens, opens + timedelta(days=1), closed="left").all()


def test_until_leaves_out_its_own_day_and_all_later_ones(tiny: Dataset, snapshot, tmp_path: Path) -> None:
    write_dataset(tiny, tmp_path / "days", until=date(2024, 3, 2), partitioned=True)
    write_dataset(tiny, tmp_path / "one", until=date(2024, 3, 2))
    assert set(snapshot(tmp_path / "days")) == {
        "events/date=2024-03-01/events.parquet",
        "items.parquet",
        "nightrank.yaml",
    }
    assert pl.read_parquet(tmp_path / "one" / "events.parquet")["timestamp"].to_list() == [at(1)]
    assert pl.read_parquet(tmp_path / "one" / "items.parquet").height == 2
    with pytest.raises(ConfigError, match="no event is before 2024-03-01"):
        write_dataset(tiny, tmp_path / "none", until=date(2024, 3, 1))
    assert not (tmp_path / "none").exists()


def test_a_day_is_added_exactly_once(tiny: Dataset, snapshot, tmp_path: Path) -> None:
    write_dataset(tiny, tmp_path, until=date(2024, 3, 2), partitioned=True)
    path = write_day(tiny, tmp_path, date(2024, 3, 2))
    assert path == tmp_path / "events" / "date=2024-03-02" / "events.parquet"
    added = pl.read_parquet(path, hive_partitioning=False)
    assert added["timestamp"].to_list() == [at(2), at(2, 23, 59)]
    assert added["extracted_at"].to_list() == [at(3), at(3)]
    before = snapshot(tmp_path)
    assert write_day(tiny, tmp_path, date(2024, 3, 2)) == path
    assert snapshot(tmp_path) == before
    tables = read_inputs(load_config(tmp_path / "nightrank.yaml")).tables
    assert {name: (table.good.height, table.bad.height) for name, table in tables.items()} == {
        "items": (2, 0),
        "events": (3, 0),
    }


def test_all_days_added_one_by_one_make_the_same_folder(tiny: Dataset, snapshot, tmp_path: Path) -> None:
    write_dataset(tiny, tmp_path / "grown", until=date(2024, 3, 2), partitioned=True)
    for day in (date(2024, 3, 4), date(2024, 3, 2)):
        write_day(tiny, tmp_path / "grown", day)
    write_dataset(tiny, tmp_path / "whole", partitioned=True)
    grown, whole = (snapshot(tmp_path / name) for name in ("grown", "whole"))
    assert {path: content for path, (content, _) in grown.items()} == {
        path: content for path, (content, _) in whole.items()
    }


def test_a_day_with_other_content_is_refused(tiny: Dataset, snapshot, tmp_path: Path) -> None:
    write_dataset(tiny, tmp_path, partitioned=True)
    before = snapshot(tmp_path)
    for other in (
        tiny.events.with_columns(value=pl.col("value") + 1),
        tiny.events.with_columns(value=pl.col("value").cast(pl.Int64)),
        tiny.events.head(2),
    ):
        with pytest.raises(ConfigError, match="is there with other content"):
            write_day(replace(tiny, events=other), tmp_path, date(2024, 3, 2))
    assert snapshot(tmp_path) == before


def test_a_day_goes_only_where_its_data_set_is_kept_by_day(tiny: Dataset, tmp_path: Path) -> None:
    write_dataset(tiny, tmp_path / "one")
    write_dataset(replace(tiny, source="another part"), tmp_path / "part", partitioned=True)
    for folder in ("absent", "one", "part"):
        with pytest.raises(ConfigError, match="holds no day partitions of four hand-written lines"):
            write_day(tiny, tmp_path / folder, date(2024, 3, 2))
    write_dataset(tiny, tmp_path / "days", partitioned=True)
    with pytest.raises(ConfigError, match="no events on 2024-03-03; its days run from 2024-03-01 to 2024-03-04"):
        write_day(tiny, tmp_path / "days", date(2024, 3, 3))


def test_a_folder_with_other_files_is_refused_untouched(tiny: Dataset, snapshot, tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "thesis.tex").write_text("years of work")
    before = snapshot(tmp_path)
    with pytest.raises(ConfigError, match=r"already holds 'notes/thesis\.tex', not as tiny would be written"):
        write_dataset(tiny, tmp_path)
    with pytest.raises(ConfigError, match=r"'thesis\.tex'"):
        write_dataset(tiny, tmp_path / "notes" / "thesis.tex")
    assert snapshot(tmp_path) == before


def test_nothing_that_differs_is_overwritten(tiny: Dataset, snapshot, tmp_path: Path) -> None:
    write_dataset(tiny, tmp_path, partitioned=True)
    (tmp_path / "nightrank.yaml").write_text("data: {}\n")
    (tmp_path / "items.parquet").write_bytes(b"PAR1 cut off")
    before = snapshot(tmp_path)
    with pytest.raises(ConfigError, match=r"already holds 'items\.parquet', 'nightrank\.yaml', not as"):
        write_dataset(tiny, tmp_path, partitioned=True)
    with pytest.raises(ConfigError, match=r"'events/date=2024-03-01/events\.parquet'"):
        write_dataset(tiny, tmp_path)
    with pytest.raises(ConfigError, match=r"'events/date=2024-03-04/events\.parquet'"):
        write_dataset(tiny, tmp_path, until=date(2024, 3, 4), partitioned=True)
    assert snapshot(tmp_path) == before


def test_writing_again_changes_nothing_and_completes_what_is_missing(tiny: Dataset, snapshot, tmp_path: Path) -> None:
    path = write_dataset(tiny, tmp_path, partitioned=True)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "report.html").write_text("a run's output")
    before = snapshot(tmp_path)
    assert write_dataset(tiny, tmp_path, partitioned=True) == path
    assert snapshot(tmp_path) == before
    path.unlink()
    shutil.rmtree(tmp_path / "events" / "date=2024-03-04")
    (tmp_path / "events" / "date=2024-03-02" / ".abc.tmp").write_bytes(b"left by a killed writer")
    write_dataset(tiny, tmp_path, partitioned=True)
    completed = {name: content for name, (content, _) in snapshot(tmp_path).items() if not name.endswith(".tmp")}
    assert completed == {name: content for name, (content, _) in before.items()}


def test_the_yaml_reads_as_a_person_would_write_it(shop: Dataset, tmp_path: Path) -> None:
    path = write_dataset(shop, tmp_path, partitioned=True)
    header, *lines = path.read_text(encoding="utf-8").splitlines()
    assert header.startswith(
        "# simulated: features.shop.simulator (seed 3, 60 users, 80 items, 16 days from 2024-01-01)"
    )
    assert lines == [
        "# All keys, with unit, range and default: pipelines/base/config.py. For one run: --set key.path=value.",
        "",
        "# The tables, each held against its contract; paths are relative to this file.",
        "data:",
        "  items:",
        "    path: items.parquet",
        "    text: [title, description]",
        "  events: {path: events}",
        "  users: {path: users.parquet}",
        "",
        "# Which events count as success, and how much.",
        "labels:",
        "  gains: {click: 1, cart: 2, purchase: 3}",
        "",
        "# The days of the log, counted back from its last: test, validation, the ranker's training.",
        "timeline: {test_days: 2, valid_days: 2, ranker_days: 8, min_history_days: 2}",
        "",
        "# The folder of everything that is written.",
        "output: out",
    ]
