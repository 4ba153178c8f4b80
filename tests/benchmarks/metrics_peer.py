"""ranx's metrics of a table of lists; needs nothing of ours.

    python metrics_peer.py WAY FOLDER CHUNK METRIC...

WAY is objects (`Qrels` and `Run` from dictionaries, as its documentation prefers) or arrays (what they hold inside:
sorted arrays of equal lengths). FOLDER holds `rankings.parquet` and `truth.parquet`, each sorted by request, the same
number of rows for each. CHUNK requests are read and judged at a time, so that memory is flat; compiling is not timed.
Prints the mean of each metric, wall and processor seconds of reading and judging, and the largest resident set (bytes).
"""

import json
import resource
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
from ranx import Qrels, Run, evaluate

WARM_UP = 100
Arrays = tuple[np.ndarray, np.ndarray]


def chunks(folder: Path, requests: int, most: int | None = None) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
    """Rankings and truth of some requests at a time."""
    tables = [pl.scan_parquet(folder / f"{name}.parquet") for name in ("rankings", "truth")]
    n_requests = tables[1].select(pl.col("request_id").max()).collect().item() + 1
    for first in range(0, most or n_requests, requests):
        rows = pl.col("request_id").is_between(first, min(first + requests, most or n_requests) - 1)
        yield tuple(table.filter(rows).collect() for table in tables)


def arrays(frame: pl.DataFrame, value: str) -> np.ndarray:
    """(requests, rows, 2) item and value, the highest value first."""
    rows = len(frame) // frame["request_id"].n_unique()
    item, values = (frame[name].to_numpy().reshape(-1, rows) for name in ("item_id", value))
    order = np.argsort(-values.astype(np.float64), axis=1)
    return np.stack([np.take_along_axis(each, order, axis=1).astype(np.float64) for each in (item, values)], axis=2)


def nested(frame: pl.DataFrame, value: str) -> dict[str, dict[str, float]]:
    """A dictionary of dictionaries."""
    grouped = frame.group_by("request_id", maintain_order=True).agg("item_id", value)
    return {
        str(request): dict(zip(map(str, items), values, strict=True)) for request, items, values in grouped.iter_rows()
    }


def judged(way: str, rankings: pl.DataFrame, truth: pl.DataFrame, metrics: list[str]) -> np.ndarray:
    """Sum of each metric over the requests."""
    if way == "arrays":
        means = evaluate(arrays(truth, "label"), arrays(rankings, "score"), metrics, return_mean=False)
        return np.array([means[name].sum() for name in metrics])
    run = Run.from_dict(nested(rankings, "score"))
    means = evaluate(Qrels.from_dict(nested(truth, "label")), run, metrics, save_results_in_run=False)
    return np.array([means[name] for name in metrics]) * len(run)


def main() -> None:
    """Judge, and say what it took."""
    way, folder, chunk, *metrics = sys.argv[1:]
    warnings.filterwarnings("ignore", message="unsafe cast from uint64 to int64")
    for tables in chunks(Path(folder), WARM_UP, WARM_UP):
        judged(way, *tables, metrics)
    start, cpu = time.perf_counter(), time.process_time()
    sums, requests = np.zeros(len(metrics)), 0
    for rankings, truth in chunks(Path(folder), int(chunk)):
        sums += judged(way, rankings, truth, metrics)
        requests += truth["request_id"].n_unique()
    facts = {
        "seconds": time.perf_counter() - start,
        "cpu_seconds": time.process_time() - cpu,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "means": dict(zip(metrics, (sums / requests).tolist(), strict=True)),
    }
    sys.stdout.write(json.dumps(facts) + "\n")


if __name__ == "__main__":
    main()
