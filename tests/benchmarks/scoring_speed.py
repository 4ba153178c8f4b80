"""Scoring a million rows end to end, against LightGBM's bare `Booster.predict` on a ready matrix.

    python tests/benchmarks/scoring_speed.py [--requests 10_000] [--runs 3] [--to FOLDER]

Simulated requests of 100 candidates with 40 features (a fifth undefined, half of them counts), and a ranker of 300
trees of 63 leaves. Six ways, a process each, in turns, with two threads:

- float32, float64: `Booster.predict` on a C-ordered matrix of that type, made before the clock starts;
- night: from the table of candidates to each request's ten best, 1,000 requests at a time, as `pipelines.verbs.score`
has it; - evaluation: the same of all requests at once, as `pipelines.evaluation.evaluate` has it; - night_both,
evaluation_both: the same with the default network beside the trees.

Seconds are without imports, reading and making the ready matrix; peaks are the largest resident set of a process, the
table (or matrix) included. The bar: all of ours reach half of the faster bare way, by medians of processor time, which
moves less on a machine that works for others too; the clock is told beside. All without a network must give the same
scores, and night and evaluation the same scores and lists, bit for bit; with the network scores within its tolerance.
"""

import argparse
import hashlib
import json
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import lightgbm as lgb
import numpy as np
import polars as pl
from processes import run

from features.signals.top_k import top_k
from ranker.config import RankerConfig
from ranker.lambdamart import LambdaMart
from ranker.listnet import TOLERANCE
from ranker.listnet_fit import fit_listnet
from ranker.trees_and_network import TreesAndNetwork

TREES_ALONE, BOTH, BARE = ("night", "evaluation"), ("night_both", "evaluation_both"), ("float32", "float64")
OURS = (*TREES_ALONE, *BOTH)
BAR, AIM = 0.5, 0.8
RANKER = "ranker"
LENGTH, TOP, PORTION = 100, 10, 1000
TREES, LEAVES, TAUGHT = 300, 63, 1000
FEATURES = tuple(f"feature_{number:02}" for number in range(40))


def main() -> int:
    """Run each; the exit status says whether the bars were reached."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", type=Path, default=Path(tempfile.gettempdir()) / "nightrank-bench-scoring")
    parser.add_argument("--requests", type=lambda text: int(text.replace("_", "")), default=10_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--job", nargs=2, metavar=("WAY", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.job:
        sys.stdout.write(json.dumps(job(arguments.job[0], Path(arguments.job[1]))) + "\n")
        return 0
    folder = prepared(arguments.to / str(arguments.requests), arguments.requests)
    runs: dict[str, list[dict[str, float]]] = {way: [] for way in (*BARE, *OURS)}
    for _ in range(arguments.runs):
        for way, some in runs.items():
            some.append(run([sys.executable, "-P", __file__, "--job", way, str(folder)]))
    night, evaluation = (np.load(folder / f"{way}.npy") for way in BOTH)
    return conclude(runs, arguments.requests * LENGTH, apart=float(np.abs(night - evaluation).max()))


def conclude(runs: dict[str, list[dict[str, float]]], rows: int, *, apart: float) -> int:
    """Print medians and bars; `apart` is by how much a night's scores and an evaluation's differ with the network."""
    keys = ("seconds", "cpu_seconds", "peak_bytes")
    facts = {way: {key: statistics.median(each[key] for each in some) for key in keys} for way, some in runs.items()}
    least = {key: min(facts[way][key] for way in BARE) for key in keys}
    for way, fact in facts.items():
        fact["cpu_share"] = least["cpu_seconds"] / fact["cpu_seconds"]
        fact["wall_share"] = least["seconds"] / fact["seconds"]
        sys.stderr.write(
            f"{way:15} wall {fact['seconds']:6.2f} s  cpu {fact['cpu_seconds']:6.2f} s  "
            f"{rows / fact['seconds']:8.0f} rows/s  "
            f"peak {fact['peak_bytes'] / 2**30:.2f} GiB  {fact['cpu_share']:.0%} of bare\n"
        )
    same = {
        what: len({each[what] for way in ways for each in runs[way]}) == 1
        for what, ways in (("scores", (*BARE, *TREES_ALONE)), ("lists", TREES_ALONE))
    }
    again = all(len({each["scores"] for each in runs[way]}) == 1 for way in BOTH)
    share = min(facts[way]["cpu_share"] for way in OURS)
    bars = {
        f"{share:.0%} of bare predict >= {BAR:.0%} (aim {AIM:.0%})": share >= BAR,
        "trees alone: the same scores, bit for bit": same["scores"],
        "trees alone: the same lists, bit for bit": same["lists"],
        f"with the network: night and evaluation within {apart:.1e} <= {TOLERANCE:.0e}": apart <= TOLERANCE,
        "with the network: each the same scores in every run, bit for bit": again,
    }
    for bar, reached in bars.items():
        sys.stderr.write(f"{'reached' if reached else 'MISSED '}  {bar}\n")
    sys.stdout.write(json.dumps({"rows": rows, "ways": facts, "bars": bars}) + "\n")
    return 0 if all(bars.values()) else 1


def job(way: str, folder: Path) -> dict[str, float | str]:
    """Score once, and say what it took."""
    files = {path.name: path.read_bytes() for path in (folder / RANKER).iterdir()}
    ranker = TreesAndNetwork.read(files, FEATURES)
    ranker = ranker if way in BOTH else TreesAndNetwork(ranker.forest)
    table = pl.read_parquet(folder / "table.parquet").rechunk()
    work = bare(way, ranker, table) if way in BARE else partial(ranked, way, ranker, table)
    del table
    start, cpu = time.perf_counter(), time.process_time()
    scores, lists = work()
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu
    if way in BOTH:
        np.save(folder / f"{way}.npy", scores)
    return {
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "scores": digest(scores),
        "lists": "" if lists is None else digest(lists.select("request", "rank", "item").to_numpy()),
    }


def bare(way: str, ranker: TreesAndNetwork, table: pl.DataFrame) -> Callable[[], tuple[np.ndarray, None]]:
    """LightGBM's own prediction of a matrix that is ready."""
    matrix = table.select(FEATURES).to_numpy(order="c").astype(way)
    return lambda: (ranker.forest.boosters[0].predict(matrix), None)


