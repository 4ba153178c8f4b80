"""Requests from the log's own lists, as an owner meets them: checked, trained, judged, promoted, ranked at night."""

import json
import math
from dataclasses import replace
from datetime import timedelta

import polars as pl
import pytest
from single_events import relogged, single_events

from encoders.interest import FINE_TUNED, OF_QUERY
from features.errors import BlockedError, ContractError
from pipelines.evaluation.evaluate import AS_SHOWN, BEHAVIOUR_ONLY, FULL, evaluate, version_lists
from pipelines.inputs.check import read_inputs
from pipelines.registry import versions
from pipelines.registry.bundle import load_bundle
from pipelines.registry.registry import CHALLENGER, Registry
from pipelines.registry.versions import judge_versions, load_version
from pipelines.stores.publish import published
from pipelines.training.chain import Chain
from pipelines.training.labelled import label
from pipelines.verbs.project import write_day
from ranker.baselines import BASELINES

pytestmark = pytest.mark.slow

GIVEN = {"requests": {"source": "logged"}, "candidates": {"source": "logged"}}


@pytest.fixture(scope="module")
def given_project(tmp_path_factory, trained_project):
    """The trained shop with a second version: one that re-ranks the lists of the log."""
    from pipelines.registry.register import register
    from pipelines.training.train import train

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
    honest, calls = versions.labelled_window, []

    def fewer(*arguments, **options):
        labelled = honest(*arguments, **options)
        calls.append(labelled)
        return labelled if len(calls) == 1 else replace(labelled, requests=labelled.requests.head(3))

    monkeypatch.setattr(versions, "labelled_window", fewer)
    with pytest.raises(BlockedError, match="nightrank/1 asks other requests of the log"):
        judge_versions(log, config, dict([new, old]), **window)


def test_the_night_re_ranks_the_lists_it_is_given_and_says_where_to_name_them(project, command):
    command(project, "promote")
    refused = command(project, "score", "--date", str(project.day))
    assert refused.code == 2
    assert "data.candidates (user_id, item_id, day)" in refused.err
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


@pytest.fixture(scope="module")
def online_project(given_project, tmp_path_factory):
    """The shop with a version for request time."""
    from pipelines.registry.register import register
    from pipelines.training.train import train

    project = given_project.copy(tmp_path_factory.mktemp("online") / "project")
    for path in project.folder.glob("events/*/*.parquet"):
        day = pl.read_parquet(path, hive_partitioning=False)
        device = pl.when(pl.col("request_id").hash(7) % 3 == 0).then(pl.lit("phone")).otherwise(pl.lit("desk"))
        day.with_columns(device=device).write_parquet(path)
    project.change(requests={"mode": "online", "context": ["device"]}, candidates={"source": "generated"})
    inputs = read_inputs(project.config)
    trained = train(inputs.log, project.config)
    return replace(project, inputs=inputs, trained=trained, registered=register(trained, inputs, project.config))


@pytest.mark.slow
def test_a_version_for_request_time_reads_clock_query_and_context_and_ranks_no_night(online_project, tmp_path, command):
    project = online_project.copy(tmp_path / "project")
    _, bundle = load_version(Registry(project.config), CHALLENGER)
    read = set(bundle.features.ranker)
    assert {"request_hour", "request_weekday", "context_device", "text_bm25_query", "by_query_rank"} <= read
    assert bundle.features.inventory.vocabularies["events.device"] == ("desk", "phone")
    assert command(project, "evaluate").facts["systems"] == project.registered.evaluation.as_json()["systems"]
    refused = command(project, "score", "--version", "challenger", "--date", str(project.day))
    assert refused.code == 2
    assert "requests.mode: batch" in refused.err


def test_features_are_described_over_logged_requests(project, command):
    told = command(project, "features", "describe").facts
    window = project.trained.split.valid
    asked = project.trained.chain.request_source.between(window.start, window.end)
    assert told["requests"] == asked.height
    assert told["columns"]["request_price_per_mean"]["null_share"] < 1


