"""implicit's models on an exchange folder; needs nothing of ours.

    python implicit_peer.py TASK

TASK is the JSON that `run.py` writes: name, folder, out, settings, top, seen, seed, threads. They learn from the counts
of `train.parquet`. Each request of `history.parquet` is then a user of its own: item-item models sum over its history,
ALS solves for its vector (`recalculate_user`); nothing is learned from it.
"""

import json
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import polars as pl
from implicit.als import AlternatingLeastSquares
from implicit.nearest_neighbours import BM25Recommender, CosineRecommender
from scipy.sparse import csr_matrix
from threadpoolctl import threadpool_limits

NEIGHBOURS = {"implicit-bm25": BM25Recommender, "implicit-cosine": CosineRecommender}
PORTION = 1000  # requests at a time


def main() -> None:
    """Fit, recommend, and say what it took."""
    task = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    warnings.filterwarnings("ignore")
    train, history = (pl.read_parquet(Path(task["folder"]) / f"{name}.parquet") for name in ("train", "history"))
    items = train["item"].unique().sort()
    start = time.monotonic()
    with threadpool_limits(1, "blas"):  # as its documentation asks
        if task["name"] == "implicit-als":
            settings = {**task["settings"], "random_state": task["seed"]}
            model, more = AlternatingLeastSquares(**settings, num_threads=task["threads"]), {"recalculate_user": True}
        else:
            model, more = NEIGHBOURS[task["name"]](**task["settings"], num_threads=task["threads"]), {}
        model.fit(counts(train, "user", items)[1], show_progress=False)
        seconds = time.monotonic() - start
        requests, had = counts(history, "request", items)
        more |= {"N": task["top"], "filter_already_liked_items": not task["seen"]}
        recommended(model, requests, had, items.to_numpy(), more).write_parquet(task["out"])
    sys.stdout.write(json.dumps({"fit_seconds": seconds, "seconds": time.monotonic() - start}) + "\n")


def counts(events: pl.DataFrame, of: str, items: pl.Series) -> tuple[np.ndarray, csr_matrix]:
    """Who has one of the items, and (who, items) how often."""
    events = events.filter(pl.col("item").is_in(items.implode()))
    who, row = np.unique(events[of].to_numpy(), return_inverse=True)
    cells = (row, np.searchsorted(items.to_numpy(), events["item"].to_numpy()))
    return who, csr_matrix((np.ones(len(row), np.float32), cells), shape=(len(who), len(items)))


def recommended(model, requests: np.ndarray, had: csr_matrix, items: np.ndarray, more: dict) -> pl.DataFrame:
    """request, item, score; a place that the model leaves empty is left out."""
    lists = []
    for first in range(0, len(requests), PORTION):
        rows = np.arange(first, min(first + PORTION, len(requests)))
        column, score = model.recommend(rows, had[rows], **more)
        kept = (column >= 0) & (score > np.finfo(np.float32).min)
        request = np.broadcast_to(requests[rows, None], column.shape)
        lists.append(pl.DataFrame({"request": request[kept], "item": items[column[kept]], "score": score[kept]}))
    return pl.concat(lists).cast({"request": pl.Int64, "item": pl.Int64, "score": pl.Float64})


if __name__ == "__main__":
    main()