def ranked(way: str, ranker: TreesAndNetwork, table: pl.DataFrame) -> tuple[np.ndarray, pl.DataFrame]:
    """Scores of all rows and lists of all requests."""
    most = PORTION * LENGTH if way.startswith("night") else table.height
    scores, lists = [], []
    for start in range(0, table.height, most):
        rows = table.slice(start, most)
        scores.append(ranker.predict(rows))
        lists.append(top_k(rows.select("request", "item", score=pl.Series(scores[-1])), TOP))
    return np.concatenate(scores), pl.concat(lists)


def digest(values: np.ndarray) -> str:
    """Hash of an array's bytes."""
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()


def prepared(folder: Path, requests: int) -> Path:
    """The candidates, and a ranker of as many requests of other ones."""
    if not (folder / RANKER).exists():
        folder.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(0)
        table(rng, requests).write_parquet(folder / "table.parquet")
        taught = table(rng, TAUGHT)
        signal = taught.select(pl.sum_horizontal(pl.col(FEATURES[:8]).fill_nan(0))).to_series().to_numpy()
        lifted = (signal - signal.mean()) / signal.std() + rng.normal(size=len(signal))
        label = np.clip(lifted, 0, 4).astype(np.int32)
        data = lgb.Dataset(taught.select(FEATURES).to_arrow(), label, group=[LENGTH] * TAUGHT)
        params = {"objective": "lambdarank", "num_leaves": LEAVES, "learning_rate": 0.05, "seed": 0, "verbosity": -1}
        booster = lgb.train(params, data, num_boost_round=TREES)
        assert booster.num_trees() == TREES
        forest = LambdaMart((lgb.Booster(model_str=booster.model_to_string()),), FEATURES)
        network = fit_listnet(taught.with_columns(label=label), features=FEATURES, config=RankerConfig(), seed=0)
        (folder / RANKER).mkdir()
        for name, content in TreesAndNetwork(forest, network, share=0.5).files().items():
            (folder / RANKER / name).write_bytes(content)
    return folder


def table(rng: np.random.Generator, requests: int) -> pl.DataFrame:
    """Candidates of some requests: request, item, features (float32, NaN undefined)."""
    rows = requests * LENGTH
    request = np.repeat(np.arange(requests, dtype=np.uint32), LENGTH)
    columns = {"request": request, "item": np.tile(np.arange(LENGTH, dtype=np.uint32), requests)}
    for number, name in enumerate(FEATURES):
        value = rng.poisson(3.0, rows) if number % 2 else rng.normal(size=rows)
        columns[name] = np.where(rng.random(rows) < 0.2, np.nan, value).astype(np.float32)
    return pl.DataFrame(columns)


if __name__ == "__main__":
    sys.exit(main())
