"""How often the audits of a night's inputs cry wolf: every trading day of two real logs, replayed.

    NIGHTRANK_DATA=... python tests/benchmarks/audit_replay.py [online-retail complete-journey]

Each night knows the log as it was at its cut-off, and is compared with the nights that passed before it, as `score`
does. Nights that follow no trading day are left out. Only what is measured of inputs is replayed: no list is made, and
lists stay the same from night to night. The bar: at most 1 % of the nights are blocked.
"""

import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from features.log.event_log import EventLog, date_of
from pipelines.base.config import Config, load_config
from pipelines.inputs.check import read_inputs
from pipelines.night.audits import Compared, Finding, audit, blocking
from pipelines.night.measures import ListMeasures, Measures, measure_inputs
from pipelines.verbs.datasets import load_dataset
from pipelines.verbs.project import write_dataset

BAR = 0.01
_NIGHTS = 7
_NO_LISTS = pl.DataFrame(schema={"user_id": pl.String, "score": pl.Float64})


def main() -> int:
    """Replay the logs that are named; the exit status says whether the bar was reached on each."""
    reached = True
    for name in sys.argv[1:] or ("online-retail", "complete-journey"):
        with tempfile.TemporaryDirectory(prefix="nightrank-replay-") as folder:
            config = load_config(write_dataset(load_dataset(name), Path(folder)))
            nights = list(replayed(read_inputs(config).log, config))
        blocked = {day: blocking(findings) for day, findings in nights if blocking(findings)}
        warned = Counter(finding.audit for _, findings in nights for finding in findings if finding.verdict == "warned")
        share = len(blocked) / len(nights)
        reached &= share <= BAR
        sys.stdout.write(
            f"{name}: {len(blocked)} of {len(nights)} nights blocked ({share:.2%}); warned: {dict(warned)}\n"
        )
        for day, findings in blocked.items():
            sys.stdout.write(f"  {day}  " + "; ".join(f"{each.audit}: {each.words}" for each in findings) + "\n")
    return 0 if reached else 1


def replayed(log: EventLog, config: Config) -> Iterator[tuple[str, list[Finding]]]:
    """Each trading day's night, and what its audits found."""
    days, _ = log.events_a_day
    before: list[Measures] = []
    for day in (int(day) for day in days[1:]):
        known = log.before(day)
        users = known.active_users
        lists = ListMeasures(
            lists=len(users),
            rows=20 * len(users),
            full=len(users),
            wrong=0,
            equal=0,
            shown=log.items.height,
            new_rows=0,
            deciles=(),
            categories={},
        )
        tonight = Measures(
            day=str(date_of(day)),
            version="replayed",
            rules="",
            inputs=measure_inputs(known, users, day, config),
            lists=lists,
        )
        findings = audit(Compared(tonight=tonight, before=before[:_NIGHTS], lists=_NO_LISTS), config.night.audits)
        yield tonight.day, findings
        if not blocking(findings):
            before.insert(0, tonight)


if __name__ == "__main__":
    sys.exit(main())
