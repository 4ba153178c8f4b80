"""Who ranks a night where the registry says nothing; by real servers in `tests/faults/test_degraded_nights.py`."""

import threading
from pathlib import Path

import pytest

import pipelines.registry.last_champion
from features.errors import TryAgainError
from pipelines.registry.last_champion import champion_again, champion_tonight


@pytest.fixture
def config(trained_project, tmp_path):
    return trained_project.copy(tmp_path / "project").config


@pytest.fixture
def hanging_registry(monkeypatch):
    """Makes the registry wait without a limit, as a database's driver may."""
    released = threading.Event()

    def hang():
        monkeypatch.setattr(pipelines.registry.last_champion, "Registry", lambda _: released.wait())
        monkeypatch.setattr(pipelines.registry.last_champion, "_FIRST_SECONDS", 0.2)
        monkeypatch.setattr(pipelines.registry.last_champion, "_AGAIN_SECONDS", 0.1)

    yield hang
    released.set()


def test_fault_70_a_call_that_takes_no_limit_is_left_behind(config, hanging_registry):
    assert champion_tonight(config).degraded is None
    assert champion_again(config, "nightrank/1") == ("nightrank/1", None)
    hanging_registry()
    tonight = champion_tonight(config)
    assert tonight.name == "nightrank/1"
    assert "by decision 1" in tonight.degraded
    assert "did not answer within 0 s" in tonight.degraded
    name, silence = champion_again(config, "nightrank/1")
    assert name == "nightrank/1"
    assert "did not answer" in silence


def test_only_what_was_seen_here_stands_in(config, monkeypatch):
    def refuse(_):
        raise TryAgainError("it is away")

    assert champion_tonight(config).name == "nightrank/1"
    monkeypatch.setattr(pipelines.registry.last_champion, "Registry", refuse)
    with pytest.raises(TryAgainError, match="it is away"):
        champion_again(config, "nightrank/2")
    another = config.model_copy(update={"tracking": config.tracking.model_copy(update={"model_name": "another"})})
    with pytest.raises(TryAgainError, match=r"it is away$"):
        champion_tonight(another)


def test_a_dry_run_keeps_nothing_of_what_it_saw(config):
    assert champion_tonight(config, write=False).degraded is None
    assert not Path(config.output, "jobs/champion.json").exists()
