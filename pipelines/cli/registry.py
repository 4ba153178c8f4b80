"""The commands about the champion: promote, rollback, history, and the group `registry`."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from features.errors import ConfigError, IntegrityError
from pipelines.cli.options import DEFAULT, AllowEmpty, ConfigPath, Overrides, open_settings, registry_of, say_read

if TYPE_CHECKING:
    from pipelines.registry.registry import Registry

__all__ = ["history", "promote", "registry_app", "rollback"]

registry_app = typer.Typer(no_args_is_help=True, help="The registry: whether it is whole, and how to mend it.")

Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; it is kept in the history.")]


def promote(
    config: ConfigPath = DEFAULT,
    overrides: Overrides = [],
    *,
    version: Annotated[str, typer.Option("--version", help="Number or alias.")] = "challenger",
    reason: Reason = "",
    allow_empty: AllowEmpty = False,
) -> None:
    """Make a version champion, if it passes every gate."""
    from pipelines.base import report
    from pipelines.inputs.read import read_events
    from pipelines.registry.versions import load_version, working_config
    from pipelines.verbs.promote import promote as promote_version

    settings = open_settings(config, overrides)
    registry = registry_of(settings)
    if version == "challenger" and _completed_a_promotion(registry):
        return
    _, bundle = load_version(registry, version)
    inputs = say_read(read_events(working_config(settings, bundle), allow_empty=allow_empty))
    promoted, gates = promote_version(inputs.log, settings, registry, version, reason=reason)
    for gate in gates:
        report.show(f"passed: {gate.name}: {gate.finding}")
    report.show(f"champion: {promoted.name}")
    report.result({"champion": promoted.name, "gates": {gate.name: gate.finding for gate in gates}})


def _completed_a_promotion(registry: "Registry") -> bool:
    """Whether what is asked for was decided by a command that was killed, and was completed just now."""
    from pipelines.base import report
    from pipelines.registry.champion import Champion

    standing = Champion(registry).settle()
    completed, champion = standing.completed, standing.champion
    if completed is None or champion is None or registry.find("challenger") is not None:
        return False
    report.show(f"champion: {champion.name}, by decision {completed.number}, which was completed just now")
    report.result({"champion": champion.name, "gates": dict(completed.figures)})
    return True


def rollback(
    config: ConfigPath = DEFAULT,
    overrides: Overrides = [],
    *,
    to: Annotated[int | None, typer.Option("--to", min=1, help="Number of the version to go back to.")] = None,
    reason: Reason = "",
) -> None:
    """Make a version from before champion again: the one that is named, or the one before the present champion."""
    from pipelines.base import report
    from pipelines.base.config import load_config
    from pipelines.verbs.promote import rollback as roll_back

    went, came = roll_back(registry_of(load_config(config, overrides)), None if to is None else str(to), reason=reason)
    was = None if went is None else went.name
    report.show(f"champion: {came.name} " + ("already" if was == came.name else f"(was {was or 'nothing'})"))
    report.result({"champion": came.name, "was": was})


def history(
    config: ConfigPath = DEFAULT,
    overrides: Overrides = [],
    *,
    on: Annotated[
        datetime | None, typer.Option("--on", formats=["%Y-%m-%d"], help="What was live on this day, in UTC.")
    ] = None,
) -> None:
    """Who was made champion, when, by whom and why; refusals too."""
    from pipelines.base import report
    from pipelines.base.config import load_config
    from pipelines.verbs.history import entry_lines, live_on
    from pipelines.verbs.history import history as entries_of

    registry = registry_of(load_config(config, overrides))
    if on is None:
        entries = entries_of(registry)
        for entry in entries:
            report.show(*entry_lines(entry))
        report.result({"history": entries})
        return
    facts = live_on(registry, on.date())
    report.show(f"champion when {facts['on']} began: {facts['at_start'] or 'none'}")
    for entry in facts["decisions"]:
        report.show(*entry_lines(entry))
    for night in facts["nights"]:
        report.show(f"night {night['attempt']}: ranked by {night['version']} for {night['users']} users")
    if not facts["nights"]:
        report.show(f"no night was ranked for {facts['on']} in this output folder")
    if facts["note"]:
        report.show(f"note: {facts['note']}")
    report.result(facts)


@registry_app.command("verify")
def registry_verify(config: ConfigPath = DEFAULT, overrides: Overrides = []) -> None:
    """Hold aliases, decisions and bundles against each other; each fault with the command that mends it."""
    from pipelines.base import report
    from pipelines.base.config import load_config
    from pipelines.registry.audit import audit

    facts = audit(registry_of(load_config(config, overrides)))
    for note in facts.notes:
        report.show(f"note: {note}")
    for fault in facts.faults:
        report.show(fault.what, f"    mend it: {fault.mend}")
    whole = "whole" if not facts.faults else f"{len(facts.faults)} wrong"
    report.show(
        f"champion: {facts.champion or 'none'}; {facts.decisions} decisions and {facts.versions} versions: {whole}"
    )
    report.result(facts.as_json())
    if facts.faults:
        raise IntegrityError(f"the registry has {len(facts.faults)} faults; each is named above with what mends it.")


@registry_app.command("repair")
def registry_repair(
    config: ConfigPath = DEFAULT,
    overrides: Overrides = [],
    *,
    adopt: Annotated[bool, typer.Option("--adopt", help="Keep a champion that was made by hand.")] = False,
    reason: Reason = "",
) -> None:
    """Finish what was left unfinished, and set the aliases as was decided last."""
    from pipelines.base import report
    from pipelines.base.config import load_config
    from pipelines.registry.champion import Champion
    from pipelines.registry.registry import CHAMPION

    registry = registry_of(load_config(config, overrides))
    champions = Champion(registry)
    if reason and not adopt:
        raise ConfigError("--reason belongs to --adopt: a repair decides nothing.")
    decision = champions.adopt(reason) if adopt else champions.repair()
    champion = registry.find(CHAMPION)
    name = champion.name if champion else None
    by = "nothing was decided anew" if decision is None else f"by decision {decision.number}"
    report.show(f"champion: {name or 'none'}; {by}")
    report.result({"champion": name, "decision": decision and decision.number})
