"""`nightrank train --continue`: a version's encoder and rows go on with what is new, and nothing is learned twice."""

import copy
import hashlib
import io
import json
import os
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest
from mlflow import MlflowClient
from single_events import relogged, single_events

from features.errors import ContractError
from features.log.event_log import date_of
from pipelines.inputs.check import read_inputs
from pipelines.registry.register import register
from pipelines.registry.registry import CHAMPION, Registry
from pipelines.registry.tracking import tracking_uri
from pipelines.registry.versions import continuing_config, load_version, predecessor
from pipelines.stores.rows import keep_rows, kept_rows
from pipelines.stores.storage import sha256_of, write_json
from pipelines.training.train import train
from pipelines.verbs.project import write_day

pytestmark = pytest.mark.slow


def grow(project, *days):
    """Deliver days after the project's last, counted from 0."""
    for day in days:
        write_day(project.dataset, project.folder, project.day + timedelta(days=day))


@pytest.fixture
def grown(project):
    grow(project, 0, 1, 2)
    return project


def taken_further(project, wanted=CHAMPION, **changes):
    """What a continued training makes, without a command line."""
    config = continuing_config(project.config)
    version = replace(predecessor(Registry(config), wanted, config), **changes)
    log = read_inputs(config).log
    return train(log, config, continues=version), log, config


def rows_of(trained, log, config):
    return kept_rows(trained.rows, log, config)


def results(trained):
    return (
        [training.losses for training in trained.block_trainings],
        [(training.old_before, training.old_after) for training in trained.block_trainings],
        trained.model.digest("tuned"),
        trained.ranker.files(),
        trained.behaviour_ranker.files(),
        trained.rows,
    )


@pytest.mark.slow
def test_a_version_goes_on_generation_after_generation_and_can_be_promoted(project, command):
    grow(project, 0)
    ended = command(project, "train", "--continue")
    assert ended.code == 0, ended.err
    assert (ended.facts["version"], ended.facts["continues"]) == ("nightrank/2", "nightrank/1")
    ((before, after),) = ended.facts["earlier_requests_ndcg_at_10"]
    assert 0 < before <= 1
    assert 0 < after <= 1
    assert f'"ndcg_at_10_before": {round(before, 4)}' in ended.err
    assert command(project, "promote").facts["champion"] == "nightrank/2"
    grow(project, 1, 2)
    assert command(project, "train", "--from", "champion").facts["continues"] == "nightrank/2"

    registry = Registry(project.config)
    names, bundles = zip(*(load_version(registry, number) for number in "123"), strict=True)
    told = [bundle.manifest["training"] for bundle in bundles]
    assert [line["continues"] for line in told] == [
        None,
        *({"version": name, "bundle": bundle.digest} for name, bundle in zip(names, bundles[:2], strict=False)),
    ]
    first = project.trained.split.valid.start
    assert [line["encoder_day"] for line in told] == [str(date_of(first + days)) for days in (0, 1, 3)]
    assert bundles[1].config["encoder"]["replay_share"] == 0.95
    client = MlflowClient(tracking_uri(project.config))
    runs = [client.get_run(registry.version(number).run_id) for number in "123"]
    assert [run.data.tags.get("continues") for run in runs] == [None, "nightrank/1", "nightrank/2"]
    assert "encoder.block_0.earlier_blocks_ndcg_at_10" in runs[1].data.metrics

    log = read_inputs(project.config).log
    rows = kept_rows(told[2]["rows"], log, project.config)
    assert (rows["encoder_day"] <= rows["as_of_day"]).all()
    scored_by = rows.group_by("encoder_day").agg(pl.col("encoder_digest").unique(), pl.col("as_of_day").max())
    scored_by = scored_by.sort("encoder_day")
    starts = [block.start for block in project.trained.split.blocks]
    assert scored_by["encoder_day"].to_list() == [*starts, first, first + 1]
    assert scored_by["encoder_digest"].list.len().to_list() == [1] * (len(starts) + 2)
    assert scored_by["encoder_digest"].to_list()[-2:] == [[bundle.model.digest("tuned")] for bundle in bundles[:2]]
    assert scored_by["as_of_day"].to_list()[-2:] == [first, first + 2]
    asked = rows.select("request", "user", "as_of_day").unique()
    assert asked.select("user", "as_of_day").is_unique().all()  # no request twice
    assert asked.sort("request")["as_of_day"].is_sorted()


