"""What `registry verify` finds wrong, and that what it says mends it."""

import shutil
import subprocess
from pathlib import Path

import pytest
from small_registry import move, number

from pipelines.registry.audit import audit
from pipelines.registry.champion import Champion
from pipelines.registry.decisions import Action, Decision
from pipelines.registry.registry import CHAMPION, PREVIOUS


@pytest.fixture
def live(registry):
    """A registry whose versions 1 and 2 were made champion in turn."""
    for to in ("1", "2"):
        move(registry, to=to)
    assert audit(registry).as_json() == {
        "champion": "nightrank/2",
        "decisions": 2,
        "versions": 4,
        "faults": [],
        "notes": [],
    }
    return registry


def run_bundle(registry, version) -> Path:
    run = registry.version(version).run_id
    return Path(registry.config.output) / "mlartifacts" / run / "artifacts" / "bundle"


def only_fault(registry):
    (fault,) = audit(registry).faults
    return fault


def shell(command):
    subprocess.run(["bash", "-c", command], check=True)


def test_an_alias_moved_by_hand(live):
    live.client.set_registered_model_alias("nightrank", CHAMPION, "3")
    fault = only_fault(live)
    assert fault.what == "the alias `champion` names nightrank/3, and by decision 2 it is nightrank/2"
    assert fault.mend == (
        "nightrank registry repair; or, to keep the champion as it is: nightrank registry repair --adopt --reason TEXT"
    )
    Champion(live).repair()
    assert not audit(live).faults
    live.client.delete_registered_model_alias("nightrank", PREVIOUS)
    assert "`previous` names nothing, and by decision 2 it is nightrank/1" in only_fault(live).what


def test_an_unfinished_decision(live):
    Champion(live).decisions.append(Decision(Action.PROMOTE, "2", "3"), since=2)
    fault = only_fault(live)
    assert fault.what.startswith("decision 3 was not carried out to its end: promote nightrank/2 -> nightrank/3 by ")
    assert fault.mend == "nightrank registry repair"
    Champion(live).repair()
    assert audit(live).champion == "nightrank/3"
    assert not audit(live).faults


def test_a_champion_that_was_deleted(live):
    live.client.delete_model_version("nightrank", "2")
    fault = only_fault(live)
    assert "nothing is live: decision 2 made nightrank/2 champion, and it was deleted in MLflow" in fault.what
    assert fault.mend == "nightrank rollback --to 1"


def test_an_altered_copy_is_fetched_again(live):
    cached = live.cached_bundle(live.version("4"))
    (cached / "ranker/booster.txt").write_text("another")
    fault = only_fault(live)
    assert fault.what.startswith("nightrank/4: ")
    assert "'ranker/booster.txt was altered'" in fault.what
    shell(fault.mend)
    assert not audit(live).faults
    assert live.bundle_folder(live.version("4")) == cached


@pytest.mark.parametrize("fault", ["missing", "altered"])
def test_a_runs_bundle_is_brought_back_from_a_whole_copy(fault, live):
    bundle = run_bundle(live, "1")
    if fault == "missing":
        shutil.rmtree(bundle.parents[1])
    else:
        (bundle / "features.json").write_text("{}")
    told = only_fault(live)
    assert told.what.startswith("nightrank/1: ")
    assert {"missing": "no longer holds the bundle", "altered": "features.json was altered"}[fault] in told.what
    shell(told.mend)
    assert not audit(live).faults


def test_a_bundle_that_is_nowhere(live):
    for version in ("2", "3"):
        shutil.rmtree(run_bundle(live, version))
        shutil.rmtree(live.cached_bundle(live.version(version)))
    third, second = audit(live).faults
    assert second.mend.startswith("nightrank rollback --to N")
    assert third.mend.endswith("or delete version 3 of nightrank in MLflow")


def test_a_decision_that_was_deleted_is_noted(live):
    move(live, to="3")
    live.client.delete_registered_model("~nightrank.decision-000002")
    assert audit(live).notes == ["decision 2 is not there any more: somebody deleted it in MLflow"]
    live.client.delete_registered_model("~nightrank.decision-000003")
    assert number(live, CHAMPION) == "3"
    assert "names nightrank/3, and by decision 1 it is nightrank/1" in audit(live).faults[0].what
