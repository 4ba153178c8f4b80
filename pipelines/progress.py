"""Progress of long work: bars on a terminal, JSON lines elsewhere; always on stderr, never on stdout."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

__all__ = ["Advance", "say", "task"]

Advance = Callable[..., None]
"""advance(n) says that n more are done; advance(n, note="...") adds a word on the state."""

_EVERY_SECONDS = 10.0


def say(event: str, **facts: object) -> None:
    """Report one thing that happened."""
    if sys.stderr.isatty():
        told = "  ".join(f"[dim]{key}[/dim] {escape(str(value))}" for key, value in facts.items())
        Console(stderr=True, highlight=False).print(f"[bold]{event}[/bold]  {told}")
    else:
        _line(event, **facts)


@contextmanager
def task(name: str, total: int, unit: str = "") -> Iterator[Advance]:
    """Show how far a piece of work is.

    Args:
        name: What is being done.
        total: How many there are.
        unit: What they are.
    """
    start = time.monotonic()
    if sys.stderr.isatty():
        with _bar() as bar:
            row = bar.add_task(name, total=total, note="", unit=unit)

            def advance(done: int, note: str = "") -> None:
                bar.update(row, advance=done, note=note)

            yield advance
    else:
        with _lines(name, total, unit) as advance_line:
            yield advance_line
    took = time.monotonic() - start
    if not sys.stderr.isatty():
        _line(name, done=total, unit=unit, seconds=round(took, 1))


def _bar() -> Progress:
    return Progress(
        TextColumn("{task.description:<34}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("[dim]{task.fields[note]}"),
        console=Console(stderr=True),
    )


@contextmanager
def _lines(name: str, total: int, unit: str) -> Iterator[Advance]:
    done, last = 0, time.monotonic()

    def advance(more: int, note: str = "") -> None:
        nonlocal done, last
        done += more
        if time.monotonic() - last >= _EVERY_SECONDS:
            last = time.monotonic()
            _line(name, done=done, total=total, unit=unit, **({"note": note} if note else {}))

    yield advance


def _line(event: str, **facts: object) -> None:
    sys.stderr.write(json.dumps({"event": event, **facts}, default=str) + "\n")
    sys.stderr.flush()
