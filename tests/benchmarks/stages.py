"""Where a command of ours spends its time and memory: functions of the product are timed from outside, by stage.

A stage is charged what passes while it is the innermost one that runs, so that the stages add up to the whole. A name
such as `features/pair` is a part of the stage `features`.
"""

import importlib
import inspect
import resource
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import Any

__all__ = ["OTHER", "Spent", "Stages", "by_stage", "memory_bytes"]

OTHER = "other"
"""What is in no stage."""

Name = str | Callable[[Any], str]
"""Of a stage; or what names it by the object whose method is called."""

_STATUS = Path("/proc/self/status")
_EVERY_SECONDS = 0.02


@dataclass(slots=True)
class Spent:
    """What a stage took.

    Attributes:
        seconds: By the clock.
        cpu_seconds: Of all threads.
        calls: How often it was entered.
        peak_rss: Largest resident set seen meanwhile, in bytes.
        peak_anon: The same of memory that is no file's.
    """

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    calls: int = 0
    peak_rss: int = 0
    peak_anon: int = 0


@dataclass(slots=True)
class Stages:
    """The stages of one process, while `running`.

    Attributes:
        spent: By stage.
        missing: Functions that were to be timed, and are not there.
    """

    spent: dict[str, Spent] = field(default_factory=lambda: {OTHER: Spent(calls=1)})
    missing: list[str] = field(default_factory=list)
    _open: list[str] = field(default_factory=lambda: [OTHER])
    _clock: tuple[float, float] = (0.0, 0.0)
    _ended: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count from here on, and watch memory."""
        watch = threading.Thread(target=self._watch, daemon=True)
        self._clock = time.perf_counter(), time.process_time()
        watch.start()
        try:
            yield
        finally:
            self._charge()
            self._ended.set()
            watch.join()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """What runs within belongs to a stage; only the main thread's counts."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        self._charge()
        self._open.append(name)
        self.spent.setdefault(name, Spent()).calls += 1
        try:
            yield
        finally:
            self._charge()
            self._open.pop()

    def time(self, timed: Mapping[str, Name]) -> None:
        """Time functions, found as `package.module:function` or `package.module:Class.method`; note which are gone."""
        for path_of, name in timed.items():
            module, _, path = path_of.partition(":")
            *within, attribute = path.split(".")
            owner: Any = importlib.import_module(module)
            for part in within:
                owner = getattr(owner, part, None)
            if owner is None or inspect.getattr_static(owner, attribute, None) is None:
                self.missing.append(path_of)
            else:
                self.wrap(owner, attribute, name)

    def wrap(self, owner: Any, attribute: str, name: Name) -> None:
        """Time what an attribute of a module or class calls."""
        attribute_value = inspect.getattr_static(owner, attribute)
        inner = attribute_value.__func__ if isinstance(attribute_value, classmethod | staticmethod) else attribute_value

        @wraps(inner)
        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.stage(name if isinstance(name, str) else name(args[0])):
                return inner(*args, **kwargs)

        setattr(
            owner,
            attribute,
            type(attribute_value)(timed) if isinstance(attribute_value, classmethod | staticmethod) else timed,
        )

    def _charge(self) -> None:
        now = time.perf_counter(), time.process_time()
        spent = self.spent[self._open[-1]]
        spent.seconds += now[0] - self._clock[0]
        spent.cpu_seconds += now[1] - self._clock[1]
        self._clock = now

    def _watch(self) -> None:
        while not self._ended.wait(_EVERY_SECONDS):
            spent, memory = self.spent[self._open[-1]], memory_bytes()
            spent.peak_rss = max(spent.peak_rss, memory["VmRSS"])
            spent.peak_anon = max(spent.peak_anon, memory["RssAnon"])

    def facts(self) -> dict[str, Any]:
        """For a line of JSON: `spent`, `missing`, and the process's own peak of the resident set."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        spent = {name: {key: getattr(of, key) for key in Spent.__slots__} for name, of in self.spent.items()}  # type: ignore[attr-defined]
        return {"spent": spent, "missing": self.missing, "peak_rss": peak}


def by_stage(spent: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """The parts of each stage added up, of peaks the largest; in order of first appearance."""
    stages: dict[str, dict[str, float]] = {}
    for name, of in spent.items():
        stage = stages.setdefault(name.partition("/")[0], dict.fromkeys(of, 0))
        for key, value in of.items():
            stage[key] = max(stage[key], value) if key.startswith("peak") else stage[key] + value
    return stages


def memory_bytes(status: str | None = None) -> dict[str, int]:
    """The sizes in `/proc/self/status`, by name."""
    lines = (_STATUS.read_text() if status is None else status).splitlines()
    parts = (line.split() for line in lines if line.endswith(" kB"))
    return {name.rstrip(":"): int(size) * 1024 for name, size, _ in parts}
