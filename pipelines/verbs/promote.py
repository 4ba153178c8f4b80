"""Verb `promote`: make a version champion if it passes every gate of the policy."""

import math
from dataclasses import dataclass
from typing import Any

from features.errors import BlockedError
from features.log.event_log import EventLog, day_of
from pipelines.base.config import Config
from pipelines.evaluation.evaluate import FULL, Evaluation
from pipelines.registry.bundle import Bundle, load_bundle
from pipelines.registry.registry import CHAMPION, Registry, Version
from pipelines.registry.versions import judge_versions

__all__ = ["BASELINE", "Gate", "gates_of", "promote"]

BASELINE = "personal frequency"


@dataclass(frozen=True, slots=True)
class Gate:
    """One condition of a promotion.

    Attributes:
        name: What the gate asks for.
        passed: Whether it holds.
        finding: The figures that decided it, in words.
    """

    name: str
    passed: bool
    finding: str


def promote(
    log: EventLog, config: Config, registry: Registry, wanted: str, *, judged: Evaluation | None = None
) -> tuple[Version, list[Gate]]:
    """Make a version champion if it passes every gate.

    Args:
        log: The log as it is today; the window of the version's own evaluation is judged again on it.
        config: Gates.
        registry: Versions and lock.
        wanted: Number or alias.
        judged: The version as it was judged just now on its own window, baselines included; is used where there is
            no champion to compare with.

    Raises:
        BlockedError: Gates failed; all are named. The champion stays.
        TryAgainError: Another promotion is under way.
    """
    with registry.locked():
        version = registry.version(wanted)
        champion = registry.find(CHAMPION)
        if champion is not None and champion.number == version.number:
            return version, []
        bundle = load_bundle(registry.bundle_folder(version))
        versions = {version.name: bundle}
        if champion is not None:
            versions[champion.name] = load_bundle(registry.bundle_folder(champion))
        evaluation = judged if champion is None and judged is not None else _judge(log, config, versions, bundle)
        gates = gates_of(evaluation, config, champion.name if champion else None)
        why = {gate.name: gate.finding for gate in gates}
        failed = [gate for gate in gates if not gate.passed]
        if failed:
            registry.journal_refusal(version, why)
            raise BlockedError(
                f"{version.name} stays out; {len(failed)} of {len(gates)} gates failed:\n"
                + "\n".join(f"- {gate.name}: {gate.finding}" for gate in failed)
                + "\nTrain a better version, or change the limits under `promotion`."
            )
        registry.make_champion(version, why=why, action="promote")
    return version, gates


def gates_of(evaluation: Evaluation, config: Config, champion: str | None) -> list[Gate]:
    """Every gate of the policy, passed or not.

    Args:
        evaluation: The challenger's full system judged against baselines and champion.
        config: The policy, and the rank that NDCG is cut at (the last of `evaluation.cutoffs`).
        champion: Name of the champion in the evaluation, None if there is none.
    """
    policy, metric = config.promotion, f"ndcg@{config.evaluation.cutoffs[-1]}"
    row = evaluation.judged.row(FULL, "all", metric)
    share = evaluation.share_distinct
    gates = [
        Gate("metric is finite", math.isfinite(row["mean"]), f"{metric} {row['mean']:.4f}"),
        Gate(
            "scores tell candidates apart",
            share >= policy.min_distinct_share,
            f"in {share:.1%} of requests; at least {policy.min_distinct_share:.1%} asked",
        ),
        _lift(evaluation, metric, BASELINE, policy.min_lift_over_baseline, strictly=True),
    ]
    if champion is not None:
        gates.append(_lift(evaluation, metric, champion, -policy.max_loss_to_champion, strictly=False))
    return gates


def _lift(evaluation: Evaluation, metric: str, against: str, least: float, *, strictly: bool) -> Gate:
    pair: dict[str, Any] = evaluation.judged.pair(FULL, against, "all", metric)
    low = pair["low"]
    passed = math.isfinite(low) and (low > least if strictly else low >= least)
    finding = f"{pair['difference']:+.4f} [{low:+.4f}, {pair['high']:+.4f}]; lower bound asked: {least:+.4f}"
    return Gate(f"{metric} against {against}", passed, finding)


def _judge(log: EventLog, config: Config, versions: dict[str, Bundle], bundle: Bundle) -> Evaluation:
    """Judge versions on the window of a bundle's own evaluation."""
    first, last = bundle.window
    return judge_versions(log, config, versions, first_day=day_of(first), end_day=day_of(last) + 1)
