"""Golden rows: what a version must score again, to the bit with trees alone, within the tolerance with a network."""

import numpy as np
import polars as pl
import pytest

from features.errors import IntegrityError
from pipelines.registry.bundle import rescore_golden
from ranker.config import NetworkConfig, RankerConfig
from ranker.lambdamart import LambdaMart
from ranker.listnet import TOLERANCE
from ranker.listnet_fit import fit_listnet
from ranker.ranker import Ranker

FEATURES = ("left", "right")


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(3000, 2)).astype(np.float32)
    label = (values.sum(1) + rng.normal(size=3000) > 1).astype(np.int32)
    columns = dict(zip(FEATURES, values.T.copy(), strict=True))
    return pl.DataFrame({"request": np.repeat(np.arange(300, dtype=np.uint32), 10), "label": label, **columns})


@pytest.fixture(scope="module")
def ranker(rows):
    config = RankerConfig(max_trees=5, min_child_samples=10, network=NetworkConfig(hidden=(8,), epochs=3))
    forest = LambdaMart.fit(rows, rows, features=FEATURES, config=config, seed=0)
    network = fit_listnet(rows, features=FEATURES, config=config, seed=0)
    chosen = Ranker.of(forest, network, rows, gain="exponential")
    return Ranker(forest, network, 0.5, chosen.spreads)


def keep(folder, ranker, rows, *, apart=0.0):
    golden = rows.select(FEATURES).head(200)
    score = ranker.predict(golden) + apart * np.eye(200)[17]
    golden.with_columns(score=pl.Series(score)).write_parquet(folder / "golden.parquet")


@pytest.mark.parametrize("with_network", [True, False])
def test_golden_rows_come_again(tmp_path, ranker, rows, with_network):
    ranker = ranker if with_network else Ranker(ranker.forest)
    keep(tmp_path, ranker, rows)
    rescore_golden(tmp_path, ranker)


def test_with_a_network_golden_rows_come_again_within_the_tolerance(tmp_path, ranker, rows):
    keep(tmp_path, ranker, rows, apart=0.9 * TOLERANCE)
    rescore_golden(tmp_path, ranker)
    keep(tmp_path, ranker, rows, apart=1.1 * TOLERANCE)
    with pytest.raises(IntegrityError, match="1 of 200 golden rows score differently here"):
        rescore_golden(tmp_path, ranker)
    keep(tmp_path, Ranker(ranker.forest), rows, apart=1e-12)
    with pytest.raises(IntegrityError, match="1 of 200 golden rows score differently here"):
        rescore_golden(tmp_path, Ranker(ranker.forest))


def test_a_score_that_is_no_number_is_another(tmp_path, ranker, rows):
    keep(tmp_path, ranker, rows, apart=float("nan"))
    with pytest.raises(IntegrityError, match="golden rows score differently here"):
        rescore_golden(tmp_path, ranker)


@pytest.mark.parametrize("layer", [0, 1])
def test_a_changed_digit_of_a_weight_is_found(tmp_path, ranker, rows, layer):
    """The fourth digit of one weight of the sixteen or eight, as a slip in a file would change it."""
    keep(tmp_path, ranker, rows)
    text, network = ranker.files()
    read = Ranker.read(text, network, FEATURES)
    weight = read.network.members[0][layer][0]
    weight[1, 0] += 10.0 ** (np.floor(np.log10(abs(weight[1, 0]))) - 3)
    with pytest.raises(IntegrityError, match="golden rows score differently here"):
        rescore_golden(tmp_path, read)
