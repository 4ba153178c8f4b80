"""What may go live: versions that were refused, nights that overlap, champions that change, run for real."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from features.errors import TryAgainError
from pipelines.night.guard import Guard
from pipelines.registry.register import register
from pipelines.stores.journal import journal_of
from pipelines.stores.lease import leased
from pipelines.stores.publish import live_day, published
from pipelines.training.labelled import label
from ranker.config import RankerConfig
from ranker.lambdamart import LambdaMart
from ranker.trees_and_network import TreesAndNetwork


@pytest.fixture
def meanwhile(monkeypatch):
    """Have something happen once, after a night is written and before it is published."""

    def arrange(event):
        audited, outcomes = Guard.audited, []

        def interrupted(*arguments):
            if not outcomes:
                outcomes.append(None)  # before the event, which may be a night itself
                outcomes.append(event())
            return audited(*arguments)

        monkeypatch.setattr(Guard, "audited", interrupted)
        return outcomes

    return arrange


def root(project):
    return Path(project.config.output) / "rankings"


def challenge(project, **changes):
    """Register another version, made of the trained one."""
    return register(replace(project.trained, **changes), project.inputs, project.config).version


def of_one_score(project):
    """A ranker that never splits."""
    trained = project.trained
    valid = trained.split.valid
    rows = label(trained.chain, project.config, valid, name="rows", encoder_day=valid.start).rows
    config = RankerConfig(max_trees=1, min_child_samples=10**6)
    return TreesAndNetwork(LambdaMart.fit(rows, rows, features=trained.chain.features, config=config, seed=0))


@pytest.mark.parametrize("wanted", [pytest.param("2", marks=pytest.mark.slow), "challenger"])
def test_fault_67_a_version_that_the_gate_refused_never_goes_live(wanted, project, night, command):
    challenge(project, ranker=of_one_score(project))
    assert command(project, "promote").code == 11
    assert night("--version", wanted, "--dry-run").facts["shadow"]
    ended = night("--version", wanted)
    assert ended.code == 0, ended.err
    assert ended.facts.items() >= {"shadow": True, "pointer_moved": False, "live": None, "rows": 600}.items()
    assert "nightrank/2 is not the champion" in ended.err
    assert Path(ended.facts["attempt"], "manifest.json").is_file()
    assert not (root(project) / "published.json").exists()
    assert journal_of(root(project)) == []
    for verb in (("live", "--set", str(project.day), "--reason", "it is whole"), ("read", "--date", str(project.day))):
        refused = command(project, *verb)
        assert (refused.code, refused.out) == (2, "")
        assert "nothing was published for 2024-02-25" in refused.err
    champion = night()
    assert "shadow" not in champion.facts
    assert champion.facts["pointer_moved"]
    assert published(root(project)).manifest["version"] == "nightrank/1"


@pytest.mark.slow
def test_fault_67_a_backfill_of_another_version_is_published_for_no_date(project, night, command):
    challenge(project)
    assert night().code == 0
    eve = project.day - timedelta(days=1)
    assert night("--version", "2", when=eve).facts["shadow"]
    assert command(project, "read", "--date", str(eve)).code == 2
    assert night(when=eve).facts["pointer_moved"] is False
    assert command(project, "read", "--date", str(eve)).facts["version"] == "nightrank/1"


def test_fault_69_a_rollback_during_a_night_ends_it_unpublished(project, night, command, meanwhile):
    challenge(project)
    assert command(project, "promote").code == 0
    rollback = meanwhile(lambda: command(project, "rollback").code)
    ended = night()
    assert rollback == [None, 0]
    assert ended.code == 75
    assert "nightrank/2 was the champion when this night began, and is not any more (nightrank/1 is)" in ended.err
    assert "Run it again" in ended.err
    assert live_day(root(project)) is None
    assert journal_of(root(project)) == []
    again = night()
    assert again.facts.items() >= {"version": "nightrank/1", "pointer_moved": True}.items()


def test_fault_38_a_second_night_ends_with_75_unless_it_takes_over(project, night):
    output = Path(project.config.output)
    with leased(output, project.day, minutes=60) as first:
        refused = night()
        assert (refused.code, refused.out) == (75, "")
        assert f"the night of 2024-02-25 has been running in this output folder since {first.since}" in refused.err
        assert not root(project).exists()
        assert night("--dry-run").code == 0
        taken = night("--take-over")
        assert taken.code == 0, taken.err
        assert taken.facts["pointer_moved"]
        assert "took over" in taken.err
        with pytest.raises(TryAgainError, match="passed over"), first.fenced():
            pass
    assert night().code == 0


def test_fault_68_a_night_that_wakes_after_a_later_one_publishes_nothing(project, night, meanwhile):
    tomorrow = project.day + timedelta(days=1)
    undelivered = ("--set", "night.audits.eve=off", "--set", "night.audits.event_types=off")
    later = meanwhile(lambda: night("--take-over", *undelivered, when=tomorrow))
    ended = night()
    assert later[1].facts["pointer_moved"], later[1].err
    assert ended.code == 75
    assert "this night of 2024-02-25 was passed over while it stood still" in ended.err
    assert live_day(root(project)) == tomorrow
    assert [(entry["date"], entry["token"]) for entry in journal_of(root(project))] == [(str(tomorrow), 2)]
