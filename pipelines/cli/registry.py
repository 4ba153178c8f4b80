"""The commands about the champion: promote, approve, rollback, history, and the group `registry`."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from features.errors import ConfigError, IntegrityError
from pipelines.cli.commands import Closing, command, next_command
from pipelines.cli.options import (
    DEFAULT,
    AllowEmpty,
    ConfigPath,
    Overrides,
    VersionName,
    open_settings,
    registry_of,
    say_read,
)

if TYPE_CHECKING:
    from pathlib import Path

    from rich.table import Table

    from pipelines.registry.registry import Registry
    from pipelines.verbs.promote import Proposal
    from pipelines.verbs.registry_gc import Collected

__all__ = ["champion_app", "registry_app"]

champion_app = typer.Typer()
_PANEL = "Versions"

registry_app = typer.Typer(no_args_is_help=True, help="The registry: whether it is whole, and how to mend it.")

Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; it is kept in the history.")]


@command(
    champion_app,
    [
        "nightrank promote --dry-run",
        "nightrank promote",
        "nightrank promote --version 3 --champion 2 --reason 'the weekly training'",
    ],
    panel=_PANEL,
)
def promote(
    config: ConfigPath = DEFAULT,
    overrides: Overrides = [],
    *,
    version: VersionName = "challenger",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the policy and its verdicts; decide nothing.")
    ] = False,
    champion: Annotated[
        int | None, typer.Option("--champion", min=1, help="Number of the champion; refuse if another one is live.")
    ] = None,
    reason: Reason = "",
    allow_empty: AllowEmpty = False,
) -> Closing:
    """Make a version the champion, which `score` ranks by, if it passes every gate."""
    from pipelines.base import report
    from pipelines.inputs.check import read_inputs
    from pipelines.inputs.read import read_events
    from pipelines.registry.versions import load_version, working_config
    from pipelines.verbs.promote import carry_out, propose

    settings = open_settings(config, overrides)
    registry = registry_of(settings)
    then = next_command("score --date DAY", config)
    if version == "challenger" and not dry_run and (closing := _completed(registry, then)) is not None:
        return closing
    working = working_config(settings, load_version(registry, version)[1])
    if dry_run:
        inputs = say_read(read_inputs(working, allow_empty=allow_empty, write=False))
    else:
        inputs = say_read(read_events(working, allow_empty=allow_empty))
    expected = None if champion is None else str(champion)
    proposal = propose(inputs.log, settings, registry, version, expected=expected, dry_run=dry_run)
    policy, name = [gate.as_json() for gate in proposal.gates], proposal.version.name
    if policy:
        live = proposal.standing.champion
        report.show(
            *report.policy_table(policy, title=f"{name} against the policy; champion: {live.name if live else 'none'}")
        )
    if dry_run:
        return _rehearsed(proposal, config)
    carry_out(proposal, settings, registry, reason=reason)
    gates = {gate.name: gate.words for gate in proposal.gates}
    report.result({"champion": name, "gates": gates, "policy": policy})
    how = "is champion already" if proposal.is_live else f"passed {len(gates)} gates and is champion"
    return Closing(f"{name} {how}", then=then)


def _rehearsed(proposal: "Proposal", config: "Path") -> Closing:
    """The result of a dry run, which is refused as the promotion would be."""
    from pipelines.base import report

    name, number, live = proposal.version.name, proposal.version.number, proposal.standing.champion
    report.result(
        {
            "version": name,
            "champion": live and live.name,
            "would_promote": not proposal.failed and not proposal.is_live,
            "policy": [gate.as_json() for gate in proposal.gates],
        }
    )
    proposal.refuse_failed()
    if proposal.is_live:
        return Closing(f"{name} is champion already; nothing was moved")
    expected = "" if live is None else f" --champion {live.number}"
    return Closing(
        f"{name} passes {len(proposal.gates)} gates; nothing was moved",
        then=next_command(f"promote --version {number}{expected}", config),
    )


@command(
    champion_app,
    ["nightrank approve --version 3 --as 'Ada Lovelace' --reason 'looked at 20 lists'"],
    panel=_PANEL,
)
def approve(
    config: ConfigPath = DEFAULT,
    overrides: Overrides = [],
    *,
    version: VersionName = "challenger",
    author: Annotated[str, typer.Option("--as", metavar="NAME", help="Who approves.")] = "",
    reason: Reason = "",
) -> Closing:
    """Say that a version's bundle may go live, where `promotion.min_approvals` asks for it."""
    from pipelines.base import report
    from pipelines.base.config import load_config
    from pipelines.registry.approvals import Approvals

    settings = load_config(config, overrides)
    registry = registry_of(settings)
    approved, approvals = registry.version(version), Approvals(registry)
    approval = approvals.approve(approved, author, reason=reason)
    authors = [each.author for each in approvals.read(approved.digest)]
    report.result(
        {"version": approved.name, "digest": approved.digest, "author": approval.author, "approvals": authors}
    )
    return Closing(
        f"{approval.author} approved {approved.name}, bundle {approved.digest[:12]}; approved by {', '.join(authors)}",
        then=next_command(f"promote --version {approved.number}", config),
    )


