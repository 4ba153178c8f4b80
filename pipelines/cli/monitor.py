"""The command that watches the published nights."""

from datetime import datetime
from typing import Annotated

import typer

from pipelines.cli.commands import Closing, command
from pipelines.cli.options import DEFAULT, AllowEmpty, ConfigPath, Overrides, open_inputs

__all__ = ["monitor_app"]

monitor_app = typer.Typer()


@command(
    monitor_app,
    ["nightrank monitor", "nightrank monitor --date 2024-05-01", "nightrank monitor --set monitor.nights=14"],
    panel="Every night",
)
def monitor(
    config: ConfigPath = DEFAULT,
    overrides: Overrides = [],
    *,
    when: Annotated[
        datetime | None,
        typer.Option("--date", formats=["%Y-%m-%d"], help="As it was on this day's night; else what is live."),
    ] = None,
    allow_empty: AllowEmpty = False,
) -> Closing:
    """Say how good the published nights turned out, by what their users did afterwards."""
    from pipelines.base import report
    from pipelines.verbs.monitor import monitor as watch
    from pipelines.verbs.monitor import nights_table

    settings, inputs = open_inputs(config, overrides, allow_empty=allow_empty)
    seen = watch(inputs.log, settings, until=None if when is None else when.date())
    report.show(nights_table(seen))
    report.result(seen.as_json())
    closed = sum(night.state == "closed" for night in seen.nights)
    return Closing(f"judged {closed} of {len(seen.nights)} published nights")
