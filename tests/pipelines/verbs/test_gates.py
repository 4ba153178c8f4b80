"""Gates: each of ours decides by its figures, and another package brings one by the recipe of `pipelines.verbs`."""

import math
from types import SimpleNamespace

import pytest

from features.errors import ConfigError
from pipelines.base.config import Config
from pipelines.verbs.gates import BASELINE, GROUP, gates_of

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
