"""The command of every night: rank and publish."""

from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from features.errors import ConfigError
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
    from pipelines.base.config import Config
    from pipelines.verbs.score import Night

__all__ = ["nights_app"]

nights_app = typer.Typer()
_PANEL = "Every night"
_CHAMPION = "champion"


@command(
    nights_app,
    [
        "nightrank score --date 2024-05-01",
        "nightrank score --date 2024-05-01 --dry-run",
        "nightrank score --date 2024-05-01 --version challenger",
        "nightrank score --date 2024-05-01 --take-over",
        "nightrank score --date 2024-05-01 --set night.top=50",
    ],
    panel=_PANEL,
)
def score(
    config: ConfigPath = DEFAULT,
    overrides: Overrides = [],
    *,
    when: Annotated[datetime, typer.Option("--date", formats=["%Y-%m-%d"], help="The day the rankings are for.")],
    version: VersionName = "champion",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and write nothing.")] = False,
    allow_hindsight: Annotated[
        bool,
        typer.Option("--allow-hindsight", help="Rank a day of which the version saw the future too; never goes live."),
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Publish although an audit blocks it; give a --reason.")
    ] = False,
    reason: Annotated[str, typer.Option("--reason", help="Why, for the journal beside the rankings.")] = "",
    take_over: Annotated[
        bool, typer.Option("--take-over", help="Begin although another night runs here; that one cannot publish then.")
    ] = False,
    allow_empty: AllowEmpty = False,
) -> Closing:
    """Rank items for every user as of the cut-off that opens a day, and publish. A rerun changes no byte.

    Only the champion is published: another version's lists are written beside.
    """
    from pipelines.stores.lease import night_lease  # before all that is slow to import

    if force != bool(reason.strip()):
        raise ConfigError(
            "--force publishes a night that an audit blocks, and needs --reason TEXT, which nothing else does."
        )
    settings = open_settings(config, overrides)
    going: dict[str, Any] = {
        "force": reason.strip() if force else None,
        "shadow": False if version == _CHAMPION else None,
    }
    orders = {"dry_run": dry_run, "allow_hindsight": allow_hindsight}
    if dry_run:  # which writes nothing, neither state nor quarantine, and no lease
        name, night = _night(settings, when.date(), version, orders, going, allow_empty=allow_empty)
        return Closing(
            f"tried the night of {when:%Y-%m-%d} by {name} and wrote nothing",
            then=next_command(f"score --date {when:%Y-%m-%d}", config),
        )
    with night_lease(settings, when.date(), take_over=take_over) as lease:
        going["lease"] = lease
        name, night = _night(settings, when.date(), version, orders, going, allow_empty=allow_empty)
    is_shadow = night.get("shadow", False)
    aside = ", which is not the champion and is not published" if is_shadow else ""
    aside += ", degraded: `nightrank sync` when the registry answers again" if "degraded" in night else ""
    return Closing(
        f"ranked {when:%Y-%m-%d} by {name}{aside}",
        lies_in=night["attempt"] if is_shadow else Path(settings.output) / "rankings",
        then=next_command("status", config),
    )


@command(
    nights_app,
    [
        "nightrank nightly --date 2024-05-01",
        "nightrank nightly --date 2024-05-01 --from score",
        "nightrank nightly --date 2024-05-01 --only suggest",
    ],
    panel=_PANEL,
)
def nightly(
    config: ConfigPath = DEFAULT,
    overrides: Overrides = [],
    *,
    when: Annotated[datetime, typer.Option("--date", formats=["%Y-%m-%d"], help="The day the rankings are for.")],
    first: Annotated[str | None, typer.Option("--from", metavar="STEP", help="Begin with this step.")] = None,
    only: Annotated[str | None, typer.Option("--only", metavar="STEP", help="Do this step alone.")] = None,
    take_over: Annotated[
        bool, typer.Option("--take-over", help="Begin although another night runs here; that one cannot publish then.")
    ] = False,
    allow_empty: AllowEmpty = False,
) -> Closing:
    """Run a whole night: check, fold, score, sync, train, suggest. Steps that are done are skipped.

    The exit code is that of check, fold or score; what comes after these never stops a night.
    """
    from pipelines.base import report
    from pipelines.verbs.nightly import Orders
    from pipelines.verbs.nightly import nightly as run_night

    settings = open_settings(config, overrides)
    facts = run_night(settings, when.date(), Orders(first, only, take_over, allow_empty))
    report.result(facts)
    if facts["code"]:
        raise typer.Exit(facts["code"])
    failed = [name for name, step in facts["steps"].items() if step["status"] == "failed"]
    command = facts["steps"].get("suggest", {}).get("command")
    return Closing(
        f"ran the night of {when:%Y-%m-%d}" + (f", of which {', '.join(failed)} failed" if failed else ""),
        lies_in=Path(settings.output) / "rankings",
        then=next_command("status" if command is None else command.removeprefix("nightrank "), config),
    )


@command(nights_app, ["nightrank sync", "nightrank sync --config shop/nightrank.yaml"], panel=_PANEL)
def sync(config: ConfigPath = DEFAULT, overrides: Overrides = []) -> Closing:
    """Write to the tracking server what nights kept on disk while it did not answer."""
    from pipelines.base import report
    from pipelines.verbs.sync import sync as write_spool

    facts = write_spool(open_settings(config, overrides))
    report.result(facts)
    if facts["agrees"] is False:
        report.show(f"what is live was ranked by another version than the champion, {facts['champion'] or 'none'}")
    return Closing(f"wrote {facts['written']} entries of the spool to the tracking server")


def _night(
    settings: "Config", when: date, version: str, orders: dict[str, bool], going: dict[str, Any], *, allow_empty: bool
) -> "tuple[str, Night]":
    """Read, rank and publish; returns the version's name and what came out."""
    from pipelines.base import report
    from pipelines.inputs.check import read_inputs
    from pipelines.inputs.read import read_for
    from pipelines.registry.last_champion import champion_tonight
    from pipelines.registry.versions import load_version, plan_of_version, working_config
    from pipelines.verbs.score import Publishing
    from pipelines.verbs.score import score as score_night

    if version == _CHAMPION:
        ranker = champion_tonight(settings, write=not orders["dry_run"])
        name, bundle, going = ranker.name, ranker.bundle, {**going, "degraded": ranker.degraded}
    else:
        name, bundle = load_version(registry_of(settings), version)
    own = working_config(settings, bundle)
    if orders["dry_run"]:
        inputs = say_read(read_inputs(own, allow_empty=allow_empty, write=False))
    else:
        plan = plan_of_version(settings, bundle)
        inputs = say_read(read_for(plan, own, candidates=own.candidates, allow_empty=allow_empty))
    night = score_night(
        inputs, settings, when=when, version=name, bundle=bundle, publishing=Publishing(**going), **orders
    )
    report.show("  ".join(f"{key}: {value}" for key, value in night.items() if key != "audits"))
    report.result(night)
    return name, night
