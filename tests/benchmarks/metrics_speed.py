"""Metrics with intervals over a million requests of a hundred candidates: against ranx.

    python tests/benchmarks/metrics_speed.py [--requests 1_000_000] [--runs 3] [--to FOLDER]

Simulated lists without equal scores, five graded positives a request of which some were not retrieved, five requests a
user. Ours (`ranker.metrics.per_request`, and `ranker.compare.clustered_intervals` of each metric) and ranx
(`metrics_peer.py`), a process each, in turns, with two threads. Both read the same Parquet files and give NDCG, recall,
precision, hit rate, MRR and MAP at 5, 10 and 100, which must agree to six digits; the intervals are ours alone.
ranx is run as its documentation prefers (objects), 100,000 requests at a time, since more do not fit; and on sorted
arrays (arrays), which its metrics take too. Seconds are of reading and judging, without imports and ranx's compiling;
peaks are the largest resident set of a process. Ratios are of medians of processor time, which moves less on a machine
that works for others too; the bar is on those of objects, the arrays' are told beside.

ranx is no dependency of the package: it runs in the environment whose Python BENCH_PYTHON names, or in one that is made
below `--to`.
"""

import argparse
import json
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from processes import peer_python, run

from ranker.compare import clustered_intervals
from ranker.metrics import per_request

HERE = Path(__file__).resolve().parent
OURS = (sys.executable, "-P", __file__)  # -P: or this file would stand for the package of its name
PACKAGES = ("ranx==0.3.21", f"polars=={pl.__version__}")
BAR, MOST_BYTES, TOLERANCE = 2.0, 4 * 2**30, 1e-6
CHUNK, LENGTH, POSITIVES, CATALOGUE, REQUESTS_A_USER = 100_000, 100, 5, 125, 5
CUTOFFS = (5, 10, 100)
NAMES = {
    "ndcg": "ndcg_burges",
    "recall": "recall",
    "precision": "precision",
    "hit": "hit_rate",
    "mrr": "mrr",
    "map": "map",
}
METRICS = {f"{ours}@{k}": f"{theirs}@{k}" for k in CUTOFFS for ours, theirs in NAMES.items()}


