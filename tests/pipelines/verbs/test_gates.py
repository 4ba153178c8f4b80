"""Gates: each of ours decides by its figures, and another package brings one by the recipe of `pipelines.verbs`."""

import doctest
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from features.errors import ConfigError
from pipelines.base.config import Config
from pipelines.evaluation.evaluate import FULL
from pipelines.evaluation.policy_figures import PolicyFigures, SliceFigures
from pipelines.verbs import gates as gates_module
from pipelines.verbs.gates import BASELINE, GROUP, VersionFacts, gates_of
from ranker.compare import Interval, paired_difference

CHAMPION = "nightrank/1"
CONFIG = Config.model_validate(
    {
        "data": {"items": {"path": "items.parquet", "text": ["title"]}, "events": {"path": "events.parquet"}},
        "promotion": {"min_lift_over_baseline": 0.01, "max_loss_to_champion": 0.005, "min_distinct_share": 0.5},
    }
)
FINITE, DISTINCT, OVER_BASELINE, OVER_CHAMPION = (
    *("metric is finite", "scores tell candidates apart"),
    *(f"ndcg@10 against {system}" for system in (BASELINE, CHAMPION)),
)


def judged(*, mean=0.3, distinct=1.0, lows=None):
    """An evaluation of the full system by the figures that gates read: lower bounds of its lift over others."""
    bounds = {BASELINE: 0.02, CHAMPION: 0.0} | (lows or {})
    return SimpleNamespace(
        judged=SimpleNamespace(
            row=lambda system, part, metric: {"mean": mean},  # noqa: ARG005
            pair=lambda system, against, part, metric: {  # noqa: ARG005
                "difference": bounds[against] + 0.01,
                "low": bounds[against],
                "high": bounds[against] + 0.02,
            },
        ),
        share_distinct=distinct,
        n_requests=50,
        in_window=1000,
        policy=PolicyFigures(),
        beyond={},
    )


def failed(evaluation, champion=CHAMPION):
    return [gate.name for gate in gates_of(evaluation, CONFIG, champion) if not gate.passed]


@pytest.mark.parametrize(
    ("figures", "names"),
    [
        ({}, []),
        ({"mean": math.nan}, [FINITE]),
        ({"distinct": 0.5}, []),
        ({"distinct": 0.49}, [DISTINCT]),
        ({"lows": {BASELINE: 0.01}}, [OVER_BASELINE]),  # the bound itself is not above it
        ({"lows": {BASELINE: math.nan}}, [OVER_BASELINE]),
        ({"lows": {CHAMPION: -0.005}}, []),  # as much as may be lost
        ({"lows": {CHAMPION: -0.0051}}, [OVER_CHAMPION]),
        ({"distinct": 0.0, "lows": {CHAMPION: -1.0}}, [DISTINCT, OVER_CHAMPION]),
    ],
)
def test_a_gate_decides_by_its_figures(figures, names):
    assert failed(judged(**figures)) == names


def test_without_a_champion_nothing_is_compared_with_it():
    names = [gate.name for gate in gates_of(judged(), CONFIG, None)]
    assert names == [FINITE, DISTINCT, OVER_BASELINE]


def test_docstring_examples_hold():
    assert doctest.testmod(gates_module) == doctest.TestResults(failed=0, attempted=12)


def with_policy(**promotion):
    values = CONFIG.model_dump(exclude_unset=True)
    return Config.model_validate({**values, "promotion": {"min_lift_over_baseline": -1.0, **promotion}})


def test_the_least_effect_stands_instead_of_the_largest_loss():
    config = with_policy(min_lift_over_champion=0.01, max_loss_to_champion=1.0)
    outcomes = {low: gates_of(judged(lows={CHAMPION: low}), config, CHAMPION)[-1] for low in (0.01, 0.011)}
    assert [gate.passed for gate in outcomes.values()] == [False, True]
    assert outcomes[0.01].words == "+0.0200 [+0.0100, +0.0300]; asked: lower bound above +0.0100"


ONE_USER = Interval(0.3, math.nan, math.nan, 2, 1)


def of(mean, low, high):
    return Interval(mean, low, high, 40, 20)


