"""`nightrank evaluate --origins`: the whole training as of several cut-offs, pooled; and after a kill."""

import json
import os
import signal
import subprocess
import sys
from datetime import date
from pathlib import Path

import polars as pl
import pytest
from mlflow import MlflowClient
from single_events import relogged, single_events

from features.errors import ConfigError, ContractError
from features.log.event_log import date_of
from features.shop.simulator import ShopConfig
from pipelines.base.config import load_config
from pipelines.evaluation.evaluate import FULL, evaluate, judge_trained
from pipelines.inputs.check import read_inputs
from pipelines.registry.tracking import tracking_uri
from pipelines.stores.storage import sha256_of
from pipelines.training.labelled import Labelled
from pipelines.training.train import train
from pipelines.verbs.datasets import simulated
from pipelines.verbs.origins import judge_external, origins_of, windows_of
from pipelines.verbs.project import write_dataset

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def rolled(shop_project, tmp_path_factory):
    """A project whose log fits two origins; the result of judging them, by `judged`."""
    project = shop_project.copy(tmp_path_factory.mktemp("rolled") / "project")
    project.change(timeline={"ranker_days": 14})
    return project


@pytest.fixture
def judged(rolled, command):
    """What the command came to; it trains the first time only."""
    return command(rolled, "evaluate", "--origins", "2")


def figures(facts, *names):
    return [row for row in facts["systems"] if not names or row["system"] in names]


@pytest.mark.slow
def test_each_window_is_judged_by_what_was_trained_without_it_and_all_are_pooled(rolled, judged):
    earlier, later = judged.facts["origins"]
    inputs = read_inputs(rolled.config)
    # The latest is what `nightrank train` comes to; the earlier one what it would have, had the log ended there.
    _, last = judge_trained(train(inputs.log, rolled.config), rolled.config)
    assert figures(later) == figures(last.as_json())
    assert later["comparisons"] == last.as_json()["comparisons"]
    assert later["beyond_accuracy"] == last.as_json()["beyond_accuracy"]
    (_, split), (shorter, before) = origins_of(inputs.log, rolled.config, 2)
    assert before.test.end == split.test.start
    assert shorter.last_day < split.test.start
    label_day = single_events(inputs).filter(pl.col("label_day") < split.test.start)
    assert shorter.event_counts == relogged(inputs.log, label_day).event_counts
    assert shorter.label_events.between(0, 99_999).height == label_day.filter(pl.col("gain") > 0).height
    assert earlier["window"] == [str(date_of(before.test.start)), str(date_of(before.test.end - 1))]
    pooled = judged.facts["pooled"]
    assert pooled["requests"] == earlier["requests"] + later["requests"]
    assert pooled["window"] == [earlier["window"][0], later["window"][1]]
    (full,) = (row for row in figures(pooled, FULL) if (row["slice"], row["metric"]) == ("all", "ndcg@10"))
    parts = [row for facts in (earlier, later) for row in figures(facts, FULL)]
    parts = [row for row in parts if (row["slice"], row["metric"]) == ("all", "ndcg@10")]
    assert full["requests"] == sum(row["requests"] for row in parts)
    assert full["mean"] == pytest.approx(sum(row["requests"] * row["mean"] for row in parts) / full["requests"])
    assert max(row["users"] for row in parts) <= full["users"] < sum(row["users"] for row in parts)
    assert "Pooled over 2 origins, " in judged.err
    client = MlflowClient(tracking_uri=tracking_uri(rolled.config))
    runs = client.search_runs(["1"])
    assert {run.info.run_name for run in runs} == {f"origin {one['window'][0]}" for one in (earlier, later)}
    assert not client.search_registered_models()


@pytest.mark.slow
def test_finished_origins_are_not_trained_again_and_systems_are_chosen_afterwards(rolled, judged, command):
    again = command(rolled, "evaluate", "--origins", "2")
    assert again.facts == judged.facts
    assert "Fine-tuning" not in again.err
    some = command(rolled, "evaluate", "--origins", "2", "--systems", "popularity, full system").facts
    assert figures(some["pooled"]) == figures(judged.facts["pooled"], FULL, "popularity")
    assert list(some["origins"][0]["beyond_accuracy"]) == [FULL, "popularity"]
    (one,) = command(rolled, "evaluate", "--origins", "1").facts["origins"]
    assert one == judged.facts["origins"][1]


@pytest.mark.slow
@pytest.mark.slow
def test_a_killed_run_goes_on_at_the_origin_where_it_stopped(rolled, judged, command, snapshot, tmp_path):
    project = rolled.copy(tmp_path / "project")
    earlier = judged.facts["origins"][0]["window"][0]
    for path in project.folder.glob(f"out/origins/*/{earlier}.*"):
        path.unlink()
    (kept,) = (project.folder / "out/origins").iterdir()
    told = [sys.executable, "-m", "pipelines.cli.app", "evaluate", "--origins", "2", "--config", str(project.path)]
    with subprocess.Popen(told, cwd=ROOT, stderr=subprocess.PIPE, text=True) as killed:
        for line in killed.stderr:
            if '"Fine-tuning, block 2"' in line:
                os.kill(killed.pid, signal.SIGKILL)
    assert killed.returncode == -signal.SIGKILL
    before = snapshot(kept)
    assert not [name for name in before if name.startswith(earlier)]
    ended = command(project, "evaluate", "--origins", "2")
    assert ended.facts == judged.facts
    assert snapshot(kept).items() >= before.items()
    assert ended.err.count('"kept": true') == 1


