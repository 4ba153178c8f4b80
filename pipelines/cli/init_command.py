"""The command `init`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.commands import Closing, command, next_command

__all__ = ["init_app"]

init_app = typer.Typer()


@command(
    init_app,
    ["nightrank init shop", "nightrank init shop --dry-run", "nightrank init shop --events clicks.csv --to project"],
    panel="Begin",
)
def init(
    folder: Annotated[Path, typer.Argument(help="Folder with your tables: Parquet, CSV or JSON lines.")] = Path(),
    *,
    to: Annotated[
        Path | None, typer.Option("--to", help="Folder to write nightrank.yaml into, if not beside the tables.")
    ] = None,
    events: Annotated[str | None, typer.Option("--events", help="The log, if several tables could be it.")] = None,
    items: Annotated[str | None, typer.Option("--items", help="The catalogue, if several tables could be it.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the configuration, and write nothing.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite a nightrank.yaml that is there.")] = False,
) -> Closing | None:
    """Look at the tables in a folder and write a commented nightrank.yaml for them."""
    from pipelines.base import report
    from pipelines.verbs.init import init as propose

    done = propose(folder, to=to, events=events, items=items, dry_run=dry_run, force=force)
    for doubt in done.proposal.doubts:
        report.show(f"please check: {doubt}")
    if dry_run:
        sys.stdout.write(done.text)
        return None
    for path in done.written:
        report.show(f"wrote {path}, since your file cannot be read as it is; nightrank.yaml says why")
    report.result(done.as_json())
    proposal = done.proposal
    tables = f"{proposal.items.source.name} as the catalogue and {proposal.events.source.name} as the log"
    return Closing(f"took {tables}", lies_in=done.path, then=next_command("check", done.path))
