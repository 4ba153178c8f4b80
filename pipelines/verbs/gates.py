"""The gates of a promotion: conditions on a challenger and its evaluation, all of which must hold.

A gate is a small function of figures; it reads no file and no registry. What is not configured under `promotion` has no
gate, but for the four that every promotion asks. The recipe for another one is in the docstring of `pipelines.verbs`.

A gate judges a version. What a night must show before it goes live, such as enough items in stock, is an audit
(`pipelines.night`); which items may be shown at all is a filter of the candidates (`features.candidates`).
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from features.errors import ConfigError
from pipelines.base.config import Config
from pipelines.base.plugins import installed
from pipelines.base.promotion_config import GroupGates, GuardGates, PromotionConfig, SliceGates
from pipelines.evaluation.evaluate import FULL, Evaluation
from pipelines.evaluation.policy_figures import SliceFigures, metric_of
from ranker.compare import Interval

__all__ = ["BASELINE", "GATES", "GROUP", "Gate", "GateFunction", "VersionFacts", "gates_of"]

BASELINE = "personal frequency"
"""The baseline that a version must beat."""
GROUP = "nightrank.gates"
"""Entry points of gates that other packages bring."""


@dataclass(frozen=True, slots=True)
class Gate:
    """The outcome of one condition.

    Attributes:
        name: What the gate looks at.
        passed: Whether it holds.
        finding: The figures that decided it, in words.
        requirement: What they were to be, in words.
    """

    name: str
    passed: bool
    finding: str
    requirement: str = ""

    @property
    def words(self) -> str:
        """Finding and requirement, as decisions keep them."""
        return f"{self.finding}; asked: {self.requirement}" if self.requirement else self.finding

    def as_json(self) -> dict[str, str]:
        """A row of the policy's table."""
        verdict = "passed" if self.passed else "failed"
        return {"gate": self.name, "asked": self.requirement, "found": self.finding, "verdict": verdict}


@dataclass(frozen=True, slots=True)
class VersionFacts:
    """What a policy may ask of a version beside its evaluation.

    Attributes:
        name: `model/number`.
        bundle_mb: Size of its bundle.
        days_since_window: Days that the log goes on after the window that it was judged on.
        tags: Its tags in MLflow.
        approvers: Who approved its bundle.
        live: Name of the champion; None if there is none.
        expected: The champion that a dry run named; None if nobody says.
    """

    name: str
    bundle_mb: float = 0.0
    days_since_window: int = 0
    tags: Mapping[str, str] = field(default_factory=dict)
    approvers: Sequence[str] = ()
    live: str | None = None
    expected: str | None = None


GateFunction = Callable[[Evaluation, Config, str | None], Gate | None]
"""gate(evaluation, config, champion) judges the challenger's full system; None where the condition does not apply.

The champion is its name in the evaluation, None if there is none."""


def gates_of(
    evaluation: Evaluation, config: Config, champion: str | None, facts: VersionFacts | None = None
) -> list[Gate]:
    """The outcome of every gate that applies, passed or not: ours first, then those of installed packages.

    Args:
        evaluation: The challenger's full system judged against baselines and champion.
        config: The policy, and the rank that NDCG is cut at (the last of `evaluation.cutoffs`).
        champion: Name of the champion in the evaluation, None if there is none.
        facts: What else is to be asked of the version; None asks for the evaluation alone.

    Raises:
        ConfigError: A gate of another package cannot be imported, or is no function.
    """
    policy = config.promotion
    gates = [gate(evaluation, config, champion) for gate in GATES]
    gates += _of_slices(evaluation.policy.slices, policy.slices, metric_of(config)) if policy.slices else []
    gates += _of_guards(evaluation.beyond, policy.guards, champion) if policy.guards else []
    gates += _of_groups(evaluation, policy.groups) if policy.groups else []
    gates += [] if facts is None else _of_version(evaluation, policy, facts)
    gates += [gate(evaluation, config, champion) for gate in _installed_gates()]
    return [outcome for outcome in gates if outcome is not None]