@pytest.mark.slow
def test_what_is_kept_of_an_origin_is_of_the_same_data_and_configuration_or_refused(rolled, judged, command, tmp_path):
    project = rolled.copy(tmp_path / "project")
    table = next((project.folder / "out/origins").glob(f"*/{judged.facts['origins'][1]['window'][0]}.parquet"))
    table.write_bytes(table.read_bytes()[:-1])
    ended = command(project, "evaluate", "--origins", "1")
    assert ended.code == 12
    assert f"{table} is missing or was altered. Remove {table.with_suffix('.json')}" in ended.err
    ended = command(project, "evaluate", "--origins", "1", "--set", "ranker.max_trees=5")
    assert ended.code == 0
    assert '"kept": false' in ended.err
    assert len(list((project.folder / "out/origins").iterdir())) == 2


@pytest.fixture(scope="module")
def by_popularity(rolled, popularity_by_ids):
    """The lists of the baseline in both windows."""
    cuts = origins_of(read_inputs(rolled.config).log, rolled.config, 2)
    return pl.concat(popularity_by_ids(log, split.test.start, split.test.end) for log, split in cuts)


@pytest.fixture
def judged_beside(rolled, judged, by_popularity, command, tmp_path):
    """Judge a file of scores as well, of the baseline or of what is made of it."""
    assert judged.code == 0  # what it trained is kept

    def run(*arguments, name="theirs", change=lambda lists: lists):
        change(by_popularity).sample(fraction=1.0, shuffle=True, seed=0).write_parquet(tmp_path / "theirs.parquet")
        scores = f"{name}={tmp_path / 'theirs.parquet'}"
        return command(rolled, "evaluate", "--origins", "2", "--scores", scores, *arguments)

    return run


@pytest.mark.slow
def test_scores_of_others_are_judged_in_each_window_and_pooled_and_nothing_is_trained_for_them(judged, judged_beside):
    ended = judged_beside()
    assert "Fine-tuning" not in ended.err
    for facts, before in zip(ended.facts["origins"], judged.facts["origins"], strict=True):
        assert [row for row in figures(facts) if row["system"] != "theirs"] == figures(before)
    assert [row for row in figures(ended.facts["pooled"]) if row["system"] != "theirs"] == figures(
        judged.facts["pooled"]
    )
    for facts in (*ended.facts["origins"], ended.facts["pooled"]):
        assert len(figures(facts, "theirs")) > 8
        theirs, baseline = (
            [{**row, "system": ""} for row in figures(facts, name)] for name in ("theirs", "popularity")
        )
        assert theirs == baseline
        theirs, baselines = (
            [{**row, "against": ""} for row in facts["comparisons"] if row["against"] == name]
            for name in ("theirs", "popularity")
        )
        assert theirs == baselines
    alone = judged_beside("--systems", "popularity, theirs").facts["pooled"]
    assert {(row["system"], row["against"]) for row in alone["comparisons"]} == {("theirs", "popularity")}


@pytest.mark.slow
def test_one_window_tells_what_their_lists_are_like_too(judged_beside, judged):
    first = date.fromisoformat(judged.facts["origins"][1]["window"][0])
    ended = judged_beside("--origins", "1", name="a, b", change=lambda lists: lists.filter(pl.col("day") >= first))
    (facts,) = ended.facts["origins"]
    of = facts["beyond_accuracy"]
    assert of["a, b"].items() < of["popularity"].items()  # which has diversity by text besides
    assert list(of["a, b"])


