import math

import numpy as np
import polars as pl
import pytest

from features.errors import ContractError, IntegrityError
from ranker import groups, lambdamart
from ranker.config import RankerConfig
from ranker.lambdamart import LambdaMart
from ranker.metrics import ndcg_at

FEATURES = ("signal", "noise", "more_noise")
CONFIG = RankerConfig(num_leaves=7, min_child_samples=10, max_trees=40, patience=10, learning_rate=0.1)


def lists(seed, *, requests=80, length=12):
    """Lists whose item with the highest signal is bought, if that is high, and another clicked by chance."""
    rng = np.random.default_rng(seed)
    rows = requests * length
    signal = rng.normal(size=(requests, length))
    label = np.where((signal == signal.max(axis=1, keepdims=True)) & (signal > 1), 3, 0)
    label[np.arange(requests), rng.integers(0, length, requests)] += rng.random(requests) < 1 / 2
    noisy = (signal + rng.normal(scale=0.5, size=signal.shape)).ravel()
    return pl.DataFrame(
        {
            "request": np.repeat(np.arange(requests, dtype=np.uint32), length),
            "label": label.ravel().astype(np.int32),
            "signal": noisy,
            "noise": np.where(rng.random(rows) < 0.1, np.nan, rng.normal(size=rows)),
            "more_noise": rng.integers(0, 5, rows),
        }
    )


def fitted(train=None, valid=None, *, seed=0, config=CONFIG, features=FEATURES, **options):
    train, valid = lists(0) if train is None else train, lists(1) if valid is None else valid
    return LambdaMart.fit(train, valid, features=features, config=config, seed=seed, **options)


def mean_ndcg(scores, table, k=10):
    group = table["request"].rle().struct.field("len").to_numpy()
    return float(np.nanmean(ndcg_at(scores, table["label"].to_numpy(), group, k)))


@pytest.fixture(scope="module")
def model():
    return fitted()


@pytest.mark.parametrize(("truncation", "level"), [(None, 14), (5, 5)])
def test_pairs_are_learned_down_to_twice_the_rank_that_stops_unless_another_is_configured(truncation, level):
    config = CONFIG.model_copy(update={"truncation": truncation, "max_trees": 1})
    assert f"[lambdarank_truncation_level: {level}]" in fitted(config=config, stop_at=7).to_text()


def test_a_learned_signal_beats_chance_on_lists_it_has_not_seen(model):
    held_out = lists(2)
    chance = mean_ndcg(np.zeros(held_out.height), held_out)
    assert mean_ndcg(model.predict(held_out), held_out) > chance + 0.15
    gains = model.gains()
    assert gains["feature"][0] == "signal"
    assert sorted(gains["feature"]) == sorted(FEATURES)
    assert gains["gain"].is_sorted(descending=True)


def test_the_model_is_cut_at_the_tree_with_the_best_validation_ndcg(model):
    valid = lists(1)
    assert model.best_ndcg == pytest.approx(mean_ndcg(model.predict(valid), valid), rel=1e-9)
    told = []
    again = fitted(report=lambda trees, ndcg: told.append((trees, ndcg)))
    assert [trees for trees, _ in told] == list(range(1, len(told) + 1))
    best = max(range(len(told)), key=lambda n: told[n][1])
    assert again.trees == best + 1
    assert again.best_ndcg == told[best][1]
    assert len(told) in {CONFIG.max_trees, best + 1 + CONFIG.patience}


def test_training_stops_on_the_rank_it_is_told():
    valid = lists(1)
    one = fitted(stop_at=1)
    assert one.best_ndcg == pytest.approx(mean_ndcg(one.predict(valid), valid, k=1), rel=1e-9)


def test_the_same_seed_gives_the_same_model(model):
    assert fitted().to_text() == model.to_text()
    assert fitted(seed=1).to_text() != model.to_text()


def test_order_of_columns_changes_no_score(model):
    held_out = lists(2)
    shuffled = held_out.select("more_noise", "label", "signal", "request", "noise", extra=pl.lit("x"))
    assert np.array_equal(model.predict(shuffled), model.predict(held_out))
    train, valid = (table.select("noise", "more_noise", "label", "request", "signal") for table in (lists(0), lists(1)))
    assert fitted(train, valid).to_text() == model.to_text()


