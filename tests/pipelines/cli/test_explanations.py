"""`explain` and `why-moved` as commands, after two published nights."""

from datetime import timedelta

import pytest

from pipelines.verbs.project import write_day


@pytest.fixture(scope="module")
def days(trained_project):
    return [trained_project.day + timedelta(days=number) for number in range(2)]


@pytest.fixture(scope="module")
def project(trained_project, tmp_path_factory, days):
    from typer.testing import CliRunner

    from pipelines.cli.app import app

    project = trained_project.copy(tmp_path_factory.mktemp("nights") / "project")
    for when in days:
        assert CliRunner().invoke(app, ["score", "--config", str(project.path), "--date", str(when)]).exit_code == 0
        write_day(project.dataset, project.folder, when)
    return project


def test_a_list_and_each_of_its_items_are_explained_for_the_live_day(command, project, days):
    night = command(project, "read", "--user", user := a_user(project), "--format", "jsonl")
    listed = command(project, "explain", "--user", user)
    assert listed.code == 0, listed.err
    assert listed.facts["date"] == str(days[-1])
    assert night.code == 0
    first = listed.facts["items"][0]
    explained = command(project, "explain", "--user", user, "--item", str(first["item_id"]))
    assert explained.code == 0, explained.err
    assert explained.facts["rank"] == 1
    assert explained.facts["score"] == first["score"]
    assert "over the average candidate" in explained.err


def test_a_move_between_two_published_nights_is_explained_by_their_versions(command, project, days):
    user = a_user(project)
    item = str(command(project, "explain", "--user", user).facts["items"][0]["item_id"])
    moved = command(project, "why-moved", "--user", user, "--item", item, "--from", str(days[0]), "--to", str(days[1]))
    assert moved.code == 0, moved.err
    assert sum(part["part"] for part in moved.facts["parts"]) == pytest.approx(moved.facts["difference"], abs=1e-9)
    unknown = str(days[0] - timedelta(days=9))
    missing = command(project, "why-moved", "--user", user, "--item", item, "--from", unknown, "--to", str(days[1]))
    assert missing.code == 2
    assert f"nothing was published for {unknown}" in missing.err


def a_user(project):
    log = project.inputs.log
    return str(log.user_ids[int(log.active_users[0])])
