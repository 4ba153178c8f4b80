"""A log by its protocol: every system's NDCG on the test window, against the bars of the project.

    NIGHTRANK_DATA=... python tests/benchmarks/quality.py online-retail|complete-journey|ifdb|wikispeedia [--validate]
        [--seed N] [--households N] [--to FOLDER] [--set KEY=VALUE ...]

Protocol of the purchase logs: a request is a (customer, day) or (household, day), as of 00:00 of that day; the truth is
every product bought that day, over the whole catalogue; the last 28 days are the test, the 14 before choose. `ifdb` is
judged alike over its last 180 days. `wikispeedia` has logged lists: a request is an open page, ranked are its links.
`--validate` cuts the test off the log, and scores the days before it. `--households` keeps so many of the Complete
Journey, for a quick look. Peers that have ranked the same requests (`make bench-peers`) are judged too: the full system
must lie above the best of them.
Without NIGHTRANK_DATA Online Retail is downloaded from its public address (extra `download`).
"""

import sys

from outcome import command_line, difference, figure
from peer_results import peer_results
from scoreboard import Difference, Figure
from shops import LOGS, project

from pipelines.base import report
from pipelines.evaluation.evaluate import FULL, Evaluation
from pipelines.evaluation.external import read_scores
from pipelines.inputs.check import read_inputs
from pipelines.registry.register import register
from pipelines.registry.tracking import Tracking
from pipelines.training.train import train

METRIC = "ndcg@10"
LEAST = {
    "online-retail": {"all": 0.325, "new-to-user": 0.105},
    "complete-journey": {"new-to-user": 0.025},
    "ifdb": {},
    "wikispeedia": {"all": 0.43},
}
_OF_PURCHASES = (
    f"{FULL} over personal frequency, all, {METRIC}",
    f"fine-tuned text over zero-shot text, new-to-user, {METRIC}",
)
_WITHOUT_TEXT = f"{FULL} over behaviour-only ranker, all, {METRIC}"
LIFTS = {
    "online-retail": _OF_PURCHASES,
    "complete-journey": _OF_PURCHASES,
    "ifdb": (_WITHOUT_TEXT, f"{FULL} over behaviour-only ranker, cold item, {METRIC}"),
    "wikispeedia": (_WITHOUT_TEXT, f"{FULL} over fine-tuned text, all, {METRIC}"),
}


def main() -> int:
    """Run, print the tables and the bars; the exit status says whether all were reached."""
    parser = command_line(__doc__)
    parser.add_argument("data", choices=LOGS)
    parser.add_argument("--households", type=int, default=None)
    with project(parser, peers=True) as (config, trial):
        setup = trial.setup
        inputs = read_inputs(config)
        peers = {} if setup.validation else read_scores([f"{of}={at}" for of, at in peer_results(setup.data).items()])
        with Tracking(config).run() as run:
            registered = register(train(inputs.log, config, run.series), inputs, config, run, external=peers)
    report.show(*report.systems_table(registered.evaluation.as_json(), k=10))
    figures, pairs = figures_of(registered.evaluation)
    least = {f"{FULL}, {slice_name}, {METRIC}": bar for slice_name, bar in LEAST[setup.data].items()}
    best = [max(peers, key=lambda name: figures[f"{name}, all, {METRIC}"].mean)] if peers else []
    above_zero = [*LIFTS[setup.data], *(f"{FULL} over {name}, all, {METRIC}" for name in best)]
    return trial.conclude(figures, pairs, least=least, above_zero=above_zero)


def figures_of(evaluation: Evaluation) -> tuple[dict[str, Figure], dict[str, Difference]]:
    """Every system's figure by slice, the candidates' recall, and the comparisons."""
    facts = evaluation.as_json()
    figures = {
        f"{row['system']}, {row['slice']}, {METRIC}": figure(row["mean"], row["low"], row["high"])
        for row in facts["systems"]
        if row["metric"] == METRIC and row["mean"] is not None
    }
    recall = facts["candidate_recall"].items()
    figures |= {f"candidates, {name}, recall": figure(share) for name, share in recall if share is not None}
    pairs = {
        f"{row['system']} over {row['against']}, {row['slice']}, {METRIC}": difference(
            row["difference"], row["low"], row["high"]
        )
        for row in facts["comparisons"]
        if row["metric"] == METRIC and row["difference"] is not None
    }
    return figures, pairs


if __name__ == "__main__":
    sys.exit(main())