def test_a_score_depends_on_its_own_row_only(model, monkeypatch):
    held_out = lists(2)
    scores = model.predict(held_out)
    assert np.array_equal(model.predict(held_out[100:117]), scores[100:117])
    monkeypatch.setattr(groups, "_BLOCK_ROWS", 7)
    assert np.array_equal(model.predict(held_out), scores)


def test_null_is_scored_as_nan(model):
    held_out = lists(2).with_columns(signal=pl.lit(math.nan))
    assert np.array_equal(
        model.predict(held_out), model.predict(held_out.with_columns(signal=pl.lit(None, pl.Float64)))
    )
    assert np.isfinite(model.predict(held_out)).all()


def test_no_rows_have_no_scores(model):
    assert model.predict(lists(2).head(0)).shape == (0,)


def test_requests_without_a_positive_teach_nothing(model):
    silent = lists(5, requests=30).with_columns(label=pl.lit(0, pl.Int32), request=pl.col("request") + 1000)
    assert fitted(pl.concat([silent, lists(0)]), pl.concat([lists(1), silent])).to_text() == model.to_text()


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -1.0, 31.0, 1.5, None])
@pytest.mark.parametrize("table", ["train", "valid"])
def test_labels_out_of_contract_are_refused_even_where_nothing_would_be_learned(wrong, table):
    rows = lists(3, requests=4).with_columns(pl.col("label").cast(pl.Float64))
    silent = rows[:12].with_columns(label=pl.lit(0.0), request=pl.lit(999, pl.UInt32))
    silent[5, "label"] = wrong
    with pytest.raises(ContractError, match="1 of 60 labels"):
        fitted(**{table: pl.concat([rows, silent])})


@pytest.mark.parametrize(("table", "remedy"), [("train", "timeline.ranker_days"), ("valid", "timeline.valid_days")])
def test_all_zero_labels_are_refused(table, remedy):
    silent = lists(3, requests=4).with_columns(label=pl.lit(0, pl.Int32))
    with pytest.raises(ContractError, match=f"has a positive .* Lengthen {remedy}"):
        fitted(**{table: silent})


def test_rows_of_a_request_stand_together():
    mixed = lists(0).sample(fraction=1, shuffle=True, seed=0)
    with pytest.raises(ContractError, match="do not stand together"):
        fitted(mixed)


def test_fault_26_a_request_longer_than_lightgbm_takes_is_refused():
    long = lists(0, requests=1, length=10_001).with_columns(label=pl.lit(1, pl.Int32))
    with pytest.raises(ContractError, match="more than 10000 candidates"):
        fitted(long)


@pytest.mark.parametrize("kind", [pl.Categorical, pl.Enum(["x", "y"]), pl.String, pl.Date])
def test_features_that_are_no_numbers_are_refused_in_fit_and_predict(model, kind):
    column = pl.Series("noise", ["x"] * 960).cast(kind) if kind != pl.Date else pl.lit(None, pl.Date).alias("noise")
    wrong = lists(0).with_columns(column)
    with pytest.raises(ContractError, match=r"noise \("):
        fitted(wrong)
    with pytest.raises(ContractError, match=r"noise \("):
        model.predict(wrong)


def test_missing_and_infinite_features_are_refused(model):
    with pytest.raises(ContractError, match="features missing: 'signal'"):
        model.predict(lists(2).drop("signal"))
    with pytest.raises(ContractError, match="infinite values in 'noise'"):
        model.predict(lists(2).with_columns(noise=pl.lit(math.inf)))


def test_features_without_any_information_still_make_a_model():
    flat = [lists(seed).with_columns(pl.lit(1.0).alias(name) for name in FEATURES) for seed in (0, 1)]
    model = fitted(*flat)
    scores = model.predict(flat[1])
    assert len(np.unique(scores)) == 1
    assert model.best_ndcg == pytest.approx(mean_ndcg(np.zeros(flat[1].height), flat[1]))


def test_a_model_survives_its_own_text(model):
    read = LambdaMart.from_text(model.to_text(), FEATURES)
    held_out = lists(2)
    assert np.array_equal(read.predict(held_out), model.predict(held_out))
    assert read.to_text() == model.to_text()


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.7, 0.99])
def test_fault_32_a_truncated_text_is_refused(model, share):
    text = model.to_text()
    with pytest.raises(IntegrityError, match="no complete LightGBM model"):
        LambdaMart.from_text(text[: int(len(text) * share)], FEATURES)