@pytest.mark.slow
def test_the_same_bits_whatever_the_order_of_rows_and_whether_the_version_was_loaded_or_is_in_memory(grown, tmp_path):
    one, _, _ = taken_further(grown)
    other = grown.copy(tmp_path / "other")
    for path in other.folder.glob("events/*/events.parquet"):
        pl.read_parquet(path, hive_partitioning=False).reverse().write_parquet(path)
    again, _, _ = taken_further(other, model=copy.deepcopy(grown.trained.model))
    assert results(again) == results(one)


def test_the_ranker_learns_from_the_latest_requests_of_old_and_new_and_replay_is_as_configured(grown):
    most = 30
    assert continuing_config(grown.config).encoder.replay_share == 0.95
    assert continuing_config(grown.config).encoder.start_weight > 0
    grown.change(ranker={"max_requests": most}, encoder={"replay_share": 0.0, "start_weight": 0.0})
    trained, log, config = taken_further(grown)
    assert config == grown.config
    assert trained.block_trainings[0].old_before is not None  # what is forgotten is told all the same
    rows = rows_of(trained, log, config)
    had = pl.col("pair_events_all") > 0
    lists = rows.group_by("request").agg(
        had=had.any(),
        positive=(pl.col("label") > 0).any(),
        new=pl.col("label").filter(~had).max(),
        learned=pl.col("as_of_day").first() < trained.continues.encoder_day,
    )
    assert lists["positive"].all()
    assert not lists.filter("learned")["had"].any()  # the new days fill what is kept whole; of the old, new items alone
    assert most - 10 < lists.filter(~pl.col("learned"))["had"].sum() <= most
    assert (lists["new"] > 0).sum() == 2 * most
    assert rows["as_of_day"].max() == trained.split.valid.start - 1
    assert rows["as_of_day"].min() < trained.continues.encoder_day


def test_an_old_row_whose_encoder_had_seen_its_day_is_caught(grown):
    config, log = grown.config, read_inputs(grown.config).log
    rows = kept_rows(predecessor(Registry(config), CHAMPION, config).rows, log, config)
    leaking = rows.with_columns(
        pl.when(pl.int_range(pl.len()) == 0).then(pl.col("as_of_day") + 1).otherwise("encoder_day").alias("encoder_day")
    )
    with pytest.raises(ContractError, match="encoder_ended_before"):
        taken_further(grown, rows=keep_rows(leaking, log, config))


@pytest.mark.slow
def test_after_a_holdout_what_its_encoder_never_learned_is_new(shop_project, tmp_path):
    project = shop_project.copy(tmp_path / "project")
    project.change(encoder={"schedule": "holdout"})
    inputs = read_inputs(project.config)
    first = train(inputs.log, project.config)
    register(first, inputs, project.config)
    trained, log, config = taken_further(project, "challenger")
    assert trained.split.warm_up.start == first.encoder_day
    rows = rows_of(trained, log, config)
    assert rows["as_of_day"].min() == first.encoder_day
    assert rows.select("request", "user", "as_of_day").unique().select("user", "as_of_day").is_unique().all()


def test_without_newer_events_there_is_nothing_to_learn(project, command):
    ended = command(project, "train", "--continue")
    assert ended.code == 2
    assert "nothing new to learn" in ended.err
    assert "Wait for later events" in ended.err


def test_a_version_that_is_not_there_is_a_usage_error(shop_project, tmp_path, command):
    project = shop_project.copy(tmp_path / "project")
    ended = command(project, "train", "--continue")
    assert ended.code == 2
    assert "has no version 'champion'" in ended.err


def test_another_configuration_of_what_the_version_is_made_of_is_refused_with_its_keys(grown, command):
    grown.change(encoder={"max_tokens": 24, "steps": 3}, calendar={"ingestion_lag_hours": 30})
    ended = command(grown, "train", "--continue")
    assert ended.code == 2
    assert "nightrank/1 was trained with another calendar.ingestion_lag_hours, encoder.max_tokens than" in ended.err
    assert "train from the start, without --continue" in ended.err


def the_rows(project) -> Path:
    (path,) = (project.folder / "out/training").glob("*.parquet")
    return path


