"""The commands of every night: rank and publish, and say what is published."""

from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

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

__all__ = ["nights_app"]

nights_app = typer.Typer()
_PANEL = "Every night"


@command(
    nights_app,
    [
        "nightrank score --date 2024-05-01",
        "nightrank score --date 2024-05-01 --dry-run",
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
    allow_empty: AllowEmpty = False,
) -> Closing:
    """Rank items for every user as of the cut-off that opens a day, and publish. A rerun changes no byte."""
    from pipelines.base import report
    from pipelines.inputs.check import read_inputs
    from pipelines.inputs.read import read_for
    from pipelines.registry.versions import load_version, plan_of_version, working_config
    from pipelines.verbs.score import score as score_night

    if force != bool(reason.strip()):
        raise ConfigError(
            "--force publishes a night that an audit blocks, and needs --reason TEXT, which nothing else does."
        )
    settings = open_settings(config, overrides)
    name, bundle = load_version(registry_of(settings), version)
    own = working_config(settings, bundle)
    if dry_run:  # which writes nothing, neither state nor quarantine
        inputs = say_read(read_inputs(own, allow_empty=allow_empty, write=False))
    else:
        plan = plan_of_version(settings, bundle)
        inputs = say_read(read_for(plan, own, candidates=own.candidates, allow_empty=allow_empty))
    night = score_night(
        inputs,
        settings,
        when=when.date(),
        version=name,
        bundle=bundle,
        dry_run=dry_run,
        allow_hindsight=allow_hindsight,
        force=reason.strip() if force else None,
    )
    report.show("  ".join(f"{key}: {value}" for key, value in night.items()))
    report.result(night)
    if dry_run:
        return Closing(
            f"tried the night of {when:%Y-%m-%d} by {name} and wrote nothing",
            then=next_command(f"score --date {when:%Y-%m-%d}", config),
        )
    return Closing(
        f"ranked {when:%Y-%m-%d} by {name}",
        lies_in=Path(settings.output) / "rankings",
        then=next_command("status", config),
    )


@command(nights_app, ["nightrank status", "nightrank status --config shop/nightrank.yaml"], panel=_PANEL)
def status(config: ConfigPath = DEFAULT, overrides: Overrides = []) -> Closing:
    """Say which rankings are published, after verifying their files."""
    from pipelines.base import report
    from pipelines.base.config import load_config
    from pipelines.stores.publish import published

    live = published(Path(load_config(config, overrides).output) / "rankings")
    if live is None:
        report.result({"published": None})
        return Closing("nothing is published yet", then=next_command("score --date DAY", config))
    facts: dict[str, Any] = {key: live.manifest[key] for key in ("date", "version", "users")}
    facts["rows"] = sum(part["rows"] for part in live.manifest["parts"].values())
    facts["folder"] = str(live.attempt.folder)
    report.show("  ".join(f"{key}: {value}" for key, value in facts.items()))
    report.result({"published": facts})
    return Closing(f"verified the published rankings of {facts['date']}", lies_in=live.attempt.folder)
