"""Audit a night before it makes lists and before it goes live: measure it, compare it with the nights before."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from functools import cached_property
from itertools import islice
from typing import Any, get_args

import polars as pl
from pydantic import ValidationError
from rich.table import Table

from features.errors import IntegrityError
from features.log.event_log import EventLog
from pipelines.base.config import Config, Weekday
from pipelines.base.progress import say
from pipelines.night.audits import Compared, Finding, audit
from pipelines.night.measures import NO_LISTS, InputMeasures, ListMeasures, Measures, measure_inputs, measure_lists
from pipelines.stores.publish import Attempt, Published, published_attempts
from pipelines.stores.storage import keep_json, read_json, read_parquet, sha256_of, write_json

__all__ = ["MEASURES", "NIGHTS", "Guard", "audits_table", "measures_of"]

MEASURES, AUDITS = "measures.json", "audits.json"
"""Files of an attempt's folder."""
NIGHTS = 7
"""Nights, the latest that went live, that tonight is compared with."""


@dataclass(frozen=True)
class Guard:
    """What stands between a night's inputs and its going live.

    Attributes:
        attempt: The night's attempt.
        log: The log, ended at the day.
        users: (U,) codes of the ranked users.
        day: The batch day.
        version: Name of the version.
        config: What the night follows.
        rules: The keys that decide what is published; scores and lists are compared under equal ones alone.
        late: The parts whose users get the fallback list because a deadline passed.
        late_users: How many users that are.
    """

    attempt: Attempt
    log: EventLog
    users: pl.Series
    day: int
    version: str
    config: Config
    rules: Mapping[str, Any]
    late: Sequence[str] = ()
    late_users: int = 0

    def audited_inputs(self) -> list[Finding]:
        """The audits of what the night knows; asked before a list is made."""
        return audit(self._compared(self._tonight(NO_LISTS)), self.config.night.audits, inputs_alone=True)

    def measured(self, shards: Sequence[str]) -> str:
        """Measure the lists, keep that beside them, and return its sha256 for the manifest.

        What a manifest vouches for is not measured again.

        Args:
            shards: The attempt's parts of users, all written.
        """
        folder = self.attempt.folder
        recorded = self.attempt.recorded(MEASURES)
        if recorded is not None and (folder / MEASURES).is_file() and sha256_of(folder / MEASURES) == recorded:
            return recorded
        lists = (read_parquet(folder / f"{shard}.parquet") for shard in shards)
        measured = measure_lists(lists, self.log, self.day, top=self._length) if shards else NO_LISTS
        tonight = self._tonight(measured.model_copy(update={"fallback": self.late_users}))
        return keep_json(tonight.model_dump(mode="json"), folder / MEASURES)

    def audited(self, shards: Sequence[str]) -> list[Finding]:
        """All audits of a whole and measured attempt; the findings are kept beside its manifest.

        Args:
            shards: The attempt's parts of users.
        """
        folder = self.attempt.folder
        tonight = Measures.model_validate(read_json(folder / MEASURES, what="measures"))
        ranked = [shard for shard in shards if shard not in self.late]
        sample = read_parquet(folder / f"{ranked[0]}.parquet") if ranked else pl.DataFrame()
        findings = audit(self._compared(tonight, sample), self.config.night.audits)
        write_json([asdict(finding) for finding in findings], folder / AUDITS)
        return findings

    def kept_measures(self) -> Measures:
        """What was measured of the attempt; of its inputs alone where it was not audited whole."""
        return measures_of(self.attempt) or self._tonight(NO_LISTS)

    def kept_findings(self) -> list[Finding]:
        """The audits of an attempt that went live; none where they are not there, or not readable."""
        try:
            return [Finding(**finding) for finding in read_json(self.attempt.folder / AUDITS, what="audits")]
        except (IntegrityError, TypeError):
            return []

    def _tonight(self, lists: ListMeasures) -> Measures:
        rules = hashlib.sha256(json.dumps(self.rules, sort_keys=True).encode()).hexdigest()
        return Measures(day=str(self.attempt.day), version=self.version, rules=rules, inputs=self._inputs, lists=lists)

    @cached_property
    def _inputs(self) -> InputMeasures:
        return measure_inputs(self.log, self.users, self.day, self.config)

    @property
    def _length(self) -> int:
        """Items that a list can have; lists that are supplied are as long as they are."""
        candidates = self.config.candidates
        return 1 if candidates.source == "logged" else min(self.config.night.top, candidates.max_per_request)

    def _compared(self, tonight: Measures, sample: pl.DataFrame | None = None) -> Compared:
        """The night beside those that went live before it, of its day or an earlier one."""
        attempt = self.attempt
        earlier = [each for each in published_attempts(attempt.root) if each != attempt and each.day <= attempt.day]
        kept = ((each, measures) for each in earlier if (measures := measures_of(each)) is not None)
        before = list(islice((night for night in kept if not night[1].lists.fallback), NIGHTS))
        lists = pl.DataFrame() if sample is None else sample
        return Compared(
            tonight=tonight,
            before=[measures for _, measures in before],
            lists=lists,
            last_lists=_lists_of(before[0][0], lists) if before and len(lists) else None,
            supplied_lists=self.config.candidates.source == "logged",
            eve_is_expected=_eve_is_expected(attempt.day, self.config),
        )


def audits_table(findings: Sequence[Finding]) -> Table:
    """Every audit with what it allows and what it found."""
    table = Table("audit", "verdict", "limit", "found", title="Audits of the night")
    for finding in findings:
        style = {"blocked": "bold red", "warned": "yellow"}.get(finding.verdict)
        table.add_row(finding.audit, finding.verdict, f"{finding.limit:g}", finding.words, style=style)
    return table


def measures_of(attempt: Attempt) -> Measures | None:
    """What was measured of an attempt; None where that is not there, or not readable, which is said."""
    path = attempt.folder / MEASURES
    if not path.is_file():
        return None
    try:
        if attempt.recorded(MEASURES) in {None, sha256_of(path)}:  # None: written by an earlier version
            return Measures.model_validate(read_json(path, what="measures"))
    except (IntegrityError, ValidationError):
        pass  # and said like measures that were altered
    say("measures that cannot be read are left out of the audits", file=str(path))
    return None


def _lists_of(attempt: Attempt, sample: pl.DataFrame) -> pl.DataFrame | None:
    """The rows of a sample's users in an earlier attempt; None where it is damaged, or its ids are of another type."""
    try:
        shards = Published(attempt, attempt.verify()).shards
    except IntegrityError:
        say("lists that are damaged are left out of the audits", attempt=attempt.name)
        return None
    if not shards:
        return None
    rows = pl.scan_parquet(shards, glob=False, hive_partitioning=False)
    schema = rows.collect_schema()
    if any(schema[name] != sample.schema[name] for name in ("user_id", "item_id")):
        return None
    users = sample["user_id"].unique()
    return rows.filter(pl.col("user_id").is_in(users.implode())).select("user_id", "rank", "item_id", "score").collect()


def _eve_is_expected(day: date, config: Config) -> bool | None:
    """Whether the configuration expects events on the day before; None where it does not say."""
    expected = config.data.events.expected
    if expected is None:
        return None
    return bool(get_args(Weekday)[(day - timedelta(days=1)).weekday()] in expected)
