"""The history as a person reads it, and what was live on a day by the decisions and by the nights."""

import json
from datetime import date
from pathlib import Path

import pytest
from small_registry import add_versions, config_of

from pipelines.registry.approvals import Approval
from pipelines.registry.champion import Champion
from pipelines.registry.decisions import Action, Decision, State
from pipelines.registry.registry import Registry
from pipelines.verbs.history import entry_lines, history, live_on

OLD = {
    "at": "2024-03-01T09:00:00+00:00",
    "by": "ann",
    "action": "promote",
    "from": None,
    "to": "nightrank/1",
    "why": {"ndcg@10 against personal frequency": "+0.1"},
}


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    """An old journal, two promotions, a refusal, a withdrawn promotion and a rollback, on given days."""
    output = tmp_path_factory.mktemp("history") / "out"
    registry = Registry(config_of(output))
    add_versions(registry, 1)
    (output / "registry").mkdir()
    (output / "registry/journal.jsonl").write_text(json.dumps(OLD) + "\n")
    for action, before, after, at, state in (
        (Action.PROMOTE, "1", "2", "2024-03-04T23:30:00+00:00", State.DONE),
        (Action.REFUSED, "2", "3", "2024-03-05T08:00:00+00:00", State.DONE),
        (Action.PROMOTE, "2", "4", "2024-03-06T07:00:00+00:00", State.WITHDRAWN),
        (Action.PROMOTE, "2", "4", "2024-03-06T08:00:00+00:00", State.DONE),
        (Action.ROLLBACK, "4", "2", "2024-03-06T20:00:00+00:00", State.INTENDED),
    ):
        decision = Decision(action, before, after, reason="because", figures={"gate": "+0.2"}, by="bob", at=at)
        decisions = Champion(registry).decisions
        written = decisions.append(decision, since=9)
        if state is not State.INTENDED:
            decisions.mark(written, state, "its version is gone" if state is State.WITHDRAWN else "")
    night(output, "2024-03-06-aaaa", "nightrank/2")
    night(output, "2024-03-07-bbbb", "nightrank/4")
    published = {"at": "2024-03-07T04:00:00+00:00", "attempt": "2024-03-07-bbbb", "date": "2024-03-07"}
    (output / "rankings/journal.jsonl").write_text(json.dumps(published) + "\n")
    return registry


def night(output: Path, name: str, version: str) -> None:
    folder = output / "rankings/attempts" / name
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps({"version": version, "users": 7, "parts": {}}))


def test_the_history_begins_with_the_old_journal(registry):
    entries = history(registry)
    assert entries[0] == OLD
    assert [entry["number"] for entry in entries[1:]] == [1, 2, 3, 4, 5]
    assert entries[2].items() >= {"action": "refused", "from": "nightrank/2", "to": "nightrank/3"}.items()


def test_an_entry_says_why_and_how_far_it_went(registry):
    old, _, _, withdrawn, _, unfinished = history(registry)
    assert entry_lines(old) == [
        "   -  2024-03-01T09:00:00+00:00  promote   - -> nightrank/1  by ann",
        "        ndcg@10 against personal frequency: +0.1",
    ]
    assert entry_lines(withdrawn) == [
        "   3  2024-03-06T07:00:00+00:00  promote   nightrank/2 -> nightrank/4  by bob  (withdrawn)",
        "        reason: because",
        "        withdrawn: its version is gone",
        "        gate: +0.2",
    ]
    assert entry_lines(unfinished)[0].endswith("rollback  nightrank/4 -> nightrank/2  by bob  (not carried out yet)")


@pytest.mark.parametrize(
    ("day", "at_start", "moved_to"),
    [
        ("2024-02-28", None, []),
        ("2024-03-01", None, ["nightrank/1"]),
        ("2024-03-04", "nightrank/1", ["nightrank/2"]),
        ("2024-03-05", "nightrank/2", []),
        ("2024-03-06", "nightrank/2", ["nightrank/4", "nightrank/2"]),
        ("2024-03-07", "nightrank/2", []),
    ],
)
def test_what_was_champion_on_a_day(day, at_start, moved_to, registry):
    facts = live_on(registry, date.fromisoformat(day))
    assert facts["at_start"] == at_start
    assert [entry["to"] for entry in facts["decisions"]] == moved_to


def test_a_night_by_another_version_than_the_champion_is_noted(registry):
    same, other = (live_on(registry, date(2024, 3, day)) for day in (6, 7))
    assert [night["version"] for night in same["nights"]] == ["nightrank/2"]
    assert same["note"] == ""
    (ranked,) = other["nights"]
    assert ranked == {
        "attempt": "2024-03-07-bbbb",
        "version": "nightrank/4",
        "users": 7,
        "hindsight": False,
        "published": True,
    }
    assert not same["nights"][0]["published"]
    assert other["note"].startswith("a night was ranked by nightrank/4, and the champion of that day was: nightrank/2.")


def test_an_approval_is_a_line_of_its_own():
    approval = Approval(
        "3", "0123456789abcdef" * 4, "Ada", "looked at 20 lists", by="bob", at="2024-03-06T09:00:00+00:00"
    )
    assert entry_lines(approval.as_json("nightrank")) == [
        "   -  2024-03-06T09:00:00+00:00  approve   nightrank/3 (bundle 0123456789ab)  by Ada (account bob)",
        "        reason: looked at 20 lists",
    ]