def _installed_gates() -> list[GateFunction]:
    gates = []
    for name, gate in installed(GROUP, "gate"):
        if not callable(gate):
            raise ConfigError(f"{name!r} is no function of an evaluation, a configuration and the champion's name.")
        gates.append(gate)
    return gates


def _metric_is_finite(evaluation: Evaluation, config: Config, champion: str | None) -> Gate:  # noqa: ARG001
    metric = metric_of(config)
    mean = evaluation.judged.row(FULL, "all", metric)["mean"]
    return Gate("metric is finite", math.isfinite(mean), f"{metric} {mean:.4f}", "a finite number")


def _scores_differ(evaluation: Evaluation, config: Config, champion: str | None) -> Gate:  # noqa: ARG001
    share, least = evaluation.share_distinct, config.promotion.min_distinct_share
    return Gate(
        "scores tell candidates apart", share >= least, f"in {share:.1%} of requests", f"in at least {least:.1%}"
    )


def _beats_baseline(evaluation: Evaluation, config: Config, champion: str | None) -> Gate:  # noqa: ARG001
    return _lift_over(BASELINE, evaluation, config, config.promotion.min_lift_over_baseline, strictly=True)


def _keeps_up_with_champion(evaluation: Evaluation, config: Config, champion: str | None) -> Gate | None:
    if champion is None:
        return None
    effect = config.promotion.min_lift_over_champion
    if effect is not None:
        return _lift_over(champion, evaluation, config, effect, strictly=True)
    return _lift_over(champion, evaluation, config, -config.promotion.max_loss_to_champion, strictly=False)


GATES: tuple[GateFunction, ...] = (_metric_is_finite, _scores_differ, _beats_baseline, _keeps_up_with_champion)
"""The gates of every promotion, in the order in which they are reported."""


def _lift_over(against: str, evaluation: Evaluation, config: Config, least: float, *, strictly: bool) -> Gate:
    """The lift of the full system over another one, over all requests."""
    metric = metric_of(config)
    pair: dict[str, Any] = evaluation.judged.pair(FULL, against, "all", metric)
    limits = (pair["difference"], pair["low"], pair["high"])
    return _lift(f"{metric} against {against}", limits, least, strictly=strictly)


def _lift(name: str, limits: tuple[float, float, float], least: float, *, strictly: bool) -> Gate:
    """Whether the lower bound of a paired lift is large enough; a bound that is not finite is not.

    >>> gate = _lift("ndcg@10 against nightrank/1", (0.01, -0.004, 0.024), -0.005, strictly=False)
    >>> gate.passed, gate.finding, gate.requirement
    (True, '+0.0100 [-0.0040, +0.0240]', 'lower bound at least -0.0050')
    """
    difference, low, high = limits
    passed = math.isfinite(low) and (low > least if strictly else low >= least)
    bound = f"lower bound {'above' if strictly else 'at least'} {least:+.4f}"
    return Gate(name, passed, f"{difference:+.4f} {_limits(low, high, '+')}", bound)


def _limits(low: float, high: float, sign: str = "") -> str:
    """An interval as tables show it; a single user has none."""
    return f"[{low:{sign}.4f}, {high:{sign}.4f}]" if math.isfinite(low) else "[-]"


def _of_slices(figures: Mapping[str, SliceFigures], asks: Sequence[SliceGates], metric: str) -> Iterator[Gate]:
    """The gates of every slice that the policy names."""
    for each in asks:
        of_slice = figures[each.slice]
        if each.floor is not None:
            yield _floor(f"{metric}, {each.slice}", of_slice.level, each.floor)
        if each.max_loss_to_champion is not None and of_slice.lift is not None:
            lift, name = of_slice.lift, f"{metric}, {each.slice}, against champion"
            yield _lift(name, (lift.mean, lift.low, lift.high), -each.max_loss_to_champion, strictly=False)


