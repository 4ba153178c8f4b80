"""Texts to vectors: against sentence-transformers, and a night with few new texts against encoding all.

    NIGHTRANK_DATA=... python tests/benchmarks/encoder_speed.py [--texts 1000] [--runs 3] [--modes fp32 bf16]
        [--ours fp32 bf16]

(a) Texts of Online Retail and of the Complete Journey under all-MiniLM-L6-v2 with two threads: ours (as configured by
default) and `SentenceTransformer.encode` (`encoder_peer.py`; fp32, bf16 and, where the environment has them, onnx and
openvino), a process each, in turns. Seconds are of tokenising and encoding alone, after a warm-up, without imports and
loading. `--ours` sets our other precisions beside them (ours-fp32, ours-bf16); no bar is on these. Ratios are of
medians, of wall time and of processor time; the bars hold for the latter, which moves less on a machine that works for
others too. Vectors must agree to cosine 0.9995 with the peer's fp32.

(b) A night of which 1 % of the texts are new, through the vector store on disk, against encoding all: wall time, over
all texts of both data sets, since a few new texts cost as much as a batch of 64 of each padded length.

sentence-transformers is no dependency: it runs in the environment whose Python BENCH_PYTHON names, or in one that is
made below `--to`. Without NIGHTRANK_DATA Online Retail is downloaded (extra `download`).
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
from processes import THREADS, peer_python, run

from encoders.config import EncoderConfig
from encoders.folders import resolve
from encoders.model import InterestModel
from features.tables.text import item_texts
from pipelines.base.config import load_config
from pipelines.inputs.tables import read_raw
from pipelines.stores.vectors import VectorStore
from pipelines.verbs.datasets import load_dataset
from pipelines.verbs.project import write_dataset

HERE = Path(__file__).resolve().parent
OURS = (sys.executable, "-P", __file__)  # -P: or this file would stand for the package of its name
PACKAGES = ("sentence-transformers[train]", f"torch=={torch.__version__.partition('+')[0]}")
BAR_FP32, BAR_BEST, BAR_NIGHT, LEAST_COSINE = 1.6, 1.0, 30.0, 0.9995
WARM_UP = 256
OTHERS = {
    "fp32": EncoderConfig(precision="fp32"),
    "bf16": EncoderConfig(precision="bf16"),
}


def main() -> int:
    """Run both; the exit status says whether the bars were reached."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", type=Path, default=Path(tempfile.gettempdir()) / "nightrank-bench-encoder")
    parser.add_argument("--texts", type=int, default=1000, help="Of each data set.")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--modes", nargs="+", default=["fp32", "bf16"])
    parser.add_argument("--ours", nargs="*", default=[], choices=sorted(OTHERS))
    parser.add_argument("--job", nargs=3, metavar=("KIND", "TEXTS", "OUT"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.job:
        kind, texts, out = arguments.job
        jobs = {"embed": embed, "night": night} | {
            name: partial(embed, config=config) for name, config in OTHERS.items()
        }
        measured = jobs[kind](json.loads(Path(texts).read_text(encoding="utf-8")), Path(out))
        sys.stdout.write(json.dumps(measured) + "\n")
        return 0
    arguments.to.mkdir(parents=True, exist_ok=True)
    texts = arguments.to / "texts.json"
    texts.write_text(json.dumps(catalogue(arguments.texts, arguments.to)), encoding="utf-8")
    facts, bars = against_peers(arguments, texts)
    texts.write_text(json.dumps(catalogue(1 << 20, arguments.to)), encoding="utf-8")
    nights = run([*OURS, "--job", "night", str(texts), str(arguments.to)])
    bars[f"a night with 1 % new over encoding all: {nights['ratio']:.0f}x"] = nights["ratio"] >= BAR_NIGHT
    for bar, reached in bars.items():
        sys.stderr.write(f"{'reached' if reached else 'MISSED '}  {bar}\n")
    sys.stdout.write(json.dumps({"systems": facts, "night": nights, "bars": bars}) + "\n")
    return 0 if all(bars.values()) else 1


def catalogue(count: int, folder: Path) -> list[str]:
    """Some texts of each data set, as the encoder reads them."""
    texts = []
    for name in ("online-retail", "complete-journey"):
        config = load_config(write_dataset(load_dataset(name), folder / name))
        items = read_raw(config.data.items, name="items").frame
        distinct = item_texts(items, config.data.items.text).unique().sort()
        texts += distinct.sample(min(count, len(distinct)), seed=0).to_list()
    return texts


def against_peers(arguments: argparse.Namespace, texts: Path) -> tuple[dict[str, dict[str, float]], dict[str, bool]]:
    """Medians of each system, and the bars."""
    python, model = peer_python(arguments.to, PACKAGES), resolve(EncoderConfig().model)
    commands = {"ours": [*OURS, "--job", "embed", str(texts), str(arguments.to / "ours.npy")]}
    for name in arguments.ours:
        commands[f"ours-{name}"] = [*OURS, "--job", name, str(texts), str(arguments.to / f"ours-{name}.npy")]
    for mode in arguments.modes:
        out = str(arguments.to / f"{mode}.npy")
        commands[mode] = [python, str(HERE / "encoder_peer.py"), mode, model, str(texts), out, str(THREADS)]
    took: dict[str, list[dict[str, float]]] = {name: [] for name in commands}
    for _ in range(arguments.runs):
        for name, command in commands.items():
            took[name].append(run(command))
    facts = {
        name: {key: statistics.median(run[key] for run in runs) for key in ("seconds", "cpu_seconds")}
        for name, runs in took.items()
    }
    exact = unit(arguments.to / "fp32.npy")
    for name, fact in facts.items():
        fact["least_cosine"] = float((unit(arguments.to / f"{name}.npy") * exact).sum(1).min())
        fact["wall_ratio"] = fact["seconds"] / facts["ours"]["seconds"]
        fact["cpu_ratio"] = fact["cpu_seconds"] / facts["ours"]["cpu_seconds"]
        sys.stderr.write(f"{name:10}" + "  ".join(f"{key} {value:.5g}" for key, value in fact.items()) + "\n")
    eligible = [name for name in facts if not name.startswith("ours") and facts[name]["least_cosine"] >= LEAST_COSINE]
    best = min(eligible, key=lambda name: facts[name]["cpu_seconds"])
    cosine = facts["ours"]["least_cosine"]
    return facts, {
        f"ours over fp32: {facts['fp32']['cpu_ratio']:.2f}x >= {BAR_FP32}": facts["fp32"]["cpu_ratio"] >= BAR_FP32,
        f"ours over the best ({best}): {facts[best]['cpu_ratio']:.2f}x >= {BAR_BEST}": facts[best]["cpu_ratio"]
        >= BAR_BEST,
        f"cosine to fp32 {cosine:.5f} >= {LEAST_COSINE}": cosine >= LEAST_COSINE,
    }


def embed(texts: list[str], out: Path, config: EncoderConfig | None = None) -> dict[str, float]:
    """Ours, timed."""
    torch.set_num_threads(THREADS)
    model = InterestModel.start(config or EncoderConfig())
    model.embed("zero_shot", model.tokenise(texts[:WARM_UP]))
    start, cpu = time.perf_counter(), time.process_time()
    vectors = model.embed("zero_shot", model.tokenise(texts))
    took = {"seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - cpu}
    np.save(out, vectors)
    return took


def night(texts: list[str], folder: Path) -> dict[str, float]:
    """The first night through the store, and one with 1 % of the texts changed."""
    torch.set_num_threads(THREADS)
    model = InterestModel.start(EncoderConfig())
    model.embed("zero_shot", model.tokenise(texts[:WARM_UP]))
    changed = [f"{text} new" if number % 100 == 0 else text for number, text in enumerate(texts)]
    seconds = []
    with tempfile.TemporaryDirectory(dir=folder) as root:
        for some in (texts, changed):
            start = time.perf_counter()
            store = VectorStore(Path(root), model.digest("zero_shot"))
            store.vectors(some, lambda new: model.embed("zero_shot", model.tokenise(new)))
            seconds.append(time.perf_counter() - start)
    return {"texts": len(texts), "new": store.encoded, "all_s": seconds[0], "night_s": seconds[1]} | {
        "ratio": seconds[0] / seconds[1]
    }


def unit(path: Path) -> np.ndarray:
    """Unit vectors from a file."""
    vectors = np.load(path).astype(np.float64)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


if __name__ == "__main__":
    sys.exit(main())
