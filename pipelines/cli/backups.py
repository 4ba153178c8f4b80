"""The commands of backups: the output folder and the registry into one file, and back."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.commands import Closing, command
from pipelines.cli.options import DEFAULT, ConfigPath, Overrides

__all__ = ["backups_app"]

backups_app = typer.Typer()
_PANEL = "Look closer"


@command(backups_app, ["nightrank backup --to /backups/shop-2024-06-01.tar"], panel=_PANEL)
def backup(
    config: ConfigPath = DEFAULT,
    overrides: Overrides = [],
    *,
    to: Annotated[Path, typer.Option("--to", metavar="FILE", help="The tar file to write; it is replaced.")],
) -> Closing:
    """Write the output folder and the registry into one file; nights may go on meanwhile."""
    from pipelines.base import report
    from pipelines.base.config import load_config
    from pipelines.verbs.backup import backup as back_up

    made = back_up(load_config(config, overrides), to)
    report.result({"files": made.files, "bytes": made.size, "registry": made.registry})
    without = "" if made.registry else "; runs and versions lie on a server: back that up, too"
    return Closing(
        f"backed up {made.files:,} files of {made.size / 1e6:,.1f} MB{without}",
        lies_in=to,
        then=f"nightrank restore {to} --to NEW_FOLDER",
    )


@command(backups_app, ["nightrank restore /backups/shop-2024-06-01.tar --to out"], panel=_PANEL)
def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `nightrank backup` wrote.")],
    *,
    to: Annotated[Path, typer.Option("--to", metavar="FOLDER", help="The new output folder; empty, or not there.")],
) -> Closing:
    """Unpack a backup into a new output folder, after verifying every file of it."""
    from pipelines.base import report
    from pipelines.verbs.backup import restore as bring_back

    made = bring_back(file, to)
    report.result({"files": made.files, "bytes": made.size, "registry": made.registry})
    return Closing(
        f"restored {made.files:,} verified files",
        lies_in=to,
        then=f"nightrank status --set output={to.absolute()}",
    )
