"""The main job as its owner runs it: train, register, promote, score, and a second night."""

import os
import re
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest
import yaml

from features.log.event_log import day_of
from features.requests.engaged import requests_between, requests_tonight
from pipelines.evaluation.evaluate import FULL
from pipelines.registry.bundle import load_bundle
from pipelines.registry.registry import CHALLENGER, CHAMPION, Registry
from pipelines.registry.tracking import Tracking
from pipelines.registry.versions import judge_versions, load_version
from pipelines.stores.publish import published
from pipelines.training.chain import Chain
from pipelines.verbs.project import write_day

BUNDLE = {
    "MLmodel",
    "candidates.json",
    "manifest.json",
    "config.yaml",
    "evaluation.json",
    "features.json",
    "golden.parquet",
    "encoder/config.json",
    "encoder/model.safetensors",
    "encoder/tokenizer.json",
    "ranker/booster.txt",
    "ranker/network.safetensors",
    "ranker/behaviour.safetensors",
    "ranker/behaviour.txt",
}
ANY_ID = re.compile(r"\b[uie]0\d{5}\b")  # as the simulated shop numbers users, items and events


def rankings_folder(project) -> Path:
    return Path(project.config.output) / "rankings"


def lists(project) -> dict:
    live = published(rankings_folder(project))
    assert live is not None
    return {
        user: rows["item_id"].to_list()
        for (user,), rows in live.rankings().sort("user_id", "rank").group_by("user_id", maintain_order=True)
    }


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_version_is_trained_promoted_and_ranks_two_nights_without_a_word_of_the_data_in_the_logs(
    shop_project, trained_project, tmp_path, command
):
    project = shop_project.copy(tmp_path / "project")
    told = [command(project, "check"), command(project, "train")]
    # The same seed gives the same figures, to the last digit, in another folder.
    evaluation = trained_project.registered.evaluation.as_json()
    facts = told[-1].facts
    assert facts.items() >= evaluation.items()
    assert facts["version"] == "nightrank/1"
    warned = [line for line in told[-1].err.splitlines() if "windows reach before the data" in line]
    assert len(warned) == 1
    assert '"first_event": "2024-01-01"' in warned[0]
    assert '"windows_days": [28, 90]' in warned[0]
    told.append(command(project, "promote"))
    assert told[-1].facts["champion"] == "nightrank/1"
    assert "scores tell candidates apart" in told[-1].facts["gates"]

    told.append(command(project, "score", "--date", str(project.day)))
    assert told[-1].facts.items() >= {"users": 60, "shards": 3, "shards_written": 3, "pointer_moved": True}.items()
    assert told[-1].facts["rows"] == 60 * 10
    assert told[-1].facts["texts_encoded"] == 0  # all known from training
    told.append(command(project, "status"))
    live = told[-1].facts
    assert (live["live"], live["version"], live["users"]) == ("2024-02-25", "nightrank/1", 60)
    first = lists(project)

    write_day(project.dataset, project.folder, project.day)
    items = pl.read_parquet(project.folder / "items.parquet")
    new = items.head(2).with_columns(item_id=pl.Series(["x1", "x2"]), title=pl.lit("A title nobody had before"))
    pl.concat([items, new.with_columns(description=pl.lit(None, pl.String))]).write_parquet(
        project.folder / "items.parquet"
    )
    told.append(command(project, "score", "--date", str(project.day + timedelta(days=1))))
    assert told[-1].facts["texts_encoded"] == 1  # two items with one text
    today = project.dataset.events.filter(pl.col("timestamp").dt.date() == project.day, pl.col("event") == "purchase")
    bought = today["user_id"].unique().to_list()
    second = lists(project)
    changed = [user for user in bought if second[user] != first[user]]
    assert len(bought) > 2
    assert len(changed) > len(bought) / 2
    assert command(project, "status").facts["live"] == "2024-02-26"

    titles = set(items["title"].drop_nulls())
    for ended in told:
        assert ended.code == 0
        assert not ANY_ID.search(ended.err)
        assert not [title for title in titles if title in ended.err]
    output = Path(project.config.output)
    tracked = [output / "mlflow.db", *(output / "rankings").glob("*.json*"), *(output / "rankings").glob("*/*/*.json")]
    for folder in ("mlartifacts", "bundles", "evaluations", "jobs"):
        tracked += [path for path in (output / folder).rglob("*") if path.is_file()]
    assert len(tracked) > 20
    for path in tracked:
        content = path.read_bytes()
        assert not ANY_ID.search(content.decode("latin-1")), path
        assert not [title for title in titles if title.encode() in content], path


