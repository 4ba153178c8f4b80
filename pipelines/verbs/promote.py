"""Verbs `promote` and `rollback`: make a version champion if it passes every gate, or one from before without."""

from pathlib import Path

from features.errors import BlockedError
from features.log.event_log import EventLog, day_of
from pipelines.base.config import Config
from pipelines.evaluation.evaluate import Evaluation
from pipelines.registry.bundle import Bundle, load_bundle
from pipelines.registry.champion import Champion
from pipelines.registry.decisions import Action, last_move, read_journal
from pipelines.registry.registry import CHAMPION, PREVIOUS, Registry, Version
from pipelines.registry.versions import judge_versions
from pipelines.verbs.gates import Gate, gates_of

__all__ = ["promote", "rollback"]


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
            + "\nTrain a better version, or change the limits under `promotion`."
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


def _judge(log: EventLog, config: Config, versions: dict[str, Bundle], bundle: Bundle) -> Evaluation:
    """Judge versions on the window of a bundle's own evaluation."""
    first, last = bundle.window
    return judge_versions(log, config, versions, first_day=day_of(first), end_day=day_of(last) + 1)
