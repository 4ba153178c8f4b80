"""The whole night as its scheduler runs it: steps, their results, what is skipped, and the exit code."""

import importlib.util
import json
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from pipelines.registry.register import register
from pipelines.registry.registry import CHAMPION, Registry
from pipelines.stores.lease import leased
from pipelines.stores.publish import live_day
from pipelines.stores.spool import spool
from pipelines.verbs.nightly import STEPS
from pipelines.verbs.project import write_day

DAG = Path(__file__).resolve().parents[2] / "examples/airflow_dag.py"


@pytest.fixture
def nightly(project, command):
    def run(*arguments, when=project.day):
        return command(project, "nightly", "--date", str(when), *arguments)

    return run


def statuses(ended):
    return {name: step["status"] for name, step in ended.facts["steps"].items()}


def out(project) -> Path:
    return project.folder / "out"


DONE = ("check", "fold", "score", "realised")
WHOLE = dict.fromkeys(DONE, "done") | dict.fromkeys(("sync", "train", "suggest"), "off")


def test_a_night_is_run_once_and_its_steps_are_done_again_where_they_are_named(project, nightly):
    first = nightly()
    assert first.code == 0, first.err
    assert statuses(first) == WHOLE
    assert first.facts.items() >= {"code": 0, "live": str(project.day), "date": str(project.day)}.items()
    assert first.facts["steps"]["score"].items() >= {"pointer_moved": True, "rows": 600}.items()
    assert [night["state"] for night in first.facts["steps"]["realised"]["nights"]] == ["open"]
    assert first.facts["steps"]["train"]["because"] == "night.train_every_days is not set"
    again = nightly()
    assert statuses(again) == WHOLE | dict.fromkeys(DONE, "done earlier")
    assert again.facts["steps"]["score"]["attempt"] == first.facts["steps"]["score"]["attempt"]
    only = nightly("--only", "score")
    assert statuses(only) == {"score": "done"}
    assert only.facts["steps"]["score"]["pointer_moved"] is False
    assert list(statuses(nightly("--from", "sync"))) == ["sync", "realised", "train", "suggest"]
    assert nightly("--from", "nosuch").code == 2


def test_new_files_and_damage_are_seen_by_the_next_run(project, nightly):
    attempt = Path(nightly().facts["steps"]["score"]["attempt"])
    (attempt / "shard-00000.parquet").write_bytes(b"?")
    mended = nightly()
    assert statuses(mended).items() >= {"fold": "done earlier", "score": "done"}.items()
    assert mended.facts["steps"]["score"]["made_again"] == ["shard-00000"]
    items = pl.read_parquet(project.folder / "items.parquet")
    items.head(119).write_parquet(project.folder / "items.parquet")
    later = nightly()
    assert statuses(later).items() >= {"check": "done", "fold": "done", "score": "done"}.items()


def test_the_exit_code_is_that_of_the_step_that_matters(project, nightly):
    quiet = nightly(when=project.day + timedelta(days=2))  # whose eve has no events
    assert quiet.code == 11
    assert quiet.facts["code"] == 11
    assert quiet.facts["steps"]["score"].items() >= {"status": "failed", "code": 11}.items()
    assert "does not go live" in quiet.err
    assert quiet.facts["live"] is None
    (project.folder / "items.parquet").write_bytes(b"")
    broken = nightly()
    assert broken.code == 12
    assert (
        statuses(broken).items() >= {"check": "done", "fold": "failed", "score": "not run", "train": "not run"}.items()
    )
    with leased(out(project), project.day, minutes=60):
        busy = nightly()
        assert (busy.code, busy.out) == (75, "")


def test_what_fails_after_publishing_stops_no_night(project, nightly):
    spool(out(project), {"kind": "of tomorrow's nightrank"})
    ended = nightly()
    assert ended.code == 0
    assert ended.facts["steps"]["sync"].items() >= {"status": "failed", "code": 2}.items()
    assert live_day(out(project) / "rankings") == project.day