def test_the_bundle_repeats_the_evaluation_of_the_training_to_the_last_digit(trained_project):
    name, bundle = load_version(Registry(trained_project.config), "1")
    first, last = (day_of(day) for day in bundle.window)
    again = judge_versions(
        trained_project.inputs.log, trained_project.config, {name: bundle}, first_day=first, end_day=last + 1
    )
    assert again.as_json() == trained_project.registered.evaluation.as_json()


def test_what_lists_are_like_is_judged_by_what_was_had_before_the_window(trained_project):
    log, evaluation = trained_project.inputs.log, trained_project.registered.evaluation
    before = log.engaged.filter(pl.col("day") < evaluation.first_day).select("user", "item").unique()
    users_of_item = before["item"].value_counts(sort=True)["count"]
    found = evaluation.beyond
    usual, most = (counts.mean() / before["user"].n_unique() for counts in (users_of_item, users_of_item.head(10)))
    assert usual < found[FULL]["popularity@10"] < found["popularity"]["popularity@10"] <= most
    assert found["popularity"]["coverage@10"] < found[FULL]["coverage@10"] <= 1
    assert found["popularity"]["gini@10"] > found[FULL]["gini@10"]
    assert found["popularity"]["novelty@10"] < found[FULL]["novelty@10"]
    assert {name for name in found[FULL] if name.endswith("@10")} == {
        f"{name}@10" for name in ("popularity", "novelty", "diversity", "coverage", "gini")
    }
    assert 0 < found[FULL]["diversity@10"] < 1


def test_the_bundle_holds_its_named_files_and_nothing_that_runs_code(trained_project):
    folder = trained_project.registered.bundle
    assert files(folder) == BUNDLE
    starts = {path: (folder / path).read_bytes()[:2] for path in BUNDLE}
    assert not [path for path, start in starts.items() if start[:1] == b"\x80" or start == b"PK"]
    kept = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    assert str(trained_project.folder) not in str(kept)
    assert load_bundle(folder).cutoff == trained_project.trained.cutoff()


