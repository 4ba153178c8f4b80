"""Golden rows: what a version must score again, to the bit with trees alone, within the tolerance with a network."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import toy_ranker

from features.errors import ConfigError, IntegrityError
from pipelines.registry.bundle import library_versions, load_bundle, rescore_golden, write_bundle
from pipelines.training.fitting import fit_ranker
from pipelines.training.labelled import label
from ranker.config import NetworkConfig, RankerConfig
from ranker.lambdamart import LambdaMart
from ranker.listnet import TOLERANCE
from ranker.listnet_fit import fit_listnet
from ranker.trees_and_network import TreesAndNetwork

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
    chosen = TreesAndNetwork.of(forest, network, rows, gain="exponential")
    return TreesAndNetwork(forest, network, 0.5, chosen.spreads)


def keep(folder, ranker, rows, *, apart=0.0):
    golden = rows.select(FEATURES).head(200)
    score = ranker.predict(golden) + apart * np.eye(200)[17]
    golden.with_columns(score=pl.Series(score)).write_parquet(folder / "golden.parquet")


@pytest.mark.parametrize("with_network", [True, False])
def test_golden_rows_come_again(tmp_path, ranker, rows, with_network):
    ranker = ranker if with_network else TreesAndNetwork(ranker.forest)
    keep(tmp_path, ranker, rows)
    rescore_golden(tmp_path, ranker, {})


def test_with_a_network_golden_rows_come_again_within_the_tolerance(tmp_path, ranker, rows):
    keep(tmp_path, ranker, rows, apart=0.9 * TOLERANCE)
    rescore_golden(tmp_path, ranker, {})
    keep(tmp_path, ranker, rows, apart=1.1 * TOLERANCE)
    with pytest.raises(IntegrityError, match="1 of 200 golden rows score differently here"):
        rescore_golden(tmp_path, ranker, {})
    keep(tmp_path, TreesAndNetwork(ranker.forest), rows, apart=1e-12)
    with pytest.raises(IntegrityError, match="1 of 200 golden rows score differently here"):
        rescore_golden(tmp_path, TreesAndNetwork(ranker.forest), {})


def test_other_scores_name_the_libraries_that_differ(tmp_path, ranker, rows):
    keep(tmp_path, ranker, rows, apart=1.0)
    here = library_versions()
    with pytest.raises(IntegrityError, match=r"All libraries have the versions that it was made with"):
        rescore_golden(tmp_path, ranker, here | {"cuda": "12.4"})
    recorded = here | {"lightgbm": "3.2.1", "gone": "1.0"}
    with pytest.raises(IntegrityError) as raised:
        rescore_golden(tmp_path, ranker, recorded)
    assert str(raised.value).endswith(
        "It was made with other libraries: lightgbm 3.2.1, here "
        f"{here['lightgbm']}, gone 1.0, here none. Install those "
        "(pip install lightgbm==3.2.1 gone==1.0), or train again."
    )


def test_a_score_that_is_no_number_is_another(tmp_path, ranker, rows):
    keep(tmp_path, ranker, rows, apart=float("nan"))
    with pytest.raises(IntegrityError, match="golden rows score differently here"):
        rescore_golden(tmp_path, ranker, {})


@pytest.mark.parametrize("layer", [0, 1])
def test_a_changed_digit_of_a_weight_is_found(tmp_path, ranker, rows, layer):
    """The fourth digit of one weight of the sixteen or eight, as a slip in a file would change it."""
    keep(tmp_path, ranker, rows)
    read = TreesAndNetwork.read(ranker.files(), FEATURES)
    weight = read.network.members[0][layer][0]
    weight[1, 0] += 10.0 ** (np.floor(np.log10(abs(weight[1, 0]))) - 3)
    with pytest.raises(IntegrityError, match="golden rows score differently here"):
        rescore_golden(tmp_path, read, {})


def test_a_ranker_from_outside_is_fitted_kept_and_read(trained_project, tmp_path, monkeypatch):
    project = trained_project.copy(tmp_path / "project")
    trained = project.trained
    toy_ranker.install(tmp_path, monkeypatch)
    project.change(ranker={"kind": toy_ranker.ENTRY_POINT})
    rows = label(trained.chain, project.config, trained.split.valid, name="rows", encoder_day=0).rows
    ranker, behaviour = (
        fit_ranker(name, features, rows, rows, project.config)
        for name, features in (("all", trained.chain.features), ("behaviour", trained.chain.behaviour_features))
    )
    own = replace(trained, ranker=ranker, behaviour_ranker=behaviour)
    kept = {"evaluation": {"window": ["2024-01-01", "2024-01-02"]}, "golden_rows": rows, "fingerprints": {}}
    folder = write_bundle(tmp_path / "bundles", trained=own, config=project.config, **kept)
    bundle = load_bundle(folder)
    assert sorted(path.name for path in (folder / "ranker").iterdir()) == ["behaviour.json", "column.json"]
    assert bundle.ranker.predict(rows).tolist() == ranker.predict(rows).tolist()
    assert bundle.behaviour_ranker.files() == behaviour.files()
    monkeypatch.setattr(toy_ranker.OneFeature, "files", lambda _: {"one.json": b"1", "two.json": b"2"})
    with pytest.raises(ConfigError, match="need plain names with different suffixes"):
        write_bundle(tmp_path / "bundles", trained=own, config=project.config, **kept)
