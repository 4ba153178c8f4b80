"""Verb `nightly`: all that a night consists of, step by step, each resumable alone."""

import hashlib
import json
import shutil
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

from features.calendar import batch_day
from features.errors import IntegrityError, TryAgainError
from pipelines.base.config import TABLES, Config
from pipelines.inputs.check import Inputs, refuse_unknown, text_fields
from pipelines.inputs.read import read_events, read_for
from pipelines.inputs.tables import table_files
from pipelines.night.steps import Off, Outcome, Record, Step, chosen_steps, run_steps
from pipelines.registry.bundle_files import verify_files
from pipelines.registry.last_champion import NightVersion, champion_tonight
from pipelines.registry.register import register
from pipelines.registry.registry import CHALLENGER, CHAMPION, Registry
from pipelines.registry.tracking import Tracking
from pipelines.registry.versions import continuing_config, load_version, plan_of_version, predecessor, working_config
from pipelines.stores.lease import Lease, night_lease
from pipelines.stores.publish import Attempt, published
from pipelines.stores.served import served
from pipelines.stores.spool import spooled
from pipelines.stores.storage import read_json, write_json
from pipelines.training.train import train
from pipelines.verbs.monitor import monitor
from pipelines.verbs.promote import propose
from pipelines.verbs.score import Publishing, refuse_stale, score
from pipelines.verbs.sync import sync

__all__ = ["STEPS", "Orders", "nightly"]

STEPS = ("check", "fold", "score", "sync", "realised", "train", "suggest")
"""All steps in order. What is live waits for none that comes after it was published."""

_LAST_UNDER_LEASE = "score"
_LEAST_FREE_BYTES = 500_000_000


@dataclass(frozen=True, slots=True)
class Orders:
    """How a night is run.

    Attributes:
        first: The step to begin with, done or not; None looks at all and skips what is done.
        only: The one step to do, done or not.
        take_over: Begin although another night runs.
        allow_empty: Whether partitions without rows are fine.
    """

    first: str | None = None
    only: str | None = None
    take_over: bool = False
    allow_empty: bool = False


def nightly(config: Config, when: date, orders: Orders = Orders()) -> dict[str, Any]:
    """Run the steps of a night.

    Args:
        config: Everything configured.
        when: The day that the rankings are for.
        orders: Which steps, and how.

    Returns:
        `date`; `code`: the exit code, that of the first step that failed of those that matter (check, fold, score);
        `live`: the day that is served, None for none; `degraded`: why, where the registry could not say who is
        champion; `steps`: how each ended.

    Raises:
        ConfigError: A step is unknown.
        TryAgainError: Another night is under way.
    """
    chosen = chosen_steps(STEPS, first=orders.first, only=orders.only)
    output = Path(config.output)
    with ExitStack() as lease:
        night = _Night(config, when, orders)
        if chosen is None or set(chosen) & set(STEPS[: STEPS.index(_LAST_UNDER_LEASE) + 1]):
            night.leases.append(lease.enter_context(night_lease(config, when, take_over=orders.take_over)))

        def after(step: str) -> None:
            if step == _LAST_UNDER_LEASE:
                lease.close()  # `score` of another day need not wait for a training

        outcomes = run_steps(night.steps(), Record(output, when, _key(config)), chosen, after)
    codes = [outcomes[step.name].code for step in night.steps() if step.matters and step.name in outcomes]
    live = None
    with suppress(IntegrityError):  # all is damaged, and could not be made again
        live = served(output / "rankings")
    return {
        "date": str(when),
        "code": next((code for code in codes if code), 0),
        "live": None if live is None else str(live.attempt.day),
        "degraded": outcomes["score"].facts.get("degraded") if "score" in outcomes else None,
        "steps": {name: _said(outcome) for name, outcome in outcomes.items()},
    }


def _said(outcome: Outcome) -> dict[str, Any]:
    status = f"{outcome.status} earlier" if outcome.earlier else outcome.status
    return {"status": status, "code": outcome.code, "seconds": outcome.seconds, **outcome.facts}


def _key(config: Config) -> str | None:
    """Hash of the configuration and of which files lie there, by size and time; None where they cannot be listed."""
    files = []
    try:
        for name in TABLES:
            table = getattr(config.data, name)
            for path in () if table is None else table_files(table, name=name).paths:
                status = path.stat()
                files.append([name, str(path), status.st_size, status.st_mtime_ns])
    except Exception:  # noqa: BLE001 - whatever it is, the step `check` says it
        return None
    return hashlib.sha256(json.dumps([config.digest(), files]).encode()).hexdigest()


