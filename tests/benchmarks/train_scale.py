"""`train` on ever more events of one simulated shop: its peak memory, and its time beyond reading, folding and fits.

    python tests/benchmarks/train_scale.py [--users 100_000 1_000_000] [--to FOLDER]

Each user has about 100 events in 112 days, so that these are 10 and 100 million events. A process of two threads runs
`nightrank train` with the default numbers of requests that are learned from. Generating is not counted, and kept in the
folder that `--to` or NIGHTRANK_BENCH names: some gigabytes. The bars: at most 8 GB for 100 million events; time beyond
reading, folding and fits at most 1.3x from the fewest events to the most.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from large_shop import LargeShop, events_of, write_project
from night_scale import spent_line
from processes import kept_in, run
from product_stages import time_product
from stages import Stages, by_stage

SHOP = LargeShop(visits_a_day=0.5)
SETTINGS: dict[str, object] = {
    "candidates": {"max_per_request": 100},
    "timeline": {"test_days": 14, "valid_days": 14, "ranker_days": 48},
    "encoder": {"head_steps": 20, "steps": 5},
    "output": "out",
}
BEFORE_ROWS = ("reading", "fits")
HUNDRED_MILLION, MOST_BYTES, GROWTH = 100_000_000, 8e9, 1.3
NEARLY = 0.9  # of the events that were meant: as many as the shop's users leave


def main() -> int:
    """Train on each; the exit status says whether the bars were reached."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", type=Path, default=kept_in("train"))
    parser.add_argument(
        "--users", type=lambda text: int(text.replace("_", "")), nargs="+", default=[100_000, 1_000_000]
    )
    parser.add_argument("--job", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.job:
        sys.stdout.write(json.dumps(job(arguments.job)) + "\n")
        return 0
    trainings = {}
    for users in sorted(arguments.users):
        config = write_project(SHOP, arguments.to, users, SETTINGS)
        shutil.rmtree(config.parent / "out", ignore_errors=True)
        events = events_of(config.parent)
        trainings[events] = run([sys.executable, "-P", __file__, "--job", str(config)])
        sys.stderr.write("\n".join(training_lines(users, events, trainings[events])) + "\n")
    bars = judged(trainings)
    for bar, reached in bars.items():
        sys.stderr.write(f"{'reached' if reached else 'MISSED '}  {bar}\n")
    sys.stdout.write(json.dumps({"trainings": trainings, "bars": bars}) + "\n")
    return 0 if all(bars.values()) else 1


def job(config: Path) -> dict[str, Any]:
    """One training, in this process."""
    from pipelines.cli.app import app

    stages = Stages()
    time_product(stages)
    with stages.running():
        app(["train", "--config", str(config)], standalone_mode=False)
    return stages.facts()


def seconds_beyond(training: Mapping[str, Any]) -> float:
    """Time that is neither reading, folding nor fits."""
    return sum(of["seconds"] for name, of in by_stage(training["spent"]).items() if name not in BEFORE_ROWS)


def training_lines(users: int, events: int, training: Mapping[str, Any]) -> list[str]:
    """A training for people: its figures, its stages, and the parts of them."""
    seconds = sum(of["seconds"] for of in training["spent"].values())
    words = (
        f"{events} events of {users} users: {seconds:.1f} s, {seconds_beyond(training):.1f} of them beyond reading, "
        f"folding and fits; peak {training['peak_rss'] / 1e9:.2f} GB"
    )
    spent = sorted(training["spent"].items(), key=lambda pair: -pair[1]["seconds"])
    return [words, *(spent_line(name, of, users) for name, of in spent)]


def judged(trainings: Mapping[int, Mapping[str, Any]]) -> dict[str, bool]:
    """Which bars were reached, by what they say; that of memory only where there were so many events."""
    few, many = min(trainings), max(trainings)
    bars = {}
    if many > few:
        growth = seconds_beyond(trainings[many]) / seconds_beyond(trainings[few])
        bars[f"time beyond reading, folding and fits: {growth:.2f}x <= {GROWTH}x"] = growth <= GROWTH
    if many >= NEARLY * HUNDRED_MILLION:
        peak = trainings[many]["peak_rss"]
        bars[f"{many} events in {peak / 1e9:.2f} GB <= {MOST_BYTES / 1e9:.0f} GB"] = peak <= MOST_BYTES
    return bars


if __name__ == "__main__":
    sys.exit(main())