def test_the_run_records_configuration_losses_metrics_and_bundle(trained_project):
    registry = Registry(trained_project.config)
    version = registry.version(CHAMPION)
    assert version.number == "1"
    assert registry.find(CHALLENGER) is None
    client, trained = Tracking(trained_project.config).client, trained_project.trained
    run = client.get_run(version.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["ranker.max_trees"] == "20"
    assert run.data.params["ranker.patience"] == "50"  # a default is resolved too
    for block, losses in enumerate(training.losses for training in trained.block_trainings):
        logged = client.get_metric_history(version.run_id, f"encoder.block_{block}.loss")
        assert [metric.value for metric in sorted(logged, key=lambda metric: metric.step)] == losses
        assert len(losses) == 12
    table = trained_project.registered.evaluation.judged.table.filter(slice="all", metric="ndcg@10")
    for system, mean in table.select("system", "mean").rows():
        name = system.replace(" ", "_").replace(",", "_")
        assert run.data.metrics[f"{name}.all.ndcg_at_10"] == mean
    artefacts = {file.path for inner in ("", "encoder", "ranker") for file in _listed(client, version.run_id, inner)}
    assert artefacts == {f"bundle/{name}" for name in BUNDLE}


def _listed(client, run_id, inner):
    found = client.list_artifacts(run_id, f"bundle/{inner}".rstrip("/"))
    return [file for file in found if not file.is_dir]


def test_a_rerun_changes_no_byte_and_no_time_of_any_file(project, night, snapshot):
    assert night().code == 0
    before = snapshot(rankings_folder(project))
    again = night()
    assert again.code == 0
    assert again.facts["shards_written"] == 0
    assert again.facts["pointer_moved"] is False
    assert snapshot(rankings_folder(project)) == before


def test_fault_1_a_killed_night_computes_again_only_what_is_missing(project, night, snapshot):
    attempt = Path(night().facts["attempt"])
    before = snapshot(rankings_folder(project))
    lost = [attempt / name for name in ("shard-00001.parquet", "shard-00001.json", "manifest.json")]
    for path in lost:
        path.unlink()
    again = night()
    assert again.code == 0
    assert again.facts["shards_written"] == 1
    after = snapshot(rankings_folder(project))
    assert {name: digest for name, (digest, _) in after.items()} == {
        name: digest for name, (digest, _) in before.items()
    }
    touched = {name for name in after if after[name][1] != before[name][1]}
    assert touched == {str(path.relative_to(rankings_folder(project))) for path in lost}


def test_fault_86_what_killed_nights_left_is_removed_by_the_next(project, night):
    attempt, output = Path(night().facts["attempt"]), Path(project.config.output)
    left = [folder / f".{'0' * 32}.tmp" for folder in (attempt, output / "state", output / "rankings")]
    gone = output / "rankings" / "attempts" / f".{'0' * 32}.gone"
    gone.mkdir()
    for path in (*left, gone / "shard-00000.parquet"):
        path.write_bytes(b"PAR1")
        os.utime(path, (0, 0))
    fresh = output / "rankings" / f".{'1' * 32}.tmp"  # of a command that may be writing it
    fresh.write_bytes(b"PAR1")
    assert night().code == 0
    assert not [path for path in (*left, gone) if path.exists()]
    assert fresh.exists()


def test_fault_2_a_night_killed_before_the_pointer_is_published_by_the_rerun(project, night, command):
    """Fault 2."""
    night()
    (rankings_folder(project) / "published.json").unlink()
    assert command(project, "status").facts == {"live": None}
    assert night().facts.items() >= {"shards_written": 0, "pointer_moved": True}.items()


@pytest.mark.parametrize("name", ["shard-00001.parquet", "shard-00001.json", "manifest.json", "fallback.parquet"])
def test_faults_6_and_76_an_altered_file_of_the_night_is_made_again_by_the_next_run(name, project, night, command):
    """A rerun makes it again, byte by byte; until then readers are warned."""
    attempt = Path(night().facts["attempt"])
    pointer = (rankings_folder(project) / "published.json").read_bytes()
    path = attempt / name
    content = path.read_bytes()
    flipped = content.replace(b"sha256", b"sha257", 1) if name.endswith("1.json") else content.replace(b"e", b"f", 1)
    path.write_bytes(flipped)
    if name != "shard-00001.json":
        assert command(project, "status").code == 12  # nothing else was ever live
    ended = night()
    assert ended.code == 0, ended.err
    assert ended.facts["made_again"] == [Path(name).stem]
    assert "damaged files were made again" in ended.err
    assert path.read_bytes() == content
    assert (rankings_folder(project) / "published.json").read_bytes() == pointer
    assert command(project, "status").facts["damaged"] is None
    assert "made_again" not in night().facts


def test_fault_76_meanwhile_the_last_good_night_is_read_and_the_pointer_is_mended(project, night, command):
    quiet = ("--set", "night.audits.eve=off", "--set", "night.audits.event_types=off")
    tomorrow = project.day + timedelta(days=1)
    assert night().code == 0
    attempt = Path(night(*quiet, when=tomorrow).facts["attempt"])
    shard = attempt / "shard-00000.parquet"
    sound = shard.read_bytes()
    shard.write_bytes(sound[:-9] + b"?" + sound[-8:])
    read = command(project, "read", "--user", "u000001")
    assert (read.code, read.facts["date"]) == (0, str(project.day))
    assert "the last good rankings are read" in read.err
    ended = command(project, "status")
    assert ended.code == 12
    assert ended.facts["live"] == str(project.day)
    assert "'shard-00000' missing or altered" in ended.facts["damaged"]
    (rankings_folder(project) / "published.json").write_text("{", encoding="utf-8")
    again = night(*quiet, when=tomorrow)
    assert again.facts["made_again"] == ["pointer", "shard-00000"]
    assert shard.read_bytes() == sound
    assert command(project, "status").facts.items() >= {"live": str(tomorrow), "damaged": None}.items()


def test_fault_76_a_damaged_state_is_folded_again(project, night):
    """What is folded of the log is a cache: its files are named by their content, and its manifest bears a hash."""
    first = night()
    state = Path(project.config.output) / "state"
    for path in state.iterdir():
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    ended = night("--set", "night.shard_users=60")
    assert ended.code == 0, ended.err
    assert ended.facts["rows"] == first.facts["rows"]


def test_fault_84_a_dry_run_writes_nothing(project, night, snapshot):
    items = pl.read_parquet(project.folder / "items.parquet")
    nameless = items.head(1).with_columns(item_id=pl.lit(None, items.schema["item_id"]))  # to be set aside
    pl.concat([items, nameless]).write_parquet(project.folder / "items.parquet")
    before = snapshot(project.folder)
    ended = night("--dry-run")
    assert ended.code == 0
    assert ended.facts["dry_run"] is True
    assert snapshot(project.folder) == before
    assert not Path(ended.facts["attempt"]).exists()
    assert night().facts["attempt"] == ended.facts["attempt"]
    assert (project.folder / "out/quarantine/items.parquet").exists()


@pytest.mark.parametrize(("when", "says"), [("2023-12-31", "starts on 2024-01-01"), ("2024-03-10", "max_days_behind")])
def test_fault_39_a_night_outside_what_is_known_is_blocked(when, says, project, night):
    night()
    pointer = (rankings_folder(project) / "published.json").read_bytes()
    ended = night(when=when)
    assert ended.code == 11
    assert says in ended.err
    assert (rankings_folder(project) / "published.json").read_bytes() == pointer


def test_as_many_days_behind_as_are_allowed_are_no_fault(night, project):
    assert night("--dry-run", when=project.day + timedelta(days=3)).code == 0
    assert night("--dry-run", when=project.day + timedelta(days=4)).code == 11


def test_integer_ids_stay_integers(project, night):
    number = pl.col("^(user_id|item_id)$").str.slice(1).cast(pl.Int32)
    for path in [*project.folder.glob("*.parquet"), *project.folder.glob("events/*/*.parquet")]:
        pl.read_parquet(path, hive_partitioning=False).with_columns(number).write_parquet(path)
    assert night().code == 0
    live = published(rankings_folder(project))
    assert live.rankings().schema["user_id"] == pl.Int64
    assert live.rankings().schema["item_id"] == pl.Int64
    assert live.fallback().schema["item_id"] == pl.Int64
    assert set(live.rankings()["user_id"]) == set(range(60))


@pytest.mark.parametrize("days_ago", [1, 5, 20])
def test_the_night_makes_the_rows_and_scores_that_training_made(days_ago, trained_project):
    log, trained = trained_project.inputs.log, trained_project.trained
    day = log.last_day - days_ago
    inventory = trained.chain.assembler.plan.inventory
    asked = requests_between(log, day, day + 1)
    assert asked.height > 3
    learned = pl.concat(Chain(log, trained_project.config, trained.model, inventory).rows(asked, name="training"))
    tonight = requests_tonight(asked["user"], day)
    night = Chain(log.before(day), trained_project.config, trained.model, inventory)
    served = pl.concat(night.rows(tonight, name="night"))
    assert learned.select("user", "item", "as_of_day").equals(served.select("user", "item", "as_of_day"))
    for name in trained.chain.features:
        assert learned[name].to_numpy().tobytes() == served[name].to_numpy().tobytes(), name
    assert trained.ranker.predict(learned).tobytes() == trained.ranker.predict(served).tobytes()
