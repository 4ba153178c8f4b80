"""Peers in the same harness: other libraries learn what ours learns from, and our judge ranks what they recommend.

    NIGHTRANK_DATA=... python tests/benchmarks/peers/run.py beauty|online-retail [--peers NAME,...]
        [--origins N] [--to FOLDER]

Each library runs in an environment of its own, made on first use below BENCH_FOLDER (`.bench` in the repository), from
the requirements file beside this one; BENCH_PYTHON names a Python that has them all instead. Peers learn once, from
what lies before the test; then each request's history is rolled forward (item-item models sum over it, ALS solves for
its vector, transformers read it) as for all systems here. Requests without history get what most users had. Scores that
are there with the same data, settings and scripts are not made again.

- beauty: leave-one-out, NDCG@10 over all items but the history's. A peer counts where it reaches 90 % of its published
  figure:
  - SASRec .0531 and eSASRec .0523: of RecTools' own authors, on this split ("SASRec+SS", "eSASRec" in the README of
    github.com/blondered/transformer_benchmark, arXiv 2508.06450); settings as in their configuration file, 256 factors
    (their table says 64; chosen on s[-2]), where ten epochs without a better one end it;
  - BERT4Rec .0170: Table 1 of TIGER, arXiv 2305.05065;
  - implicit's models and EASE: no published figure on this split is known to us; shown and not counted.
  implicit's settings were chosen on s[-2].
- online-retail: the requests of the last 28 days, with the settings of beauty. A peer counts as it does there. With
  `--origins N` peers learn as of each of so many cut-offs, and all their lists lie in `online-retail/origins-N`, as
  `nightrank evaluate --origins N --scores NAME=PATH` reads them.
"""

import argparse
import hashlib
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent))

from exchange import Exchange, Retail, beauty, ndcg  # noqa: E402
from peer_results import ROOT, peers_folder  # noqa: E402
from processes import THREADS, peer_python, run  # noqa: E402

from features.log.event_log import date_of  # noqa: E402
from pipelines.base import report  # noqa: E402
from pipelines.evaluation.external import read_scores  # noqa: E402

SHARE = 0.9  # of its published figure that a peer must reach to count
SHOWN = "no published figure, shown and not counted"
SASREC = {
    "n_factors": 256,
    "n_blocks": 1,
    "n_heads": 1,
    "dropout_rate": 0.2,
    "session_max_len": 50,
    "loss": "sampled_softmax",
    "n_negatives": 256,
    "lr": 0.001,
    "batch_size": 128,
    "epochs": 200,
    "patience": 10,
    "max_minutes": 240,
}


@dataclass(frozen=True, slots=True)
class Peer:
    """A model of another library.

    Attributes:
        settings: What it is made with.
        published: Its NDCG@10 on Amazon Beauty, or None.
    """

    settings: dict[str, Any]
    published: float | None = None


PEERS = {
    "implicit-als": Peer({"factors": 256, "regularization": 0.1, "alpha": 10.0, "iterations": 15}),
    "implicit-bm25": Peer({"K": 100, "K1": 0.2, "B": 0.2}),
    "implicit-cosine": Peer({"K": 100}),
    "rectools-ease": Peer({"regularization": 500.0}),
    "rectools-sasrec": Peer(SASREC, 0.0531),
    "rectools-esasrec": Peer(SASREC | {"use_key_padding_mask": True, "ff_factors_multiplier": 4}, 0.0523),
    "rectools-bert4rec": Peer(
        {name: value for name, value in SASREC.items() if name != "n_negatives"}
        | {"loss": "softmax", "n_factors": 64, "n_blocks": 2, "n_heads": 2},
        0.0170,
    ),
}


