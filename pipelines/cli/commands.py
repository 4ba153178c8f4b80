"""How a command is made: its examples in `--help`, and the one line that it ends with."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import ParamSpec

import typer

__all__ = ["Closing", "command", "next_command"]

_Parameters = ParamSpec("_Parameters")


@dataclass(frozen=True, slots=True)
class Closing:
    """What a command says last, on stderr.

    Attributes:
        done: What was done, in a few words that a person reads.
        lies_in: The file or folder that holds the outcome; None where nothing was written.
        then: The command to go on with; None where nothing follows.
    """

    done: str
    lies_in: Path | str | None = None
    then: str | None = None


def command(
    app: typer.Typer, examples: Sequence[str], *, name: str | None = None, panel: str | None = None
) -> Callable[[Callable[_Parameters, Closing | None]], Callable[_Parameters, Closing | None]]:
    """Add a function to the command line; its docstring is the help, and its `Closing` is said when it returns.

    Args:
        app: What it is added to.
        examples: Whole command lines that the help ends with.
        name: How the command is called, if not as the function.
        panel: The heading under which `nightrank --help` lists it.
    """

    def added(function: Callable[_Parameters, Closing | None]) -> Callable[_Parameters, Closing | None]:
        @wraps(function)
        def run(*args: _Parameters.args, **kwargs: _Parameters.kwargs) -> None:
            start = time.monotonic()
            closing = function(*args, **kwargs)
            if closing is not None:
                _close(closing, seconds=time.monotonic() - start)

        app.command(name, epilog="\n".join(("Examples:", *(f"  {line}" for line in examples))), rich_help_panel=panel)(
            run
        )
        return function

    return added


def next_command(words: str, config: Path, default: Path = Path("nightrank.yaml")) -> str:
    """A command line to go on with, by the configuration file in use.

    >>> next_command("promote", Path("shop.yaml"))
    'nightrank promote --config shop.yaml'
    """
    return f"nightrank {words}" + ("" if config == default else f" --config {config}")


def _close(closing: Closing, *, seconds: float) -> None:
    from pipelines.base.progress import close

    close(closing.done, seconds=seconds, lies_in=closing.lies_in, then=closing.then)
