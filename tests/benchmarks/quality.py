"""Online Retail by its protocol: every system's NDCG on the last 28 days, against the bars the project holds itself to.

    NIGHTRANK_DATA=... python tests/benchmarks/quality.py [--to FOLDER] [--set KEY=VALUE ...]

Protocol: a request is a (customer, day), as of 00:00 of that day; the truth is every product bought that day, over the
whole catalogue; the last 28 days are the test, the 14 before choose. Without NIGHTRANK_DATA the log is downloaded from
its public address (extra `download`).
"""

import json
import resource
import sys
import time

from retail import project

from pipelines import report
from pipelines.check import read_inputs
from pipelines.register import register
from pipelines.tracking import Tracking
from pipelines.train import train

BARS = (
    ("full system", "all", 0.300),
    ("full system", "new-to-user", 0.085),
)
LIFTS = (
    ("full system", "personal frequency", "all"),
    ("fine-tuned text", "zero-shot text", "new-to-user"),
)


def main() -> int:
    """Run, print the table and the bars; the exit status says whether all were reached."""
    start = time.monotonic()
    config, folder = project(__doc__)
    inputs = read_inputs(config)
    with Tracking(config).run() as run:
        registered = register(train(inputs.log, config, run.series), inputs, config, run)
    facts = registered.evaluation.as_json()
    report.show(*report.systems_table(facts, k=10))
    judged = registered.evaluation.judged
    bars = {}
    for system, slice_name, least in BARS:
        mean = judged.row(system, slice_name, "ndcg@10")["mean"]
        bars[f"{system}, {slice_name}: ndcg@10 {mean:.4f} >= {least}"] = mean >= least
    for system, against, slice_name in LIFTS:
        pair = judged.pair(system, against, slice_name, "ndcg@10")
        told = f"{pair['difference']:+.4f} [{pair['low']:+.4f}, {pair['high']:+.4f}]"
        bars[f"{system} over {against}, {slice_name}: {told} above 0"] = pair["low"] > 0
    for name, reached in bars.items():
        report.show(f"{'reached' if reached else 'MISSED '}  {name}")
    peak_gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    seconds = time.monotonic() - start
    report.show(f"{seconds:.0f} s, at most {peak_gib:.2f} GiB; tables in {folder}")
    sys.stdout.write(json.dumps({"bars": bars, "seconds": round(seconds), "peak_gib": round(peak_gib, 2)}) + "\n")
    return 0 if all(bars.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
