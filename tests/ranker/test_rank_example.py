"""LightGBM's own ranking example, by its train.conf: the same NDCG, and the same trees."""

import os
from pathlib import Path

import numpy as np
import pytest
from rank_example import (
    CUTOFFS,
    FOLDER,
    TREES,
    both,
    by_its_conventions,
    ranker_config,
    read_conf,
    read_tables,
    trained,
)


@pytest.fixture(scope="module")
def folder():
    data = os.environ.get("NIGHTRANK_DATA")
    if not data:
        pytest.skip("LightGBM's ranking example is compared only where NIGHTRANK_DATA names the development data")
    return Path(data) / FOLDER


@pytest.fixture(scope="module")
def tables(folder):
    return read_tables(folder)


@pytest.fixture(scope="module")
def conf(folder):
    return read_conf(folder)


def test_our_ndcg_is_the_one_that_lightgbm_prints(tables, conf):
    booster, told = trained(tables, conf, TREES)
    scores = booster.predict(tables["test"].drop("request", "label").to_numpy())
    for k in CUTOFFS:
        ours = by_its_conventions(scores, tables["test"], k).mean()
        assert ours == pytest.approx(told[f"ndcg@{k}"][-1], abs=5e-5)
    assert told["ndcg@5"][-1] > told["ndcg@5"][0]


def test_our_ranker_is_lightgbm_told_the_same(tables, conf):
    ours, theirs, told = both(tables, conf, ranker_config(conf), seed=0)
    scores = ours.predict(tables["test"])
    for k in CUTOFFS:
        found = by_its_conventions(scores, tables["test"], k).mean()
        assert found == pytest.approx(told[f"ndcg@{k}"][-1], abs=5e-5)
    names = [name for name in tables["test"].columns if name.startswith("f")]
    np.testing.assert_allclose(scores, theirs.predict(tables["test"].select(names).to_numpy()), rtol=1e-6)
