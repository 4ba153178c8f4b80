"""What a night leaves in the tracking store: what was measured, and what the audits said; no id and no text.

It is written after the night has ended and stops no night: where the store does not answer, it waits in `jobs/spool`.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from features.errors import BlockedError, NightrankError
from pipelines.base.config import Config
from pipelines.base.progress import say
from pipelines.night.audits import Finding
from pipelines.night.guard import Guard
from pipelines.night.measures import Measures
from pipelines.registry.card import metric_name
from pipelines.registry.night_runs import KIND, write_night
from pipelines.registry.registry import Registry
from pipelines.stores.journal import journal_of
from pipelines.stores.spool import spool

__all__ = ["Recording"]

_VERDICTS = {"passed": 0.0, "warned": 1.0, "blocked": 2.0}


class Recording:
    """The record of one night.

    Args:
        guard: See below.
        config: Names the store and the output folder.
        facts: What else its tags say, such as the bundle's digest.
        live: Whether the night is to go live; of another one nothing is recorded.

    Attributes:
        guard: Measures and audits it; another one, where a deadline cut the night short.
        silent: Whether the store was found not to answer, so that it is not asked again.
    """

    def __init__(self, guard: Guard, config: Config, facts: Mapping[str, str], *, live: bool) -> None:
        self.guard = guard
        self._config = config
        self._facts = facts
        self._live = live
        self.silent = False
        self._findings: Sequence[Finding] = ()

    def noted(self, findings: Sequence[Finding]) -> Sequence[Finding]:
        """The same findings, which are kept for the record."""
        self._findings = findings
        return findings

    @contextmanager
    def of_blocked(self) -> Iterator[None]:
        """Context whose `BlockedError` is recorded."""
        try:
            yield
        except BlockedError:
            if self._live:
                self._write("blocked", int(datetime.now(UTC).timestamp() * 1000))
            raise

    def of_published(self) -> None:
        """Record that the night is live; a rerun of one that is recorded changes nothing."""
        attempt = self.guard.attempt
        entry = next((each for each in reversed(journal_of(attempt.root)) if each["attempt"] == attempt.name), None)
        if entry is None or not (self._live and attempt.is_live):
            return
        self._findings = self._findings or self.guard.kept_findings()
        tags = {"forced": ", ".join(entry["forced"])} if entry.get("forced") else {}
        at = int(datetime.fromisoformat(entry["at"]).timestamp() * 1000)
        self._write("published", at, tags)

    def _write(self, outcome: str, at: int, tags: Mapping[str, str] | None = None) -> None:
        day, version = self.guard.attempt.day, self.guard.version
        entry = {
            "kind": KIND,
            "key": f"{self.guard.attempt.name}:{outcome}",
            "name": f"night {day} by {version}, {outcome}",
            "at": at,
            "metrics": _metrics(self.guard.kept_measures(), self._findings),
            "tags": {
                **self._facts,
                "date": str(day),
                "version": version,
                "outcome": outcome,
                **(tags or {}),
                **{f"audit.{finding.audit}": finding.verdict for finding in self._findings},
            },
        }
        try:
            if self.silent or not self._is_written(entry):
                spool(Path(self._config.output), entry)
        except NightrankError as error:
            say("the night's record is lost", because=str(error))

    def _is_written(self, entry: Mapping[str, object]) -> bool:
        """Whether the store took the record; reports the reason if not."""
        try:
            write_night(Registry(self._config), entry)
        except NightrankError as error:
            say("the night's record waits for the tracking server", because=str(error), then="nightrank sync")
            return False
        return True


def _metrics(measures: Measures, findings: Sequence[Finding]) -> dict[str, float]:
    """Counts and score deciles of a night, events of its eve by type, and verdicts (0 passed, 1 warned, 2 blocked)."""
    counts: list[tuple[str, float]] = [
        (f"inputs.{name}", value) for name, value in measures.inputs if isinstance(value, int)
    ]
    counts += [(f"inputs.eve.{kind}", days[-1]) for kind, days in measures.inputs.by_day.items()]
    if measures.lists.lists:
        counts += [(f"lists.{name}", value) for name, value in measures.lists if name not in ("deciles", "categories")]
        counts += [(f"lists.score_decile_{number}", value) for number, value in enumerate(measures.lists.deciles, 1)]
    audits = [(f"audit.{each.audit}", _VERDICTS[each.verdict]) for each in findings if each.verdict in _VERDICTS]
    return {metric_name(name): float(value) for name, value in [*counts, *audits] if math.isfinite(value)}