def test_rows_that_are_missing_are_a_usage_error_and_altered_ones_are_refused(grown, command):
    path = the_rows(grown)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    ended = command(grown, "train", "--continue")
    assert ended.code == 12
    assert f"{path} was altered" in ended.err
    path.unlink()
    ended = command(grown, "train", "--continue")
    assert ended.code == 2
    assert f"no rows of the earlier training at {path}" in ended.err
    assert "without --continue" in ended.err


def test_another_log_is_refused(grown, command):
    for path in (*grown.folder.glob("events/*/events.parquet"), grown.folder / "users.parquet"):
        table = pl.read_parquet(path, hive_partitioning=False)
        table.with_columns(user_id=pl.lit("x") + pl.col("user_id").cast(pl.String)).write_parquet(path)
    ended = command(grown, "train", "--continue")
    assert ended.code == 10
    assert "are not in the log" in ended.err


def test_a_version_of_other_features_is_refused(grown):
    features = tuple(reversed(grown.trained.chain.features))
    with pytest.raises(ContractError, match=r"nightrank/1 learned from other features .*without --continue"):
        taken_further(grown, features=features)


def test_a_version_of_before_rows_were_kept_is_refused(grown, command):
    registry = Registry(grown.config)
    version = registry.version("1")
    folder = registry.bundle_folder(version)
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    del manifest["training"]
    write_json(manifest, folder / "manifest.json")
    digest = sha256_of(folder / "manifest.json")
    folder.rename(folder.with_name(digest[:32]))
    registry.register(version.run_id, digest)
    ended = command(grown, "train", "--from", "challenger")
    assert ended.code == 2
    assert "kept no rows to go on from" in ended.err


def engaged_rows(project):
    """Rows of the log's last events that count."""
    engaged = single_events(project.inputs).filter(pl.col("gain") > 0)
    return engaged.tail(20).select("user", "item", as_of_day="label_day", label="gain", x="value")


def test_items_that_went_are_left_out_of_the_rows_and_codes_are_those_of_the_day(project):
    log, config = project.inputs.log, project.config
    rows = engaged_rows(project)
    gone = rows["item"].min()
    told = rows.with_columns(pl.when(pl.col("item") != gone).then("label").otherwise(0).alias("label"))
    digest = keep_rows(told, log, config)
    assert kept_rows(digest, log, config).equals(told)
    items = log.items.filter(pl.col("item") != gone).drop("item").with_row_index("item")
    engaged = single_events(project.inputs).filter(pl.col("item") != gone)
    engaged = engaged.with_columns(item=pl.col("item") - (pl.col("item") > gone).cast(pl.UInt32))
    later = kept_rows(digest, replace(relogged(log, engaged), items=items), config)
    assert 0 < later.height < rows.height
    ids = rows.filter(pl.col("item") != gone)["item"]
    assert items["item_id"].gather(later["item"]).equals(log.items["item_id"].gather(ids))


def test_rows_that_an_earlier_nightrank_kept_are_read_alike(project):
    """It wrote the whole table at once, in row groups of polars' own size."""
    log, config = project.inputs.log, project.config
    rows = engaged_rows(project)
    ids = {"user": log.user_ids.gather(rows["user"]), "item": log.items["item_id"].gather(rows["item"])}
    buffer = io.BytesIO()
    told = rows.with_columns(**ids).rename({"user": "user_id", "item": "item_id"})
    told.write_parquet(buffer, compression="zstd", compression_level=1, row_group_size=7)
    digest = hashlib.sha256(buffer.getvalue()).hexdigest()
    (the_rows(project).parent / f"{digest}.parquet").write_bytes(buffer.getvalue())
    assert kept_rows(digest, log, config).equals(rows)


def test_rows_stay_while_their_version_has_an_alias(project):
    stays = the_rows(project)
    left, fresh = stays.with_name(f"{'0' * 64}.parquet"), stays.with_name(f"{'1' * 64}.parquet")
    for path in (left, fresh):
        path.write_bytes(b"rows")
    for path in (stays, left):
        os.utime(path, (time.time() - 2 * 86_400,) * 2)
    register(project.trained, project.inputs, project.config)
    assert stays.exists()
    assert fresh.exists()  # perhaps of a training that is not done yet
    assert not left.exists()