def test_fault_70_a_night_whose_registry_is_gone_publishes_and_leaves_the_rest(project, nightly):
    assert nightly().code == 0
    (out(project) / "mlflow.db").write_bytes(b"no database at all" * 100)
    ended = nightly("--set", "night.top=9", "--set", "night.train_every_days=1")
    assert ended.code == 0, ended.err
    steps = ended.facts["steps"]
    assert steps["score"]["degraded"] == steps["check"]["degraded"]
    assert "backup" in steps["check"]["degraded"]
    assert {steps[name]["status"] for name in ("sync", "train", "suggest")} == {"off"}
    assert "entries wait until the registry answers" in steps["sync"]["because"]


@pytest.mark.slow
def test_a_challenger_that_passes_the_gates_is_suggested_and_not_promoted(project, nightly):
    register(replace(project.trained), project.inputs, project.config)
    first = nightly().facts["steps"]["suggest"]
    assert first.items() >= {"challenger": "nightrank/2", "command": "nightrank promote --version 2"}.items()
    assert Registry(project.config).find(CHAMPION).number == "1"
    refused = nightly("--only", "suggest", "--set", "promotion.min_lift_over_baseline=1").facts["steps"]["suggest"]
    assert (refused["passes"], refused["command"]) == (False, None)
    kept = json.loads((out(project) / "jobs/suggestion.json").read_text(encoding="utf-8"))
    assert kept["facts"] == {key: refused[key] for key in kept["facts"]}


def test_the_next_block_waits_until_it_is_due(nightly):
    soon = nightly("--set", "night.train_every_days=9").facts["steps"]["train"]
    assert soon["status"] == "off"
    assert "learned what lies before 2024-02-18; the next training is due on 2024-02-27" in soon["because"]


@pytest.mark.slow
def test_a_block_that_is_due_is_learned_after_publishing_and_suggested(project, nightly):
    write_day(project.dataset, project.folder, project.day)
    tomorrow = project.day + timedelta(days=1)
    ended = nightly("--set", "night.train_every_days=1", when=tomorrow)
    assert ended.code == 0, ended.err
    steps = ended.facts["steps"]
    assert steps["train"].items() >= {"version": "nightrank/2", "continues": "nightrank/1"}.items()
    assert steps["suggest"]["challenger"] == "nightrank/2"
    assert steps["score"]["version"] == "nightrank/1"
    again = nightly("--set", "night.train_every_days=1", when=tomorrow)
    assert statuses(again)["train"] == "done earlier"


def test_the_airflow_example_names_the_steps_in_order():
    text = DAG.read_text(encoding="utf-8")
    compile(text, str(DAG), "exec")
    names = re.search(r"for name in \((.*)\)", text)[1]
    assert tuple(name.strip('" ') for name in names.split(",")) == STEPS


@pytest.mark.slow
def test_the_airflow_example_runs(project, tmp_path):
    if importlib.util.find_spec("airflow") is None:
        pytest.skip("Airflow is not installed: the example was compiled and not run. pip install apache-airflow")
    text = DAG.read_text(encoding="utf-8").replace("/srv/shop", str(project.folder))
    shim = f"{shlex.quote(sys.executable)} -m pipelines.cli.app"
    (tmp_path / "dags").mkdir()
    (tmp_path / "dags/nightrank.py").write_text(text.replace(".venv/bin/nightrank", shim), encoding="utf-8")
    environment = {"AIRFLOW_HOME": str(tmp_path), "AIRFLOW__CORE__LOAD_EXAMPLES": "false", "PATH": "/usr/bin:/bin"}
    for words in (("db", "migrate"), ("dags", "test", "nightrank", f"{project.day}T02:30:00")):
        subprocess.run([sys.executable, "-m", "airflow", *words], check=True, env=environment, timeout=600)
    assert live_day(out(project) / "rankings") == project.day
