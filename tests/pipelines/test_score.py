"""What a night publishes: the scores that evaluation gives, and what stands beside the order."""

from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from features.errors import BlockedError
from features.requests import requests_tonight
from features.timeline import day_of
from pipelines.chain import Chain
from pipelines.evaluate import FULL, version_lists
from pipelines.registry import Registry
from pipelines.score import _rank, _refuse_stale
from pipelines.train import Labelled, label
from pipelines.versions import load_version, working_config
from ranker.lambdamart import LambdaMart
from ranker.listnet_fit import fit_listnet
from ranker.ranker import Ranker

NIGHTS = 30


@pytest.fixture(scope="module")
def champion(trained_project):
    """The version, and the configuration it works under, with all that is ranked published."""
    _, bundle = load_version(Registry(trained_project.config), "champion")
    config = working_config(trained_project.config, bundle)
    return bundle, config.model_copy(update={"night": config.night.model_copy(update={"top": 10_000})})


def chain_over(log, champion):
    bundle, config = champion
    return Chain(log, config, bundle.model, bundle.features.supply, cut=bundle.cut)


@pytest.fixture(scope="module")
def evaluated(trained_project, champion):
    """Requests of every user on each of `NIGHTS` days with their rows, made together over a log that goes on."""
    chain = chain_over(trained_project.inputs.log, champion)
    users = pl.int_range(chain.log.user_ids.len(), dtype=pl.UInt32, eager=True)
    days = range(chain.log.last_day - NIGHTS + 1, chain.log.last_day + 1)
    asked = pl.concat([requests_tonight(users, day) for day in days])
    asked = asked.with_columns(request=pl.int_range(pl.len(), dtype=pl.UInt32))
    rows = pl.concat(chain.rows(asked, name="evaluation"))
    assert rows.height >= 100_000
    return Labelled(asked, asked.clear(), rows)


@pytest.mark.parametrize("members", [1, 3])
def test_night_and_evaluation_give_a_hundred_thousand_rows_the_same_bits(members, trained_project, champion, evaluated):
    bundle, config = champion
    log = trained_project.inputs.log
    if members > 1:
        trained = trained_project.trained
        rows = label(trained.chain, config, trained.split.valid, name="validation", encoder_day=0).rows
        several = config.ranker.model_copy(update={"ensemble": members})
        forest = LambdaMart.fit(rows, rows, features=bundle.ranker.features, config=several, seed=0)
        network = fit_listnet(rows, features=bundle.ranker.features, config=several, seed=0)
        bundle = replace(bundle, ranker=Ranker(forest, network, share=0.5, spreads=(0.7, 1.3)))
    lists = version_lists(evaluated, bundle.ranker, bundle.behaviour_ranker, bundle.pooling)[FULL]

    nights = []
    for (day,), asked in evaluated.requests.group_by("as_of_day", maintain_order=True):
        published = _rank(chain_over(log.before(day), champion), config, asked["user"], day, "v", bundle)
        nights.append(published.with_columns(as_of_day=pl.lit(day)))

    codes = lists.join(evaluated.requests, on="request", maintain_order="left")
    expected = codes.select(
        "as_of_day",
        log.user_ids.gather(codes["user"]).alias("user_id"),
        log.items["item_id"].gather(codes["item"]).alias("item_id"),
        pl.col("score").alias("evaluated"),
    )
    both = expected.join(pl.concat(nights), on=["as_of_day", "user_id", "item_id"], validate="1:1")
    assert both.height == expected.height == sum(night.height for night in nights)
    assert both["score"].to_numpy().tobytes() == both["evaluated"].to_numpy().tobytes()
    assert both["score"].n_unique() > 100
    assert len(bundle.ranker.forest.boosters) == members


def test_reasons_name_families_of_the_version_and_leave_the_order_as_it_is(trained_project, tmp_path, command):
    told = {}
    for most in (0, 2):
        project = trained_project.copy(tmp_path / f"project-{most}")
        ended = command(project, "score", "--date", str(project.day), "--set", f"night.reasons={most}")
        assert ended.code == 0, ended.err
        shards = sorted(Path(ended.facts["attempt"]).glob("shard-*.parquet"))
        told[most] = pl.concat(pl.read_parquet(shard) for shard in shards)
    _, version = load_version(Registry(trained_project.config), "champion")
    families = set(version.features.families(version.ranker.features))
    assert "reasons" not in told[0].columns
    assert told[2].drop("reasons").equals(told[0])
    named = told[2]["reasons"]
    assert named.list.len().max() == 2
    assert set(named.explode().drop_nulls()) <= families
    best = told[2].filter(pl.col("rank") == 1)["reasons"]
    assert (best.list.len() > 0).mean() > 0.9


def test_a_clock_that_runs_ahead_hides_no_log_that_ended_long_before(trained_project):
    """The log ended 15 days before the eve, but for one event that is dated on the eve."""
    log, day = trained_project.inputs.log, day_of(trained_project.day)
    ahead = log.events.filter(pl.col("day") == day - 1).head(1)
    outage = replace(log, events=pl.concat([log.events.filter(pl.col("day") < day - 15), ahead]))
    assert outage.latest_day == day - 1
    with pytest.raises(BlockedError, match="15 days short of the eve"):
        _refuse_stale(outage.without_far_days(), day, trained_project.config)
    _refuse_stale(log.without_far_days(), day, trained_project.config)


def test_a_night_of_a_day_that_no_log_reaches_is_refused(trained_project, command):
    ended = command(trained_project, "score", "--date", "9999-12-31", "--dry-run")
    assert ended.code == 2
    assert "9999-12-31 is no day of a log" in ended.err
