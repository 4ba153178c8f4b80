"""Verbs `promote` and `rollback`: make a version champion if it passes every gate, or one from before without."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from features.errors import BlockedError
from features.log.event_log import EventLog, day_of
from pipelines.base.config import Config
from pipelines.evaluation.evaluate import FULL, Evaluation
from pipelines.registry.bundle import Bundle, load_bundle
from pipelines.registry.champion import Champion
from pipelines.registry.decisions import Action, last_move, read_journal
from pipelines.registry.registry import CHAMPION, PREVIOUS, Registry, Version
from pipelines.registry.versions import judge_versions

__all__ = ["BASELINE", "Gate", "gates_of", "promote", "rollback"]

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
    log: EventLog,
    config: Config,
    registry: Registry,
    wanted: str,
    *,
    judged: Evaluation | None = None,
    reason: str = "",
) -> tuple[Version, list[Gate]]:
    """Make a version champion if it passes every gate; the decision is kept, and a refusal too.

    Args:
        log: The log as it is today; the window of the version's own evaluation is judged again on it.
        config: Gates.
        registry: Versions and decisions.
        wanted: Number or alias.
        judged: The version as it was judged just now on its own window, baselines included; is used where there is
            no champion to compare with.
        reason: In the words of whoever promotes.

    Raises:
        BlockedError: Gates failed; all are named. The champion stays.
        IntegrityError: The aliases were moved by hand, or a bundle is not as it was registered.
        TryAgainError: Somebody else moved the champion meanwhile.
    """
    champions = Champion(registry)
    standing = champions.settle()
    version, champion = registry.version(wanted), standing.champion
    if champion is not None and champion.number == version.number:
        return version, []
    bundle = load_bundle(registry.bundle_folder(version))
    versions = {version.name: bundle}
    if champion is not None:
        versions[champion.name] = load_bundle(registry.bundle_folder(champion))
    evaluation = judged if champion is None and judged is not None else _judge(log, config, versions, bundle)
    gates = gates_of(evaluation, config, champion.name if champion else None)
    figures, policy = {gate.name: gate.finding for gate in gates}, config.promotion.model_dump(mode="json")
    failed = [gate for gate in gates if not gate.passed]
    if failed:
        champions.refuse(version, standing, reason=reason, figures=figures, policy=policy)
        raise BlockedError(
            f"{version.name} stays out; {len(failed)} of {len(gates)} gates failed:\n"
            + "\n".join(f"- {gate.name}: {gate.finding}" for gate in failed)
        )
    champions.decide(Action.PROMOTE, version, standing, reason=reason, figures=figures, policy=policy)
    return version, gates


def rollback(registry: Registry, to: str | None = None, *, reason: str = "") -> tuple[Version | None, Version]:
    """Make a version from before champion again.

    Args:
        registry: Versions and decisions.
        to: Number of the version; None for the one before the present champion.
        reason: In the words of whoever rolls back.

    Returns:
        The champion before and the champion now; the same where the named version is live already.

    Raises:
        BlockedError: None is named, and there is none before, or the last thing decided was a rollback.
        ConfigError: The named version is not there.
        IntegrityError: Its bundle is not as it was registered, or the aliases were moved by hand.
        TryAgainError: Somebody else moved the champion meanwhile.
    """
    champions = Champion(registry)
    standing = champions.settle()
    now = standing.champion
    target = _one_before(registry, champions, now) if to is None else registry.version(to)
    if now is not None and now.number == target.number:
        return now, target
    registry.bundle_folder(target)
    champions.decide(Action.ROLLBACK, target, standing, reason=reason)
    return now, target


def _one_before(registry: Registry, champions: Champion, now: Version | None) -> Version:
    """The version that a rollback without a target goes back to."""
    last = last_move(champions.decisions.read())
    kept = read_journal(Path(registry.config.output) / "registry")
    old = next((entry for entry in reversed(kept) if entry["action"] != Action.REFUSED), {})
    if (last.action if last else old.get("action")) == Action.ROLLBACK:
        at = last.words(registry.model) if last else f"by {old['by']} at {old['at']}"
        raise BlockedError(
            f"the last thing decided was a rollback already ({at}): another one would bring back what was taken away. "
            "Name the version: nightrank rollback --to N; `nightrank history` shows them."
        )
    previous = registry.find(PREVIOUS)
    if previous is None or (now is not None and previous.number == now.number):
        now = now or registry.version(CHAMPION)
        raise BlockedError(
            f"nothing to roll back to: {now.name} has no champion before it. Name a version: nightrank rollback --to N."
        )
    return previous


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
