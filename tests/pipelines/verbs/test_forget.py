"""A user leaves: from which files the id goes, what readers see meanwhile, and what is said of the rest."""

import json
import shutil
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from features.errors import TryAgainError
from pipelines.base.config import load_config
from pipelines.stores.journal import journal_of
from pipelines.stores.lease import leased
from pipelines.stores.publish import Attempt, published, published_attempts, published_on
from pipelines.stores.rows import kept_rows
from pipelines.verbs.forget import forget

LEAVER, OTHER = "u000007", "u000008"


@pytest.fixture(scope="module")
def after_a_night(trained_project, tmp_path_factory):
    """The project with a published night, and one of its eve beside."""
    from typer.testing import CliRunner

    from pipelines.cli.app import app

    project = trained_project.copy(tmp_path_factory.mktemp("forget") / "project")
    for day in (project.day, project.day - timedelta(days=1)):
        ended = CliRunner().invoke(app, ["score", "--config", str(project.path), "--date", str(day)])
        assert ended.exit_code == 0, ended.stderr
    return project


@pytest.fixture
def project(after_a_night, tmp_path):
    return after_a_night.copy(tmp_path / "project")


def files_with(project, user):
    """Files of the output folder that hold an id: a value of a table, or among their bytes."""
    holding = []
    for path in Path(project.config.output).rglob("*"):
        if path.suffix == ".parquet":
            table = pl.read_parquet(path, glob=False, hive_partitioning=False)
            holding += [
                path
                for column in table.iter_columns()
                if user in column.cast(pl.List(pl.String) if column.dtype == pl.List else pl.String).explode().to_list()
            ]
        elif path.is_file() and user.encode() in path.read_bytes():
            holding.append(path)
    return holding


def test_a_user_goes_from_every_file_and_stays_away_and_no_word_names_the_id(project, command):
    root = Path(project.config.output) / "rankings"
    quarantine = Path(project.config.output) / "quarantine" / "events.parquet"
    quarantine.parent.mkdir(exist_ok=True)
    pl.DataFrame({"user_id": [LEAVER, OTHER, None], "text": ["a", "b", "c"]}).write_parquet(quarantine)
    before = published(root).rankings()
    assert {path.parent.name for path in files_with(project, LEAVER)} >= {"state", "training", "quarantine"}
    journal = [(entry["action"], entry["at"], entry["token"]) for entry in journal_of(root)]
    rows = sum(path.parent.name == "training" for path in files_with(project, LEAVER))
    ended = command(project, "forget", "--user", LEAVER)
    assert ended.code == 0, ended.err
    assert ended.facts["removed"] == {
        "nights": 2,
        "unpublished nights": 0,
        "folded state": 1,
        "files of kept rows": rows,
        "rows set aside": 1,
    }
    assert files_with(project, LEAVER) == []
    assert LEAVER not in ended.err + ended.out
    assert "data.events.path, data.users.path" in ended.err
    assert len(ended.facts["remains"]) == 4  # no file of a version holds an id
    assert ended.facts["checked_files_of_versions"] > 0

    after = published(root)
    assert after.rankings().equals(before.filter(pl.col("user_id") != LEAVER))
    assert after.manifest["forgotten"] == 1
    assert [(entry["action"], entry["at"], entry["token"]) for entry in journal_of(root)] == journal
    assert published_on(root, project.day - timedelta(days=1))[0].verify()["forgotten"] == 1
    assert command(project, "read", "--user", LEAVER).facts["fallback"]
    assert command(project, "status").facts["users"] == 59
    assert pl.read_parquet(quarantine)["user_id"].to_list() == [OTHER, None]

    again = command(project, "forget", "--user", LEAVER)
    assert (again.code, sum(again.facts["removed"].values())) == (0, 0)
    assert "nothing held of this user" in again.err
    night = command(project, "score", "--date", str(project.day))  # of the same tables, which hold the user still
    assert night.code == 0, night.err
    assert night.facts.items() >= {"shards_written": 0, "pointer_moved": False}.items()
    assert published(root).attempt == after.attempt


def test_a_version_continues_from_the_rows_of_the_others(project, command, tmp_path):
    file = tmp_path / "leaver.txt"
    for user in (LEAVER, OTHER):
        file.write_text(f"{user}\n")
        assert command(project, "forget", "--user-file", str(file)).facts["removed"]["files of kept rows"] >= 1
    log = project.inputs.log
    rows = kept_rows(project.trained.rows, log, project.config)
    ids = set(log.user_ids.gather(rows["user"].unique()))
    assert ids.isdisjoint({LEAVER, OTHER})
    assert len(ids) > 40


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "name one user"),
        (("--user", "u1", "--user-file", "leaver.txt"), "name one user"),
        (("--user-file", "nowhere.txt"), "cannot be read"),
    ],
)
def test_one_user_is_named(arguments, says, project, command):
    ended = command(project, "forget", *arguments)
    assert ended.code == 2
    assert says in ended.err


