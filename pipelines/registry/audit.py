"""What is wrong in a registry: decisions, aliases and bundles held against each other, with what mends each."""

from collections.abc import Sequence
from dataclasses import dataclass
from shlex import quote
from typing import Any

from pipelines.registry.bundle_files import damage
from pipelines.registry.champion import Champion
from pipelines.registry.decisions import State, last_move, missing_numbers
from pipelines.registry.registry import CHAMPION, Registry, Version

__all__ = ["Audit", "Fault", "audit"]

_REPAIR = "nightrank registry repair"


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong.

    Attributes:
        what: What it is.
        mend: The command that mends it, or what to do where there is none.
    """

    what: str
    mend: str


@dataclass(frozen=True, slots=True)
class Audit:
    """What a registry holds, and what is wrong with it.

    Attributes:
        champion: Name of the version that is live by its alias; None if there is none.
        decisions: How many there are.
        versions: How many there are.
        faults: What is wrong.
        notes: What is not wrong but strange.
    """

    champion: str | None
    decisions: int
    versions: int
    faults: list[Fault]
    notes: list[str]

    def as_json(self) -> dict[str, Any]:
        """The audit as `nightrank registry verify` reports it."""
        return {
            "champion": self.champion,
            "decisions": self.decisions,
            "versions": self.versions,
            "faults": [{"what": fault.what, "mend": fault.mend} for fault in self.faults],
            "notes": self.notes,
        }


def audit(registry: Registry) -> Audit:
    """Hold decisions, aliases and bundles against each other; nothing is changed.

    Raises:
        IntegrityError: A decision cannot be read.
        TryAgainError: The registry does not answer.
    """
    decisions, versions = Champion(registry).decisions.read(), registry.versions()
    faults = _of_decisions(registry)
    for version in versions:
        faults += _of_bundle(registry, version)
    gone = missing_numbers(decisions)
    notes = [f"decision {number} is not there any more: somebody deleted it in MLflow" for number in gone]
    notes += _same_bundles(versions)
    champion = registry.find(CHAMPION)
    return Audit(champion.name if champion else None, len(decisions), len(versions), faults, notes)


def _same_bundles(versions: Sequence[Version]) -> list[str]:
    """Versions of which an earlier one has the same bundle."""
    first = {version.digest: version.name for version in versions}  # the latest comes first
    return [
        f"{version.name} is the same bundle as {first[version.digest]}"
        for version in versions
        if first[version.digest] != version.name
    ]


def _of_decisions(registry: Registry) -> list[Fault]:
    """Faults of the last decision and of the aliases, which follow it."""
    champions = Champion(registry)
    move = last_move(champions.decisions.read())
    if move is None:
        return []
    if move.state is State.INTENDED:
        return [Fault(f"decision {move.number} was not carried out to its end: {move.words(registry.model)}", _REPAIR)]
    if registry.find(move.after) is None:
        back = next((each.number for each in registry.versions() if each.number == move.before), "N")
        return [
            Fault(
                f"nothing is live: decision {move.number} made {registry.model}/{move.after} champion, and it was "
                "deleted in MLflow",
                f"nightrank rollback --to {back}",
            )
        ]
    mend = f"{_REPAIR}; or, to keep the champion as it is: {_REPAIR} --adopt --reason TEXT"
    return [Fault(difference, mend) for difference in champions.differences(move)]


def _of_bundle(registry: Registry, version: Version) -> list[Fault]:
    """Faults of a version's bundle: its copy at hand, and what its run holds."""
    cached, run = registry.cached_bundle(version), registry.run_bundle(version)
    faults = []
    if cached.is_dir() and (wrong := damage(cached, version.digest)):
        faults.append(Fault(f"{version.name}: {wrong}", f"rm -r {quote(str(cached))}  # it is fetched again"))
    if run is None:
        if not registry.run_has_bundle(version):
            faults.append(Fault(f"{version.name}: its run no longer holds the bundle", _instead(registry, version)))
    elif not run.is_dir() or (wrong := damage(run, version.digest)):
        what = wrong if run.is_dir() else f"its run no longer holds the bundle, {run}"
        whole = cached.is_dir() and not damage(cached, version.digest)
        copied = f"rm -rf {quote(str(run))} && mkdir -p {quote(str(run.parent))} && cp -r {quote(str(cached))} "
        faults.append(
            Fault(f"{version.name}: {what}", copied + quote(str(run)) if whole else _instead(registry, version))
        )
    return faults


def _instead(registry: Registry, version: Version) -> str:
    """What to do about a version whose bundle is lost."""
    if CHAMPION in version.aliases:
        return "nightrank rollback --to N, another version; or bring its artefacts back from a backup"
    return f"bring its artefacts back from a backup, or delete version {version.number} of {registry.model} in MLflow"
