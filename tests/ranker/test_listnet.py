"""The network beside the trees: what it learns, and that a row's score is its own but for a declared tolerance."""

import math

import numpy as np
import polars as pl
import pytest
import torch

from features.errors import ContractError, IntegrityError
from ranker import listnet_fit
from ranker.config import NetworkConfig, RankerConfig
from ranker.groups import feature_matrix, group_sizes
from ranker.lambdamart import LambdaMart
from ranker.listnet import TOLERANCE, ListNet, squashed
from ranker.listnet_fit import fit_listnet, steps_of
from ranker.metrics import ndcg_at
from ranker.trees_and_network import SHARES, TreesAndNetwork

FEATURES = ("left", "right", "noise")
CONFIG = RankerConfig(
    num_leaves=7,
    min_child_samples=10,
    max_trees=20,
    patience=20,
    network=NetworkConfig(hidden=(16, 8), epochs=20, requests_per_batch=16, learning_rate=0.01),
)


def lists(seed, *, requests=150, length=12):
    """What is wanted is the item whose left and right are nearest; left is undefined here and there."""
    rng = np.random.default_rng(seed)
    left, right = rng.lognormal(sigma=2, size=(2, requests, length))
    label = (np.argsort(np.argsort(abs(np.log(left / right)))) == 0).astype(np.int32)
    left[rng.random(left.shape) < 0.1] = np.nan
    return pl.DataFrame(
        {
            "request": np.repeat(np.arange(requests, dtype=np.uint32), length),
            "label": label.ravel(),
            "left": left.ravel().astype(np.float32),
            "right": right.ravel().astype(np.float32),
            "noise": rng.normal(size=requests * length).astype(np.float32),
        }
    )


def fitted(train=None, *, seed=0, config=CONFIG):
    return fit_listnet(lists(0) if train is None else train, features=FEATURES, config=config, seed=seed)


def mean_ndcg(scores, table):
    return float(np.nanmean(ndcg_at(scores, table["label"].to_numpy(), group_sizes(table["request"]), 10)))


def spread_within(scores, table):
    """Standard deviation of scores within requests, by polars."""
    return table.select("request", score=scores).select(
        ((pl.col("score") - pl.col("score").mean().over("request")) ** 2).mean().sqrt()
    )["score"][0]


@pytest.fixture(scope="module")
def network():
    return fitted()


def test_it_learns_how_two_features_go_together(network):
    held_out = lists(2)
    chance = mean_ndcg(np.zeros(held_out.height), held_out)
    assert mean_ndcg(network.predict(held_out), held_out) > chance + 0.2


def test_a_score_is_the_rows_own_whatever_stands_beside_within_the_tolerance(network):
    held_out = lists(2)
    scores, parts = network.predict(held_out), network.contributions(held_out)
    near = TOLERANCE * spread_within(scores, held_out)
    for start, rows in ((0, 1), (100, 17), (3, 1500), (511, 2), (1799, 1)):
        some = held_out[start : start + rows]
        assert network.predict(some) == pytest.approx(scores[start : start + rows], rel=0, abs=near)
        assert network.contributions(some) == pytest.approx(parts[start : start + rows], rel=0, abs=near)
    order = np.random.default_rng(0).permutation(held_out.height)
    assert network.predict(held_out[order]) == pytest.approx(scores[order], rel=0, abs=near)
    shuffled = held_out.select("noise", "label", "right", "left", "request")
    assert np.array_equal(network.predict(shuffled), scores)
    assert network.predict(held_out[:0]).shape == (0,)
    assert network.contributions(held_out[:0]).shape == (0, 3)


def test_the_same_rows_in_the_same_order_give_the_same_bits(network):
    held_out = lists(2)
    assert network.predict(held_out).tobytes() == network.predict(held_out).tobytes()
    assert network.contributions(held_out).tobytes() == network.contributions(held_out).tobytes()


def test_a_score_is_what_the_layers_say(network):
    """The oracle: torch, in double precision, layer by layer."""
    held_out = lists(2)
    values = torch.from_numpy(network.inputs(feature_matrix(held_out, FEATURES))).double()
    *hidden, (weight, bias) = network.members[0]
    for each, its in hidden:
        values = torch.relu(values @ torch.from_numpy(each).double() + torch.from_numpy(its))
    expected = (values @ torch.from_numpy(weight).double() + torch.from_numpy(bias)).numpy()[:, 0]
    found = network.predict(held_out)
    assert found == pytest.approx(expected, rel=0, abs=TOLERANCE * spread_within(expected, held_out))
    assert not np.array_equal(found, expected)  # it is float32 that is compared