def test_an_unknown_user_is_nothing_held(project, command, snapshot):
    root = Path(project.config.output) / "rankings"
    before = snapshot(root)
    ended = command(project, "forget", "--user", "nobody-of-this-name")
    assert (ended.code, set(ended.facts["removed"].values())) == (0, {0})
    assert "nothing held" in ended.err
    assert "nobody-of-this-name" not in ended.err
    assert snapshot(root) == before


@pytest.fixture
def shelf(tmp_path):
    """Three small nights: one forced, one live, one never published; with a user of a number."""
    path = tmp_path / "nightrank.yaml"
    path.write_text("data: {items: {path: items.csv}, events: {path: events.csv}}\nlabels: {gains: {purchase: 1}}\n")
    config = load_config(path)
    root = Path(config.output) / "rankings"
    for name, live in (("2024-02-18-a", True), ("2024-02-19-b", True), ("2024-02-19-c", False)):
        attempt = Attempt(root, name)
        attempt.write("shard-00000", pl.DataFrame({"user_id": [1, 2], "item_id": ["x", "y"]}))
        attempt.write("shard-00001", pl.DataFrame({"user_id": [17], "item_id": ["z"]}))
        attempt.write("fallback", pl.DataFrame({"rank": [1]}))
        (attempt.folder / "measures.json").write_text("{}")
        attempt.finish(["shard-00000", "shard-00001", "fallback"], {"users": 3, "date": name[:10]})
        if live:
            attempt.publish(
                blocked={"catalogue": "thin"} if name.endswith("a") else {},
                reason="it is right" if name.endswith("a") else None,
            )
    return config, root


def test_the_journal_keeps_what_it_says_and_counts_users(shelf):
    config, root = shelf
    removed = forget(config, "1").removed
    assert (removed["nights"], removed["unpublished nights"]) == (2, 1)
    assert [path.name for path in sorted((root / "attempts").iterdir())] == ["2024-02-18-a-r1", "2024-02-19-b-r1"]
    assert [entry.get("forced") for entry in journal_of(root)] == [["catalogue"], None]
    assert published_attempts(root) == [Attempt(root, "2024-02-19-b-r1")]
    assert published(root).rankings()["user_id"].to_list() == [2, 17]
    assert (published(root).attempt.folder / "measures.json").read_text() == "{}"
    forget(config, "17")
    live = published(root)
    assert live.attempt.name == "2024-02-19-b-r2"
    assert (live.rankings()["user_id"].to_list(), live.manifest["users"], live.manifest["forgotten"]) == ([2], 3, 2)
    assert Attempt(root, "2024-02-19-b").newest == live.attempt
    assert not live.attempt.publish()
    lines = [json.loads(line) for line in (root / "journal.jsonl").read_text().splitlines()]
    assert [line["action"] for line in lines] == ["live", "live", *["revised"] * 4]


def test_a_user_is_not_forgotten_under_a_running_night(shelf):
    config, root = shelf
    with leased(Path(config.output), published(root).attempt.day, minutes=60), pytest.raises(TryAgainError):
        forget(config, "1")
    assert 1 in published(root).rankings()["user_id"]


def killing(monkeypatch):
    """Have the n-th change of a file below `rankings` end the process; returns the counter to set."""
    count = {"left": 10**6}

    def counted(name):
        change = getattr(Path, name)

        def changed(path, *arguments, **more):
            if "rankings" in path.parts and (name != "open" or arguments[:1] == ("a+b",)):
                count["left"] -= 1
                if count["left"] == 0:
                    raise KeyboardInterrupt
            return change(path, *arguments, **more)

        return changed

    for name in ("replace", "rename", "unlink", "open"):
        monkeypatch.setattr(Path, name, counted(name))
    return count


def test_killed_at_any_step_readers_see_whole_nights_and_the_next_run_finishes(shelf, monkeypatch, tmp_path):
    config, root = shelf
    pristine = shutil.copytree(root, tmp_path / "pristine")
    count = killing(monkeypatch)
    for step in range(1, 100):
        shutil.rmtree(root)
        shutil.copytree(pristine, root)
        count["left"] = step
        try:
            forget(config, "1")
        except KeyboardInterrupt:
            count["left"] = 10**6
            assert tuple(published(root).rankings()["user_id"]) in {(1, 2, 17), (2, 17)}
            for entry in journal_of(root):
                Attempt(root, entry["attempt"]).verify()
            forget(config, "1")
        count["left"], left = 10**6, count["left"]
        assert tuple(published(root).rankings()["user_id"]) == (2, 17)
        assert [path.name for path in sorted((root / "attempts").iterdir())] == ["2024-02-18-a-r1", "2024-02-19-b-r1"]
        assert [entry["action"] for entry in journal_of(root)] == ["live", "live"]
        if 0 < left < 100:  # it ended before the step
            break
    assert 20 < step < 99
