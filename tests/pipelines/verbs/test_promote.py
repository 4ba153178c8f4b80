"""Who goes live: gates, the decisions that are kept, and the way back."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

import pipelines.verbs.promote as promote_module
from pipelines.evaluation.evaluate import FULL, Evaluation
from pipelines.registry.champion import Champion
from pipelines.registry.decisions import Action, Decision
from pipelines.registry.register import register
from pipelines.registry.registry import CHAMPION, PREVIOUS, Registry
from pipelines.registry.tracking import Tracking
from pipelines.registry.versions import load_version
from pipelines.stores.storage import sha256_of
from pipelines.training.labelled import label
from pipelines.verbs.gates import BASELINE, gates_of
from ranker.config import RankerConfig
from ranker.judge import Window, judge
from ranker.lambdamart import LambdaMart
from ranker.listnet_fit import fit_listnet
from ranker.trees_and_network import TreesAndNetwork


def challenge(project, **changes):
    """Register another version, made of the trained one."""
    return register(replace(project.trained, **changes), project.inputs, project.config).version


def validation_rows(project):
    trained = project.trained
    return label(
        trained.chain, project.config, trained.split.valid, name="rows", encoder_day=trained.split.valid.start
    ).rows


def flat_ranker(project):
    """A ranker that never splits, so that all its scores are one."""
    rows, features = validation_rows(project), project.trained.chain.features
    config = RankerConfig(max_trees=1, min_child_samples=10**6)
    return TreesAndNetwork(LambdaMart.fit(rows, rows, features=features, config=config, seed=0))


def aliases(project):
    registry = Registry(project.config)
    return {alias: found.number for alias in (CHAMPION, PREVIOUS) if (found := registry.find(alias)) is not None}


@pytest.mark.slow
def test_a_version_keeps_its_network(project):
    forest, rows = project.trained.ranker.forest, validation_rows(project)
    network = fit_listnet(rows, features=forest.features, config=RankerConfig(), seed=0)
    ranker = TreesAndNetwork(forest, network, share=0.25, spreads=(0.5, 2.0))
    version = challenge(project, ranker=ranker)
    _, bundle = load_version(Registry(project.config), str(version.number))
    assert bundle.ranker.files() == ranker.files()
    assert bundle.ranker.predict(rows).tobytes() == ranker.predict(rows).tobytes()


def test_fault_31_a_challenger_with_constant_scores_stays_out_and_every_failed_gate_is_named(project, command):
    """Fault 31: the gate blocks the collapse."""
    command(project, "score", "--date", str(project.day))
    pointer = (project.folder / "out/rankings/published.json").read_bytes()
    challenge(project, ranker=flat_ranker(project))
    ended = command(project, "promote", "--set", "promotion.min_lift_over_baseline=0.9")
    assert ended.code == 11
    assert ended.out == ""
    assert "nightrank/2 stays out; 2 of 4 gates failed" in ended.err
    assert "scores tell candidates apart: in 0.0% of requests" in ended.err
    assert f"against {BASELINE}" in ended.err
    assert aliases(project) == {CHAMPION: "1"}
    assert (project.folder / "out/rankings/published.json").read_bytes() == pointer
    refused = command(project, "history").facts["history"][-1]
    assert refused.items() >= {"action": "refused", "from": "nightrank/1", "to": "nightrank/2"}.items()
    assert "scores tell candidates apart" in refused["why"]


@pytest.mark.parametrize(
    ("over_baseline", "over_champion", "failed"),
    [
        (0.011, -0.019, []),
        (0.010, -0.019, [BASELINE]),  # as much as is asked is not more
        (0.011, -0.020, []),  # as much as may be lost is not too much
        (0.011, -0.021, ["champion"]),
        (float("nan"), float("nan"), [BASELINE, "champion"]),  # of a single user
    ],
)
def test_the_baseline_is_to_be_beaten_and_a_champion_reached(over_baseline, over_champion, failed, shop_project):
    policy = {"min_lift_over_baseline": 0.01, "max_loss_to_champion": 0.02}
    config = shop_project.config
    config = config.model_copy(update={"promotion": config.promotion.model_copy(update=policy)})
    low = {BASELINE: over_baseline, "champion": over_champion}
    judged = SimpleNamespace(
        row=lambda *_: {"mean": 0.5},
        pair=lambda _system, against, *_: {"low": low[against], "high": 0.1, "difference": 0.05},
    )
    gates = gates_of(SimpleNamespace(judged=judged, share_distinct=1.0), config, "champion")
    assert [gate.name for gate in gates if not gate.passed] == [f"ndcg@10 against {name}" for name in failed]


def noisy_systems(rng, *, lift):
    """A window of 120 users with 1 to 4 requests, and two systems that differ by noise, and by `lift`."""
    asked = rng.integers(1, 5, size=120)
    users = np.repeat(np.arange(120), asked)
    keys = {"request": np.repeat(np.arange(len(users)), 12), "item": np.tile(np.arange(12), len(users))}
    rows = pl.DataFrame(keys, schema={"request": pl.UInt32, "item": pl.UInt32})
    worth = rng.normal(0, 1, size=rows.height) + np.repeat(rng.normal(0, 1, size=(120, 12)), asked, axis=0).ravel()
    true = rows.filter(pl.Series(worth > 2)).with_columns(label=pl.lit(1, pl.Int32), is_new=pl.lit(value=True))
    systems = {
        name: rows.with_columns(score=pl.Series(signal * worth + rng.normal(0, 2, size=rows.height)))
        for name, signal in ((FULL, 1 + lift), (BASELINE, 1))
    }
    requests = pl.DataFrame({"request": np.arange(len(users)), "user": users}, schema_overrides={"request": pl.UInt32})
    return Window(requests, true, rows.clear(), pl.Series([], dtype=pl.UInt32)), systems


def share_promoted(config, *, lift, resamples):
    promoted = 0
    for seed in range(resamples):
        window, systems = noisy_systems(np.random.default_rng(seed), lift=lift)
        verdict = judge(
            window,
            systems,
            candidates=systems[FULL],
            config=config.evaluation,
            seed=seed,
            compared=[(FULL, BASELINE)],
        )
        many = window.requests.height
        evaluation = Evaluation(verdict, first_day=0, end_day=1, n_requests=many, in_window=many, share_distinct=1.0)
        promoted += all(gate.passed for gate in gates_of(evaluation, config, None))
    return promoted / resamples


@pytest.mark.slow
def test_noise_alone_is_promoted_in_at_most_five_percent_of_resamples_and_a_lift_in_most(project):
    project.change(evaluation={"cutoffs": [10], "resamples": 400}, promotion={"min_lift_over_baseline": 0.0})
    assert share_promoted(project.config, lift=0.0, resamples=200) <= 0.05
    assert share_promoted(project.config, lift=0.8, resamples=20) >= 0.8


@pytest.mark.slow
def test_a_second_champion_can_be_taken_back(project, command):
    challenge(project)
    promoted = command(project, "promote", "--reason", "the weekly training").facts
    assert promoted["champion"] == "nightrank/2"
    assert "ndcg@10 against nightrank/1" in promoted["gates"]
    assert aliases(project) == {CHAMPION: "2", PREVIOUS: "1"}
    back = command(project, "rollback", "--reason", "complaints")
    assert back.facts == {"champion": "nightrank/1", "was": "nightrank/2"}
    assert aliases(project) == {CHAMPION: "1", PREVIOUS: "2"}
    entries = command(project, "history").facts["history"]
    assert [(entry["number"], entry["action"], entry["from"], entry["to"]) for entry in entries] == [
        (1, "promote", None, "nightrank/1"),
        (2, "promote", "nightrank/1", "nightrank/2"),
        (3, "rollback", "nightrank/2", "nightrank/1"),
    ]
    assert [entry["reason"] for entry in entries] == ["", "the weekly training", "complaints"]
    assert entries[1]["policy"] == {
        "min_lift_over_baseline": -1.0,
        "max_loss_to_champion": 1.0,
        "min_distinct_share": 0.5,
    }
    again = command(project, "rollback")
    assert again.code == 11
    assert "nightrank rollback --to N" in again.err
    assert command(project, "rollback", "--to", "2").facts == {"champion": "nightrank/2", "was": "nightrank/1"}
    assert command(project, "rollback", "--to", "1").code == 0
    assert command(project, "score", "--date", str(project.day)).facts["version"] == "nightrank/1"


def test_the_champion_is_promoted_once(project, command):
    before = command(project, "history").facts
    assert command(project, "promote", "--version", "1").facts == {"champion": "nightrank/1", "gates": {}, "policy": []}
    assert command(project, "history").facts == before


def test_without_a_champion_before_there_is_nothing_to_roll_back_to(project, command):
    ended = command(project, "rollback")
    assert ended.code == 11
    assert "nothing to roll back to" in ended.err


@pytest.mark.parametrize(
    "arguments", [("promote", "--version", "99"), ("evaluate", "--version", "nobody"), ("promote",)]
)
def test_a_version_that_is_not_there_is_a_usage_error(arguments, project, command):
    ended = command(project, *arguments)
    assert ended.code == 2
    assert "has no version" in ended.err
    assert "or name another: 'champion' is what is live" in ended.err


def test_a_project_without_any_version_says_what_to_do(shop_project, tmp_path, command):
    project = shop_project.copy(tmp_path / "project")
    assert "promote one with `nightrank promote`" in command(project, "score", "--date", str(project.day)).err
    assert "train one with `nightrank train`" in command(project, "promote").err
    assert command(project, "rollback").code == 2
    assert command(project, "history").facts == {"history": []}


def copies(project):
    """The version's bundle on this machine and in its run, from which a damaged one is fetched again."""
    return [
        *(project.folder / "out/bundles").iterdir(),
        *(project.folder / "out/mlartifacts").glob("*/artifacts/bundle"),
    ]


