"""`data.candidates` as its owner uses it: a table beside the log in training, and a fresh one at night."""

import json
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from pipelines.inputs import supplied
from pipelines.inputs.tables import read_raw
from pipelines.registry.bundle import load_bundle
from pipelines.stores.publish import published

PLACE = "candidates.parquet"


@pytest.fixture
def readings(monkeypatch):
    """The name of each table that is read by `pipelines.inputs.supplied`, as it is read."""
    names = []

    def counted(table, *, name, **told):
        names.append(name)
        return read_raw(table, name=name, **told)

    monkeypatch.setattr(supplied, "read_raw", counted)
    return names


@pytest.fixture(scope="module")
def foretold(shop_project, tmp_path_factory):
    """The shop, with a table that names for each user and day what they will engage with on that very day."""
    project = shop_project.copy(tmp_path_factory.mktemp("foretold") / "project")
    gains = project.config.labels.gains
    events = project.dataset.events.filter(
        pl.col("event").is_in(list(gains)), pl.col("timestamp").dt.date() < project.day
    )
    told = events.select("user_id", "item_id", day=pl.col("timestamp").dt.date()).unique()
    told.sort("user_id", "item_id", "day").write_parquet(project.folder / PLACE)
    project.change(
        data={"candidates": {"path": PLACE}},
        # What follows, a night reads by day.
        candidates={"segment": "segment", "popular_in_segment": 20, "by_query": 0},
        features={"families": ["user", "item", "pair", "request"]},
        night={"audits": {"scores": "off", "items_shown": "off"}},  # nights of one day are made to differ
    )
    return project


def tonight(project, place):
    """Three items for each user, of each third of the catalogue another `place`; and the table that says so."""
    items = project.dataset.items["item_id"].sort()
    picked = [items[place + third * (len(items) // 3)] for third in range(3)]
    users = project.dataset.users.select("user_id").sort("user_id")
    table = users.join(pl.DataFrame({"item_id": picked}), how="cross").with_columns(day=pl.lit(project.day))
    return picked, table


def share_on_top(project, picked):
    """Share of the users whose list starts with these items, in whatever order."""
    live = published(Path(project.config.output) / "rankings")
    top = live.rankings().filter(pl.col("rank") <= len(picked)).group_by("user_id").agg(pl.col("item_id").sort())
    return (top["item_id"].list.join(",") == ",".join(sorted(picked))).mean()


@pytest.mark.slow
def test_a_supplied_table_is_learned_from_and_a_fresh_one_ranked_each_night(foretold, command, readings):
    trained = command(foretold, "train")
    assert trained.code == 0
    assert readings == ["candidates"]  # once a run
    bundle = load_bundle(Path(trained.facts["bundle"]))
    assert {"supplied_rank", "popular_in_segment_rank"} <= set(bundle.ranker.features)
    folder = Path(foretold.config.output) / "evaluations" / Path(trained.facts["bundle"]).name
    recall = pl.DataFrame(json.loads((folder / "recall.json").read_text())["candidates"])
    of_all = recall.filter(pl.col("slice") == "all", pl.col("k") == recall["k"].max())
    found = dict(of_all.select("source", "recall").rows())
    assert found["supplied"] == 1
    assert 0 < found["popular_in_segment"] < 1
    assert (folder / "recall.png").read_bytes().startswith(b"\x89PNG")
    assert command(foretold, "promote").code == 0

    attempts = set()
    for place in (3, 11):
        picked, table = tonight(foretold, place)
        table.write_parquet(foretold.folder / PLACE)
        readings.clear()
        night = command(foretold, "score", "--date", str(foretold.day))
        assert (night.code, readings) == (0, ["candidates"])
        (state,) = [json.loads(line) for line in night.err.splitlines() if '"state"' in line]
        assert state.get("used", True)
        assert share_on_top(foretold, picked) > 0.9
        again = command(foretold, "score", "--date", str(foretold.day))
        assert (again.facts["attempt"], again.facts["shards_written"]) == (night.facts["attempt"], 0)
        attempts.add(night.facts["attempt"])
    assert len(attempts) == 2

    late = table.with_columns(day=pl.lit(foretold.day + timedelta(days=1)))
    late.write_parquet(foretold.folder / PLACE)  # made for a later night: not known tonight
    assert command(foretold, "score", "--date", str(foretold.day)).code == 0
    assert share_on_top(foretold, picked) < 0.1

    before = published(Path(foretold.config.output) / "rankings").attempt.folder
    table.with_columns(item_id=pl.lit("gone")).write_parquet(foretold.folder / PLACE)
    refused = command(foretold, "score", "--date", str(foretold.day))
    assert refused.code == 10
    assert "unknown items" in refused.err
    assert published(Path(foretold.config.output) / "rankings").attempt.folder == before
