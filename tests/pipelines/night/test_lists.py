"""A night whose deadline passes: who was not ranked gets the fallback list, in an attempt that says so."""

import json
from datetime import datetime, timedelta
from pathlib import Path

import pytest

import pipelines.night.lists
from pipelines.stores.publish import journal_of, published

AN_HOUR = ("--set", "night.deadline_minutes=60")


@pytest.fixture
def late_after(monkeypatch):
    """Lets two hours pass after some shards of a night were begun."""

    def arrange(shards):
        begun = []

        class Clock(datetime):
            @classmethod
            def now(cls, tz=None):
                begun.append(None)
                return datetime.now(tz) + timedelta(hours=2 * (len(begun) > shards))

        monkeypatch.setattr(pipelines.night.lists, "datetime", Clock)

    return arrange


def root(project):
    return Path(project.config.output) / "rankings"


def test_users_that_the_deadline_leaves_out_get_the_fallback_list_until_the_night_is_run_again(
    project, night, command, late_after, monkeypatch
):
    late_after(2)
    cut = night(*AN_HOUR)
    assert cut.code == 0, cut.err
    assert cut.facts.items() >= {"fallback_users": 20, "shards_written": 2, "rows": 600, "pointer_moved": True}.items()
    assert cut.facts["audits"]["fallback"] == "passed"
    live = published(root(project))
    assert live.attempt.name.endswith("-cut-short")
    assert live.manifest.items() >= {"fallback_users": 20, "deadline_minutes": 60}.items()
    fallback = live.fallback()["item_id"].to_list()
    late = live.rankings().tail(200)
    assert late["user_id"].n_unique() == 20
    for _, rows in late.group_by("user_id"):
        assert rows.sort("rank")["item_id"].to_list() == fallback
    assert command(project, "status").facts["fallback_users"] == 20
    assert journal_of(root(project))[-1]["fallback_users"] == 20

    monkeypatch.undo()
    whole = night(*AN_HOUR)
    assert whole.facts.items() >= {"shards_written": 1, "pointer_moved": True}.items()
    assert "fallback_users" not in whole.facts
    assert published(root(project)).attempt != live.attempt
    assert published(root(project)).rankings().head(400).equals(live.rankings().head(400))
    assert command(project, "status").facts["fallback_users"] == 0
    assert night().facts.items() >= {"shards_written": 0, "pointer_moved": False}.items()


def test_a_night_that_its_deadline_ends_too_early_is_blocked(project, night, late_after):
    late_after(1)
    ended = night(*AN_HOUR)
    assert (ended.code, ended.out) == (11, "")
    assert "fallback: 40 of 60 users get the fallback list: the deadline passed" in ended.err
    assert journal_of(root(project)) == []


def test_what_was_cut_short_is_no_measure_of_later_nights(project, night, late_after, monkeypatch):
    late_after(0)
    assert night(*AN_HOUR, "--set", "night.audits.fallback=warn").facts["fallback_users"] == 60
    monkeypatch.undo()
    ended = night()
    assert ended.code == 0, ended.err
    assert ended.facts["audits"]["items_shown"] == "not judged"  # as on the first night
    measures = [json.loads(path.read_text()) for path in root(project).glob("attempts/*/measures.json")]
    assert sorted(each["lists"]["fallback"] for each in measures) == [0, 60]