def test_inputs_are_standardised_and_tell_what_is_undefined(network):
    train = lists(0)
    inputs = network.inputs(feature_matrix(train, FEATURES))
    assert inputs.shape == (train.height, 4)
    undefined = train["left"].is_nan().to_numpy()
    assert np.array_equal(inputs[:, 3], undefined)
    assert (inputs[undefined, 0] == 0).all()
    assert inputs[~undefined, 0].mean() == pytest.approx(0, abs=0.01)  # but for what lies beyond 6
    assert inputs[~undefined, 0].std() == pytest.approx(1, abs=0.02)
    assert inputs.dtype == np.float32
    extreme = train[:2].with_columns(right=pl.Series([1e30, None], dtype=pl.Float32))
    assert network.inputs(feature_matrix(extreme, FEATURES))[:, 1].tolist() == [
        6.0,
        0.0,
    ]  # what training knew of a feature's range
    with pytest.raises(ContractError, match="infinite values in 'right'"):
        network.predict(train.with_columns(right=pl.lit(math.inf)))


def test_squashing_is_a_logarithm_but_for_its_chords():
    values = np.random.default_rng(0).lognormal(sigma=4, size=10_000).astype(np.float32)
    exact = np.log2(1 + values.astype(np.float64))
    assert squashed(values) == pytest.approx(exact, abs=0.0861)
    assert np.array_equal(squashed(-values), -squashed(values))
    assert (np.diff(squashed(np.sort(values))) >= 0).all()


def test_contributions_add_up_to_what_sets_a_row_apart_from_the_mean(network):
    held_out = lists(2)
    parts, scores = network.contributions(held_out), network.predict(held_out)
    rest = scores - parts.sum(1)
    assert rest.std() < 0.05 * scores.std()
    assert abs(parts[:, :2]).mean() > 3 * abs(parts[:, 2]).mean()


def test_the_same_seed_gives_the_same_network_and_leaves_torchs_own_draws_alone(network):
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    again = fitted()
    assert torch.equal(torch.random.get_rng_state(), before)
    arrays, others = network.to_arrays(), again.to_arrays()
    assert all(np.array_equal(arrays[name], others[name]) for name in arrays)
    assert not np.array_equal(fitted(seed=1).members[0][0][0], network.members[0][0][0])


def test_where_its_inputs_lie_decides_nothing(network):
    seen = []

    def allocate(rows, inputs):
        seen.append(np.full((rows, inputs), 7, np.int16))
        return seen[-1]

    there = fit_listnet(lists(0), features=FEATURES, config=CONFIG, seed=0, allocate=allocate)
    assert all(np.array_equal(one, other) for one, other in zip(arrays(there), arrays(network), strict=True))
    (inputs,) = seen
    assert inputs.shape == (1800, 4)  # three features, and whether the left is undefined
    assert not (inputs == 7).all(1).any()


def arrays(network):
    return network.to_arrays().values()


def test_members_are_averaged_and_the_first_is_the_one_alone(network):
    two = fitted(config=CONFIG.model_copy(update={"ensemble": 2}))
    one = fitted(seed=1)
    held_out = lists(2)
    assert np.array_equal(two.members[0][0][0], network.members[0][0][0])
    mean = (network.predict(held_out) + one.predict(held_out)) / 2
    assert two.predict(held_out) == pytest.approx(mean, abs=1e-12)
    told = []
    fit_listnet(lists(0), features=FEATURES, config=CONFIG, seed=0, report=lambda step, _: told.append(step))
    assert told == list(range(1, steps_of(CONFIG, lists(0)) + 1))


def test_requests_without_a_positive_teach_nothing(network):
    silent = lists(5).with_columns(label=pl.lit(0, pl.Int32), request=pl.col("request") + 1000)
    arrays, others = network.to_arrays(), fitted(pl.concat([silent, lists(0)])).to_arrays()
    assert all(np.array_equal(arrays[name], others[name]) for name in arrays)


@pytest.mark.parametrize("requests", range(1, 24))
def test_however_few_requests_there_are_they_teach(requests):
    once = CONFIG.model_copy(update={"network": NetworkConfig(hidden=(4,), epochs=1, requests_per_batch=1)})
    train = lists(0, requests=requests)
    assert np.isfinite(fitted(train, config=once).predict(train)).all()


def test_a_feature_that_says_nothing_or_is_nowhere_defined_does_no_harm():
    train = lists(0).with_columns(noise=pl.lit(None, pl.Float32), right=pl.lit(3.0))
    found = fitted(train).predict(train)
    assert np.isfinite(found).all()


@pytest.fixture(scope="module")
def forest():
    return LambdaMart.fit(lists(0), lists(1), features=FEATURES, config=CONFIG, seed=0)