@pytest.mark.parametrize(
    ("asks", "figures", "passed", "finding"),
    [
        ({"floor": 0.3}, SliceFigures(of(0.3, 0.2, 0.4)), True, "0.3000 [0.2000, 0.4000] over 40 requests"),
        ({"floor": 0.31}, SliceFigures(of(0.3, 0.2, 0.4)), False, "0.3000 [0.2000, 0.4000] over 40 requests"),
        ({"floor": 0.3}, SliceFigures(ONE_USER), True, "0.3000 [-] over 2 requests"),
        ({"floor": 0.0}, SliceFigures(None), False, "no request of the window has a positive there"),
        (
            {"max_loss_to_champion": 0.02},
            SliceFigures(of(0.3, 0.2, 0.4), of(0.0, -0.02, 0.02)),
            True,
            "+0.0000 [-0.0200, +0.0200]",
        ),
        (
            {"max_loss_to_champion": 0.019},
            SliceFigures(of(0.3, 0.2, 0.4), of(0.0, -0.02, 0.02)),
            False,
            "+0.0000 [-0.0200, +0.0200]",
        ),
        ({"max_loss_to_champion": 1.0}, SliceFigures(ONE_USER, ONE_USER), False, "+0.3000 [-]"),
    ],
)
def test_a_slice_has_a_floor_and_a_largest_loss(asks, figures, passed, finding):
    config = with_policy(slices=[{"slice": "cold item", **asks}])
    evaluation = judged()
    evaluation.policy = PolicyFigures(slices={"cold item": figures})
    gate = gates_of(evaluation, config, CHAMPION)[-1]
    assert gate.name.startswith("ndcg@10, cold item")
    assert (gate.passed, gate.finding) == (passed, finding)


@pytest.mark.parametrize(
    ("limits", "champion", "verdicts"),
    [
        ({"least": 0.25}, CHAMPION, [True]),
        ({"least": 0.26, "most": 0.25}, CHAMPION, [False, True]),
        ({"most": 0.24}, CHAMPION, [False]),
        ({"max_fall": 0.25}, CHAMPION, [True]),  # from 0.5
        ({"max_fall": 0.24, "max_rise": 0.0}, CHAMPION, [False, True]),
        ({"max_fall": 0.0}, None, []),
    ],
)
def test_a_guard_holds_a_figure_within_limits_and_near_the_champions(limits, champion, verdicts):
    evaluation = judged()
    evaluation.beyond = {FULL: {"coverage@10": 0.25}, CHAMPION: {"coverage@10": 0.5}}
    config = with_policy(guards=[{"figure": "coverage@10", **limits}])
    outcomes = gates_of(evaluation, config, champion)
    assert [gate.passed for gate in outcomes if gate.name.startswith("coverage@10")] == verdicts


def test_a_figure_that_is_undefined_passes_no_guard():
    evaluation = judged()
    evaluation.beyond = {FULL: {"diversity@10": math.nan}}
    config = with_policy(guards=[{"figure": "diversity@10", "least": 0.0, "most": 1.0}])
    assert [gate.passed for gate in gates_of(evaluation, config, None)[-2:]] == [False, False]


@pytest.mark.parametrize(
    ("most", "min_requests", "passed", "finding"),
    [
        (0.2, 30, True, "0.2000: DE 0.5000 (80 requests), FR 0.3000 (30 requests)"),
        (0.19, 30, False, "0.2000: DE 0.5000 (80 requests), FR 0.3000 (30 requests)"),
        (0.5, 1, True, "0.5000: DE 0.5000 (80 requests), LU 0.0000 (1 request)"),
        (1.0, 50, False, "1 of 3 groups have so many requests"),
    ],
)
def test_groups_of_users_are_served_alike(most, min_requests, passed, finding):
    evaluation = judged()
    evaluation.policy = PolicyFigures(ndcg={"users.country": {"DE": (0.5, 80), "FR": (0.3, 30), "LU": (0.0, 1)}})
    config = with_policy(groups=[{"by": "users.country", "max_ndcg_gap": most, "min_requests": min_requests}])
    gate = gates_of(evaluation, config, None)[-1]
    assert (gate.passed, gate.finding) == (passed, finding)


@pytest.mark.parametrize(("most", "passed"), [(0.25, True), (0.24, False)])
def test_groups_of_items_are_shown_as_they_are_wanted(most, passed):
    evaluation = judged()
    evaluation.policy = PolicyFigures(
        exposure={"items.brand": {"a": (0.5, 0.25), "b": (0.375, 0.5), "c": (0.125, 0.25)}}
    )
    gate = gates_of(evaluation, with_policy(groups=[{"by": "items.brand", "max_exposure_gap": most}]), None)[-1]
    assert gate.passed == passed
    assert gate.finding == "0.2500: a has 50.0% of the exposure and 25.0% of the positives"


FACTS = VersionFacts("nightrank/2", bundle_mb=120.0, days_since_window=9, tags={"reviewed": "yes"}, approvers=["Ada"])


