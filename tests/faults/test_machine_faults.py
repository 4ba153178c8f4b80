"""Faults 12 to 42 of the inputs' cases that are the machine's, and faults 74, 75, 83 and 85: what MLflow, its database,
accounts, folders and names do to a command."""

import getpass
import os
import shutil
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest
from mlflow import MlflowClient

import pipelines.registry.tracking_store
from features.errors import ConfigError, TryAgainError
from pipelines.registry.registry import CHAMPION, Registry
from pipelines.registry.tracking import Tracking, probe, tracking_uri


def out(project) -> Path:
    return project.folder / "out"


def take_champion_away(project) -> None:
    """Version 1 is challenger again, and the history empty."""
    client = Tracking(project.config).client
    client.delete_registered_model_alias("nightrank", CHAMPION)
    client.set_registered_model_alias("nightrank", "challenger", "1")
    client.delete_registered_model("~nightrank.decision-000001")


def aliases(project) -> set[str]:
    return set(Registry(project.config).version("1").aliases)


def refused(ended, code: int, *says: str) -> None:
    assert ended.code == code, ended.err
    assert "Traceback" not in ended.err
    assert [words for words in says if words not in ended.err] == []
    assert ended.out == ""


def test_faults_51_and_74_an_account_without_a_name_is_its_number(project, command, monkeypatch):
    """A container's random uid has no entry in /etc/passwd, and no USER is set."""

    def nobody():
        raise KeyError("getpwuid(): uid not found: 31337")

    monkeypatch.setattr(getpass, "getuser", nobody)
    take_champion_away(project)
    assert command(project, "promote").facts["champion"] == "nightrank/1"
    (entry,) = command(project, "history").facts["history"]
    assert (entry["by"], entry["to"]) == (f"uid {os.getuid()}", "nightrank/1")


def test_fault_74_nothing_moves_where_the_decision_cannot_be_written(project, command):
    take_champion_away(project)
    before = aliases(project)
    with closing(sqlite3.connect(out(project) / "mlflow.db")) as opened, opened:
        opened.execute(
            "create trigger full before insert on registered_models "
            "begin select raise(abort, 'database or disk is full'); end"
        )
    refused(command(project, "promote"), 75, "the disk is full")
    assert aliases(project) == before


@pytest.mark.parametrize("verb", [("promote", "--version", "1"), ("train",), ("score", "--date", "2024-02-25")])
def test_fault_61_a_folder_that_cannot_be_made_is_told_in_a_sentence(verb, project, command):
    for name in ("registry", "jobs", "state", "rankings"):
        shutil.rmtree(out(project) / name, ignore_errors=True)
        (out(project) / name).write_text("in the way")
    refused(command(project, *verb), 75, "A file stands where a folder should be")


def test_fault_52_a_deleted_experiment_stops_trainings_and_no_night(project, command):
    config = project.config
    client = MlflowClient(tracking_uri(config), tracking_uri(config))
    client.delete_experiment(client.get_experiment_by_name("nightrank").experiment_id)
    refused(command(project, "train"), 2, "was deleted in MLflow", "experiments restore -x 1", "tracking.experiment")
    with pytest.raises(ConfigError, match="was deleted"):
        probe(config)
    assert command(project, "history").code == 0
    assert command(project, "score", "--date", str(project.day)).code == 0


def test_fault_60_a_database_of_another_mlflow_names_its_remedy(project, command):
    with closing(sqlite3.connect(out(project) / "mlflow.db")) as opened, opened:
        opened.execute("update alembic_version set version_num = 'bda7b8c39065'")
    ended = command(project, "score", "--date", str(project.day))
    refused(ended, 2, f"mlflow db upgrade sqlite:///{out(project)}/mlflow.db", "It says: Detected out-of-date")


def test_fault_59_a_database_that_a_viewer_holds_ends_with_75(project, command, monkeypatch):
    monkeypatch.setattr(pipelines.registry.tracking_store, "_LOCKED_SECONDS", 0.1)
    with closing(sqlite3.connect(out(project) / "mlflow.db", isolation_level=None)) as held:
        held.execute("begin exclusive")
        for verb in ("train", "history"):
            refused(command(project, verb), 75, "another program holds the database", "database is locked")
        with pytest.raises(TryAgainError, match="database is locked"):
            probe(project.config)
    assert command(project, "history").code == 0


def test_fault_75_a_database_that_was_left_half_made_is_named(project, command):
    with closing(sqlite3.connect(out(project) / "mlflow.db")) as opened, opened:
        opened.execute("delete from alembic_version")
        opened.execute("drop table model_versions")
    refused(command(project, "history"), 2, "left half made. Move it away")


def test_a_database_that_is_none_ends_with_12(project, command):
    (out(project) / "mlflow.db").write_bytes(b"no database at all" * 100)
    refused(command(project, "history"), 12, "Bring it back from a backup")