def test_together_they_are_no_worse_on_validation_than_the_trees_alone(forest, network):
    valid = lists(1)
    ranker = TreesAndNetwork.of(forest, network, valid, gain="exponential")
    assert ranker.share > 0  # trees cannot see how near two numbers are
    assert ranker.share in SHARES
    assert mean_ndcg(ranker.predict(valid), valid) > mean_ndcg(forest.predict(valid), valid)


def test_a_network_that_ranks_worse_has_no_share(forest, network):
    layers = [(-weight, -bias) if len(bias) == 1 else (weight, bias) for weight, bias in network.members[0]]
    reversed_ = ListNet(FEATURES, network.mean_F, network.scale_F, network.undefined_M, (tuple(layers),))
    for other in (None, reversed_):
        ranker = TreesAndNetwork.of(forest, other, lists(1), gain="exponential")
        assert ranker.network is None
        assert np.array_equal(ranker.predict(lists(2)), forest.predict(lists(2)))
        assert np.array_equal(ranker.contributions(lists(2)), forest.contributions(lists(2)))


def test_what_is_kept_is_read_to_the_same_bits(forest, network):
    held_out = lists(2)
    for ranker in (TreesAndNetwork(forest), TreesAndNetwork(forest, network, share=0.25, spreads=(0.3, 2.0))):
        again = TreesAndNetwork.read(ranker.files(), FEATURES)
        assert again.files() == ranker.files()
        assert np.array_equal(again.predict(held_out), ranker.predict(held_out))
        assert np.array_equal(again.contributions(held_out), ranker.contributions(held_out))


def test_a_score_is_the_weighted_mean_of_both(forest, network):
    ranker, held_out = TreesAndNetwork(forest, network, share=0.25, spreads=(0.5, 2.0)), lists(2)
    expected = 0.75 * forest.predict(held_out) / 0.5 + 0.25 * network.predict(held_out) / 2
    assert ranker.predict(held_out) == pytest.approx(expected, abs=1e-12)
    parts = 0.75 * forest.contributions(held_out) / 0.5 + 0.25 * network.contributions(held_out) / 2
    assert ranker.contributions(held_out) == pytest.approx(parts, abs=1e-12)
    assert ranker.tolerance == TOLERANCE
    assert TreesAndNetwork(forest).tolerance == 0


@pytest.mark.parametrize("damage", ["text", "features", "layer", "score"])
def test_what_is_no_network_of_these_features_is_refused(damage, forest, network):
    from safetensors.numpy import load, save

    files = TreesAndNetwork(forest, network, share=0.5).files()
    arrays = load(files["network.safetensors"])
    if damage == "features":
        arrays["mean"] = arrays["mean"][:-1]
    elif damage == "layer":
        arrays["0.1.weight"] = arrays["0.1.weight"][:-1]
    elif damage == "score":
        arrays.pop("0.2.weight")
    with pytest.raises(IntegrityError, match="network"):
        TreesAndNetwork.read(files | {"network.safetensors": b"none" if damage == "text" else save(arrays)}, FEATURES)


def test_a_network_that_rounded_what_it_summed_is_refused_with_the_command_that_makes_another(forest, network):
    from safetensors.numpy import load, save

    files = TreesAndNetwork(forest, network, share=0.5).files()
    arrays = {name: np.asarray(values, np.float64) for name, values in load(files["network.safetensors"]).items()}
    arrays["rate"] = 1024 * arrays.pop("scale")
    with pytest.raises(IntegrityError, match=r"earlier nightrank.*: nightrank train"):
        TreesAndNetwork.read(files | {"network.safetensors": save(arrays)}, FEATURES)


def test_what_training_keeps_in_16_bits_is_what_is_scored_but_for_its_rounding(monkeypatch):
    kept = []

    class Lists(listnet_fit._Lists):
        def __init__(self, inputs_NI, *others):
            kept.append(inputs_NI)
            super().__init__(inputs_NI, *others)

    monkeypatch.setattr(listnet_fit, "_Lists", Lists)
    train = lists(0).with_columns(right=pl.col("right") * pl.Series([1e30] + [1] * 1799, dtype=pl.Float32))
    inputs = fitted(train, config=CONFIG.model_copy(update={"network": NetworkConfig(epochs=1)}))
    made = inputs.inputs(feature_matrix(train, FEATURES))
    assert abs(made).max() == 6
    assert kept[0].numpy() / listnet_fit._UNIT == pytest.approx(made, abs=0.51 / listnet_fit._UNIT)


def test_where_a_network_cannot_be_held_to_what_is_asked_there_is_none():
    assert not RankerConfig(monotone={"left": 1}).learns_network
    assert RankerConfig().learns_network
    assert not RankerConfig(network=None).learns_network
