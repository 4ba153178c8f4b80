"""Rankers that installed packages bring are fitted and read like the default one, or refused by name."""

import polars as pl
import pytest
import toy_ranker

from features.errors import ConfigError, IntegrityError
from ranker.config import NetworkConfig, RankerConfig
from ranker.ranker import FitSupport, ranker_kind
from ranker.trees_and_network import TreesAndNetwork

TRAIN = pl.DataFrame(
    {
        "request": [0, 0, 0, 1, 1, 1],
        "label": [2, 0, 0, 0, 1, 0],
        "as_of_day": [5] * 6,
        "up": pl.Series([0.1, 0.2, 0.3, 0.1, 0.2, 0.3], dtype=pl.Float32),
        "down": pl.Series([-9.0, 1.0, 1.0, 1.0, float("nan"), 1.0], dtype=pl.Float32),
    }
)
FEATURES = ("up", "down")


def fitted(kind, **config):
    sizes = {"max_trees": 3, "min_child_samples": 1, "num_leaves": 2} | config
    settings = RankerConfig(**sizes)
    return kind.fit(TRAIN, TRAIN, features=FEATURES, config=settings, seed=0, stop_at=2, support=FitSupport())


def test_a_ranker_from_outside_is_fitted_and_read_as_it_was(tmp_path, monkeypatch):
    toy_ranker.install(tmp_path, monkeypatch)
    kind = ranker_kind("one_feature")
    ranker = fitted(kind)
    assert ranker.predict(TRAIN).tolist() == [9, -1, -1, -1, 0, -1]
    assert ranker.contributions(TRAIN)[0].tolist() == [0, 9]
    assert kind.read(ranker.files(), FEATURES).predict(TRAIN).tolist() == ranker.predict(TRAIN).tolist()


def test_a_ranker_that_nobody_brings_is_refused_with_those_that_there_are(tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match=r"no installed package has a ranker 'mine'; there is none"):
        ranker_kind("mine")
    toy_ranker.install(tmp_path, monkeypatch)
    with pytest.raises(ConfigError, match=r"'mine'; there is 'one_feature' .*leave ranker.kind out"):
        ranker_kind("mine")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("toy_ranker:install", "is no ranker: it has no 'contributions', 'files', 'fit', 'predict', 'read'"),
        ("toy_ranker:Gone", "cannot be imported"),
        ("no_such_module:Gone", "cannot be imported"),
    ],
)
def test_what_is_no_ranker_is_refused(tmp_path, monkeypatch, value, message):
    toy_ranker.install(tmp_path, monkeypatch, value)
    with pytest.raises(ConfigError, match=message):
        ranker_kind("one_feature")


def test_without_a_name_it_is_trees_and_a_network():
    ranker = fitted(ranker_kind(None), network=NetworkConfig(hidden=(4,), epochs=1))
    assert isinstance(ranker, TreesAndNetwork)
    again = TreesAndNetwork.read(ranker.files(), FEATURES)
    assert again.predict(TRAIN).tolist() == ranker.predict(TRAIN).tolist()


def test_files_of_another_ranker_are_refused():
    files = fitted(TreesAndNetwork, network=None).files()
    with pytest.raises(IntegrityError, match=r"'booster\.txt', not booster\.txt and network\.safetensors"):
        TreesAndNetwork.read({"booster.txt": files["booster.txt"]}, FEATURES)


def test_only_a_ranker_that_is_named_is_part_of_a_configuration():
    assert "kind" not in RankerConfig().model_dump()
    assert RankerConfig(kind="one_feature").model_dump()["kind"] == "one_feature"
