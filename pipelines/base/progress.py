"""Progress of long work: bars on a terminal, JSON lines elsewhere; always on stderr, never on stdout."""

import io
import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

from pipelines.base.outside import printable, without_credentials
from pipelines.base.usage import stage

__all__ = ["Advance", "Terminal", "close", "duration", "json_line", "say", "task"]

Advance = Callable[..., None]
"""advance(n) reports n more as done; advance(n, note="...") adds a remark."""

_EVERY_SECONDS = 10.0


class Terminal(Console):
    """Stderr for a person: names of files, columns and systems are shown as they are, and never interpreted.

    Neither markup nor emoji codes in texts mean anything; control characters and line ends are shown as their escapes.
    """

    def __init__(self, width: int | None = None, *, record: bool = False) -> None:
        file = io.StringIO() if record else None  # what is recorded is exported, and not shown
        super().__init__(stderr=True, file=file, record=record, width=width, highlight=False, markup=False, emoji=False)

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


def duration(seconds: float) -> str:
    """A span of time in words, to two units.

    >>> duration(7.26), duration(200), duration(7260)
    ('7.3 s', '3 min 20 s', '2 h 1 min')
    """
    if seconds < 59.95:  # noqa: PLR2004 - what rounds to a minute
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def close(done: str, *, seconds: float, lies_in: object = None, then: str | None = None) -> None:
    """Say in one line how a command ended well.

    Args:
        done: What was done.
        seconds: How long it took.
        lies_in: The file or folder that holds the outcome, if there is one.
        then: The command to go on with, if there is one.
    """
    if not sys.stderr.isatty():
        parts = {"lies_in": lies_in, "next": then}
        kept = {key: str(value) for key, value in parts.items() if value is not None}
        _line("done", what=done, seconds=round(seconds, 1), **kept)
        return
    line = Text.assemble(("Done: ", "bold green"), _shown(done), (f" in {duration(seconds)}.", "dim"))
    if lies_in is not None:
        line.append(f" It lies in {_shown(lies_in)}.")
    if then is not None:
        line.append_text(Text.assemble(" Next: ", (_shown(then), "bold")))
    Terminal().print(line, soft_wrap=True)


@contextmanager
def task(name: str, total: int, unit: str = "") -> Iterator[Advance]:
    """Show the progress of a piece of work: a bar on a terminal, JSON lines every ten seconds elsewhere.

    It is a stage of what is measured; see `pipelines.base.usage`.

    Args:
        name: What is being done.
        total: How many there are.
        unit: What they are.
    """
    with stage(name), _shown_task(name, total, unit) as advance:
        yield advance


@contextmanager
def _shown_task(name: str, total: int, unit: str) -> Iterator[Advance]:
    pace = _Pace(total)
    if sys.stderr.isatty():
        with _bar() as bar:
            row = bar.add_task(_shown(name), total=total, note="", unit=_shown(unit), pace=pace)

            def advance(done: int, note: str = "") -> None:
                pace.add(done)
                bar.update(row, advance=done, note=_shown(note))

            yield advance
        return
    with _lines(name, pace, unit) as advance_line:
        yield advance_line
    _line(name, done=total, unit=unit, seconds=round(pace.elapsed(), 1))


class _Pace:
    """How fast a piece of work goes, by all of it so far.

    Attributes:
        done: How much is done.
        total: Of how much.
    """

    def __init__(self, total: int) -> None:
        self.done, self.total = 0, total
        self._start = time.monotonic()
        self._end: float | None = None

    def add(self, more: int) -> None:
        """Count what was done now."""
        self.done += more
        if self.done:
            now = time.monotonic()
            self._end = now + (now - self._start) * max(self.total - self.done, 0) / self.done

    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._start

    def left(self) -> float | None:
        """Seconds that the rest takes; None before anything is done."""
        return None if self._end is None else max(self._end - time.monotonic(), 0.0)


class _TimeLeft(ProgressColumn):
    """How long a piece of work has taken, and about how long it still takes."""

    max_refresh = 0.5

    def render(self, task: Task) -> Text:
        pace: _Pace = task.fields["pace"]
        left = pace.left()
        rest = "" if left is None or task.finished else f", about {duration(left)} left"
        return Text(duration(pace.elapsed()) + rest)


def _bar() -> Progress:
    return Progress(
        TextColumn("{task.description:<34}", markup=False),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]}", markup=False),
        _TimeLeft(),
        TextColumn("{task.fields[note]}", markup=False, style="dim"),
        console=Terminal(),
    )


@contextmanager
def _lines(name: str, pace: _Pace, unit: str) -> Iterator[Advance]:
    last = time.monotonic()

    def advance(more: int, note: str = "") -> None:
        nonlocal last
        pace.add(more)
        if time.monotonic() - last >= _EVERY_SECONDS:
            last = time.monotonic()
            left = pace.left()
            facts: dict[str, object] = {"done": pace.done, "total": pace.total, "unit": unit}
            facts["eta_s"] = None if left is None else round(left, 1)
            _line(name, **facts, **({"note": note} if note else {}))

    yield advance


def _line(event: str, **facts: object) -> None:
    sys.stderr.write(json_line({"event": event, **facts}) + "\n")
    sys.stderr.flush()


def _shown(value: object) -> str:
    """A value as a terminal may show it."""
    return printable(without_credentials(str(value)))