def main() -> int:
    """Run each; the exit status says whether the bars were reached."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", type=Path, default=Path(tempfile.gettempdir()) / "nightrank-bench-metrics")
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--job", type=Path, metavar="FOLDER", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.job:
        sys.stdout.write(json.dumps(ours(arguments.job)) + "\n")
        return 0
    folder = write_tables(arguments.to / str(arguments.requests), arguments.requests)
    peer = [peer_python(arguments.to, PACKAGES), str(HERE / "metrics_peer.py")]
    commands = {"ours": [*OURS, "--job", str(folder)]} | {
        way: [*peer, way, str(folder), str(CHUNK), *METRICS.values()] for way in ("objects", "arrays")
    }
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in commands}
    for _ in range(arguments.runs):
        for name, command in commands.items():
            runs[name].append(run(command))
    return conclude(runs)


def conclude(runs: dict[str, list[dict[str, float]]]) -> int:
    """Print medians and bars."""
    keys = ("seconds", "cpu_seconds", "peak_bytes")
    facts = {name: {key: statistics.median(each[key] for each in some) for key in keys} for name, some in runs.items()}
    for name, fact in facts.items():
        fact["cpu_ratio"] = fact["cpu_seconds"] / facts["ours"]["cpu_seconds"]
        fact["wall_ratio"] = fact["seconds"] / facts["ours"]["seconds"]
        sys.stderr.write(
            f"{name:8} wall {fact['seconds']:7.1f} s  cpu {fact['cpu_seconds']:7.1f} s  "
            f"peak {fact['peak_bytes'] / 2**30:5.2f} GiB  {fact['cpu_ratio']:5.2f}x of our cpu\n"
        )
    means = {name: some[0]["means"] for name, some in runs.items()}
    apart = max(
        abs(means["ours"][one] - means[name][other]) for name in ("objects", "arrays") for one, other in METRICS.items()
    )
    ratios = {way: facts[way]["cpu_ratio"] for way in ("objects", "arrays")}
    peak = facts["ours"]["peak_bytes"]
    bars = {f"ours over ranx's {way}: {ratio:.1f}x >= {BAR}": ratio >= BAR for way, ratio in ratios.items()} | {
        f"peak {peak / 2**30:.2f} GiB < {MOST_BYTES / 2**30:.0f}": peak < MOST_BYTES,
        f"means agree to {apart:.0e} <= {TOLERANCE}": apart <= TOLERANCE,
    }
    for bar, reached in bars.items():
        sys.stderr.write(f"{'reached' if reached else 'MISSED '}  {bar}\n")
    sys.stdout.write(json.dumps({"systems": facts, "bars": bars}) + "\n")
    return 0 if all(bars.values()) else 1


def ours(folder: Path) -> dict[str, object]:
    """Every metric with its interval."""
    start, cpu = time.perf_counter(), time.process_time()
    rankings, truth, users = (pl.read_parquet(folder / f"{name}.parquet") for name in ("rankings", "truth", "users"))
    judged = per_request(rankings, truth, cutoffs=CUTOFFS).join(users, on="request_id", maintain_order="left")
    intervals = clustered_intervals(judged.select(*METRICS), judged["user"])
    return {
        "seconds": time.perf_counter() - start,
        "cpu_seconds": time.process_time() - cpu,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "means": {name: interval.mean for name, interval in intervals.items()},
    }


def write_tables(folder: Path, requests: int) -> Path:
    """The lists, the truth and the users, portion by portion."""
    if (folder / "users.parquet").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    files: dict[str, pq.ParquetWriter] = {}
    for first in range(0, requests, CHUNK):
        request = np.arange(first, min(first + CHUNK, requests), dtype=np.uint32)
        for name, columns in portion(rng, request).items():
            table = pa.table(columns)
            if name not in files:
                files[name] = pq.ParquetWriter(folder / f"{name}.parquet", table.schema)
            files[name].write_table(table)
    for file in files.values():
        file.close()
    users = rng.integers(0, max(requests // REQUESTS_A_USER, 1), size=requests, dtype=np.uint32)
    pl.DataFrame({"request_id": np.arange(requests, dtype=np.uint32), "user": users}).write_parquet(
        folder / "users.parquet"
    )
    return folder


def portion(rng: np.random.Generator, request: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
    """Some requests: a list of the first items of the catalogue, positives anywhere, higher scores for these."""
    count = len(request)
    width = CATALOGUE // POSITIVES
    positive = rng.integers(0, width, size=(count, POSITIVES), dtype=np.uint32) + np.arange(0, CATALOGUE, width)
    label = rng.integers(1, 4, size=(count, POSITIVES), dtype=np.int32)
    item = rng.permuted(np.tile(np.arange(CATALOGUE, dtype=np.uint32), (count, 1)), axis=1)[:, :LENGTH]
    lift = np.zeros((count, CATALOGUE), dtype=np.float32)
    np.put_along_axis(lift, positive.astype(np.int64), 0.1 * label.astype(np.float32), axis=1)
    score = rng.permuted(np.tile(np.arange(LENGTH, dtype=np.float32) / LENGTH, (count, 1)), axis=1)
    score += np.take_along_axis(lift, item.astype(np.int64), axis=1) + item.astype(np.float32) * 1e-5
    return {
        "rankings": {
            "request_id": np.repeat(request, LENGTH),
            "item_id": item.ravel(),
            "score": score.ravel(),
        },
        "truth": {
            "request_id": np.repeat(request, POSITIVES),
            "item_id": positive.astype(np.uint32).ravel(),
            "label": label.ravel(),
        },
    }


if __name__ == "__main__":
    sys.exit(main())