@pytest.mark.parametrize("text", ["tree", "\x80\x04pickle", "{}"])
def test_what_is_no_model_is_refused(text):
    with pytest.raises(IntegrityError, match="no complete LightGBM model"):
        LambdaMart.from_text(text, FEATURES)


@pytest.mark.parametrize("features", [("noise", "signal", "more_noise"), FEATURES[:2], (*FEATURES, "d")])
def test_a_model_of_other_features_than_the_manifest_is_refused(model, features):
    with pytest.raises(IntegrityError, match="other features"):
        LambdaMart.from_text(model.to_text(), features)


def changed(**changes):
    return CONFIG.model_copy(update=changes)


def test_rank_xendcg_learns_the_signal_too():
    held_out = lists(2)
    chance = mean_ndcg(np.zeros(held_out.height), held_out)
    model = fitted(config=changed(objective="rank_xendcg"))
    assert mean_ndcg(model.predict(held_out), held_out) > chance + 0.15


def test_linear_gains_are_those_of_lightgbm_told_so():
    train, valid = (table.filter((pl.col("label").max() > 0).over("request")) for table in (lists(0), lists(1)))
    model = fitted(train, valid, config=changed(gain="linear"))
    group, matrix = train["request"].rle().struct.field("len").to_numpy(), train.select(FEATURES).cast(pl.Float32)
    params = lambdamart._params(CONFIG, FEATURES, 0, 10) | {"label_gain": list(range(31))}
    data = lambdamart.lgb.Dataset(matrix.to_numpy(), train["label"].to_numpy(), group=group, params=params)
    bare = lambdamart.lgb.train(params, data, num_boost_round=model.trees)
    scores = model.predict(valid)
    assert np.array_equal(scores, bare.predict(valid.select(FEATURES).cast(pl.Float32).to_numpy()))
    sizes = valid["request"].rle().struct.field("len").to_numpy()
    assert model.best_ndcg == pytest.approx(
        np.mean(ndcg_at(scores, valid["label"].to_numpy(), sizes, 10, "linear")), rel=1e-9
    )


def test_an_ensemble_scores_the_mean_of_its_members_and_its_first_is_the_single_model(model):
    three, table = fitted(config=changed(ensemble=3)), lists(2)
    members = [LambdaMart((booster,), FEATURES).predict(table) for booster in three.boosters]
    assert len(members) == 3
    assert np.array_equal(members[0], model.predict(table))
    assert not np.array_equal(members[0], members[1])
    assert np.array_equal(three.predict(table), (members[0] + members[1] + members[2]) / 3)
    read = LambdaMart.from_text(three.to_text(), FEATURES)
    assert np.array_equal(read.predict(table), three.predict(table))
    assert read.to_text() == three.to_text()
    assert three.trees == sum(booster.num_trees() for booster in three.boosters)


def test_a_text_that_lacks_the_end_of_one_member_is_refused():
    text = fitted(config=changed(ensemble=2)).to_text()
    place = text.index("\ntree\n")
    with pytest.raises(IntegrityError, match="no complete LightGBM model"):
        LambdaMart.from_text(text[: place - 40] + text[place:], FEATURES)


@pytest.mark.parametrize("direction", [1, -1])
def test_a_monotone_feature_moves_every_score_one_way(direction):
    model = fitted(config=changed(monotone={"signal": direction}))
    base = lists(2)
    steps = [model.predict(base.with_columns(signal=pl.lit(value))) for value in np.linspace(-3, 3, 25)]
    moves = np.diff(np.stack(steps), axis=0) * direction
    assert (moves >= 0).all()


def test_a_request_weighs_half_after_each_half_life():
    days = pl.DataFrame({"as_of_day": [30, 20, 10, 30]})
    assert groups.recency_weight(days, 10.0).tolist() == [1, 0.5, 0.25, 1]
    assert groups.recency_weight(days, None) is None


def test_recent_requests_are_learned_and_old_ones_are_not():
    old = lists(0).with_columns(signal=-pl.col("signal"), as_of_day=pl.lit(0))
    new = lists(3).with_columns(as_of_day=pl.lit(400), request=pl.col("request") + 1000)
    both, held_out = pl.concat([old, new.select(old.columns)]), lists(2)
    weighed = fitted(train=both, config=changed(recency_half_life_days=10.0, min_child_samples=2, patience=40))
    chance = mean_ndcg(np.zeros(held_out.height), held_out)
    assert mean_ndcg(weighed.predict(held_out), held_out) > chance + 0.15
