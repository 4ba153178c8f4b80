"""Candidates of Online Retail: recall of each generator and of all together, cut at exactly K, against the bar.

    NIGHTRANK_DATA=... python tests/benchmarks/candidates.py [--validate] [--to FOLDER] [--set KEY=VALUE ...]

Protocol: a request is a (customer, day), as of 00:00 of that day; the truth is every product bought that day; requests
of customers with a past in the last 28 days. The cut is fitted on the warm-up, which ends before the ranker's days.
Recall is the mean over requests. Without NIGHTRANK_DATA the log is downloaded (extra `download`).
"""

import sys

import polars as pl
from outcome import command_line, figure
from shops import project

from encoders.model import InterestModel
from features.candidates.recall import recall_by_source, seen_items
from features.candidates.union import histories
from features.requests.engaged import requests_between, truth_of
from features.requests.split import Split
from pipelines.base import report
from pipelines.inputs.check import read_inputs
from pipelines.training.chain import Chain

BAR = 0.68


def main() -> int:
    """Run and print the tables; the exit status says whether the bar was reached."""
    parser = command_line(__doc__)
    parser.set_defaults(data="online-retail", households=None)
    with project(parser, name="{}-candidates") as (config, trial):
        log = read_inputs(config).log
    split = Split.of(log, config.timeline, config.labels)
    generators = Chain(log, config, InterestModel.start(config.encoder)).assembler.generators
    requests = requests_between(log, split.test.start, split.test.closed_end)
    history = histories(log, requests, config.candidates)
    requests = requests.join(history, on="request", how="semi", maintain_order="left")
    truth, seen = truth_of(requests, log, config.labels), seen_items(log, split.test.start)
    figures = {}
    for name in ("best rank", "fitted cut"):
        if name == "fitted cut":
            lessons = requests_between(log, split.warm_up.start, split.warm_up.closed_end)
            generators.cut = generators.fit_cut(lessons, truth_of(lessons, log, config.labels))
        union = generators.scored_union(requests, history)
        table = recall_by_source(requests, history, union, truth, seen=seen)
        rows = table.with_columns(at=pl.format("@{}", "k")).pivot("at", index=["source", "slice"], values="recall")
        report.show(f"{name}: {requests.height} requests, {union.height / requests.height:.0f} candidates each, uncut")
        for row in rows.iter_rows():
            cells = "".join("     -  " if value is None else f"{value:8.4f}" for value in row[2:])
            report.show(f"{row[0]:22}{row[1]:14}{cells}")
        recalls = table.filter(source="together", slice="all").select("k", "recall").iter_rows()
        figures |= {f"together by {name}, all, recall@{k}": figure(recall) for k, recall in recalls}
    return trial.conclude(figures, {}, least={"together by fitted cut, all, recall@200": BAR})


if __name__ == "__main__":
    sys.exit(main())