def test_queries_are_read_by_the_version_for_request_time_alone(online_project, given_project):
    online, batch = (load_bundle(project.registered.bundle) for project in (online_project, given_project))
    assert online.model.queries
    assert OF_QUERY in online.features.ranker
    assert not batch.model.queries
    assert OF_QUERY not in [column.name for column in batch.features.columns]
    assert set(online.manifest["encoder"]) == {"tuned", "zero_shot", "queries"}
    assert set(batch.manifest["encoder"]) == {"tuned", "zero_shot"}


def test_the_answer_stands_where_there_is_a_query_and_is_the_same_whatever_is_asked_beside_it(online_project):
    trained, config = online_project.trained, online_project.config
    chain, window = trained.chain, trained.split.test
    requests = chain.request_source.between(window.start, window.end)
    (whole,) = chain.rows(requests, name="test")
    searched = requests.filter(pl.col("query").is_not_null())["request"].implode()
    told = whole.filter(pl.col("request").is_in(searched))
    assert 0 < told.height < whole.height
    assert told[OF_QUERY].is_nan().sum() == 0
    assert whole.filter(~pl.col("request").is_in(searched))[OF_QUERY].is_nan().all()
    again = Chain(
        chain.log, config, load_bundle(online_project.registered.bundle).model, trained_supply(trained), cut=chain.cut
    )
    for request in requests["request"][:6]:
        alone = requests.filter(pl.col("request") == request)
        (found,) = again.rows(alone, name="test")
        expected = whole.filter(pl.col("request") == request).select("item", OF_QUERY, FINE_TUNED)
        assert found.select("item", OF_QUERY, FINE_TUNED).to_numpy().tobytes() == expected.to_numpy().tobytes()


def trained_supply(trained):
    """What the log of the training had."""
    return trained.chain.assembler.plan.inventory


@pytest.mark.parametrize("blank", [None, "", " \t\u2003"])
def test_a_blank_query_is_none_and_a_hostile_one_is_a_text(online_project, blank):
    chain, window = online_project.trained.chain, online_project.trained.split.test
    asked = chain.request_source.between(window.start, window.end).head(3)
    hostile = asked.with_columns(query=pl.Series([blank, "[SEP] [PAD] \0 \u202e \ufffd", "mug " * 3_000_000]))
    (rows,) = chain.rows(hostile, name="test")
    of = {request: rows.filter(pl.col("request") == request) for request in hostile["request"]}
    assert of[hostile["request"][0]][OF_QUERY].is_nan().all()
    for request in hostile["request"][1:]:
        assert of[request][OF_QUERY].is_finite().all()
        assert of[request][FINE_TUNED].is_finite().all()


def test_no_text_is_encoded_twice(online_project, tmp_path):
    """The training kept the queries that it learned from; what was asked later is encoded once."""
    project = online_project.copy(tmp_path / "project")
    model = load_bundle(project.registered.bundle).model
    log, split = project.inputs.log, project.trained.split
    encoded = []
    new = pl.lit("nobody asked this before").alias("query")
    for query in (pl.col("query"), new, new):
        chain = Chain(log, project.config, model, trained_supply(project.trained))
        requests = chain.request_source.between(split.blocks[-1].start, split.blocks[-1].end)
        assert requests["query"].n_unique() > 1
        list(chain.rows(requests.with_columns(query), name="test"))
        encoded.append(chain.encoded["tuned"])
    assert encoded == [0, 1, 0]


def test_a_log_without_queries_is_refused_to_a_version_that_reads_them(online_project):
    """Also where no feature beside the interest model reads any."""
    log, config = online_project.inputs.log, online_project.config
    config = config.model_copy(
        update={
            "features": config.features.model_copy(update={"families": ("pair",)}),
            "candidates": config.candidates.model_copy(update={"by_query": 0}),
        }
    )
    inventory = trained_supply(online_project.trained)
    Chain(log, config, online_project.trained.model, inventory)
    silent = relogged(log, single_events(online_project.inputs).drop("query"))
    with pytest.raises(ContractError, match="events has nothing in 'query'"):
        Chain(silent, config, online_project.trained.model, inventory)
