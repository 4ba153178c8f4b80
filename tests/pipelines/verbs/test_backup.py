"""A backup goes on where the output folder stood, on another path, whatever happened while it was taken."""

import io
import json
import shutil
import subprocess
import sys
import tarfile
from datetime import timedelta
from pathlib import Path

import pytest
from small_registry import decide

from features.errors import ConfigError, IntegrityError
from pipelines.registry.champion import Action, Champion
from pipelines.registry.registry import CHAMPION, Registry
from pipelines.stores.publish import published
from pipelines.verbs.backup import backup, restore
from pipelines.verbs.project import write_day


@pytest.fixture(scope="module")
def project(trained_project, tmp_path_factory):
    """Two versions, the second of which is champion, and a night."""
    from typer.testing import CliRunner

    from pipelines.cli.app import app

    project = trained_project.copy(tmp_path_factory.mktemp("backed-up") / "project")
    registry = Registry(project.config)
    first = registry.version("1")
    second = registry.register(first.run_id, first.digest)
    champions = Champion(registry)
    decide(registry, champions, champions.settle(), Action.PROMOTE, second.number)
    ended = CliRunner().invoke(app, ["score", "--config", str(project.path), "--date", str(project.day)])
    assert ended.exit_code == 0, ended.stderr
    return project


@pytest.fixture(scope="module")
def file(project, tmp_path_factory):
    file = tmp_path_factory.mktemp("backups") / "shop.tar"
    backup(project.config, file)
    return file


def test_after_a_restore_on_another_path_status_score_and_rollback_go_on(project, file, command, tmp_path):
    elsewhere = project.copy(tmp_path / "elsewhere")
    shutil.rmtree(elsewhere.folder / "out")
    ended = command(None, "restore", str(file), "--to", str(tmp_path / "restored" / "out"))
    assert ended.code == 0, ended.err
    assert ended.facts["registry"] is True
    elsewhere.change(output=str(tmp_path / "restored" / "out"))
    status = command(elsewhere, "status").facts
    assert (status["live"], status["version"]) == (str(project.day), "nightrank/2")
    shutil.rmtree(tmp_path / "restored" / "out" / "bundles")  # so that they come from the restored registry
    registry = Registry(elsewhere.config)
    uri = registry.client.get_run(registry.version("1").run_id).info.artifact_uri
    assert uri.startswith((tmp_path / "restored" / "out" / "mlartifacts").as_uri())
    assert command(elsewhere, "score", "--date", str(project.day)).facts["shards_written"] == 0
    write_day(elsewhere.dataset, elsewhere.folder, project.day)
    night = command(elsewhere, "score", "--date", str(project.day + timedelta(days=1)))
    assert night.facts["live"] == str(project.day + timedelta(days=1)), night.err
    rolled_back = command(elsewhere, "rollback", "--reason", "a drill")
    assert rolled_back.facts == {"champion": "nightrank/1", "was": "nightrank/2"}, rolled_back.err
    assert command(elsewhere, "registry", "verify").code == 0


def test_a_backup_leaves_out_what_is_made_again_or_unfinished(project, tmp_path):
    other = project.copy(tmp_path / "project")
    attempts = other.folder / "out" / "rankings" / "attempts"
    (attempts / "2024-02-26-0000").mkdir()
    (attempts / "2024-02-26-0000" / "shard-00000.json").write_text("{}")
    (attempts / ".1234.tmp").write_text("half")
    made = backup(other.config, tmp_path / "shop.tar")
    with tarfile.open(tmp_path / "shop.tar") as tar:
        names = tar.getnames()
    assert names[:3] == ["rankings/journal.jsonl", "rankings/published.json", "mlflow.db"]
    assert names[-1] == "backup.json"
    assert len(names) == made.files + 1
    assert {name.partition("/")[0] for name in names} >= {"bundles", "evaluations", "mlartifacts", "training"}
    assert not [name for name in names if name.startswith(("state/", "vectors/")) or "2024-02-26" in name]
    assert not [name for name in names if name.endswith((".tmp", ".lock", ".mutex"))]


@pytest.mark.slow
def test_backups_that_are_taken_while_a_night_runs_are_whole(project, tmp_path):
    other = project.copy(tmp_path / "project")
    write_day(other.dataset, other.folder, project.day)
    night = [sys.executable, "-c", "from pipelines.cli.app import main; main()", "score", "--config", str(other.path)]
    night += ["--date", str(project.day + timedelta(days=1)), "--set", "night.shard_users=1"]
    lives = set()
    with subprocess.Popen(night, stderr=subprocess.DEVNULL, cwd=Path(__file__).parents[3]) as running:
        while True:
            ended = running.poll() is not None
            backup(other.config, tmp_path / "shop.tar")
            restore(tmp_path / "shop.tar", tmp_path / "restored")
            live = published(tmp_path / "restored" / "rankings")
            registry = Registry(other.config.model_copy(update={"output": str(tmp_path / "restored")}))
            shutil.rmtree(tmp_path / "restored" / "bundles")
            registry.bundle_folder(registry.version(CHAMPION))
            lives.add(live.attempt.day)
            shutil.rmtree(tmp_path / "restored")
            if ended:
                break
    assert running.returncode == 0
    assert lives == {project.day, project.day + timedelta(days=1)}


def test_a_backup_that_was_cut_off_or_altered_is_refused(file, tmp_path):
    whole = file.read_bytes()
    with tarfile.open(file) as tar:
        member = tar.getmember("rankings/published.json")
    flipped = bytearray(whole)
    flipped[member.offset_data] ^= 1
    for content, message in ((whole[: len(whole) // 2], "cut off"), (bytes(flipped), "rankings/published.json")):
        (tmp_path / "bad.tar").write_bytes(content)
        with pytest.raises(IntegrityError, match=message):
            restore(tmp_path / "bad.tar", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["bad.tar"]


@pytest.mark.parametrize("name", ["../outside", "/outside"])
def test_a_file_that_leads_out_of_the_folder_is_refused(name, tmp_path):
    with tarfile.open(tmp_path / "bad.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo(name), io.BytesIO())
        contents = json.dumps({"files": {}}).encode()
        info = tarfile.TarInfo("backup.json")
        info.size = len(contents)
        tar.addfile(info, io.BytesIO(contents))
    with pytest.raises(IntegrityError, match="outside"):
        restore(tmp_path / "bad.tar", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["bad.tar"]


def test_nothing_is_overwritten(project, file, tmp_path):
    with pytest.raises(ConfigError, match="is there and not empty"):
        restore(file, project.folder / "out")
    with pytest.raises(ConfigError, match="lies in the output folder"):
        backup(project.config, project.folder / "out" / "shop.tar")
    with pytest.raises(ConfigError, match="there is no file"):
        restore(tmp_path / "none.tar", tmp_path / "out")
    with pytest.raises(ConfigError, match="there is no output folder"):
        backup(project.config.model_copy(update={"output": str(tmp_path / "none")}), tmp_path / "shop.tar")


def test_runs_and_versions_on_a_server_are_not_in_the_backup_and_it_says_so(project, command, tmp_path):
    other = project.copy(tmp_path / "project")
    other.change(tracking={"uri": "http://127.0.0.1:9"})
    ended = command(other, "backup", "--to", str(tmp_path / "shop.tar"))
    assert (ended.code, ended.facts["registry"]) == (0, False)
    assert "runs and versions lie on a server: back that up, too" in ended.err
    with tarfile.open(tmp_path / "shop.tar") as tar:
        assert "mlflow.db" not in tar.getnames()
