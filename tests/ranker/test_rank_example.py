"""LightGBM's own ranking example, by its train.conf: the same NDCG, and the same trees."""

import os
from pathlib import Path

import lightgbm as lgb
import numpy as np
import polars as pl
import pytest
from sklearn.datasets import load_svmlight_file

from ranker.config import RankerConfig
from ranker.lambdamart import LambdaMart
from ranker.metrics import ndcg_at

CUTOFFS = [1, 3, 5]
OTHERS = ("task", "data", "valid_data", "output_model", "machine_list_file", "num_trees", "metric_freq", "label_column")
UNTOLD = {"bagging_freq": 0, "min_sum_hessian_in_leaf": 1e-3}
"""LightGBM's defaults of what `RankerConfig` does not tell it."""


@pytest.fixture(scope="module")
def folder():
    data = os.environ.get("NIGHTRANK_DATA")
    if not data:
        pytest.skip("LightGBM's ranking example is compared only where NIGHTRANK_DATA names the development data")
    return Path(data) / "lightgbm_rank"


@pytest.fixture(scope="module")
def tables(folder):
    """request, label and the features of both parts."""
    parts = {}
    for name in ("train", "test"):
        features, label = load_svmlight_file(str(folder / f"rank.{name}.gz"), n_features=301)
        group = np.loadtxt(folder / f"rank.{name}.query", dtype=np.int64)
        columns = {f"f{number}": column for number, column in enumerate(features.toarray().T.astype(np.float32))}
        request = np.repeat(np.arange(len(group), dtype=np.uint32), group)
        parts[name] = pl.DataFrame({"request": request, "label": label.astype(np.int32), **columns})
    return parts


@pytest.fixture(scope="module")
def conf(folder):
    lines = (folder / "train.conf").read_text(encoding="utf-8").splitlines()
    told = dict(line.replace(" ", "").split("=") for line in lines if "=" in line and not line.startswith("#"))
    return {key: value for key, value in told.items() if key not in OTHERS} | {
        "deterministic": True,
        "force_row_wise": True,
        "verbosity": -1,
    }


def group_of(table):
    return table.group_by("request", maintain_order=True).len()["len"].to_numpy()


def trained(tables, params, rounds):
    """LightGBM's booster, and its own NDCG of the test part after each tree."""
    data = {
        name: lgb.Dataset(
            table.drop("request", "label").to_numpy(), label=table["label"].to_numpy(), group=group_of(table)
        )
        for name, table in tables.items()
    }
    told = {}
    callbacks = [lgb.record_evaluation(told)]
    booster = lgb.train(params, data["train"], rounds, [data["test"]], ["test"], callbacks=callbacks)
    return booster, told["test"]


def by_its_conventions(scores, table, k):
    """Our NDCG, a request without a positive counting as 1 as LightGBM has it."""
    return np.nan_to_num(ndcg_at(scores, table["label"].to_numpy(), group_of(table), k), nan=1.0).mean()


def test_our_ndcg_is_the_one_that_lightgbm_prints(tables, conf):
    booster, told = trained(tables, conf, 100)
    scores = booster.predict(tables["test"].drop("request", "label").to_numpy())
    for k in CUTOFFS:
        assert by_its_conventions(scores, tables["test"], k) == pytest.approx(told[f"ndcg@{k}"][-1], abs=5e-5)
    assert told["ndcg@5"][-1] > told["ndcg@5"][0]


def test_our_ranker_is_lightgbm_told_the_same(tables, conf):
    names = tuple(name for name in tables["train"].columns if name.startswith("f"))
    config = RankerConfig(
        num_leaves=int(conf["num_leaves"]),
        learning_rate=float(conf["learning_rate"]),
        min_child_samples=int(conf["min_data_in_leaf"]),
        feature_fraction=float(conf["feature_fraction"]),
        max_trees=100,
        patience=100,
        l2=0.0,
        truncation=30,
    )
    ours = LambdaMart.fit(tables["train"], tables["test"], features=names, config=config, seed=0, stop_at=5)
    (booster,) = ours.boosters
    # ours leaves out the requests that teach nothing; their rows would still count for bins and leaves
    teaching = tables["train"].filter((pl.col("label").max() > 0).over("request"))
    theirs, told = trained(tables | {"train": teaching}, conf | UNTOLD | {"seed": 0}, booster.num_trees())
    scores = ours.predict(tables["test"])
    for k in CUTOFFS:
        assert by_its_conventions(scores, tables["test"], k) == pytest.approx(told[f"ndcg@{k}"][-1], abs=5e-5)
    np.testing.assert_allclose(scores, theirs.predict(tables["test"].select(names).to_numpy()), rtol=1e-6)
