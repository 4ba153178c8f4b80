"""The published nights of the simulated shop, watched from the command line."""

from datetime import timedelta

import pytest
from typer.testing import CliRunner

from pipelines.cli.app import app
from pipelines.verbs.project import write_day

NIGHTS = 3


@pytest.fixture(scope="module")
def watched(trained_project, tmp_path_factory):
    """Three published nights, and the days of the first two."""
    project = trained_project.copy(tmp_path_factory.mktemp("watched") / "project")
    for night in range(NIGHTS):
        day = project.day + timedelta(days=night)
        ended = CliRunner().invoke(app, ["score", "--config", str(project.path), "--date", str(day)])
        assert ended.exit_code == 0, ended.stderr
        if night < NIGHTS - 1:
            write_day(project.dataset, project.folder, day)
    return project


def test_each_published_night_is_judged_once_its_labels_have_closed(watched, command):
    ended = command(watched, "monitor")
    assert ended.code == 0
    nights = ended.facts["nights"]
    assert [night["day"] for night in nights] == [str(watched.day + timedelta(days=each)) for each in range(NIGHTS)]
    assert [night["state"] for night in nights] == ["closed", "closed", "open"]
    assert all(0 < night["slices"]["all"]["mean"] < 1 for night in nights[:2])
    assert "biased by exposure" in ended.facts["caution"]
    assert "its labels have not closed yet" in ended.err
    assert "judged 2 of 3 published nights" in ended.err
    assert ended.facts["estimate"] is None
    assert "is estimated once 8 nights before it have closed" in ended.err
    assert ended.facts["mean_of_last"]["nights"] == 2


def test_metrics_and_a_page_are_written_too(watched, command, tmp_path):
    metrics, page = tmp_path / "made" / "nightrank.prom", tmp_path / "made" / "trends.html"
    ended = command(watched, "monitor", "--prometheus", str(metrics), "--html", str(page))
    assert ended.code == 0
    assert 'nightrank_realised_ndcg{slice="all"} 0.' in metrics.read_text(encoding="utf-8")
    assert f"The nights up to {watched.day + timedelta(days=NIGHTS - 1)}" in page.read_text(encoding="utf-8")
    assert sorted(path.name for path in metrics.parent.iterdir()) == ["nightrank.prom", "trends.html"]


def test_an_earlier_night_is_watched_as_things_were_then(watched, command):
    ended = command(watched, "monitor", "--date", str(watched.day + timedelta(days=1)))
    assert [night["state"] for night in ended.facts["nights"]] == ["closed", "open"]


def test_a_damaged_night_is_left_out(watched, command, tmp_path):
    project = watched.copy(tmp_path / "project")
    (folder,) = (project.folder / "out/rankings/attempts").glob(f"{project.day}-*")
    (folder / "shard-00000.parquet").write_bytes(b"")
    ended = command(project, "monitor")
    assert [night["state"] for night in ended.facts["nights"]] == ["closed", "open"]
    assert "a night that is damaged is left out" in ended.err


def test_without_a_published_night_there_is_nothing_to_watch(shop_project, command, tmp_path):
    ended = command(shop_project.copy(tmp_path / "project"), "monitor")
    assert ended.code == 2
    assert "nothing was published" in ended.err


def test_drift_is_judged_and_ends_with_11_beyond_a_limit_that_blocks(watched, command):
    passed = command(watched, "monitor")
    verdicts = {drift["check"]: drift["verdict"] for drift in passed.facts["drift"]}
    assert {name for name, verdict in verdicts.items() if verdict == "not judged"} == set()
    assert verdicts["gone_columns"] == verdicts["text_words"] == "passed"
    blocked = command(watched, "monitor", "--set", "monitor.drift.encoder_age={level: block, limit: 0}")
    assert blocked.code == 11
    assert "encoder_age: the encoder learned from what lies before" in blocked.err
    assert blocked.facts["drift"][-1]["verdict"] == "blocked"
