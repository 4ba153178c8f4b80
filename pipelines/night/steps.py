"""Steps that follow one another, each with a recorded result, so that what is done is not done again.

``jobs/nightly/DATE.json`` keeps the result of each step of a date, under a key of all that decides it. A step that is
done is skipped while the key is the same; a step that failed, or whose process was killed, is done again.
"""

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Literal

from features.errors import ConfigError, IntegrityError
from pipelines.base.endings import ending
from pipelines.base.progress import say
from pipelines.stores.storage import read_json, write_json

__all__ = ["Off", "Outcome", "Record", "Step", "chosen_steps", "run_steps"]

Facts = dict[str, Any]
_FINE = ("done", "off")
"""Ends of a step after which what needs it may go on."""


class Off(Exception):  # noqa: N818 - no error
    """Raised by a step that has nothing to do, with the reason."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step.

    Attributes:
        name: What it is called.
        run: Does it; returns its facts, and raises where it fails or has nothing to do (`Off`).
        needs: Steps without which it cannot be done.
        matters: Whether its failure is that of the whole.
        stands: Whether what it found earlier still holds, so that it need not be done again.
    """

    name: str
    run: Callable[[], Facts]
    needs: tuple[str, ...] = ()
    matters: bool = False
    stands: Callable[[Facts], bool] = lambda facts: True  # noqa: ARG005


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a step ended.

    Attributes:
        status: `done`, `off` (nothing to do), `failed`, or `not run` since a step that it needs failed.
        code: The exit code that a command of its own would have had.
        at: When it ended, in UTC.
        seconds: How long it took.
        facts: What it found; `because` where it failed, is off or was not run.
        earlier: Whether an earlier run did it.
    """

    status: Literal["done", "off", "failed", "not run"]
    code: int
    at: str
    seconds: float
    facts: Facts
    earlier: bool = False


class Record:
    """The results of a date's steps on disk.

    Args:
        output: The output folder.
        day: The date.
        key: What decides the results; under another one nothing was done yet. None records nothing as done.
    """

    def __init__(self, output: Path, day: date, key: str | None) -> None:
        self._path = output / "jobs" / "nightly" / f"{day}.json"
        self._day, self._key = day, key

    def read(self) -> dict[str, Outcome]:
        """What was done under the key; nothing where the record is damaged."""
        if self._key is None or not self._path.is_file():
            return {}
        try:
            record = read_json(self._path, what="the record of the night")
            if record["key"] != self._key:
                return {}
            return {name: Outcome(**outcome) for name, outcome in record["steps"].items()}
        except (IntegrityError, TypeError, KeyError, AttributeError):
            say("the record of the night's steps is damaged, and left out", file=str(self._path))
            return {}

    def write(self, outcomes: Mapping[str, Outcome]) -> None:
        """Keep how steps ended."""
        steps = {name: asdict(outcome) for name, outcome in outcomes.items()}
        write_json({"date": str(self._day), "key": self._key or "", "steps": steps}, self._path)


def chosen_steps(names: Sequence[str], *, first: str | None, only: str | None) -> list[str] | None:
    """The steps that are done whatever is recorded; None where all are looked at, and those that are done skipped.

    Args:
        names: All steps in order.
        first: The step to begin with.
        only: The one step to do.

    Raises:
        ConfigError: A step is unknown, or both are named.
    """
    if first is not None and only is not None:
        raise ConfigError("--from begins with a step and --only does one alone. Name one of the two.")
    for option, name in (("--from", first), ("--only", only)):
        if name is not None and name not in names:
            raise ConfigError(f"{option}: there is no step {name!r}. The steps are {', '.join(names)}.")
    if only is not None:
        return [only]
    return None if first is None else list(names[names.index(first) :])


def run_steps(
    steps: Sequence[Step], record: Record, chosen: Sequence[str] | None, after: Callable[[str], None]
) -> dict[str, Outcome]:
    """Do steps in their order.

    Args:
        steps: All of them.
        record: Keeps how each ended, as soon as it did.
        chosen: Steps to do whatever is recorded, and no others; None for all that are not done.
        after: Is called with each step's name, whether or not it was done.

    Returns:
        How each step ended that was done or looked at.
    """
    recorded = record.read()
    outcomes: dict[str, Outcome] = {}
    for step in steps:
        before = recorded.get(step.name)
        if chosen is None and before is not None and before.status == "done" and step.stands(before.facts):
            outcomes[step.name] = Outcome(**{**asdict(before), "earlier": True})
            say("step", name=step.name, status=before.status, earlier=True)
        elif chosen is None or step.name in chosen:
            outcomes[step.name] = _outcome(step, outcomes)
            record.write({**recorded, **outcomes})
        after(step.name)
    return outcomes


def _outcome(step: Step, outcomes: Mapping[str, Outcome]) -> Outcome:
    """Do a step, unless one that it needs was tried just now and failed."""
    lacking = [name for name in step.needs if name in outcomes and outcomes[name].status not in _FINE]
    start = time.monotonic()
    if lacking:
        return _ended(step, "not run", 0, start, {"because": f"{', '.join(lacking)} failed"})
    say("step", name=step.name, status="begins")
    try:
        return _ended(step, "done", 0, start, step.run())
    except Off as off:
        return _ended(step, "off", 0, start, {"because": str(off)})
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # noqa: BLE001 - a Rust library's panic is no Exception
        code, message = ending(error)
        sys.stderr.write(message)
        return _ended(step, "failed", code, start, {"because": " ".join(message.splitlines()[-1:])})


def _ended(
    step: Step, status: Literal["done", "off", "failed", "not run"], code: int, start: float, facts: Facts
) -> Outcome:
    seconds = round(time.monotonic() - start, 1)
    say("step", name=step.name, status=status, seconds=seconds)
    return Outcome(status, code, datetime.now(UTC).isoformat(timespec="seconds"), seconds, facts)