def _completed(registry: "Registry", then: str) -> Closing | None:
    """What to say where the promotion of the challenger was decided by a command that was killed, and is completed now.

    None where nothing was left unfinished, or there is a later challenger.
    """
    from pipelines.base import report
    from pipelines.registry.champion import Champion

    standing = Champion(registry).settle()
    completed, champion = standing.completed, standing.champion
    if completed is None or champion is None or registry.find("challenger") is not None:
        return None
    report.result({"champion": champion.name, "gates": dict(completed.figures)})
    return Closing(
        f"{champion.name} is champion by decision {completed.number}, which was completed just now", then=then
    )


@command(
    champion_app,
    ["nightrank rollback", "nightrank rollback --to 7 --reason 'complaints about new arrivals'"],
    panel=_PANEL,
)
def rollback(
    config: ConfigPath = DEFAULT,
    overrides: Overrides = [],
    *,
    to: Annotated[int | None, typer.Option("--to", min=1, help="Number of the version to go back to.")] = None,
    reason: Reason = "",
) -> Closing:
    """Make a version from before champion again: the one that is named, or the one before the present champion."""
    from pipelines.base import report
    from pipelines.base.config import load_config
    from pipelines.verbs.promote import rollback as roll_back

    went, came = roll_back(registry_of(load_config(config, overrides)), None if to is None else str(to), reason=reason)
    was = None if went is None else went.name
    report.result({"champion": came.name, "was": was})
    how = "is champion already" if was == came.name else f"is champion again, after {was or 'none'}"
    return Closing(f"{came.name} {how}", then=next_command("score --date DAY", config))


@command(champion_app, ["nightrank history", "nightrank history --on 2024-05-01"], panel=_PANEL)
def history(
    config: ConfigPath = DEFAULT,
    overrides: Overrides = [],
    *,
    on: Annotated[
        datetime | None, typer.Option("--on", formats=["%Y-%m-%d"], help="What was live on this day, in UTC.")
    ] = None,
) -> Closing:
    """Show which versions were made champion, refused or approved, when, by whom and why; or what was live on a day."""
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
        return Closing(f"showed {len(entries)} decisions and approvals")
    facts = live_on(registry, on.date())
    report.show(f"champion when {facts['on']} began: {facts['at_start'] or 'none'}")
    for entry in facts["decisions"]:
        report.show(*entry_lines(entry))
    for night in facts["nights"]:
        live = "went live" if night["published"] else "never went live"
        report.show(f"night {night['attempt']}: ranked by {night['version']} for {night['users']} users, {live}")
    if not facts["nights"]:
        report.show(f"no night was ranked for {facts['on']} in this output folder")
    if facts["note"]:
        report.show(f"note: {facts['note']}")
    report.result(facts)
    return Closing(f"showed what was live on {facts['on']}")