@dataclass
class _Night:
    """A night under way: what its steps share, made once and when a step first needs it."""

    config: Config
    when: date
    orders: Orders
    leases: list[Lease] = field(default_factory=list)

    def steps(self) -> list[Step]:
        """Its steps in order."""
        return [
            Step("check", self.check, matters=True),
            Step("fold", self.fold, needs=("check",), matters=True),
            Step("score", self.score, needs=("check", "fold"), matters=True, stands=self._is_whole),
            Step("sync", self.sync, stands=lambda _: not spooled(Path(self.config.output))),
            Step("realised", self.realised, needs=("check",)),
            Step("train", self.train, needs=("check", "fold")),
            Step("suggest", self.suggest, needs=("check",)),
        ]

    @cached_property
    def ranker(self) -> NightVersion:
        """The version that ranks the night."""
        return champion_tonight(self.config)

    @cached_property
    def inputs(self) -> Inputs:
        """The tables as the night reads them."""
        own = working_config(self.config, self.ranker.bundle)
        plan = plan_of_version(self.config, self.ranker.bundle)
        return read_for(plan, own, candidates=own.candidates, allow_empty=self.orders.allow_empty)

    @cached_property
    def registry(self) -> Registry:
        """The registry, where it answers."""
        if self.ranker.degraded is not None:
            raise Off(f"the registry does not answer: {self.ranker.degraded}")
        return Registry(self.config)

    def check(self) -> dict[str, Any]:
        """Whether all is there that the night needs: files, disk, a version to rank by."""
        tables = {name: table for name in TABLES if (table := getattr(self.config.data, name)) is not None}
        files = {name: len(table_files(table, name=name).paths) for name, table in tables.items()}
        output = Path(self.config.output)
        free = shutil.disk_usage(output if output.exists() else output.absolute().parent).free
        if free < _LEAST_FREE_BYTES:
            raise TryAgainError(
                f"{output}: {free / 1e6:,.0f} MB are free, and a night needs {_LEAST_FREE_BYTES / 1e6:,.0f} MB. "
                "Free the disk, then run it again."
            )
        return {"version": self.ranker.name, "degraded": self.ranker.degraded, "files": files}

    def fold(self) -> dict[str, Any]:
        """Read the tables and fold what is new of the log."""
        refuse_stale(self.inputs.log, batch_day(self.when), self.config)
        tables = self.inputs.tables.items()
        return {
            "rows": {name: table.n_rows for name, table in tables},
            "quarantined": {name: table.bad.height for name, table in tables},
        }

    def score(self) -> dict[str, Any]:
        """Rank, audit and publish."""
        publishing = Publishing(shadow=False, lease=self.leases[0], degraded=self.ranker.degraded)
        version, bundle = self.ranker.name, self.ranker.bundle
        return score(self.inputs, self.config, when=self.when, version=version, bundle=bundle, publishing=publishing)

    def _is_whole(self, facts: dict[str, Any]) -> bool:
        """Whether a night that was scored earlier is undamaged, and its deadline left nobody out."""
        attempt = Attempt(Path(self.config.output) / "rankings", Path(facts["attempt"]).name)
        with suppress(IntegrityError):
            attempt.verify()
            return not facts.get("fallback_users") and published(attempt.root) is not None
        return False

    def sync(self) -> dict[str, Any]:
        """Write what was kept for the tracking server."""
        waiting = len(spooled(Path(self.config.output)))
        if not waiting:
            raise Off("nothing waits for the tracking server")
        if self.ranker.degraded is not None:
            raise Off(f"{waiting} entries wait until the registry answers")
        return sync(self.config)

    def realised(self) -> dict[str, Any]:
        """How good the nights before turned out to be, how good this one should be, and what drifts."""
        if served(Path(self.config.output) / "rankings") is None:
            raise Off("nothing was published yet")
        log = read_events(self.config, allow_empty=self.orders.allow_empty).log
        return monitor(log, self.config, until=self.when).as_json()

    def train(self) -> dict[str, Any]:
        """Go on from the champion and learn the next block of days, where that is due."""
        every = self.config.night.train_every_days
        if every is None:
            raise Off("night.train_every_days is not set")
        latest = self.registry.versions()[0]
        seen = datetime.fromisoformat(verify_files(self.registry.bundle_folder(latest))["cutoff"]).date()
        due = seen + timedelta(days=every)
        if self.when < due:
            raise Off(f"{latest.name} learned what lies before {seen}; the next training is due on {due}")
        inputs = read_events(self.config, allow_empty=self.orders.allow_empty)
        refuse_unknown(text_fields(inputs, self.config), self.config)
        settings = continuing_config(self.config)
        before = predecessor(self.registry, CHAMPION, settings)
        with Tracking(settings).run() as run:
            trained = train(inputs.log, settings, run.series, continues=before)
            registered = register(trained, inputs, settings, run)
        return {"version": registered.version.name, "continues": before.name}

    def suggest(self) -> dict[str, Any]:
        """Say whether a newer challenger passes the gates; it is not promoted."""
        challenger, champion = self.registry.find(CHALLENGER), self.registry.version(CHAMPION)
        if challenger is None or int(challenger.number) <= int(champion.number):
            raise Off("there is no challenger newer than the champion")
        policy = self.config.promotion
        changes = policy.tags or policy.min_approvals or policy.max_days_since_window is not None
        pair = [challenger.digest, champion.digest, policy.model_dump(mode="json"), str(self.when) if changes else None]
        path = Path(self.config.output) / "jobs" / "suggestion.json"
        with suppress(IntegrityError):  # without such conditions every night finds the same
            kept = read_json(path, what="the last suggestion")
            if isinstance(kept, dict) and kept.get("of") == pair:
                return dict(kept["facts"])
        _, bundle = load_version(self.registry, challenger.number)
        log = read_events(working_config(self.config, bundle), allow_empty=self.orders.allow_empty).log
        proposal = propose(log, self.config, self.registry, challenger.number, dry_run=True)
        passes = not proposal.failed
        command = f"nightrank promote --version {challenger.number}" if passes else None
        gates = [gate.as_json() for gate in proposal.gates]
        facts = {"challenger": challenger.name, "passes": passes, "command": command, "gates": gates}
        write_json({"of": pair, "facts": facts}, path)
        return facts
