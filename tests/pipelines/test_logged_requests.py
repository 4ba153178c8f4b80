"""Requests from the log's own lists, as an owner meets them: checked, trained, judged, promoted, ranked at night."""

import json
import math
from dataclasses import replace
from datetime import timedelta

import polars as pl
import pytest

from features.errors import BlockedError
from pipelines import versions
from pipelines.bundle import load_bundle
from pipelines.check import read_inputs
from pipelines.evaluate import AS_SHOWN, BEHAVIOUR_ONLY, FULL, evaluate, version_lists
from pipelines.project import write_day
from pipelines.publish import published
from pipelines.registry import CHALLENGER, Registry
from pipelines.train import label
from pipelines.versions import judge_versions, load_version
from ranker.baselines import BASELINES

GIVEN = {"requests": {"source": "logged"}, "candidates": {"source": "logged"}}


@pytest.fixture(scope="module")
def given_project(tmp_path_factory, trained_project):
    """The trained shop with a second version: one that re-ranks the lists of the log."""
    from pipelines.register import register
    from pipelines.train import train

    project = trained_project.copy(tmp_path_factory.mktemp("given") / "project")
    project.change(**GIVEN)
    inputs = read_inputs(project.config)
    trained = train(inputs.log, project.config)
    return replace(project, inputs=inputs, trained=trained, registered=register(trained, inputs, project.config))


@pytest.fixture
def project(given_project, tmp_path):
    return given_project.copy(tmp_path / "project")


def test_check_counts_the_lists(given_project, command):
    told = command(given_project, "check").facts["requests"]
    events = given_project.inputs.log.events
    shown = events.filter(pl.col("kind") == "impression")
    searched = shown.filter(pl.col("query").is_not_null())
    assert told == {
        "requests": shown["request_id"].n_unique(),
        "users": shown["user"].n_unique(),
        "shown": shown.height,
        "with_query": searched["request_id"].n_unique(),
        "without_id": 0,
        "of_many_users": 0,
    }


def test_a_request_id_of_two_users_is_refused_with_counts(project, command):
    for path in project.folder.glob("events/*/*.parquet"):
        day = pl.read_parquet(path, hive_partitioning=False)
        day.with_columns(request_id=pl.lit("the same") + pl.col("timestamp").dt.hour().cast(pl.String)).write_parquet(
            path
        )
    ended = command(project, "check")
    assert ended.code == 10
    assert "request_ids that more than one user has" in ended.err
    assert "Give each shown list a request_id of its own" in ended.err
    assert "the same" not in ended.err


def test_every_system_ranks_the_same_given_list(given_project):
    trained, config = given_project.trained, given_project.config
    asked = label(trained.chain, config, trained.split.test, name="test", encoder_day=trained.encoder_day)
    assert asked.rows["position"].null_count() == 0
    shown = asked.requests.select("request", item="shown").explode("item")
    assert asked.rows.select("request", "item").equals(shown)
    lists = version_lists(asked, trained.ranker, trained.behaviour_ranker, trained.pooling)
    evaluation = evaluate(given_project.inputs.log, config, asked, lists=lists, first_day=trained.split.test.start)
    assert set(evaluation.judged.ceiling["recall"].drop_nulls()) == {1.0}
    systems = set(evaluation.judged.table["system"])
    assert systems == {*lists, *BASELINES, AS_SHOWN}
    last = config.evaluation.cutoffs[-1]
    assert last >= 8  # as long as the lists are
    for system in systems:
        assert evaluation.judged.row(system, "all", f"recall@{last}")["mean"] == 1.0
    assert lists[BEHAVIOUR_ONLY].height == lists[FULL].height == shown.height
    assert evaluation.judged.row(AS_SHOWN, "all", f"ndcg@{last}")["mean"] == pytest.approx(by_position(asked), abs=1e-9)


def by_position(asked):
    """Mean NDCG of the order that was shown, by its formula."""
    found = []
    for (_,), rows in asked.rows.group_by("request"):
        gains = [2**gain - 1 for gain in rows.sort("position")["label"]]
        best = sum(gain / math.log2(place + 2) for place, gain in enumerate(sorted(gains, reverse=True)))
        if best:
            found.append(sum(gain / math.log2(place + 2) for place, gain in enumerate(gains)) / best)
    return sum(found) / len(found)


def test_the_position_is_in_no_manifest(given_project):
    bundle = load_bundle(given_project.registered.bundle)
    assert not [column.name for column in bundle.features.columns if "position" in column.name]
    assert bundle.cut is None  # nothing cuts a given list


