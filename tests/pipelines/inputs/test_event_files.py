"""A training reads the log file by file, and knows what one knows that reads it at once."""

import json
import shutil
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest
import yaml
from same_inputs import assert_all_the_same, assert_same_events

from features.config import FeaturesConfig
from features.errors import ContractError, TryAgainError
from features.families.registry import FAMILIES, reads_of_every_event
from features.log.inventory import FeatureInventory
from features.shop.simulator import ShopConfig
from features.signals.family import Family
from pipelines.base.config import load_config
from pipelines.inputs import folding
from pipelines.inputs.check import read_inputs, summary
from pipelines.inputs.read import read_events, read_night
from pipelines.training.request_source import request_source
from pipelines.verbs.datasets import simulated

N_DAYS = 12


@pytest.fixture(scope="module")
def rich():
    """A small shop with logged lists, queries, values, and comments with a mood."""
    shop = simulated(ShopConfig(users=20, items=30, days=N_DAYS, requests_per_user_per_day=0.7))
    comments = shop.events.filter(pl.col("event") == "purchase").with_columns(
        event=pl.lit("comment"),
        event_id=pl.format("c{}", "event_id"),
        timestamp=pl.col("timestamp") + timedelta(hours=30),  # among the files of later days
        text=pl.lit("so-so, really"),
        mood=pl.lit(0.25),
        value=pl.lit(float("nan")),
    )
    return shop, pl.concat([shop.events.with_columns(mood=pl.lit(None, pl.Float64)), comments], how="diagonal")


@pytest.fixture
def project(rich, tmp_path):
    """Writes the shop, its events cut into some files; returns the configuration."""
    shop, events = rich

    def make(name, *, files, **keys):
        folder = tmp_path / name
        (folder / "events").mkdir(parents=True)
        for table, frame in (("items", shop.items), ("users", shop.users)):
            frame.write_parquet(folder / f"{table}.parquet")
        for number in range(files):
            rows = pl.int_range(pl.len()) * files // pl.len() == number
            events.filter(rows).write_parquet(folder / "events" / f"{number:02}.parquet")
        told = shop.config | {"output": "out", "calendar": {"ingestion_lag_hours": 6.0}, **keys}
        told["data"] = shop.config["data"] | {"events": {**shop.config["data"]["events"], "path": "events"}}
        (folder / "nightrank.yaml").write_text(yaml.safe_dump(told))
        return load_config(folder / "nightrank.yaml")

    return make


def test_a_log_in_one_file_and_in_many_is_the_same_log(project):
    whole, parts = (read_events(project(f"of-{files}", files=files)) for files in (1, 7))
    assert_same_events(whole.log, parts.log)
    keys = ["user", "item", "day", "kind"]
    cells = [inputs.log.cells.frame().cast({"kind": pl.String}).sort(keys) for inputs in (whole, parts)]
    assert cells[0].equals(cells[1])
    told = [summary(inputs, []) for inputs in (whole, parts)]
    assert [facts["tables"]["events"].pop("files") for facts in told] == [1, 7]
    assert told[0] == told[1]


@pytest.mark.parametrize("keys", [{}, {"features": {"sentiment": "mood"}}, {"requests": {"source": "logged"}}])
def test_file_by_file_gives_what_reading_at_once_gives(project, keys, capfd):
    config = project("shop", files=5, **keys)
    full = read_inputs(config)
    for folded in (5, 0):  # the second finds the cells in the state
        capfd.readouterr()
        found = read_events(config)
        (said,) = [line for line in map(json.loads, capfd.readouterr().err.splitlines()) if line["event"] == "state"]
        assert (said["folded"], said["read_again"]) == (folded, 5 - folded)
        assert_all_the_same(found, full)
        assert [kept.memory_bytes for kept in (found.log.labels, found.log.raw)] == [0, 0]
        supplies = [FeatureInventory.of(inputs.log, config.features, context=()) for inputs in (found, full)]
        assert supplies[0] == supplies[1]
        assert "events.query" in supplies[0].inputs
        sources = [request_source(inputs.log, config) for inputs in (found, full)]
        requests = [source.between(0, 99_999) for source in sources]
        assert requests[0].equals(requests[1])
        assert sources[0].truth(requests[0]).equals(sources[1].truth(requests[1]))


def test_columns_of_ones_own_that_are_read_have_a_state_of_their_own(project, capfd):
    """They are held against a contract, so that rows may be set aside for what another configuration does not read."""
    config = project("shop", files=3)
    read_events(config)
    moody = config.model_copy(update={"features": config.features.model_copy(update={"sentiment": "mood"})})
    for reading, folded in ((moody, 3), (moody, 0), (config, 3)):
        capfd.readouterr()
        read_events(reading)
        (said,) = [line for line in map(json.loads, capfd.readouterr().err.splitlines()) if line["event"] == "state"]
        assert said["folded"] == folded


def test_an_event_in_two_files_counts_once(project):
    config = project("shop", files=3)
    first, second = (f"{config.data.events.path}/{number:02}.parquet" for number in range(2))
    pl.concat([pl.read_parquet(second), pl.read_parquet(first)[:9]]).write_parquet(second)
    for _ in range(2):  # folded, and from the state
        found = read_events(config)
        assert found.tables["events"].n_duplicates == 9
        assert_all_the_same(found, read_inputs(config))
    state = Path(config.output) / "state"
    before = (state / "manifest.json").read_bytes()
    shutil.rmtree(state)
    read_night(config)
    assert (state / "manifest.json").read_bytes() == before  # a night would have kept the same


def test_what_breaks_the_contract_is_refused_in_the_same_words(project):
    config = project("shop", files=3)
    for number in (1, 2):
        path = f"{config.data.events.path}/{number:02}.parquet"
        odd = pl.when(pl.int_range(pl.len()) % 3 == number).then(pl.lit("nobody-sells-it")).otherwise("item_id")
        pl.read_parquet(path).with_columns(item_id=odd).write_parquet(path)
    said = []
    for read in (read_inputs, read_events):
        with pytest.raises(ContractError) as raised:
            read(config)
        said.append(str(raised.value))
    assert said[0] == said[1]
    assert "item_not_in_items" in said[0]


def test_a_file_that_changes_between_two_looks_at_it_is_not_mixed_in(project, monkeypatch):
    config = project("shop", files=3)
    read_events(config)
    path = f"{config.data.events.path}/01.parquet"
    known = {file: folding.stat_of(file) for file in (Path(path).parent).glob("*.parquet")}
    monkeypatch.setattr(folding, "stat_of", known.__getitem__)  # it looks as it did, at first
    pl.read_parquet(path)[1:].write_parquet(path)
    with pytest.raises(TryAgainError, match=r"01\.parquet' changed while the log was read"):
        read_events(config)


def test_families_that_read_timestamps_have_every_event_read(monkeypatch):
    class Hours(Family):
        name = "hours"
        keys = ("user",)
        reads = ("user", "timestamp", "gain")
        columns = {"user_hours": "hours"}

    monkeypatch.setitem(FAMILIES, "hours", Hours)
    assert reads_of_every_event(FeaturesConfig(families=("pair", "hours"))) == ("timestamp",)
    assert reads_of_every_event(FeaturesConfig()) == ()  # queries are read where there are any