def test_logged_lists_of_all_windows_want_a_score_for_every_shown_pair(tmp_path):
    dataset = simulated(ShopConfig(users=60, items=80, days=48))
    told = ("requests.source=logged", "candidates.source=logged", "timeline.ranker_days=12", "labels.horizon_days=2")
    config = load_config(write_dataset(dataset, tmp_path), told)
    log = read_inputs(config).log
    cuts = origins_of(log, config, 2)
    windows = windows_of(cuts, config)
    shown = [window.rows.join(window.requests.select("request", "request_id"), on="request") for window in windows]
    scores = pl.concat(
        rows.select(
            "request_id", item_id=log.items["item_id"].gather(rows["item"]), score=pl.col("item").cast(pl.Float64)
        )
        for rows in shown
    )
    later, earlier = judge_external(
        {"theirs": scores.sample(fraction=1.0, shuffle=True, seed=0)}, cuts, windows, config
    )
    for found, window, (_, split) in zip((later, earlier), windows, cuts, strict=True):
        assert window.logged_lists
        rows = found.rows.filter(slice="all")
        asked = window.requests.filter(pl.col("request").is_in(rows["request"].implode()))
        assert rows["request"].to_list() == sorted(window.truth["request"].unique())
        assert rows["user"].to_list() == asked["user"].to_list()
        assert asked["as_of_day"].is_between(split.test.start, split.test.closed_end - 1).all()
    # As a system of ours is judged.
    labelled = Labelled(windows[1].requests, windows[1].truth, windows[1].rows)
    lists = {"ours": windows[1].rows.with_columns(score=pl.col("item").cast(pl.Float64))}
    one = evaluate(cuts[1][0], config, labelled, lists=lists, first_day=cuts[1][1].test.start, chosen="ours")
    assert earlier.rows.drop("system").equals(one.judged.per_request.drop("system"))
    with pytest.raises(ContractError, match=rf"theirs: 1 of {scores.height} shown pairs have no score"):
        judge_external({"theirs": scores[1:]}, cuts, windows, config)
    # Of windows that are drawn from, what was not drawn is not read.
    few = config.model_copy(update={"evaluation": config.evaluation.model_copy(update={"max_requests": 10})})
    drawn = windows_of(cuts, few)
    assert all(10 <= some.requests.height < whole.in_window for some, whole in zip(drawn, windows, strict=True))
    for found, window in zip(judge_external({"theirs": scores}, cuts, drawn, few), drawn, strict=True):
        assert found.rows.filter(slice="all")["request"].to_list() == sorted(window.truth["request"].unique())


@pytest.mark.slow
def test_what_is_kept_of_other_requests_is_refused(rolled, judged, judged_beside, command, tmp_path):
    project = rolled.copy(tmp_path / "project")
    first_day = judged.facts["origins"][1]["window"][0]
    table = next((project.folder / "out/origins").glob(f"*/{first_day}.parquet"))
    rows = pl.read_parquet(table)
    rows.with_columns(request=rows["request"].max() - rows["request"]).write_parquet(table)
    told = json.loads(table.with_suffix(".json").read_text())
    table.with_suffix(".json").write_text(json.dumps({**told, "per_request": sha256_of(table)}))
    assert judged_beside().code == 0
    ended = command(project, "evaluate", "--origins", "2", "--scores", f"theirs={tmp_path / 'theirs.parquet'}")
    assert ended.code == 12
    assert f"{table.with_suffix('.json')} is of other requests than today's. Remove it" in ended.err


@pytest.mark.slow
def test_scores_that_cannot_be_judged_are_refused_before_anything_is_trained(judged_beside, by_popularity):
    first = by_popularity["day"].min()
    untrained = ("--set", "ranker.max_trees=5")
    ended = judged_beside(*untrained, change=lambda lists: lists.filter(pl.col("day") > first))
    assert ended.code == 10
    asked = by_popularity.select("user_id", "day").unique()
    absent = asked.filter(day=first).height
    assert f"- theirs: {absent} of {asked.height} judged requests have no row ({first}): score them" in ended.err
    assert "Fine-tuning" not in ended.err
    later = pl.col("day").dt.offset_by("1y")
    ended = judged_beside(*untrained, change=lambda lists: pl.concat([lists, lists.head(3).with_columns(later)]))
    assert ended.code == 10
    assert f"- theirs: 3 of {by_popularity.height + 3} rows are of requests that are not judged (" in ended.err
    ended = judged_beside(*untrained, name="popularity")
    assert ended.code == 2
    assert "scores: popularity is taken" in ended.err
    ended = judged_beside(*untrained, "--systems", "full system, their")
    assert ended.code == 2
    assert "'their' is no system here. Did you mean 'theirs'?" in ended.err
    assert "Fine-tuning" not in ended.err


def test_a_log_that_is_too_short_says_how_many_fit(rolled, command):
    ended = command(rolled, "evaluate", "--origins", "4")
    assert ended.code == 2
    assert "--origins 4: 3 fit into this log" in ended.err
    assert "timeline.test_days (7) earlier. For one more, the log spans 34 days" in ended.err
    assert "Fine-tuning" not in ended.err
    log = read_inputs(rolled.config).log
    with pytest.raises(ConfigError, match=r"^the log spans 20 days"):
        origins_of(log.until(log.first_day + 20), rolled.config, 2)


def test_an_origin_ends_where_the_next_opens_though_a_day_is_without_events(rolled):
    inputs = read_inputs(rolled.config)
    log = inputs.log
    (_, last), (_, before) = origins_of(log, rolled.config, 2)
    quiet = relogged(log, single_events(inputs).filter(pl.col("label_day") != last.test.start - 1))
    (_, same), (_, shifted) = origins_of(quiet, rolled.config, 2)
    assert same == last
    assert shifted.test.end == before.test.end - 1


def test_what_only_versions_have_is_refused(rolled, command):
    ended = command(rolled, "evaluate", "--origins", "2", "--version", "1", "--ablate", "text", "--from", "2024-02-01")
    assert ended.code == 2
    assert "--origins" in ended.err
    assert "--version, --from, --ablate" in ended.err
