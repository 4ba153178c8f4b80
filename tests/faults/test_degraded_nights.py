"""A night whose registry is down, hangs, is damaged or lost its champion, by real servers and files."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from free_port import free_port

from pipelines.registry.registry import CHAMPION, Registry
from pipelines.registry.tracking import Tracking
from pipelines.stores.publish import journal_of, published

_START_SECONDS = 120
MOST_SECONDS = 20


def out(project) -> Path:
    return project.folder / "out"


@contextmanager
def mlflow_server(project, port):
    """A real `mlflow server` over the project's database, until it is killed."""
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
            *("--backend-store-uri", f"sqlite:///{out(project)}/mlflow.db"),
            *("--artifacts-destination", str(out(project) / "mlartifacts")),
        ],
        cwd=project.folder,
        env=environment,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(f"http://127.0.0.1:{port}/health", process)
        yield process
    finally:
        kill(process)


def wait_for(address, process):
    end = time.monotonic() + _START_SECONDS
    while time.monotonic() < end:
        assert process.poll() is None
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    raise TimeoutError(address)


def kill(process):
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@contextmanager
def hanging(port):
    """A server that accepts and never answers."""
    with socket.create_server(("127.0.0.1", port), backlog=64):
        yield


def degraded(ended, *says):
    assert ended.code == 0, ended.err
    assert "Traceback" not in ended.err
    assert [words for words in says if words not in ended.facts["degraded"]] == []
    assert '"event": "degraded"' in ended.err
    return ended.facts


@pytest.mark.slow
def test_fault_70_a_server_that_is_killed_or_hangs_costs_seconds_and_its_champion_ranks_the_night(
    project, night, command
):
    port = free_port()
    project.change(tracking={"uri": f"http://127.0.0.1:{port}"}, night={"audits": {"eve": "off", "event_types": "off"}})
    days = [project.day + timedelta(days=days) for days in range(3)]
    with mlflow_server(project, port):
        first = night()
        assert first.code == 0, first.err
        assert "degraded" not in first.facts
        assert command(project, "status").facts["degraded"] is None
    down = degraded(night(when=days[1]), "does not answer", "nightrank/1 was champion by decision 1")
    assert down["pointer_moved"]
    assert command(project, "status").facts["degraded"] == down["degraded"]
    manifest = json.loads(Path(down["attempt"], "manifest.json").read_text(encoding="utf-8"))
    assert manifest["degraded"] == down["degraded"]
    with hanging(port):
        start = time.monotonic()
        hung = degraded(night(when=days[2]), "nightrank/1 was champion")
        assert time.monotonic() - start < MOST_SECONDS + 10  # some of which the ranking takes
        assert hung["pointer_moved"]
        assert command(project, "sync").code == 75
    with mlflow_server(project, port):
        synced = command(project, "sync")
        assert synced.facts == {"written": 4, "left": 0, "champion": "nightrank/1", "agrees": True}
        client = Tracking(project.config).client
        tags = client.get_model_version("nightrank", "1").tags
        assert {key for key in tags if "degraded" in key} == {f"nightrank.degraded.{day}" for day in days[1:]}
        assert command(project, "sync").facts["written"] == 0
        assert night(when=days[2]).facts["pointer_moved"] is False  # the same night in full health changes nothing


def test_fault_70_a_champion_of_another_server_does_not_stand_in(project, night):
    assert night().code == 0
    port = free_port()
    project.change(tracking={"uri": f"http://127.0.0.1:{port}"})
    record = out(project) / "jobs/champion.json"
    seen = json.loads(record.read_text(encoding="utf-8"))["body"]
    assert seen.items() >= {"name": "nightrank/1", "decision": 1, "digest": project.registered.version.digest}.items()
    with hanging(port):
        assert night().code == 75


