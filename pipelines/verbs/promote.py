"""Verb `promote`: make a version champion if it passes every gate of the policy."""

from features.errors import BlockedError
from features.log.event_log import EventLog, day_of
from pipelines.base.config import Config
from pipelines.evaluation.evaluate import Evaluation
from pipelines.registry.bundle import Bundle, load_bundle
from pipelines.registry.registry import CHAMPION, Registry, Version
from pipelines.registry.versions import judge_versions
from pipelines.verbs.gates import Gate, gates_of

__all__ = ["promote"]


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


def _judge(log: EventLog, config: Config, versions: dict[str, Bundle], bundle: Bundle) -> Evaluation:
    """Judge versions on the window of a bundle's own evaluation."""
    first, last = bundle.window
    return judge_versions(log, config, versions, first_day=day_of(first), end_day=day_of(last) + 1)
