"""One night at a time in an output folder, and none that was passed over publishes.

``jobs/night.json`` names the night that began last, by a token that only grows. While it runs it locks
``jobs/night-TOKEN.lock`` and touches that file every half minute: the system releases the lock when the process ends,
however it ends, and the touches stop when it hangs. The next night may begin when the lock is free, when the touches
are old, or when somebody says so; it takes the next token. What moves the pointer does so under ``jobs/night.mutex``,
which is held for moments, and compares its token there first: who was paused and passed over finds another one.
"""

import fcntl
import os
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from features.errors import IntegrityError, TryAgainError
from pipelines.base.config import Config
from pipelines.base.outside import written
from pipelines.base.progress import duration, say
from pipelines.stores.journal import last_token
from pipelines.stores.storage import read_json, write_json

__all__ = ["Lease", "leased", "night_lease", "pointer_mutex", "running_night"]

_BEAT_SECONDS = 30.0
_PATIENCE_SECONDS = 10.0
"""How long one waits for the mutex, which others hold while they compare tokens and replace a small file."""


@dataclass(frozen=True, slots=True)
class Lease:
    """A night's right to publish, until another night takes over.

    Attributes:
        output: The output folder.
        token: Grows with every night that begins.
        owner: Tells apart two nights of one token, should record and locks have been deleted between them.
        night: The day that is ranked.
        since: When it began.
        process: The process.
    """

    output: Path
    token: int
    owner: str
    night: str
    since: str
    process: int

    @contextmanager
    def fenced(self) -> Iterator[None]:
        """Context in which the pointer may be moved.

        Raises:
            TryAgainError: Another night took over meanwhile, or holds the mutex.
        """
        with pointer_mutex(self.output):
            last = _record(self.output)
            if last is None or (last["token"], last["owner"]) != (self.token, self.owner):
                by = "its record is gone" if last is None else f"the night of {last['night']} began at {last['since']}"
                raise TryAgainError(
                    f"this night of {self.night} was passed over while it stood still ({by}), so it publishes nothing. "
                    "Run it again if it is still wanted."
                )
            yield


def night_lease(config: Config, when: date, *, take_over: bool = False) -> AbstractContextManager[Lease]:
    """The lease of the night of a day in the configured output folder."""
    output = Path(config.output)
    after = last_token(output / "rankings")
    return leased(output, when, minutes=config.night.lease_minutes, take_over=take_over, after=after)


@contextmanager
def leased(output: Path, night: date, *, minutes: float, take_over: bool = False, after: int = 0) -> Iterator[Lease]:
    """The lease of one night, given back at the end.

    Args:
        output: The output folder.
        night: The day that is ranked.
        minutes: How old the last sign of life of a running night must be for this one to take over.
        take_over: Take over at once.
        after: The token must be larger.

    Raises:
        TryAgainError: Another night is under way.
    """
    with pointer_mutex(output):
        last = _record(output)
        if last is not None:
            _refuse_running(_lock(output, last["token"]), last, seconds=60 * minutes, take_over=take_over)
        token = max(after, last["token"] if last is not None else 0, *_tokens(output)) + 1
        since = datetime.now(UTC).isoformat(timespec="seconds")
        lease = Lease(output, token, uuid4().hex, str(night), since, os.getpid())
        path = _lock(output, token)
        with written(path):
            file = path.open("w")
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        write_json({key: value for key, value in asdict(lease).items() if key != "output"}, _path(output))
        _sweep(output, path)
    with file:
        stopped = threading.Event()
        beats = threading.Thread(target=_beat, args=(path, stopped), daemon=True)
        beats.start()
        try:
            yield lease
        finally:
            stopped.set()
            with suppress(OSError):
                path.unlink(missing_ok=True)


@contextmanager
def pointer_mutex(output: Path) -> Iterator[None]:
    """Context in which nobody else begins a night or moves the pointer.

    Raises:
        TryAgainError: Somebody holds it for long.
    """
    path = output / "jobs" / "night.mutex"
    with written(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        opened = path.open("a")
    end = time.monotonic() + _PATIENCE_SECONDS
    with opened as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > end:
                    raise TryAgainError(
                        f"{path} is held by a night that stopped while it was publishing. See whether its process is "
                        "stopped, and continue or end it; then run this again."
                    ) from error
                time.sleep(0.05)
        yield


def running_night(output: Path) -> str | None:
    """The day of the night that is under way; None where none is."""
    last = _record(output)
    return None if last is None or _silence(_lock(output, last["token"])) is None else str(last["night"])


def _refuse_running(lock: Path, last: dict[str, Any], *, seconds: float, take_over: bool) -> None:
    """Refuse to begin beside a night that runs.

    Raises:
        TryAgainError: It runs, has shown life lately, and nobody wants to take over.
    """
    silent = _silence(lock)
    if silent is None:
        return
    if take_over or silent > seconds:
        say("took over from a night that is not done", night=last["night"], since=last["since"], silent_s=round(silent))
        return
    raise TryAgainError(
        f"the night of {last['night']} has been running in this output folder since {last['since']} (process "
        f"{last['process']}, last sign of life {duration(max(silent, 0.0))} ago). Run this again when it is done. If "
        "it hangs, end it, or add --take-over: it cannot publish after that."
    )


def _silence(lock: Path) -> float | None:
    """Seconds since the last sign of life of who holds a night's lock; None where nobody does.

    A night that ended leaves no file, and a killed one a free file. Who looks takes a shared lock for that moment, so
    that two who look at once do not take each other for a night.
    """
    try:
        with lock.open("r") as file:
            status = os.fstat(file.fileno())  # NOTE: of what is open: the night may end, and remove it, meanwhile.
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return time.time() - status.st_mtime
    except FileNotFoundError:
        return None
    return None


def _tokens(output: Path) -> list[int]:
    """Tokens of the locks that there are: also of a night whose record was deleted."""
    return [int(path.stem.removeprefix("night-")) for path in (output / "jobs").glob("night-*.lock")]


def _sweep(output: Path, own: Path) -> None:
    """Remove the locks of nights that were killed."""
    for path in (output / "jobs").glob("night-*.lock"):
        if path != own and _silence(path) is None:
            path.unlink(missing_ok=True)


def _beat(path: Path, stopped: threading.Event) -> None:
    while not stopped.wait(_BEAT_SECONDS):
        with suppress(OSError):
            os.utime(path)


def _path(output: Path) -> Path:
    return output / "jobs" / "night.json"


def _lock(output: Path, token: int) -> Path:
    return output / "jobs" / f"night-{token}.lock"


def _record(output: Path) -> dict[str, Any] | None:
    """Which night began last; None before the first, and where the record is damaged.

    A night that runs meanwhile is passed over then: its token is compared with one that is not there.
    """
    path = _path(output)
    if not path.is_file():
        return None
    with suppress(IntegrityError):
        record = read_json(path, what="the record of the last night")
        if isinstance(record, dict) and {"token", "owner", "night", "since", "process"} <= record.keys():
            return record if isinstance(record["token"], int) else None
    say("the record of the last night is damaged, and left out", file=str(path))
    return None
