"""The commands before the first version: check your tables, write a data set to start from, see the demo."""

from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from features.errors import NightrankError
from pipelines.cli.commands import Closing, command, next_command
from pipelines.cli.options import DEFAULT, AllowEmpty, ConfigPath, Overrides, dataset_names, open_inputs

if TYPE_CHECKING:
    from pipelines.inputs.check import TextField

__all__ = ["project_app"]

project_app = typer.Typer()
_PANEL = "Begin"


@command(
    project_app,
    ["nightrank check", "nightrank check --strict", "nightrank check --set data.events.path=today.csv"],
    panel=_PANEL,
)
def check(
    config: ConfigPath = DEFAULT,
    overrides: Overrides = [],
    *,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings are errors.")] = False,
    allow_empty: AllowEmpty = False,
) -> Closing:
    """Check the input tables against their contracts, and warn of what would spoil a training."""
    from pipelines.base import report
    from pipelines.inputs.check import refuse_unknown, summary, text_fields
    from pipelines.training.request_source import request_source, requests_summary
    from pipelines.verbs.preflight import cautions, refuse_cautions

    settings, inputs = open_inputs(config, overrides, allow_empty=allow_empty, at_once=True)
    fields: list[TextField] = []
    with suppress(NightrankError):  # an encoder that does not load, of which `cautions` warns
        fields = text_fields(inputs, settings)
    warnings = cautions(inputs, settings, fields)
    facts = summary(inputs, fields) | requests_summary(request_source(inputs.log, settings))
    facts["warnings"] = [asdict(caution) for caution in warnings]
    report.show(*report.check_table(facts))
    report.show_warnings(facts["warnings"])
    report.result(facts)
    refuse_unknown(fields, settings)
    if strict:
        refuse_cautions(warnings)
    tables = ", ".join(f"{name} {table.n_rows:,} rows" for name, table in inputs.tables.items())
    warned = f"{len(warnings)} warnings" if warnings else "no warnings"
    return Closing(f"checked {tables}: {warned}", then=next_command("train", config))


@command(
    project_app,
    [
        "nightrank data simulated --to shop",
        "nightrank data complete-journey --to grocer",
        "nightrank data online-retail --to retail",
    ],
    panel=_PANEL,
)
def data(
    name: Annotated[
        str,
        typer.Argument(
            help="complete-journey, online-retail, ifdb, wikispeedia or simulated.", autocompletion=dataset_names
        ),
    ],
    to: Annotated[Path, typer.Option("--to", help="Folder to write tables and nightrank.yaml into.")],
) -> Closing:
    """Write a public or simulated data set to start from: its tables and a nightrank.yaml."""
    from pipelines.base import report
    from pipelines.verbs.datasets import load_dataset
    from pipelines.verbs.project import write_dataset

    path = write_dataset(load_dataset(name), to)
    report.result({"config": str(path)})
    return Closing(f"wrote the data set {name}", lies_in=path, then=next_command("check", path))


@command(project_app, ["nightrank demo", "nightrank demo --to grocer-demo"], panel=_PANEL)
def demo(
    to: Annotated[Path, typer.Option("--to", help="Folder of the demo's data and results.")] = Path("nightrank-demo"),
) -> None:
    """Run the main job on a real grocery log: check, train, evaluate, promote, and two nights."""
    from pipelines.verbs.demo import run_demo

    run_demo(to)  # which closes with a screen of its own
