"""What a night publishes: the scores that evaluation gives, and what stands beside the order."""

import re
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest
import yaml
from single_events import relogged, single_events

from features.errors import BlockedError, ConfigError
from features.log.event_log import day_of
from features.requests.engaged import requests_tonight
from pipelines.base.config import load_config
from pipelines.evaluation.evaluate import FULL, version_lists
from pipelines.night.lists import rank_users
from pipelines.registry.bundle import load_bundle
from pipelines.registry.registry import Registry
from pipelines.registry.versions import load_version, working_config
from pipelines.stores.publish import published
from pipelines.training.chain import Chain
from pipelines.training.labelled import Labelled, label
from pipelines.verbs.score import attempt_identity, refuse_stale, score
from ranker.lambdamart import LambdaMart
from ranker.listnet import TOLERANCE
from ranker.listnet_fit import fit_listnet
from ranker.trees_and_network import TreesAndNetwork

NIGHTS = 30


@pytest.fixture(scope="module")
def champion(trained_project):
    """The version, and the configuration it works under, with all that is ranked published."""
    _, bundle = load_version(Registry(trained_project.config), "champion")
    config = working_config(trained_project.config, bundle)
    return bundle, config.model_copy(update={"night": config.night.model_copy(update={"top": 10_000})})


def chain_over(log, champion):
    bundle, config = champion
    return Chain(log, config, bundle.model, bundle.features.inventory, cut=bundle.cut)


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