def test_fault_64_artefacts_follow_a_project_that_was_moved(project, command, tmp_path, monkeypatch):
    """The shared project was trained elsewhere: this copy of it reads and writes here alone."""
    config, there = project.config, out(project) / "mlartifacts"
    run_id = Registry(config).version("1").run_id
    client = MlflowClient(tracking_uri(config), tracking_uri(config))
    before = client.get_run(run_id).info.artifact_uri
    assert not before.startswith(there.as_uri())
    shutil.rmtree(out(project) / "bundles")
    monkeypatch.setattr("pipelines.registry.registry.download_artifacts", None)  # which would ask the old place
    assert command(project, "score", "--date", str(project.day)).code == 0
    note = tmp_path / "note.txt"
    note.write_text("of this copy")
    with Tracking(config).run() as run:
        run.record("train", metrics={}, series={}, tags={}, artefacts={"notes": note})
    assert (there / run.id / "artifacts" / "notes" / "note.txt").read_text() == "of this copy"
    assert client.get_run(run_id).info.artifact_uri == f"{there.as_uri()}/{run_id}/artifacts"


@pytest.mark.parametrize("name", ["~Mein Ordner Ü/a#b;c[1]", "50% off/what?now=1/a%20b"])
def test_fault_53_whatever_an_output_folder_is_called_all_is_written_there_and_only_there(name, shop_project, tmp_path):
    project = shop_project.copy(tmp_path / "project")
    project.change(output=f"{name}/out")
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    note = project.folder / "nightrank.yaml"
    config = project.config
    with Tracking(config).run() as run:
        run.record("train", metrics={"m": 1.0}, series={}, tags={}, artefacts={"notes": note})
    root = project.folder / name / "out"
    made = {path for path in tmp_path.rglob("*") if path.is_file()} - before
    assert {path.relative_to(root).parts[0] for path in made} == {"mlflow.db", "mlflow.db.lock", "jobs", "mlartifacts"}
    assert (root / "mlartifacts" / run.id / "artifacts" / "notes" / "nightrank.yaml").read_bytes() == note.read_bytes()
    client = MlflowClient(tracking_uri(config), tracking_uri(config))
    assert [artefact.path for artefact in client.list_artifacts(run.id, "notes")] == ["notes/nightrank.yaml"]
    assert {path.name for path in tmp_path.iterdir()} == {"project"}
    assert {path.name for path in project.folder.iterdir()} - {path.name for path in shop_project.folder.iterdir()} == {
        Path(name).parts[0]
    }


def test_fault_79_with_a_database_as_tracking_uri_artefacts_lie_under_output(project, tmp_path, monkeypatch):
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    (tmp_path / "databases").mkdir()
    uri = f"sqlite:///{tmp_path}/databases/runs.db"
    config = project.config.model_copy(update={"output": str(tmp_path / "results")})
    config = config.model_copy(update={"tracking": config.tracking.model_copy(update={"uri": uri})})
    with Tracking(config).run() as run:
        run.record("train", metrics={}, series={}, tags={}, artefacts={"notes": project.path})
    assert (tmp_path / "results" / "mlartifacts" / run.id / "artifacts" / "notes" / "nightrank.yaml").is_file()
    assert list((tmp_path / "cwd").iterdir()) == []


def test_a_run_that_no_longer_holds_its_bundle_is_named(project, command):
    shutil.rmtree(out(project) / "bundles")
    shutil.rmtree(out(project) / "mlartifacts")
    with Tracking(project.config).run():  # by which the artefacts' place is known to be here
        pass
    refused(command(project, "score", "--date", str(project.day)), 12, "no longer holds the bundle", "train again")


def test_a_probe_makes_nothing(shop_project, tmp_path):
    config = shop_project.config.model_copy(update={"output": str(tmp_path / "new" / "out")})
    probe(config)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "new").write_text("in the way")
    with pytest.raises(TryAgainError, match="A file stands where a folder should be"):
        probe(config)


def test_fault_83_a_bundle_may_be_read_by_whom_the_umask_lets(project):
    mask = os.umask(0)
    os.umask(mask)
    (bundle,) = (out(project) / "bundles").iterdir()
    for path in (bundle, *bundle.rglob("*")):
        asked = (0o777 if path.is_dir() else 0o666) & ~mask
        assert stat.S_IMODE(path.stat().st_mode) == asked, path


def test_fault_85_a_systems_name_and_a_files_name_are_not_interpreted(project, command):
    odd = "\x1b[31m[red]\x9b\u202e[/]"
    ended = command(project, "evaluate", "--scores", f"{odd}={odd}.parquet")
    assert ended.code == 2
    assert not [letter for letter in "\x1b\x9b\u202e" if letter in ended.err]
    missing = command(project, "check", "--set", f"data.users.path={odd}.parquet")
    assert missing.code == 2
    assert not [letter for letter in "\x1b\x9b\u202e" if letter in missing.err]