@pytest.mark.parametrize("verb", [("promote", "--version", "2"), ("evaluate", "--version", "2"), ("score",)])
def test_fault_34_an_altered_bundle_is_refused(verb, project, command):
    """Fault 34."""
    challenge(project)
    for bundle in copies(project):
        model = bundle / "ranker/booster.txt"
        text = model.read_text(encoding="utf-8")
        altered = text.replace("shrinkage=0", "shrinkage=1", 1)
        assert altered != text
        model.write_text(altered, encoding="utf-8")
    arguments = (*verb, "--date", str(project.day)) if verb == ("score",) else verb
    ended = command(project, *arguments)
    assert ended.code == 12
    assert "ranker/booster.txt was altered" in ended.err
    assert aliases(project) == {CHAMPION: "1"}
    assert not (project.folder / "out/rankings").exists()


@pytest.mark.parametrize("stranger", ["model.pkl", "encoder/model.py"])
def test_fault_33_a_bundle_with_a_file_too_many_is_refused(stranger, project, command):
    """Fault 33."""
    for bundle in copies(project):
        (bundle / stranger).write_bytes(b"\x80\x04.")
    ended = command(project, "score", "--date", str(project.day))
    assert ended.code == 12
    assert f"{stranger} is unknown" in ended.err


def test_a_bundle_that_is_not_at_hand_is_fetched_from_its_run(project, command):
    (bundle,) = (project.folder / "out/bundles").iterdir()
    kept = sha256_of(bundle / "manifest.json")
    for path in sorted(bundle.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    bundle.rmdir()
    assert command(project, "score", "--date", str(project.day)).code == 0
    assert sha256_of(bundle / "manifest.json") == kept
    assert [path.name for path in bundle.parent.iterdir()] == [bundle.name]


@pytest.mark.parametrize("source", ["runs:/{other}/bundle", "runs:/{run}/bundle/../../x", "file:///etc"])
def test_fault_35_a_version_whose_source_is_not_its_own_run_is_refused(source, project, command):
    """Fault 35."""
    registry = Registry(project.config)
    run = registry.version("1").run_id
    Tracking(project.config).client.create_model_version(
        "nightrank", source=source.format(run=run, other="0" * 32), run_id=run, tags={"bundle_digest": "0" * 64}
    )
    ended = command(project, "score", "--version", "2", "--date", str(project.day))
    assert ended.code == 12
    assert "its source is not the bundle of its own run" in ended.err


def test_fault_36_of_two_promotions_at_once_the_second_is_told_to_try_again(project, command, monkeypatch):
    """Fault 36: another machine promotes while this one judges."""
    challenge(project)
    challenge(project)
    judge = promote_module._judge

    def judged_slowly(*arguments):
        evaluation = judge(*arguments)
        monkeypatch.setattr(promote_module, "_judge", judge)
        promote_module.promote(project.inputs.log, project.config, Registry(project.config), "2")
        return evaluation

    monkeypatch.setattr(promote_module, "_judge", judged_slowly)
    ended = command(project, "promote", "--version", "3")
    assert ended.code == 75
    assert "somebody else moved the alias `champion` meanwhile" in ended.err
    assert aliases(project) == {CHAMPION: "2", PREVIOUS: "1"}
    assert [entry["to"] for entry in command(project, "history").facts["history"]] == ["nightrank/1", "nightrank/2"]


def test_fault_71_a_promotion_that_was_killed_is_completed_when_it_is_asked_for_again(project, command):
    """Fault 71: the decision was written, and no alias moved."""
    challenge(project)
    registry = Registry(project.config)
    decision = Decision(Action.PROMOTE, "1", "2", figures={"gate": "+0.2"})
    Champion(registry).decisions.append(decision, since=1)
    verified = command(project, "registry", "verify")
    assert verified.code == 12
    assert "decision 2 was not carried out to its end" in verified.err
    assert "mend it: nightrank registry repair" in verified.err
    assert aliases(project) == {CHAMPION: "1"}
    again = command(project, "promote")
    assert again.facts == {"champion": "nightrank/2", "gates": {"gate": "+0.2"}}
    assert "by decision 2, which was completed just now" in again.err
    assert aliases(project) == {CHAMPION: "2", PREVIOUS: "1"}
    whole = command(project, "registry", "verify").facts
    same = ["nightrank/2 is the same bundle as nightrank/1"]
    assert whole == {"champion": "nightrank/2", "decisions": 2, "versions": 2, "faults": [], "notes": same}


def test_an_alias_moved_by_hand_is_set_back_or_adopted(project, command):
    challenge(project)
    Registry(project.config).client.set_registered_model_alias("nightrank", CHAMPION, "2")
    stopped = command(project, "rollback")
    assert stopped.code == 12
    assert "`champion` names nightrank/2, and by decision 1 it is nightrank/1" in stopped.err
    assert command(project, "registry", "repair", "--adopt").code == 2
    assert command(project, "registry", "repair").facts == {"champion": "nightrank/1", "decision": 1}
    Registry(project.config).client.set_registered_model_alias("nightrank", CHAMPION, "2")
    adopted = command(project, "registry", "repair", "--adopt", "--reason", "an outage").facts
    assert adopted == {"champion": "nightrank/2", "decision": 2}
    assert command(project, "history").facts["history"][-1]["reason"] == "an outage"


def test_what_was_live_on_a_day_is_said_by_decisions_and_nights(project, command):
    command(project, "score", "--date", str(project.day))
    ended = command(project, "history", "--on", str(project.day))
    assert ended.facts["at_start"] is None
    assert [night["version"] for night in ended.facts["nights"]] == ["nightrank/1"]
    assert "champion of that day was: none" in ended.facts["note"]
    assert f"champion when {project.day} began: none" in ended.err


@pytest.mark.slow
def test_a_window_that_a_version_has_seen_is_refused(project, command):
    trained = project.trained
    opens = trained.split.test.start
    challenge(project, ranker_day=opens + 1)
    ended = command(project, "promote")
    assert ended.code == 11
    assert "nightrank/2 has seen events or labels after that" in ended.err
    seen = command(project, "evaluate", "--version", "1", "--from", "2024-02-10")
    assert seen.code == 11
    assert aliases(project) == {CHAMPION: "1"}


FEW = ("--set", "evaluation.max_requests=40")


@pytest.mark.slow
def test_versions_are_compared_on_the_same_requests(project, command):
    challenge(project, ranker=project.trained.behaviour_ranker)
    whole = command(project, "evaluate", "--version", "1", "--version", "2").facts
    drawn = command(project, "evaluate", "--version", "1", "--version", "2", *FEW).facts
    assert 40 <= drawn["requests"] < whole["requests"] == drawn["requests_in_window"]
    for facts in (whole, drawn):
        compared_on_the_same_requests(facts)


def compared_on_the_same_requests(facts):
    assert facts["versions"] == ["nightrank/1", "nightrank/2"]
    assert "nightrank/2" in {row["system"] for row in facts["systems"]}
    (pair,) = (
        row
        for row in facts["comparisons"]
        if (row["against"], row["slice"], row["metric"]) == ("nightrank/2", "all", "ndcg@10")
    )
    assert pair["wins"] + pair["ties"] + pair["losses"] == facts["requests"]


@pytest.mark.slow
def test_a_delayed_log_does_not_keep_a_version_from_its_own_test_window(shop_project, tmp_path, command):
    """With an ingestion lag all that a version saw lies before the as-of of its test, not only before the cut-off."""
    project = shop_project.copy(tmp_path / "project")
    project.change(calendar={"ingestion_lag_hours": 30})
    trained = command(project, "train")
    assert trained.code == 0
    assert command(project, "promote").facts["champion"] == "nightrank/1"
    manifest = json.loads((Path(trained.facts["bundle"]) / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["cutoff"] == f"2024-02-{int(trained.facts['window'][0][-2:]) - 2:02}T18:00:00+00:00"


POLICY = {
    "min_lift_over_baseline": -1.0,
    "max_loss_to_champion": 1.0,
    "slices": [{"slice": "users.country=DE", "max_loss_to_champion": 1.0}, {"slice": "new-to-user", "floor": 0.0}],
    "guards": [{"figure": "coverage@10", "least": 0.1, "max_fall": 0.5}],
    "groups": [
        {"by": "users.country", "max_ndcg_gap": 1.0, "min_requests": 5},
        {"by": "items.category", "max_exposure_gap": 1.0},
    ],
    "max_bundle_mb": 50,
    "max_request_ms": 60_000,
    "max_memory_gb": 100,
    "max_days_since_window": 0,
}
GATES = [
    "metric is finite",
    "scores tell candidates apart",
    "ndcg@10 against personal frequency",
    "ndcg@10 against nightrank/1",
    "ndcg@10, users.country=DE, against champion",
    "ndcg@10, new-to-user",
    "coverage@10",
    "coverage@10 against champion",
    "gap by users.country",
    "exposure by items.category",
    "size of the bundle",
    "time a request",
    "memory",
    "days since the window",
]


def test_a_dry_run_shows_the_policy_and_writes_nothing_but_vectors(project, command, snapshot):
    def written():
        return {
            name: facts for name, facts in snapshot(project.folder / "out").items() if not name.startswith("vectors/")
        }

    challenge(project)
    project.change(promotion=POLICY)
    before = written()
    ended = command(project, "promote", "--dry-run")
    assert ended.code == 0
    assert ended.facts.items() >= {"version": "nightrank/2", "champion": "nightrank/1", "would_promote": True}.items()
    assert [row["gate"] for row in ended.facts["policy"]] == GATES
    assert {row["verdict"] for row in ended.facts["policy"]} == {"passed"}
    assert all(f" {word} " in ended.err for word in ("gate", "asked", "found", "verdict"))
    assert "nightrank promote --version 2 --champion 1" in ended.err
    refused = command(project, "promote", "--dry-run", "--set", "promotion.min_approvals=1")
    assert refused.code == 11
    assert not refused.facts["would_promote"]
    assert "1 of 15 gates failed:\n- approvals: nobody: nightrank approve --version 2 --as NAME" in refused.err
    assert written() == before
    assert command(project, "promote", "--version", "2", "--champion", "1").facts["champion"] == "nightrank/2"


@pytest.mark.slow
def test_an_approval_lets_a_version_in(project, command):
    challenge(project)
    project.change(promotion={"min_approvals": 1})
    assert command(project, "promote").code == 11
    assert command(project, "approve", "--as", " ").code == 2
    assert command(project, "approve", "--version", "9", "--as", "Ada").code == 2
    approved = command(project, "approve", "--as", "Ada", "--reason", "looked at 20 lists")
    assert approved.facts["approvals"] == ["Ada"]
    again = command(project, "approve", "--version", "2", "--as", "ada")
    assert again.code == 2
    assert "has approved this bundle of nightrank/2 already" in again.err
    assert command(project, "promote").facts["champion"] == "nightrank/2"
    _, refused, approval, promoted = command(project, "history").facts["history"]
    assert refused["why"]["approvals"] == "nobody: nightrank approve --version 2 --as NAME; asked: 1 or more"
    assert approval.items() >= {"action": "approve", "to": "nightrank/2", "author": "Ada"}.items()
    assert promoted["why"]["approvals"] == "Ada; asked: 1 or more"
    assert promoted["policy"]["min_approvals"] == 1


def test_another_champion_than_a_dry_run_named_is_refused(project, command):
    challenge(project)
    ended = command(project, "promote", "--version", "2", "--champion", "7")
    assert ended.code == 11
    assert "- champion unchanged: nightrank/1; asked: nightrank/7" in ended.err
    assert aliases(project) == {CHAMPION: "1"}


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("items.category=Gardn", "no row of items has the category 'Gardn'. Did you mean 'Garden'?"),
        ("users.contry=DE", "'contry' is no column of users; did you mean 'country'?"),
        ("cold items", "there is no slice 'cold items'. Did you mean 'cold item'?"),
    ],
)
def test_a_slice_that_does_not_exist_is_refused_before_anything_is_scored(name, says, project, command):
    challenge(project)
    project.change(promotion={"slices": [{"slice": name, "floor": 0.1}]})
    ended = command(project, "promote")
    assert ended.code == 2
    assert says in ended.err
    assert "Scoring" not in ended.err


def test_a_version_of_another_model_is_named_with_the_way_to_it(project, command):
    ended = command(project, "promote", "--version", "shop/2")
    assert ended.code == 2
    assert "'shop/2' is a version of another model" in ended.err
    assert "--version 2 --set tracking.model_name=shop" in ended.err


def test_a_dry_run_does_not_complete_what_was_left_unfinished(project, command):
    challenge(project)
    Champion(Registry(project.config)).decisions.append(Decision(Action.PROMOTE, "1", "2"), since=1)
    ended = command(project, "promote", "--dry-run")
    assert ended.code == 75
    assert "`nightrank registry repair` completes it" in ended.err
    assert aliases(project) == {CHAMPION: "1"}
