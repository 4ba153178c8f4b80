"""The gates of a promotion: conditions on a challenger's evaluation, all of which must hold.

A gate is a function of an evaluation, the configuration and the champion's name; it reads no file and no registry. The
recipe for another one is in the docstring of `pipelines.verbs`.

A gate judges a version. What a night must show before it goes live, such as enough items in stock, is an audit
(`pipelines.night`); which items may be shown at all is a filter of the candidates (`features.candidates`).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from features.errors import ConfigError
from pipelines.base.config import Config
from pipelines.base.plugins import installed
from pipelines.evaluation.evaluate import FULL, Evaluation

__all__ = ["BASELINE", "GATES", "GROUP", "Gate", "GateFunction", "gates_of"]

BASELINE = "personal frequency"
"""The baseline that a version must beat."""
GROUP = "nightrank.gates"
"""Entry points of gates that other packages bring."""


@dataclass(frozen=True, slots=True)
class Gate:
    """The outcome of one condition.

    Attributes:
        name: What the gate asks for.
        passed: Whether it holds.
        finding: The figures that decided it, in words.
    """

    name: str
    passed: bool
    finding: str


GateFunction = Callable[[Evaluation, Config, str | None], Gate | None]
"""gate(evaluation, config, champion) judges the challenger's full system; None where the condition does not apply.

The champion is its name in the evaluation, None if there is none."""


def gates_of(evaluation: Evaluation, config: Config, champion: str | None) -> list[Gate]:
    """The outcome of every gate that applies, passed or not: ours first, then those of installed packages.

    Args:
        evaluation: The challenger's full system judged against baselines and champion.
        config: The policy, and the rank that NDCG is cut at (the last of `evaluation.cutoffs`).
        champion: Name of the champion in the evaluation, None if there is none.

    Raises:
        ConfigError: A gate of another package cannot be imported, or is no function.
    """
    outcomes = (gate(evaluation, config, champion) for gate in (*GATES, *_installed_gates()))
    return [outcome for outcome in outcomes if outcome is not None]


def _installed_gates() -> list[GateFunction]:
    gates = []
    for name, gate in installed(GROUP, "gate"):
        if not callable(gate):
            raise ConfigError(f"{name!r} is no function of an evaluation, a configuration and the champion's name.")
        gates.append(gate)
    return gates


def _metric_is_finite(evaluation: Evaluation, config: Config, champion: str | None) -> Gate:  # noqa: ARG001
    metric = _metric(config)
    mean = evaluation.judged.row(FULL, "all", metric)["mean"]
    return Gate("metric is finite", math.isfinite(mean), f"{metric} {mean:.4f}")


def _scores_differ(evaluation: Evaluation, config: Config, champion: str | None) -> Gate:  # noqa: ARG001
    share, least = evaluation.share_distinct, config.promotion.min_distinct_share
    finding = f"in {share:.1%} of requests; at least {least:.1%} asked"
    return Gate("scores tell candidates apart", share >= least, finding)


def _beats_baseline(evaluation: Evaluation, config: Config, champion: str | None) -> Gate:  # noqa: ARG001
    return _lift(evaluation, config, BASELINE, config.promotion.min_lift_over_baseline, strictly=True)


def _keeps_up_with_champion(evaluation: Evaluation, config: Config, champion: str | None) -> Gate | None:
    if champion is None:
        return None
    return _lift(evaluation, config, champion, -config.promotion.max_loss_to_champion, strictly=False)


GATES: tuple[GateFunction, ...] = (_metric_is_finite, _scores_differ, _beats_baseline, _keeps_up_with_champion)
"""The gates of every promotion, in the order in which they are reported."""


def _metric(config: Config) -> str:
    """NDCG at the last cut-off of the evaluation."""
    return f"ndcg@{config.evaluation.cutoffs[-1]}"


def _lift(evaluation: Evaluation, config: Config, against: str, least: float, *, strictly: bool) -> Gate:
    """Whether the lower bound of the paired lift over a system is large enough; a bound that is not finite is not."""
    metric = _metric(config)
    pair: dict[str, Any] = evaluation.judged.pair(FULL, against, "all", metric)
    low = pair["low"]
    passed = math.isfinite(low) and (low > least if strictly else low >= least)
    finding = f"{pair['difference']:+.4f} [{low:+.4f}, {pair['high']:+.4f}]; lower bound asked: {least:+.4f}"
    return Gate(f"{metric} against {against}", passed, finding)