def main() -> int:
    """Make what scores are missing, judge, print a table and JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", choices=("beauty", "online-retail"))
    parser.add_argument("--peers", default=",".join(PEERS), metavar="NAME,...")
    parser.add_argument("--to", type=Path, default=peers_folder(), help="by default where our benchmarks look for them")
    parser.add_argument("--origins", type=int, default=1, help="cut-offs of online-retail")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    names = arguments.peers.split(",")
    if unknown := sorted({*names} - {*PEERS}):
        parser.error(f"--peers: {', '.join(unknown)} is no peer here. Choose of: {', '.join(PEERS)}.")
    if arguments.origins < 1 or (arguments.origins > 1 and arguments.data == "beauty"):
        parser.error("--origins: 1 or more, and of online-retail alone: beauty has no clocks.")
    if "NIGHTRANK_DATA" not in os.environ:
        parser.error("NIGHTRANK_DATA must name the folder of the data sets.")
    folder = arguments.to / arguments.data
    judged = folder / "judged"
    judged.mkdir(parents=True, exist_ok=True)
    on_beauty = arguments.to / "beauty" / "results.json"
    if arguments.data == "beauty":
        exchange, truth = beauty(Path(os.environ["NIGHTRANK_DATA"]))
        lists = scores(exchange, names, folder, arguments.seed)
        by_request = {name: ndcg(measured, truth) for name, measured in lists.items()}
        for name, measured in by_request.items():
            measured.write_parquet(judged / f"{name}.parquet")
        results = kept(on_beauty) | {name: measured["ndcg@10"].mean() for name, measured in by_request.items()}
        on_beauty.write_text(json.dumps(results), encoding="utf-8")
        printed = {"requests": len(exchange.requests), "ndcg@10": results}
    else:
        retail, *earlier = Retail.read(folder / "project", arguments.origins)
        lists = {
            name: retail.named(measured)
            for name, measured in scores(retail.exchange(), names, folder, arguments.seed).items()
        }
        for name, measured in lists.items():
            measured.write_parquet(judged / f"{name}.parquet")
        if earlier:
            over_all(lists, earlier, folder, arguments.seed)
        facts = retail.judge(read_scores([f"{name}={judged / f'{name}.parquet'}" for name in lists])).as_json()
        report.show(*report.systems_table(facts, k=10))
        printed = {"systems": [row for row in facts["systems"] if row["metric"] == "ndcg@10"]}
    verdicts = {name: verdict(PEERS[name].published, kept(on_beauty).get(name)) for name in names}
    report.show("peer                  N@10 on Beauty  published  counts?")
    for name in names:
        measured, published = kept(on_beauty).get(name), PEERS[name].published
        figures = "".join(
            f"{'-' if value is None else format(value, '.4f'):>{width}}"
            for value, width in ((measured, 14), (published, 11))
        )
        report.show(f"{name:22}{figures}  {verdicts[name]}")
    sys.stdout.write(json.dumps(printed | {"counts": verdicts, "seed": arguments.seed}) + "\n")
    return 0


def over_all(lists: dict[str, pl.DataFrame], earlier: list[Retail], folder: Path, seed: int) -> None:
    """Write each peer's lists of all windows to one file, from those of the last one."""
    rounds = {name: [last] for name, last in lists.items()}
    for window in earlier:
        made = scores(window.exchange(), list(lists), folder / str(date_of(window.first_day)), seed)
        for name, before in made.items():
            rounds[name].append(window.named(before))
    together = folder / f"origins-{len(earlier) + 1}"
    together.mkdir(exist_ok=True)
    for name, each in rounds.items():
        pl.concat(each).write_parquet(together / f"{name}.parquet")


def kept(path: Path) -> dict[str, float]:
    """NDCG@10 on Beauty by peer, as far as it was measured."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def verdict(published: float | None, measured: float | None) -> str:
    """Whether a peer counts.

    >>> verdict(0.05, 0.0451), verdict(0.05, 0.0449), verdict(0.05, None)
    ('yes', 'no, below 0.0450', 'unknown: run beauty first')
    """
    if published is None:
        return SHOWN
    if measured is None:
        return "unknown: run beauty first"
    return "yes" if measured >= SHARE * published else f"no, below {SHARE * published:.4f}"


def scores(exchange: Exchange, names: list[str], folder: Path, seed: int) -> dict[str, pl.DataFrame]:
    """Each peer's lists (request, item, score), made where they are not there."""
    data = exchange.write(folder)
    lists = {}
    for name in names:
        library = name.partition("-")[0]
        script, requirements = HERE / f"{library}_peer.py", HERE / f"requirements-{library}.txt"
        settings = {"settings": PEERS[name].settings, "top": exchange.top, "seen": exchange.seen, "seed": seed}
        made_of = [
            data,
            json.dumps(settings, sort_keys=True),
            script.read_text("utf-8"),
            requirements.read_text("utf-8"),
        ]
        key = hashlib.sha256("\n".join(made_of).encode()).hexdigest()
        out, beside = folder / f"{name}.parquet", folder / f"{name}.json"
        if not out.exists() or not beside.exists() or json.loads(beside.read_text("utf-8"))["key"] != key:
            task = settings | {"name": name, "folder": str(folder), "out": str(out), "threads": THREADS}
            (folder / f"{name}.task.json").write_text(json.dumps(task), encoding="utf-8")
            environments = Path(os.environ.get("BENCH_FOLDER", ROOT / ".bench"))
            python = peer_python(environments / library, ["--requirement", str(requirements)])
            beside.unlink(missing_ok=True)
            output = run([python, str(script), str(folder / f"{name}.task.json")])
            beside.write_text(json.dumps({"key": key, **output, **settings}), encoding="utf-8")
        lists[name] = exchange.filled(pl.read_parquet(out))
    return lists


if __name__ == "__main__":
    sys.exit(main())