def test_the_bundle_repeats_the_evaluation_of_the_training_to_the_last_digit(given_project):
    name, bundle = load_version(Registry(given_project.config), CHALLENGER)
    window = {"first_day": given_project.trained.split.test.start, "end_day": given_project.trained.split.test.end}
    again = judge_versions(given_project.inputs.log, given_project.config, {name: bundle}, **window)
    assert again.as_json() == given_project.registered.evaluation.as_json()


def test_versions_of_both_kinds_are_compared_on_the_lists_of_the_log(given_project, monkeypatch):
    registry, log, config = Registry(given_project.config), given_project.inputs.log, given_project.config
    old, new = (load_version(registry, number) for number in ("1", "2"))
    window = {"first_day": given_project.trained.split.test.start, "end_day": given_project.trained.split.test.end}
    found = judge_versions(log, config, dict([new, old]), **window)
    assert found.n_requests == given_project.registered.evaluation.n_requests
    assert judge_versions(log, config, dict([old, new]), **window).n_requests == found.n_requests
    assert found.judged.pair(FULL, old[0], "all", "ndcg@10")["difference"] != 0
    honest, calls = versions.label, []

    def fewer(*arguments, **options):
        labelled = honest(*arguments, **options)
        calls.append(labelled)
        return labelled if len(calls) == 1 else replace(labelled, requests=labelled.requests.head(3))

    monkeypatch.setattr(versions, "label", fewer)
    with pytest.raises(BlockedError, match="nightrank/1 asks other requests of the log"):
        judge_versions(log, config, dict([new, old]), **window)


def test_the_night_re_ranks_the_lists_it_is_given_and_says_where_to_name_them(project, command):
    command(project, "promote")
    refused = command(project, "score", "--date", str(project.day))
    assert refused.code == 2
    assert (
        "tonight's are the table under data.candidates (user_id, item_id, day), which is not configured" in refused.err
    )
    events = pl.concat([pl.read_parquet(path) for path in project.folder.glob("events/*/*.parquet")], how="diagonal")
    lists = events.filter(pl.col("timestamp").dt.date() == project.day - timedelta(days=1)).select("user_id", "item_id")
    lists = lists.unique().with_columns(day=pl.lit(project.day))
    lists.write_parquet(project.folder / "lists.parquet")
    project.change(data={"candidates": {"path": "lists.parquet"}})
    ended = command(project, "score", "--date", str(project.day))
    assert ended.code == 0, ended.err
    rankings = published(project.folder / "out/rankings").rankings()
    assert rankings.join(lists, on=["user_id", "item_id"], how="anti").is_empty()
    kept = lists.group_by("user_id").len().select(pl.col("len").clip(upper_bound=10).sum()).item()
    assert rankings.height == kept > 50
    (said,) = [json.loads(line) for line in ended.err.splitlines() if "users without candidates" in line]
    assert said["users"] == 60 - lists["user_id"].n_unique() > 0


def test_an_engaged_days_version_goes_on_ranking_nights_of_a_log_with_lists(project, command):
    write_day(project.dataset, project.folder, project.day)
    ended = command(project, "score", "--date", str(project.day + timedelta(days=1)))
    assert ended.code == 0, ended.err
    assert ended.facts["version"] == "nightrank/1"
    assert ended.facts["rows"] == 60 * 10


def test_a_version_for_request_time_reads_clock_query_and_context_and_ranks_no_night(given_project, tmp_path, command):
    project = given_project.copy(tmp_path / "project")
    for path in project.folder.glob("events/*/*.parquet"):
        day = pl.read_parquet(path, hive_partitioning=False)
        device = pl.when(pl.col("request_id").hash(7) % 3 == 0).then(pl.lit("phone")).otherwise(pl.lit("desk"))
        day.with_columns(device=device).write_parquet(path)
    project.change(requests={"mode": "online", "context": ["device"]}, candidates={"source": "generated"})
    ended = command(project, "train")
    assert ended.code == 0, ended.err
    _, bundle = load_version(Registry(project.config), CHALLENGER)
    read = set(bundle.features.ranker)
    assert {"request_hour", "request_weekday", "context_device", "text_bm25_query", "by_query_rank"} <= read
    assert bundle.features.supply.vocabularies["events.device"] == ("desk", "phone")
    assert command(project, "evaluate").facts["systems"] == ended.facts["systems"]
    refused = command(project, "score", "--version", "challenger", "--date", str(project.day))
    assert refused.code == 2
    assert "Train and promote a version with requests.mode: batch" in refused.err


def test_features_are_described_over_logged_requests(project, command):
    told = command(project, "features", "describe").facts
    window = project.trained.split.valid
    asked = project.trained.chain.asked.between(window.start, window.end)
    assert told["requests"] == asked.height
    assert told["columns"]["request_price_per_mean"]["null_share"] < 1