@pytest.mark.parametrize("members", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_night_and_evaluation_give_a_hundred_thousand_rows_one_score(members, trained_project, champion, evaluated):
    """To the bit with trees alone, within the tolerance with networks."""
    bundle, config = champion
    log = trained_project.inputs.log
    bundle = replace(bundle, ranker=TreesAndNetwork(bundle.ranker.forest))
    if members > 1:
        trained = trained_project.trained
        rows = label(trained.chain, config, trained.split.valid, name="validation", encoder_day=0).rows
        several = config.ranker.model_copy(update={"ensemble": members})
        forest = LambdaMart.fit(rows, rows, features=bundle.ranker.features, config=several, seed=0)
        network = fit_listnet(rows, features=bundle.ranker.features, config=several, seed=0)
        bundle = replace(bundle, ranker=TreesAndNetwork(forest, network, share=0.5, spreads=(0.7, 1.3)))
    lists = version_lists(evaluated, bundle.ranker, bundle.behaviour_ranker, bundle.pooling)[FULL]

    nights = []
    for (day,), asked in evaluated.requests.group_by("as_of_day", maintain_order=True):
        published = rank_users(chain_over(log.before(day), champion), config, asked["user"], day, "v", bundle)
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
    assert bundle.ranker.tolerance == (TOLERANCE if members > 1 else 0)
    assert (both["score"] - both["evaluated"]).abs().max() <= bundle.ranker.tolerance
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


@pytest.fixture
def night(project, command):
    """Score a day with some keys set; tonight, if not told otherwise."""

    def run(*keys, when=project.day, flags=()):
        told = [part for key in keys for part in ("--set", key)]
        return command(project, "score", "--date", str(when), *flags, *told)

    return run


@pytest.fixture(scope="module")
def identity_of(trained_project):
    """What names a night's attempt, with some keys set."""
    _, bundle = load_version(Registry(trained_project.config), "champion")

    def identity(*keys):
        own = working_config(load_config(trained_project.path, keys), bundle)
        return attempt_identity(trained_project.inputs, own, trained_project.day, "v", bundle)

    return identity


def rankings_of(project):
    return Path(project.config.output) / "rankings"


def listed(live):
    """Items that anybody gets, the user that nobody has seen included."""
    return {*live.rankings()["item_id"], *live.fallback()["item_id"]}


def test_fault_54_what_is_blocked_tonight_is_in_no_list_whatever_the_version_was_trained_with(project, night):
    assert night().code == 0
    free = published(rankings_of(project))
    items = free.rankings()["item_id"].value_counts(sort=True)["item_id"].to_list()
    blocked, kept = items[:3], {*items} - {*items[:3]}
    ended = night(f"candidates.blocked=[{', '.join(blocked)}, i999999]")
    assert ended.code == 0, ended.err
    assert ended.facts.items() >= {"pointer_moved": True, "blocked_ids_unmatched": 1, "not_followed": []}.items()
    assert '"ids": 1, "of": 4' in ended.err
    assert not [item for item in (*blocked, "i999999") if item in ended.err]
    live = published(rankings_of(project))
    assert not listed(live) & {*blocked}
    assert listed(live) & kept
    assert live.rankings().height == free.rankings().height  # there is more to list

    project.change(candidates={"blocked": blocked})  # and in the file: the same bytes, of an attempt of its own
    assert night().facts["pointer_moved"] is True
    assert published(rankings_of(project)).rankings().equals(live.rankings())
    back = night("candidates.blocked=[]")
    assert back.facts["shards_written"] == 0
    assert published(rankings_of(project)).attempt == free.attempt


def test_a_whole_number_is_blocked_by_its_text_with_zeros_before_it_too(project, night):
    number = pl.col("item_id").str.slice(1).cast(pl.Int32)
    for path in [project.folder / "items.parquet", *project.folder.glob("events/*/*.parquet")]:
        pl.read_parquet(path, hive_partitioning=False).with_columns(number).write_parquet(path)
    assert night("candidates.blocked=[00008, '9', 10]").code == 0
    whole = published(rankings_of(project))
    assert whole.rankings().schema["item_id"] == pl.Int64
    assert not listed(whole) & {8, 9, 10}


def test_where_everything_is_blocked_nothing_is_published(project, night):
    assert night().code == 0
    pointer = (rankings_of(project) / "published.json").read_bytes()
    everything = project.inputs.log.items["item_id"].to_list()
    ended = night(f"candidates.blocked={yaml.safe_dump(everything, default_flow_style=True, width=1e9)}")
    assert ended.code == 11
    assert "catalogue: 0 items on sale; 120 on the night of 2024-02-25" in ended.err
    assert (rankings_of(project) / "published.json").read_bytes() == pointer


def test_filters_and_rules_are_tonights_and_the_versions_own_keys_are_not_followed_but_named(project, night):
    plain = night()
    had = project.inputs.log.engaged.select("user", "item").unique()
    codes = project.inputs.log
    ended = night("candidates.already_bought=drop")
    assert ended.facts["not_followed"] == []
    rows = published(rankings_of(project)).rankings()
    users = codes.user_ids.to_frame("user_id").with_row_index("user")
    coded = rows.join(users, on="user_id").join(codes.items.select("item", "item_id"), on="item_id")
    assert coded.join(had, on=["user", "item"]).is_empty()

    own = [
        "calendar.cutoff='09:00'",
        "calendar.timezone=Asia/Tokyo",
        "candidates.half_life_days=1",
        "candidates.max_per_request=5",
        "candidates.popular=1",
        "candidates.source=logged",
        "data.items.text=[description]",
        "encoder.history_items=1",
        "encoder.max_tokens=8",
        "features.attributes={items: [category], users: []}",
        "features.families=[user]",
        "labels.gains={purchase: 1}",
        "requests.mode=online",
        "requests.source=logged",
    ]
    keys = [key.partition("=")[0] for key in own if not key.startswith("features.attributes")]
    shards = sorted(Path(plain.facts["attempt"]).glob("*.parquet"))
    before = [shard.read_bytes() for shard in shards]
    for shard in Path(plain.facts["attempt"]).iterdir():
        shard.unlink()
    again = night(*own, "encoder.steps=9", "ranker.max_trees=1", "timeline.test_days=1", "evaluation.resamples=100")
    assert again.code == 0, again.err
    assert again.facts["attempt"] == plain.facts["attempt"]
    assert [shard.read_bytes() for shard in shards] == before
    assert again.facts["not_followed"] == sorted([*keys, "features.attributes.items"])
    (said,) = [line for line in again.err.splitlines() if "keys not followed" in line]
    assert '"calendar.cutoff", "calendar.timezone"' in said
    assert "Tokyo" not in said


@pytest.mark.parametrize(
    ("key", "moves"),
    [
        ("night.top=3", True),
        ("night.reasons=1", True),
        ("candidates.blocked=[i000003]", True),
        ("candidates.already_bought=drop", True),
        ("candidates.supplied=1", True),
        ("candidates.new_arrivals=0", True),
        ("data.timezone=Asia/Tokyo", True),
        ("data.events.constants={shop: one}", True),
        ("output=elsewhere", False),
        ("tracking.experiment=other", False),
        ("vectors.keep_days=1", False),
        ("promotion.min_distinct_share=0.1", False),
        ("evaluation.resamples=100", False),
        ("candidates.popular=1", False),
        ("encoder.steps=9", False),
        ("ranker.max_trees=1", False),
        ("seed=5", False),
    ],
)
def test_tonights_keys_make_another_attempt_and_no_others_do(key, moves, identity_of):
    assert (identity_of(key) != identity_of()) == moves


def test_fault_49_a_past_day_stands_beside_what_is_live_and_says_so(project, night, command):
    assert night().facts["live"] == "2024-02-25"
    pointer = (rankings_of(project) / "published.json").read_bytes()
    past = night(when=project.day - timedelta(days=1))
    assert past.code == 0, past.err
    assert past.facts.items() >= {"shards_written": 3, "pointer_moved": False, "live": "2024-02-25"}.items()
    assert "what is live stays" in past.err
    assert Path(past.facts["attempt"]).is_dir()
    assert (rankings_of(project) / "published.json").read_bytes() == pointer
    assert command(project, "status").facts["live"] == "2024-02-25"
    assert night("night.top=5").facts["pointer_moved"] is True  # the same day, otherwise


def test_fault_50_a_day_whose_future_the_version_saw_is_refused_or_ranked_beside(project, night):
    cutoff = load_bundle(project.registered.bundle).cutoff
    first = cutoff.date()  # the first day of the test window: nothing of it was seen
    last_seen = first - timedelta(days=1)
    assert night(when=first, flags=["--dry-run"]).code == 0
    refused = night(when=last_seen)
    assert refused.code == 11
    assert re.search(
        rf"nightrank/1 has seen events or labels of {last_seen} .*--version.*--allow-hindsight", refused.err
    )
    assert not rankings_of(project).exists()
    for written in (3, 0):
        allowed = night(when=last_seen, flags=["--allow-hindsight"])
        assert allowed.code == 0, allowed.err
        assert allowed.facts.items() >= {"hindsight": True, "pointer_moved": False, "shards_written": written}.items()
        assert allowed.facts["live"] is None
        assert "not published" in allowed.err
    assert published(rankings_of(project)) is None
    tonight = night(flags=["--allow-hindsight"])  # which it is not
    assert tonight.facts["pointer_moved"] is True
    assert "hindsight" not in tonight.facts


@pytest.mark.parametrize(
    ("year", "kind", "says"),
    [
        (1990, BlockedError, "starts on 2024-01-01"),
        *((year, ConfigError, "is no day of a log") for year in (1, 1969, 9999)),
    ],
)
def test_a_day_far_away_is_refused_with_what_the_log_has(year, kind, says, trained_project, champion):
    bundle, config = champion
    config = config.model_copy(update={"night": config.night.model_copy(update={"max_days_behind": 10**9})})
    with pytest.raises(kind, match=says):
        score(trained_project.inputs, config, when=date(year, 1, 1), version="v", bundle=bundle, dry_run=True)


def test_a_clock_that_runs_ahead_hides_no_log_that_ended_long_before(trained_project):
    """The log ended 15 days before the eve, but for one event that is dated on the eve."""
    log, day = trained_project.inputs.log, day_of(trained_project.day)
    events = single_events(trained_project.inputs)
    ahead = events.filter(pl.col("day") == day - 1).head(1)
    outage = relogged(log, pl.concat([events.filter(pl.col("day") < day - 15), ahead]))
    assert outage.latest_day == day - 1
    with pytest.raises(BlockedError, match="15 days short of the eve"):
        refuse_stale(outage.without_far_days(), day, trained_project.config)
    refuse_stale(log.without_far_days(), day, trained_project.config)


def test_a_night_of_a_day_that_no_log_reaches_is_refused(trained_project, command):
    ended = command(trained_project, "score", "--date", "9999-12-31", "--dry-run")
    assert ended.code == 2
    assert "9999-12-31 is no day of a log" in ended.err
