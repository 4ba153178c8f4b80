"""Candidates of Online Retail: recall of each generator and of all together, cut at exactly K, against the bar.

    NIGHTRANK_DATA=... python tests/benchmarks/candidates.py [--to FOLDER] [--set KEY=VALUE ...]

Protocol: a request is a (customer, day), as of 00:00 of that day; the truth is every product bought that day; requests
of customers with a past in the last 28 days. The cut is fitted on the warm-up, which ends before the ranker's days.
Recall is the mean over requests. Without NIGHTRANK_DATA the log is downloaded (extra `download`).
"""

import json
import sys
import time

import polars as pl
from retail import project

from encoders.model import InterestModel
from features.candidates import histories
from features.recall import recall_by_source, seen_items
from features.requests import requests_between, truth_of
from features.split import Split
from pipelines import report
from pipelines.chain import Chain
from pipelines.check import read_inputs

BAR, AIM = 0.68, 0.75  # of recall@200


def main() -> int:
    """Run and print the tables; the exit status says whether the bar was reached."""
    config, _ = project(__doc__)
    log = read_inputs(config).log
    split = Split.of(log, config.timeline, config.labels)
    generators = Chain(log, config, InterestModel.start(config.encoder)).assembler.generators
    asked = requests_between(log, split.test.start, split.test.closed_end)
    history = histories(log, asked, config.candidates)
    asked = asked.join(history, on="request", how="semi", maintain_order="left")
    truth, seen = truth_of(asked, log, config.labels), seen_items(log, split.test.start)
    start = time.monotonic()
    reached = 0.0
    for name in ("best rank", "fitted cut"):
        if name == "fitted cut":
            lessons = requests_between(log, split.warm_up.start, split.warm_up.closed_end)
            generators.cut = generators.fit_cut(lessons, truth_of(lessons, log, config.labels))
        union = generators.scored_union(asked, history)
        table = recall_by_source(asked, history, union, truth, seen=seen)
        rows = table.with_columns(at=pl.format("@{}", "k")).pivot("at", index=["source", "slice"], values="recall")
        report.show(f"{name}: {asked.height} requests, {union.height / asked.height:.0f} candidates each, uncut")
        for row in rows.iter_rows():
            cells = "".join("     -  " if value is None else f"{value:8.4f}" for value in row[2:])
            report.show(f"{row[0]:22}{row[1]:14}{cells}")
        together = table.filter(source="together", slice="all", k=200)
        reached = together["recall"].item()
    report.show(f"{'reached' if reached >= BAR else 'MISSED '}  recall@200 {reached:.4f} >= {BAR} (aim {AIM})")
    sys.stdout.write(json.dumps({"recall@200": reached, "seconds": round(time.monotonic() - start)}) + "\n")
    return 0 if reached >= BAR else 1


if __name__ == "__main__":
    sys.exit(main())