def _floor(name: str, level: Interval | None, least: float) -> Gate:
    """Whether a mean is large enough; one of no request is not.

    >>> _floor("ndcg@10, cold item", Interval(0.04, 0.01, 0.07, 31, 12), 0.05).words
    '0.0400 [0.0100, 0.0700] over 31 requests; asked: at least 0.0500'
    >>> _floor("ndcg@10, cold item", None, 0.05).words
    'no request of the window has a positive there; asked: at least 0.0500'
    """
    if level is None:
        return Gate(
            name,
            passed=False,
            finding="no request of the window has a positive there",
            requirement=f"at least {least:.4f}",
        )
    finding = f"{level.mean:.4f} {_limits(level.low, level.high)} over {_requests(level.n_requests)}"
    return Gate(name, level.mean >= least, finding, f"at least {least:.4f}")


def _requests(count: int) -> str:
    return f"{count:,} request{'' if count == 1 else 's'}"


def _of_guards(
    beyond: Mapping[str, Mapping[str, float]], asks: Sequence[GuardGates], champion: str | None
) -> Iterator[Gate]:
    """The gates of figures beyond accuracy."""
    for each in asks:
        before = None if champion is None else beyond[champion].get(each.figure, math.nan)
        yield from _guard(each, beyond[FULL].get(each.figure, math.nan), before)


def _guard(ask: GuardGates, value: float, before: float | None) -> Iterator[Gate]:
    """Whether a figure lies within its limits, and near enough to the champion's; one that is undefined does not.

    >>> guard = GuardGates(figure="coverage@10", least=0.2, max_fall=0.05)
    >>> [(gate.passed, gate.words) for gate in _guard(guard, 0.25, 0.31)]
    [(True, '0.2500; asked: at least 0.2000'), (False, '0.2500, champion 0.3100; asked: at most 0.0500 below it')]
    """
    if ask.least is not None:
        yield Gate(ask.figure, value >= ask.least, f"{value:.4f}", f"at least {ask.least:.4f}")
    if ask.most is not None:
        yield Gate(ask.figure, value <= ask.most, f"{value:.4f}", f"at most {ask.most:.4f}")
    if before is None:
        return
    name, finding = f"{ask.figure} against champion", f"{value:.4f}, champion {before:.4f}"
    if ask.max_fall is not None:
        yield Gate(name, before - value <= ask.max_fall, finding, f"at most {ask.max_fall:.4f} below it")
    if ask.max_rise is not None:
        yield Gate(name, value - before <= ask.max_rise, finding, f"at most {ask.max_rise:.4f} above it")


def _of_groups(evaluation: Evaluation, asks: Sequence[GroupGates]) -> Iterator[Gate]:
    """The gates of gaps between groups."""
    for each in asks:
        if each.max_ndcg_gap is not None:
            yield _ndcg_gap(each.by, evaluation.policy.ndcg[each.by], each.max_ndcg_gap, each.min_requests)
        if each.max_exposure_gap is not None:
            yield _exposure_gap(each.by, evaluation.policy.exposure[each.by], each.max_exposure_gap)


def _ndcg_gap(by: str, groups: Mapping[str, tuple[float, int]], most: float, min_requests: int) -> Gate:
    """Whether the means of the best and the worst served group lie near enough; small groups do not count.

    >>> _ndcg_gap("users.country", {"DE": (0.3, 80), "FR": (0.25, 40), "LU": (0.9, 3)}, 0.04, 30).words
    '0.0500: DE 0.3000 (80 requests), FR 0.2500 (40 requests); asked: at most 0.0400 from 30 requests on'
    """
    large = {group: figures for group, figures in groups.items() if figures[1] >= min_requests}
    name, requirement = f"gap by {by}", f"at most {most:.4f} from {_requests(min_requests)} on"
    if len(large) < 2:  # noqa: PLR2004 - a gap is between two
        finding = f"{len(large)} of {len(groups)} groups have so many requests"
        return Gate(name, passed=False, finding=finding, requirement=requirement)
    best, worst = (choose(large, key=lambda group: large[group][0]) for choose in (max, min))
    gap = large[best][0] - large[worst][0]
    ends = ", ".join(f"{group} {large[group][0]:.4f} ({_requests(large[group][1])})" for group in (best, worst))
    return Gate(name, gap <= most, f"{gap:.4f}: {ends}", requirement)


