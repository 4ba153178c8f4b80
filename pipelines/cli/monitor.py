"""The command that watches the published nights."""

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.commands import Closing, command
from pipelines.cli.options import DEFAULT, AllowEmpty, ConfigPath, Overrides, open_inputs

__all__ = ["monitor_app"]

monitor_app = typer.Typer()


@command(
    monitor_app,
    [
        "nightrank monitor",
        "nightrank monitor --date 2024-05-01",
        "nightrank monitor --prometheus /var/lib/node_exporter/nightrank.prom --html trends.html",
    ],
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
    prometheus: Annotated[
        Path | None,
        typer.Option("--prometheus", help="The textfile of metrics to write, for Prometheus' node exporter."),
    ] = None,
    html: Annotated[Path | None, typer.Option("--html", help="The page of trends to write.")] = None,
    allow_empty: AllowEmpty = False,
) -> Closing:
    """Say how good the published nights were, how good the live one will be, and how far it has moved from the others.

    Ends with 11 if a check of monitor.drift whose level is `block` goes beyond its limit.
    """
    from pipelines.base import report
    from pipelines.verbs.monitor import (
        drift_table,
        estimate_words,
        nights_table,
        refuse_drifted,
        write_metrics,
        write_page,
    )
    from pipelines.verbs.monitor import monitor as watch

    settings, inputs = open_inputs(config, overrides, allow_empty=allow_empty)
    seen = watch(inputs.log, settings, until=None if when is None else when.date())
    report.show(nights_table(seen), estimate_words(seen), drift_table(seen))
    report.result(seen.as_json())
    if prometheus is not None:
        write_metrics(seen, prometheus)
    if html is not None:
        write_page(seen, html)
    refuse_drifted(seen)
    closed = sum(night.state == "closed" for night in seen.nights)
    return Closing(f"judged {closed} of {len(seen.nights)} published nights", lies_in=html or prometheus)
