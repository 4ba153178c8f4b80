"""What the demo or a training costs: processor seconds by stage, and the peak of memory that is no file's.

    NIGHTRANK_DATA=... python tests/benchmarks/train_cost.py demo|online-retail|complete-journey|ifdb|wikispeedia
        [--households N] [--to FOLDER] [--set KEY=VALUE ...]

A process of two threads runs `nightrank demo`, or `nightrank train` on the log as `quality.py` configures it. Processor
seconds hardly move where other work runs beside, seconds by the clock do. `--households` makes the demo smaller, for a
quick look. The bars: the demo within 300 s and 3 GB, `ifdb` within 480 processor seconds and 3 GB.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from processes import kept_in, run
from shops import LOGS, dataset_of
from stages import Stages, by_stage

DEMO = "demo"
MOST_BYTES = 3e9
MOST_SECONDS = {DEMO: ("seconds", 300), "ifdb": ("cpu_seconds", 480)}


def main() -> int:
    """Run, and print what it cost; the exit status says whether the bars were reached."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", choices=(DEMO, *LOGS))
    parser.add_argument("--households", type=int, default=None)
    parser.add_argument("--to", type=Path, default=kept_in("train-cost"))
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="KEY=VALUE")
    parser.add_argument("--job", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    folder = arguments.to / arguments.data
    if arguments.job:
        sys.stdout.write(json.dumps(job(arguments.data, folder, arguments.households, arguments.overrides)) + "\n")
        return 0
    shutil.rmtree(folder, ignore_errors=True)
    cost = run([sys.executable, "-P", __file__, *sys.argv[1:], "--job"])
    sys.stderr.write("\n".join(cost_lines(cost)) + "\n")
    bars = judged(arguments.data, cost) if arguments.households is None else {}
    for bar, reached in bars.items():
        sys.stderr.write(f"{'reached' if reached else 'MISSED '}  {bar}\n")
    sys.stdout.write(json.dumps({"data": arguments.data, **cost, "bars": bars}) + "\n")
    return 0 if all(bars.values()) else 1


def job(data: str, folder: Path, households: int | None, overrides: Sequence[str]) -> dict[str, Any]:
    """The demo or a training in this process."""
    from product_stages import time_product

    from pipelines.cli.app import app
    from pipelines.verbs import datasets, demo
    from pipelines.verbs.project import write_dataset

    stages = Stages()
    if data == DEMO:
        datasets.DEMO_HOUSEHOLDS = households or datasets.DEMO_HOUSEHOLDS
        time_product(stages)
        with stages.running():
            demo.run_demo(folder)
        return stages.facts()
    path = write_dataset(dataset_of(data, households), folder)
    time_product(stages)
    with stages.running():
        changes = [part for change in overrides for part in ("--set", change)]
        app(["train", "--config", str(path), *changes], standalone_mode=False)
    return stages.facts()


def cost_lines(cost: Mapping[str, Any]) -> list[str]:
    """For people: the stages, those with the most processor time first, and their parts below each."""
    lines = [_line(f"whole (RSS at most {cost['peak_rss'] / 1e9:.2f} GB)", whole_of(cost))]
    stages = by_stage(cost["spent"])
    for stage in sorted(stages, key=lambda name: -stages[name]["cpu_seconds"]):
        parts = [(name, part) for name, part in cost["spent"].items() if name.partition("/")[0] == stage]
        parts.sort(key=lambda pair: -pair[1]["cpu_seconds"])
        lines.append(_line(f"  {stage}", stages[stage]))
        lines += [_line(f"    {name}", part) for name, part in parts if len(parts) > 1]
    if cost["missing"]:
        lines.append(f"not timed, since they are not there: {', '.join(cost['missing'])}")
    return lines


def whole_of(cost: Mapping[str, Any]) -> dict[str, float]:
    """All stages as one."""
    whole: dict[str, float] = {"seconds": 0, "cpu_seconds": 0, "calls": 1, "peak_anon": 0}
    for of in cost["spent"].values():
        for key in ("seconds", "cpu_seconds"):
            whole[key] += of[key]
        whole["peak_anon"] = max(whole["peak_anon"], of["peak_anon"])
    return whole


def _line(name: str, of: Mapping[str, float]) -> str:
    return (
        f"{name:50} {of['cpu_seconds']:8.1f} processor s {of['seconds']:8.1f} s {of['calls']:6.0f} calls  "
        f"anonymous {of['peak_anon'] / 1e9:5.2f} GB"
    )


def judged(data: str, cost: Mapping[str, Any]) -> dict[str, bool]:
    """Which bars were reached, by what they say."""
    whole, bars = whole_of(cost), {}
    if data in MOST_SECONDS:
        key, most = MOST_SECONDS[data]
        words, peak = "processor s" if key == "cpu_seconds" else "s", whole["peak_anon"]
        bars[f"{data}: {whole[key]:.0f} {words} <= {most}"] = whole[key] <= most
        bars[f"{data}: {peak / 1e9:.2f} GB <= {MOST_BYTES / 1e9:.0f} GB"] = peak <= MOST_BYTES
    return bars


if __name__ == "__main__":
    sys.exit(main())
