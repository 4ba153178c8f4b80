"""What a process takes: wall time, processor time and memory of the named stages of a piece of work."""

import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

__all__ = ["Stages", "Usage", "measured", "stage"]


@dataclass(frozen=True, slots=True)
class Usage:
    """What a stage took.

    Attributes:
        wall_seconds: From its start to its end.
        processor_seconds: Of all threads of this process.
        peak_memory_mb: The most memory in MB that the process had taken by its end, since the process began.
    """

    wall_seconds: float
    processor_seconds: float
    peak_memory_mb: float

    def after(self, earlier: "Usage") -> "Usage":
        """Two runs of a stage of one name as one."""
        return Usage(
            earlier.wall_seconds + self.wall_seconds,
            earlier.processor_seconds + self.processor_seconds,
            max(earlier.peak_memory_mb, self.peak_memory_mb),
        )


class Stages:
    """What the stages of a piece of work took, and all of it until now.

    Attributes:
        by_name: The finished stages in their order; a stage may lie inside another one, and counts in both.
    """

    def __init__(self) -> None:
        self.by_name: dict[str, Usage] = {}
        self._clock = _Clock()

    def total(self) -> Usage:
        """All that was taken since the start."""
        return self._clock.read()

    def add(self, name: str, usage: Usage) -> None:
        """Count a finished stage."""
        earlier = self.by_name.get(name)
        self.by_name[name] = usage if earlier is None else usage.after(earlier)


class _Clock:
    def __init__(self) -> None:
        self._wall, self._processor = time.monotonic(), time.process_time()

    def read(self) -> Usage:
        unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, in bytes
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
        return Usage(time.monotonic() - self._wall, time.process_time() - self._processor, peak)


_measuring: ContextVar[Stages | None] = ContextVar("measuring", default=None)


@contextmanager
def measured() -> Iterator[Stages]:
    """Context whose stages are measured."""
    stages = Stages()
    before = _measuring.set(stages)
    try:
        yield stages
    finally:
        _measuring.reset(before)


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Context of one stage; it counts where it comes to its end, and somebody measures."""
    stages = _measuring.get()
    clock = _Clock()
    yield
    if stages is not None:
        stages.add(name, clock.read())