@pytest.mark.parametrize("damage", ["gone", "empty", "garbled"])
def test_fault_37_a_database_that_is_gone_or_damaged_stops_no_night(damage, project, night, command):
    assert night().code == 0
    database = out(project) / "mlflow.db"
    kept = database.read_bytes()
    if damage == "gone":
        database.rename(out(project) / "aside.db")
    else:
        database.write_bytes(b"" if damage == "empty" else b"no database at all" * 100)
    before = database.read_bytes() if database.exists() else None
    ended = degraded(night("--set", "night.top=9"), "backup")
    assert ended.items() >= {"pointer_moved": True, "version": "nightrank/1"}.items()
    assert published(out(project) / "rankings").manifest["version"] == "nightrank/1"
    assert (database.read_bytes() if database.exists() else None) == before  # none is made in its stead
    assert command(project, "sync").code == 12
    if damage == "gone":  # the same file, which this process has open
        (out(project) / "aside.db").rename(database)
    else:
        database.write_bytes(kept)
    assert command(project, "sync").facts.items() >= {"written": 2, "agrees": True}.items()
    assert night("--set", "night.top=9").facts["pointer_moved"] is False


def test_fault_37_a_champion_that_was_deleted_ranks_on_from_the_cache(project, night):
    assert night().code == 0
    client = Tracking(project.config).client
    client.delete_registered_model_alias("nightrank", CHAMPION)
    client.delete_model_version("nightrank", "1")
    ended = degraded(night("--set", "night.top=9"), "has no version 'champion'")
    assert ended["pointer_moved"]
    assert journal_of(out(project) / "rankings")[-1]["degraded"] == ended["degraded"]


def test_fault_37_without_a_sound_bundle_nothing_stands_in(project, night):
    database = out(project) / "mlflow.db"
    kept = database.read_bytes()
    database.write_bytes(b"no database at all" * 100)
    assert night().code == 12  # no night has seen a champion here
    database.write_bytes(kept)
    assert night().code == 0
    database.write_bytes(b"no database at all" * 100)
    (bundle,) = (out(project) / "bundles").iterdir()
    weights = bundle / "encoder/model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-5] ^= 1
    weights.write_bytes(content)
    ended = night()
    assert (ended.code, ended.out) == (12, "")
    assert "Nor can nightrank/1 stand in" in ended.err
    assert "encoder/model.safetensors was altered" in ended.err
    shutil.rmtree(bundle)
    assert night().code == 12


def test_fault_70_a_registry_that_falls_silent_during_the_night_does_not_stop_it(project, night, monkeypatch):
    """The champion is asked again before the pointer moves, if it answers."""
    from pipelines.night.guard import Guard

    database = out(project) / "mlflow.db"
    audited = Guard.audited

    def interrupted(*arguments):
        database.rename(out(project) / "aside.db")
        return audited(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(Guard, "audited", interrupted)
        ended = night()
    facts = degraded(ended, "missing or empty")
    assert facts["pointer_moved"]
    assert journal_of(out(project) / "rankings")[-1]["degraded"] == facts["degraded"]
    assert not database.exists()


def test_fault_70_a_damaged_record_of_the_champion_stands_in_for_nobody_and_is_made_anew(project, night):
    assert night().code == 0
    record = out(project) / "jobs/champion.json"
    sound = record.read_text(encoding="utf-8")
    record.write_text(sound.replace("nightrank/1", "nightrank/3"), encoding="utf-8")
    database = out(project) / "mlflow.db"
    kept = database.read_bytes()
    database.write_bytes(b"no database at all" * 100)
    ended = night()
    assert (ended.code, ended.out) == (12, "")
    assert "the record of the last champion is damaged" in ended.err
    database.write_bytes(kept)
    assert night().code == 0
    assert json.loads(record.read_text(encoding="utf-8"))["body"]["name"] == "nightrank/1"
    assert Registry(project.config).find(CHAMPION).name == "nightrank/1"


def test_fault_84_a_dry_run_writes_nothing_where_the_registry_is_silent(project, night, snapshot):
    assert night().code == 0
    (out(project) / "mlflow.db").write_bytes(b"no database at all" * 100)
    before = snapshot(project.folder)
    tried = degraded(night("--dry-run", "--set", "night.top=9"), "backup")
    assert tried["dry_run"]
    assert snapshot(project.folder) == before
