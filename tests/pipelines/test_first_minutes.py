"""The README's five commands, from a folder of somebody's tables to a published ranking."""

from datetime import timedelta

import polars as pl
import pytest

from pipelines.stores.publish import published

THEIRS = {"user_id": "customer", "item_id": "sku", "event": "action", "timestamp": "at"}


@pytest.fixture
def folder(shop_project, tmp_path):
    """The simulated shop as the README's example has it: own names of columns, a file a day."""
    dataset = shop_project.dataset
    items = dataset.items.select(sku="item_id", department="category", title="title", description="description")
    items.write_parquet(tmp_path / "items.parquet")
    for (day,), rows in dataset.events.group_by(pl.col("timestamp").dt.date(), maintain_order=True):
        part = tmp_path / "events" / f"date={day}"
        part.mkdir(parents=True)
        rows.select(list(THEIRS)).rename(THEIRS).write_parquet(part / "part.parquet")
    return tmp_path


@pytest.mark.slow
def test_five_commands_lead_from_tables_to_a_published_ranking(folder, shop_project, command, monkeypatch):
    monkeypatch.chdir(folder)
    assert command(None, "init", ".").code == 0
    text = (folder / "nightrank.yaml").read_text(encoding="utf-8")
    for theirs in THEIRS.values():
        assert f": {theirs} " in text
    any_lift = ("--set", "promotion.min_lift_over_baseline=-1.0")
    for command_line in (("check",), ("train", *quick(shop_project.config.encoder)), ("promote", *any_lift)):
        ended = command(None, *command_line)
        assert ended.code == 0, ended.err
    tonight = shop_project.dataset.span[1].date() + timedelta(days=1)
    ended = command(None, "score", "--date", str(tonight))
    assert ended.code == 0, ended.err
    assert published(folder / "out" / "rankings").rankings()["user_id"].n_unique() == ended.facts["users"]


def quick(encoder):
    """Options that make a training of this size quick: a tiny encoder, few steps, few trees."""
    names = ("model", "max_tokens", "precision", "steps", "head_steps")
    keys = {f"encoder.{name}": getattr(encoder, name) for name in names} | {"ranker.max_trees": 20}
    return [part for key, value in keys.items() for part in ("--set", f"{key}={value}")]