@command(registry_app, ["nightrank registry verify"], name="verify")
def registry_verify(config: ConfigPath = DEFAULT, overrides: Overrides = []) -> Closing:
    """Hold aliases, decisions and bundles against each other; each fault with the command that mends it."""
    from pipelines.base import report
    from pipelines.base.config import load_config
    from pipelines.registry.audit import audit

    facts = audit(registry_of(load_config(config, overrides)))
    for note in facts.notes:
        report.show(f"note: {note}")
    for fault in facts.faults:
        report.show(fault.what, f"    mend it: {fault.mend}")
    report.result(facts.as_json())
    checked = f"{facts.decisions} decisions and {facts.versions} versions"
    if facts.faults:
        raise IntegrityError(
            f"of {checked}, {len(facts.faults)} things are wrong; each is named above with what mends it."
        )
    return Closing(f"{checked} are whole; champion: {facts.champion or 'none'}")


@command(
    registry_app,
    ["nightrank registry repair", "nightrank registry repair --adopt --reason 'set by hand in the outage'"],
    name="repair",
)
def registry_repair(
    config: ConfigPath = DEFAULT,
    overrides: Overrides = [],
    *,
    adopt: Annotated[bool, typer.Option("--adopt", help="Keep a champion that was made by hand.")] = False,
    reason: Reason = "",
) -> Closing:
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
    report.result({"champion": name, "decision": decision and decision.number})
    return Closing(f"champion: {name or 'none'}, {by}")


@command(registry_app, ["nightrank registry gc", "nightrank registry gc --keep 10 --delete"], name="gc")
def registry_gc(
    config: ConfigPath = DEFAULT,
    overrides: Overrides = [],
    *,
    keep: Annotated[int, typer.Option("--keep", min=0, help="How many of the newest versions stay.")] = 5,
    delete: Annotated[
        bool, typer.Option("--delete", help="Remove them; without it this only says what would go.")
    ] = False,
) -> Closing:
    """Say which versions nobody needs any more, or remove them: all but live, pinned, newest and those of nights."""
    from pipelines.base import report
    from pipelines.base.config import load_config
    from pipelines.verbs.registry_gc import collect_versions

    facts = collect_versions(registry_of(load_config(config, overrides)), keep=keep, delete=delete)
    report.show(*_versions_table(facts))
    report.result(facts.as_json())
    count, megabytes = len(facts.removed), sum(each.size_bytes for each in facts.removed) / 1e6
    verb = "removed" if delete else "would remove"
    then = next_command(f"registry gc --keep {keep} --delete", config) if facts.removed and not delete else None
    return Closing(f"{verb} {count} of {len(facts.judged)} versions ({megabytes:.1f} MB)", then=then)


def _versions_table(facts: "Collected") -> "list[Table | str]":
    """Every version, what it is, and whether it stays; below it what belongs to no version."""
    from rich.table import Table

    table = Table("version", "what it is", "stays because", title="Versions, the latest first")
    table.add_column("MB", justify="right")
    gone = "goes" if facts.is_dry else "went"
    for each in facts.judged:
        reasons = ", ".join(each.reasons) or (gone if each in facts.removed else "somebody needs it since just now")
        table.add_row(each.version.name, each.state, reasons, f"{each.size_bytes / 1e6:,.1f}")
    lines = [f"{path} is of no version: `nightrank register {path}`, or remove it" for path in facts.unregistered]
    if facts.unfinished:
        lines.append(f"{len(facts.unfinished)} folders that killed commands left among the bundles: {gone}")
    if facts.on_server and facts.removed:
        lines.append("the runs keep their bundles on the server: `mlflow gc` frees them, once you delete the runs")
    return [table, *lines]
