"""A night in MLflow: one run for each that went live or was blocked, whatever the server does meanwhile."""

import json
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest
from mlflow import MlflowClient

from features.errors import TryAgainError
from pipelines.night import recording
from pipelines.registry import night_runs
from pipelines.registry.night_runs import write_night
from pipelines.registry.registry import Registry
from pipelines.registry.tracking import Tracking, tracking_uri
from pipelines.stores.publish import published
from pipelines.stores.spool import spool, spooled


def nights(project):
    """The runs of nights, the latest first."""
    client = MlflowClient(tracking_uri(project.config))
    return client.search_runs([Tracking(project.config).experiment_id], "tags.`nightrank.kind` = 'night'")


def empty_titles(project):
    path = project.folder / "items.parquet"
    nothing = pl.lit(None, pl.String)
    pl.read_parquet(path).with_columns(title=nothing, description=nothing).write_parquet(path)


def test_a_night_that_goes_live_leaves_what_was_measured_and_no_id(project, command, snapshot):
    ended = command(project, "score", "--date", str(project.day))
    (run,) = nights(project)
    live = published(project.folder / "out" / "rankings")
    assert run.info.run_name == f"night {project.day} by nightrank/1, published"
    assert run.info.status == "FINISHED"
    assert run.data.tags["outcome"] == "published"
    assert run.data.tags["audit.rows"] == "passed"
    assert run.data.tags["audit.catalogue"] == "not judged"
    assert run.data.metrics["lists.rows"] == live.rows == ended.facts["rows"]
    assert run.data.metrics["inputs.items"] == 120
    assert run.data.metrics["audit.rows"] == 0
    assert "audit.catalogue" not in run.data.metrics
    rankings = live.rankings()
    written = json.dumps([dict(run.data.tags), dict(run.data.metrics)])
    for name in ("user_id", "item_id"):
        assert not [each for each in rankings[name].unique() if f'"{each}"' in written or f" {each} " in written]
    before = snapshot(project.folder / "out" / "rankings")
    assert command(project, "score", "--date", str(project.day)).code == 0
    assert [each.info.run_id for each in nights(project)] == [run.info.run_id]
    assert snapshot(project.folder / "out" / "rankings") == before


def test_a_blocked_night_leaves_which_audit_blocked_it(project, command):
    assert command(project, "score", "--date", str(project.day)).code == 0
    empty_titles(project)
    for _ in range(2):  # asked again, it is the same night
        assert command(project, "score", "--date", str(project.day + timedelta(days=1))).code == 11
    blocked, live = nights(project)
    assert live.data.tags["outcome"] == "published"
    assert blocked.data.tags["outcome"] == "blocked"
    assert blocked.data.tags["audit.texts"] == "blocked"
    assert blocked.data.metrics["audit.texts"] == 2
    assert blocked.data.metrics["inputs.with_text"] == 0
    assert "lists.rows" not in blocked.data.metrics  # it made none


def test_lists_that_are_not_published_leave_no_run(project, command):
    assert command(project, "score", "--date", str(project.day), "--version", "1", "--dry-run").code == 0
    seen = project.trained.cutoff().date() - timedelta(days=1)
    ended = command(project, "score", "--date", str(seen), "--allow-hindsight")
    assert ended.facts["hindsight"] is True
    assert nights(project) == []


def test_a_server_that_is_down_when_the_night_ends_keeps_it_from_nothing(project, command, monkeypatch):
    def down(*_):
        raise TryAgainError("the registry: it does not answer.")

    monkeypatch.setattr(recording, "write_night", down)
    ended = command(project, "score", "--date", str(project.day))
    assert ended.code == 0
    assert "the night's record waits for the tracking server" in ended.err
    assert command(project, "score", "--date", str(project.day)).code == 0  # kept once
    (entry,) = spooled(Path(project.config.output)).values()
    assert nights(project) == []
    for _ in range(2):
        spool(Path(project.config.output), entry)  # as after a kill between writing and removing
        assert command(project, "sync").facts["written"] == 1
    (run,) = nights(project)
    assert run.data.tags["outcome"] == "published"
    assert run.data.metrics["lists.rows"] == ended.facts["rows"]


def test_a_disk_that_takes_no_record_either_keeps_the_night_from_nothing(project, command, monkeypatch):
    def refused(*_):
        raise TryAgainError("it does not answer, and the disk is full.")

    monkeypatch.setattr(recording, "write_night", refused)
    monkeypatch.setattr(recording, "spool", refused)
    ended = command(project, "score", "--date", str(project.day))
    assert (ended.code, ended.facts["live"]) == (0, str(project.day))
    assert "the night's record is lost" in ended.err


def interrupted(*_):
    raise KeyboardInterrupt


ENTRY = {"kind": "night", "key": "a:published", "name": "night a", "at": 1700000000000, "metrics": {"m": 1.5}}


def test_a_record_that_was_cut_off_is_completed_and_written_once(trained_project, tmp_path, monkeypatch):
    project = trained_project.copy(tmp_path / "project")
    entry = {**ENTRY, "tags": {"audit.rows": "passed"}}
    registry = Registry(project.config)
    with monkeypatch.context() as patched:
        patched.setattr(night_runs, "Metric", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write_night(registry, entry)
    (half,) = nights(project)
    assert (half.info.status, dict(half.data.metrics)) == ("RUNNING", {})
    for _ in range(2):
        write_night(registry, entry)
    (run,) = nights(project)
    assert (run.info.run_id, run.info.status) == (half.info.run_id, "FINISHED")
    assert (run.info.start_time, run.info.end_time) == (ENTRY["at"], ENTRY["at"])
    assert dict(run.data.metrics) == {"m": 1.5}
