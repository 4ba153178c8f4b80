"""The command line. Each verb imports what it needs inside its command, so that `--help` is quick."""

import os

# NOTE: before any native library: OpenMP's spinning makes a busy machine many times slower.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")  # else its threads spin for 2^26 cycles after each product
os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")

import signal
import sys
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Annotated, NoReturn

import typer

from features.errors import ConfigError
from pipelines.base.endings import ending
from pipelines.base.streams import patient_streams
from pipelines.cli.backups import backups_app
from pipelines.cli.bundles import bundle_app
from pipelines.cli.explanations import explanations_app
from pipelines.cli.groups import click_app, features_app, vectors_app
from pipelines.cli.help import help_app
from pipelines.cli.init_command import init_app
from pipelines.cli.monitor import monitor_app
from pipelines.cli.nights import nights_app
from pipelines.cli.project import project_app
from pipelines.cli.readers import readers_app
from pipelines.cli.registry import champion_app, registry_app
from pipelines.cli.versions import versions_app

__all__ = ["app", "main"]

app = typer.Typer(
    name="nightrank",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Text-aware recommendation ranking: check, train, evaluate, promote, score.",
    epilog="`nightrank help` lists topics, and `nightrank help config ranker` says what each key of a section means.",
)
_PARTS = (
    *(init_app, project_app, versions_app, champion_app, nights_app, readers_app, monitor_app, explanations_app),
    *(backups_app, help_app),
)
for part in _PARTS:
    app.add_typer(part)
app.add_typer(bundle_app, name="bundle", rich_help_panel="Look closer")
app.add_typer(registry_app, name="registry", rich_help_panel="Look closer")
app.add_typer(features_app, name="features", rich_help_panel="Look closer")
app.add_typer(vectors_app, name="vectors", rich_help_panel="Look closer")
app.add_typer(click_app, name="click-model", rich_help_panel="Without users")


def _no_colours(chosen: bool) -> bool:  # noqa: FBT001 - typer's form of a callback
    """Set what rich and typer look for: bars, tables, help and errors then have no colours."""
    if chosen:
        os.environ["NO_COLOR"] = "1"
    return chosen


@app.callback()
def options(
    *,
    no_color: Annotated[
        bool,
        typer.Option(
            "--no-color", is_eager=True, callback=_no_colours, help="No colours, as by the variable NO_COLOR."
        ),
    ] = False,
) -> None:
    """Text-aware recommendation ranking: check, train, evaluate, promote, score."""


def main() -> NoReturn:
    """Run a command; an error ends with the exit code of its kind and its message on stderr."""
    signal.signal(signal.SIGTERM, _terminated)
    with patient_streams():
        code = _run()
    sys.exit(code)


def _run() -> int:
    """Run a command; returns its exit code. `--no-color` may stand anywhere."""
    try:
        _refuse_strangers()
        arguments = sorted(sys.argv[1:], key=lambda word: word != "--no-color")
        app(prog_name="nightrank", args=arguments, standalone_mode=True)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException as error:  # noqa: BLE001 - a Rust library's panic is no Exception
        code, message = ending(error)
        sys.stderr.write(message)
        return code
    return 0


def _refuse_strangers() -> None:
    """Stop where one of our four packages is someone else's of the same name.

    Raises:
        ConfigError: Names the package and where it lies.
    """
    own = Path(__file__).resolve().parents[2]
    for name in ("features", "encoders", "ranker", "pipelines"):
        spec = find_spec(name)
        folder = Path(spec.origin).resolve().parent.parent if spec and spec.origin else None
        if folder != own:
            raise ConfigError(
                f"the package {name!r} at {folder} is not nightrank's. Install nightrank into a venv of its own."
            )


def _terminated(number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001 - a signal handler's form
    sys.exit(143)


if __name__ == "__main__":
    main()
