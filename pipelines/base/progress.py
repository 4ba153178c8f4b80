"""Progress of long work: bars on a terminal, JSON lines elsewhere; always on stderr, never on stdout."""

import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from pipelines.base.outside import printable, without_credentials

__all__ = ["Advance", "Terminal", "json_line", "say", "task"]

Advance = Callable[..., None]
"""advance(n) reports n more as done; advance(n, note="...") adds a remark."""

_EVERY_SECONDS = 10.0


class Terminal(Console):
    """Stderr for a person: names of files, columns and systems are shown as they are, and never interpreted.

    Neither markup nor emoji codes in texts mean anything; control characters and line ends are shown as their escapes.
    """

    def __init__(self, width: int | None = None) -> None:
        super().__init__(stderr=True, highlight=False, markup=False, emoji=False, width=width)

    def render_str(self, text: str, **kwargs: Any) -> Text:  # noqa: ANN401 - rich's own
        """The cell, title or line that a text is."""
        return super().render_str(_shown(text), **kwargs)


def json_line(facts: Mapping[str, object], *, ascii_only: bool = True) -> str:
    """Facts as one line of valid JSON without control characters; a number that is not finite is null."""
    line = without_credentials(json.dumps(_finite(facts), ensure_ascii=ascii_only, default=str, allow_nan=False))
    if line.isprintable():
        return line
    return "".join(letter if letter.isprintable() else json.dumps(letter)[1:-1] for letter in line)


def _finite(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(inner) for key, inner in value.items()}
    return [_finite(inner) for inner in value] if isinstance(value, list | tuple) else value


def say(event: str, **facts: object) -> None:
    """Report one event with its facts: a line on a terminal, a JSON line elsewhere."""
    if sys.stderr.isatty():
        parts = [part for key, value in facts.items() for part in ("  ", (_shown(key), "dim"), f" {_shown(value)}")]
        Terminal().print(Text.assemble((_shown(event), "bold"), *parts))
    else:
        _line(event, **facts)


@contextmanager
def task(name: str, total: int, unit: str = "") -> Iterator[Advance]:
    """Show the progress of a piece of work: a bar on a terminal, JSON lines every ten seconds elsewhere.

    Args:
        name: What is being done.
        total: How many there are.
        unit: What they are.
    """
    start = time.monotonic()
    if sys.stderr.isatty():
        with _bar() as bar:
            row = bar.add_task(_shown(name), total=total, note="", unit=_shown(unit))

            def advance(done: int, note: str = "") -> None:
                bar.update(row, advance=done, note=_shown(note))

            yield advance
    else:
        with _lines(name, total, unit) as advance_line:
            yield advance_line
    took = time.monotonic() - start
    if not sys.stderr.isatty():
        _line(name, done=total, unit=unit, seconds=round(took, 1))


def _bar() -> Progress:
    return Progress(
        TextColumn("{task.description:<34}", markup=False),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]}", markup=False),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False, style="dim"),
        console=Terminal(),
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
    sys.stderr.write(json_line({"event": event, **facts}) + "\n")
    sys.stderr.flush()


def _shown(value: object) -> str:
    """A value as a terminal may show it."""
    return printable(without_credentials(str(value)))