@pytest.mark.parametrize(
    ("promotion", "passed", "words"),
    [
        ({"max_bundle_mb": 120}, True, "120 MB; asked: at most 120 MB"),
        ({"max_bundle_mb": 119}, False, "120 MB; asked: at most 119 MB"),
        ({"max_request_ms": 8}, True, "7.5 ms; asked: at most 8 ms"),
        ({"max_request_ms": 7}, False, "7.5 ms; asked: at most 7 ms"),
        ({"max_memory_gb": 2}, False, "2.5 GB; asked: at most 2 GB"),
        ({"max_days_since_window": 9}, True, "9 days; asked: at most 9 days"),
        ({"max_days_since_window": 8}, False, "9 days; asked: at most 8 days"),
        ({"tags": {"reviewed": "yes"}}, True, "yes; asked: yes"),
        ({"tags": {"reviewed": "no"}}, False, "yes; asked: no"),
        ({"tags": {"reviewed": None}}, True, "yes; asked: any value"),
        ({"tags": {"ticket": None}}, False, "no such tag; asked: any value"),
        ({"min_approvals": 1}, True, "Ada; asked: 1 or more"),
        ({"min_approvals": 2}, False, "Ada: nightrank approve --version 2 --as NAME; asked: 2 or more"),
    ],
)
def test_what_is_asked_of_the_version_itself(promotion, passed, words):
    evaluation = judged()
    evaluation.policy = PolicyFigures(request_ms=7.5, memory_gb=2.5)
    gate = gates_of(evaluation, with_policy(**promotion), None, FACTS)[-1]
    assert (gate.passed, gate.words) == (passed, words)


def test_a_cost_that_was_not_measured_passes_no_gate():
    gate = gates_of(judged(), with_policy(max_request_ms=100), None, FACTS)[-1]
    assert (gate.passed, gate.finding) == (False, "not measured")


@pytest.mark.parametrize(("live", "passed"), [("nightrank/1", True), ("nightrank/3", False), (None, False)])
def test_the_champion_is_the_one_that_a_dry_run_named(live, passed):
    gate = gates_of(judged(), CONFIG, None, replace(FACTS, live=live, expected="nightrank/1"))[-1]
    assert (gate.name, gate.passed, gate.finding) == ("champion unchanged", passed, live or "none")


def test_what_is_not_configured_has_no_gate():
    assert len(gates_of(judged(), CONFIG, CHAMPION, FACTS)) == 4


def share_passed(lift, *, resamples):
    """Share of simulated promotions over an equal champion, but for `lift`, whose effect gate passes.

    200 users with 1 to 4 requests: a user's level is shared by both, and each one's luck is its own.
    """
    config, passed = with_policy(min_lift_over_champion=0.0), 0
    for seed in range(resamples):
        rng = np.random.default_rng(seed)
        users = np.repeat(np.arange(200), rng.integers(1, 5, size=200))
        level = rng.beta(2, 4, size=200)[users]
        champion, challenger = (
            np.clip(level + rng.normal(0, 0.1, 200)[users] + rng.normal(0, 0.2, len(users)), 0, 1) for _ in range(2)
        )
        result = paired_difference(challenger + lift, champion, users, resamples=400, seed=seed).difference
        evaluation = judged()
        pair = {"difference": result.mean, "low": result.low, "high": result.high}
        evaluation.judged.pair = lambda *_, pair=pair: pair
        passed += next(g.passed for g in gates_of(evaluation, config, CHAMPION) if g.name.endswith(CHAMPION))
    return passed / resamples


def test_an_a_a_promotion_passes_its_effect_gate_in_at_most_five_percent_of_200_resamples():
    assert 0 < share_passed(0.0, resamples=200) <= 0.05
    assert share_passed(0.05, resamples=20) >= 0.9


TOY = """
from pipelines.verbs.gates import Gate

def covers_requests(evaluation, config, champion):
    share = evaluation.n_requests / evaluation.in_window
    return Gate("enough requests are judged", share >= 0.1, f"{share:.0%} of the window's requests")
"""


def test_another_package_brings_a_gate_by_the_recipe(install):
    install("toy_gates", TOY, group=GROUP, name="covers_requests")
    gate = gates_of(judged(), CONFIG, CHAMPION)[-1]
    assert (gate.name, gate.passed, gate.finding) == (
        "enough requests are judged",
        False,
        "5% of the window's requests",
    )


@pytest.mark.parametrize(("source", "says"), [("covers = 3", "is no function"), ("", "cannot be imported")])
def test_what_is_no_gate_is_refused(source, says, install):
    install("broken_gates", source, group=GROUP, name="covers")
    with pytest.raises(ConfigError, match=f"broken_gates:covers.*{says}"):
        gates_of(judged(), CONFIG, None)