def _exposure_gap(by: str, groups: Mapping[str, tuple[float, float]], most: float) -> Gate:
    """Whether every group's share of the exposure is near enough to its share of the positives.

    >>> _exposure_gap("items.category", {"mugs": (0.75, 0.5), "lamps": (0.25, 0.5)}, 0.2).words
    '0.2500: mugs has 75.0% of the exposure and 50.0% of the positives; asked: at most 0.2000'
    """
    group = max(groups, key=lambda name: abs(groups[name][0] - groups[name][1]))
    exposed, merited = groups[group]
    gap = abs(exposed - merited)
    finding = f"{gap:.4f}: {group} has {exposed:.1%} of the exposure and {merited:.1%} of the positives"
    return Gate(f"exposure by {by}", gap <= most, finding, f"at most {most:.4f}")


def _of_version(evaluation: Evaluation, policy: PromotionConfig, facts: VersionFacts) -> Iterator[Gate]:
    """The gates of the bundle, its cost, and what people say of it."""
    figures = evaluation.policy
    for name, value, most, unit in (
        ("size of the bundle", facts.bundle_mb, policy.max_bundle_mb, "MB"),
        ("time a request", figures.request_ms, policy.max_request_ms, "ms"),
        ("memory", figures.memory_gb, policy.max_memory_gb, "GB"),
        ("days since the window", facts.days_since_window, policy.max_days_since_window, "days"),
    ):
        if most is not None:
            yield _at_most(name, value, most, unit)
    for tag, wanted in policy.tags.items():
        yield _tagged(tag, wanted, facts.tags)
    if policy.min_approvals is not None:
        yield _approved(facts, policy.min_approvals)
    if facts.expected is not None:
        yield Gate("champion unchanged", facts.live == facts.expected, facts.live or "none", facts.expected)


def _at_most(name: str, value: float | None, most: float, unit: str) -> Gate:
    """Whether a cost is small enough; one that was not measured is not.

    >>> _at_most("time a request", 12.34, 10, "ms").words
    '12.3 ms; asked: at most 10 ms'
    """
    finding = "not measured" if value is None else f"{value:.3g} {unit}"
    return Gate(name, value is not None and value <= most, finding, f"at most {most:g} {unit}")


def _tagged(name: str, value: str | None, tags: Mapping[str, str]) -> Gate:
    """Whether a version has a tag, with a value if one is asked for.

    >>> _tagged("reviewed", "yes", {"reviewed": "no"}).words
    'no; asked: yes'
    """
    passed = name in tags and value in (None, tags[name])
    return Gate(f"tag {name}", passed, tags.get(name, "no such tag"), "any value" if value is None else value)


def _approved(facts: VersionFacts, least: int) -> Gate:
    """Whether enough people approved the bundle.

    >>> _approved(VersionFacts("nightrank/2", approvers=["Ada"]), 1).words
    'Ada; asked: 1 or more'
    >>> _approved(VersionFacts("nightrank/2"), 1).finding
    'nobody: nightrank approve --version 2 --as NAME'
    """
    enough = len(facts.approvers) >= least
    mend = "" if enough else f": nightrank approve --version {facts.name.rpartition('/')[2]} --as NAME"
    return Gate("approvals", enough, (", ".join(facts.approvers) or "nobody") + mend, f"{least} or more")
