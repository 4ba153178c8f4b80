"""Verbs `promote` and `rollback`: make a version champion if it passes every gate, or one from before without."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from features.errors import BlockedError, OutdatedError
from features.log.event_log import EventLog, day_of
from pipelines.base.config import Config
from pipelines.base.progress import say
from pipelines.evaluation.evaluate import Evaluation
from pipelines.evaluation.policy_figures import refuse_unknown_values
from pipelines.registry.approvals import Approvals, tags_of
from pipelines.registry.bundle import Bundle, load_bundle
from pipelines.registry.champion import Champion, Standing
from pipelines.registry.decisions import Action, last_move, read_journal
from pipelines.registry.registry import CHAMPION, PREVIOUS, Registry, Version
from pipelines.registry.versions import judge_versions
from pipelines.verbs.gates import Gate, VersionFacts, gates_of

__all__ = ["Proposal", "carry_out", "promote", "propose", "rollback"]


@dataclass(frozen=True, slots=True)
class Proposal:
    """A version held against the policy; nothing is decided yet.

    Attributes:
        version: Would become champion.
        standing: What is champion, as it was when the version was judged.
        gates: The outcome of every gate; none where the version is champion already.
    """

    version: Version
    standing: Standing
    gates: Sequence[Gate]

    @property
    def failed(self) -> list[Gate]:
        """The gates that do not hold."""
        return [gate for gate in self.gates if not gate.passed]

    @property
    def is_live(self) -> bool:
        """Whether the version is champion already."""
        return self.standing.champion is not None and self.standing.champion.number == self.version.number

    def refuse_failed(self) -> None:
        """Raise if a gate failed.

        Raises:
            BlockedError: Names every gate that failed.
        """
        if self.failed:
            raise BlockedError(
                f"{self.version.name} stays out; {len(self.failed)} of {len(self.gates)} gates failed:\n"
                + "\n".join(f"- {gate.name}: {gate.words}" for gate in self.failed)
                + "\nTrain a better version, or change the limits under `promotion`."
            )


def propose(
    log: EventLog,
    config: Config,
    registry: Registry,
    wanted: str,
    *,
    judged: Evaluation | None = None,
    expected: str | None = None,
    dry_run: bool = False,
) -> Proposal:
    """Hold a version against the policy, beside the champion and on the window of its own evaluation.

    Args:
        log: The log as it is today.
        config: The policy.
        registry: Versions and decisions.
        wanted: Number or alias.
        judged: As `promote` takes it.
        expected: Number of the version that should be champion, as a dry run named it; None if nobody says.
        dry_run: Whether a decision that was left unfinished stays so.

    Raises:
        ConfigError: The policy names a value that no item or user has.
        BlockedError: A version has seen something of the window.
        IntegrityError: The aliases were moved by hand, or a bundle is not as it was registered.
    """
    champions = Champion(registry)
    standing = champions.peek() if dry_run else champions.settle()
    version, champion = registry.version(wanted), standing.champion
    if champion is not None and champion.number == version.number:
        return Proposal(version, standing, [])
    refuse_unknown_values(config.promotion, log)
    bundle = load_bundle(registry.bundle_folder(version))
    versions = {version.name: bundle}
    if champion is not None and (of_champion := _still_read(registry, champion)) is not None:
        versions[champion.name] = of_champion
    compared = next((name for name in versions if name != version.name), None)
    if judged is None or compared is not None or config.promotion.needs_lists:
        judged = _judge(log, config, versions, bundle)
    facts = _facts(log, config, registry, version, bundle, standing)
    if expected is not None:
        facts = replace(facts, expected=f"{registry.model}/{expected}")
    return Proposal(version, standing, gates_of(judged, config, compared, facts))


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
            no champion to compare with. One that this nightrank does not read any more is not compared with, and a
            line says so.
        reason: In the words of whoever promotes.

    Raises:
        BlockedError: Gates failed; all are named. The champion stays.
        IntegrityError: The aliases were moved by hand, or a bundle is not as it was registered.
        TryAgainError: Somebody else moved the champion meanwhile.
    """
    proposal = propose(log, config, registry, wanted, judged=judged)
    carry_out(proposal, config, registry, reason=reason)
    return proposal.version, list(proposal.gates)


def carry_out(proposal: Proposal, config: Config, registry: Registry, *, reason: str = "") -> None:
    """Decide as the policy says, and keep the decision, with each gate's figures.

    Raises:
        BlockedError: Gates failed; all are named. The champion stays.
        TryAgainError: Somebody else moved the champion since the version was judged.
    """
    if proposal.is_live:
        return
    champions, figures = Champion(registry), {gate.name: gate.words for gate in proposal.gates}
    version, standing, policy = proposal.version, proposal.standing, config.promotion.configured()
    if proposal.failed:
        champions.refuse(version, standing, reason=reason, figures=figures, policy=policy)
        proposal.refuse_failed()
    champions.decide(Action.PROMOTE, version, standing, reason=reason, figures=figures, policy=policy)


def _facts(
    log: EventLog, config: Config, registry: Registry, version: Version, bundle: Bundle, standing: Standing
) -> VersionFacts:
    """What a policy may ask of a version beside its evaluation; MLflow is asked only for what the policy names."""
    policy, champion = config.promotion, standing.champion
    approvals = Approvals(registry).read(version.digest) if policy.min_approvals else []
    return VersionFacts(
        version.name,
        bundle_mb=sum(path.stat().st_size for path in bundle.folder.rglob("*") if path.is_file()) / 1e6,
        days_since_window=log.last_day - day_of(bundle.window[1]),
        tags=tags_of(registry, version) if policy.tags else {},
        approvers=[approval.author for approval in approvals],
        live=None if champion is None else champion.name,
    )


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
    old: dict[str, str] = next((entry for entry in reversed(kept) if entry["action"] != Action.REFUSED), {})
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


def _still_read(registry: Registry, champion: Version) -> Bundle | None:
    """The champion's bundle; None where it is whole and of an earlier nightrank, so that nothing can rank by it."""
    try:
        return load_bundle(registry.bundle_folder(champion))
    except OutdatedError as error:
        say("champion not compared", version=champion.name, because=str(error))
        return None


def _judge(log: EventLog, config: Config, versions: dict[str, Bundle], bundle: Bundle) -> Evaluation:
    """Judge versions on the window of a bundle's own evaluation."""
    first, last = bundle.window
    return judge_versions(log, config, versions, first_day=day_of(first), end_day=day_of(last) + 1)
