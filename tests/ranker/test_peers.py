"""Our metrics against other people's, where the conventions agree; where they do not, by how much and why."""

from math import log2

import lightgbm as lgb
import numpy as np
import polars as pl
import pytest
from sklearn.metrics import average_precision_score, ndcg_score

from ranker.metrics import mean_metrics, ndcg_at, per_request

CUTOFFS = [1, 5, 10, 30]
RANX = {
    "ndcg": "ndcg_burges",
    "recall": "recall",
    "precision": "precision",
    "hit": "hit_rate",
    "mrr": "mrr",
    "map": "map",
}


def case(n_requests=60, n_items=40, levels=None, seed=0):
    """Lists of 30 of 40 items, and positives among all 40: some are not retrieved. `levels` of score make ties."""
    rng = np.random.default_rng(seed)
    rows, true = [], []
    for request in range(n_requests):
        items = rng.permutation(n_items)
        scores = rng.permutation(30) / 30 if levels is None else rng.integers(0, levels, 30) / levels
        rows += [(request, int(item), float(score)) for item, score in zip(items[:30], scores, strict=True)]
        positive = rng.choice(n_items, size=rng.integers(1, 8), replace=False)
        true += [(request, int(item), int(rng.integers(1, 4))) for item in positive]
    rankings = pl.DataFrame(rows, schema=["request_id", "item_id", "score"], orient="row")
    return rankings, pl.DataFrame(true, schema=["request_id", "item_id", "label"], orient="row")


def dicts(frame, value):
    """As ranx reads a table, in the order of its rows."""
    found = {}
    for request, item, number in frame.select("request_id", "item_id", value).iter_rows():
        found.setdefault(str(request), {})[str(item)] = number
    return found


def by_ranx(rankings, truth, metrics):
    """(requests,) of each metric, in the order of request ids."""
    from ranx import Qrels, Run, evaluate

    qrels, run = Qrels(dicts(truth, "label")), Run(dicts(rankings, "score"))
    evaluate(qrels, run, metrics)
    return {
        metric: np.array([by_request[str(request)] for request in sorted(map(int, by_request))])
        for metric, by_request in run.scores.items()
    }


ranx_warns = pytest.mark.filterwarnings("ignore:unsafe cast from uint64 to int64")


@pytest.mark.slow
@ranx_warns
def test_without_ties_ranx_says_the_same():
    rankings, truth = case()
    ours = per_request(rankings, truth, cutoffs=CUTOFFS)
    theirs = by_ranx(rankings, truth, [f"{theirs}@{k}" for theirs in RANX.values() for k in CUTOFFS])
    for name, theirs_name in RANX.items():
        for k in CUTOFFS:
            np.testing.assert_allclose(ours[f"{name}@{k}"], theirs[f"{theirs_name}@{k}"], rtol=1e-12, err_msg=name)
    linear = per_request(rankings, truth, cutoffs=[10], gain="linear")["ndcg@10"]
    np.testing.assert_allclose(linear, by_ranx(rankings, truth, ["ndcg@10", "mrr@1"])["ndcg@10"], rtol=1e-12)


@pytest.mark.slow
@ranx_warns
def test_with_ties_ranx_follows_the_order_of_rows_and_ours_is_its_mean_over_orders():
    rankings, truth = case(n_requests=30, levels=4)
    ours = mean_metrics(per_request(rankings, truth, cutoffs=[5]))
    names = {name: f"{theirs}@5" for name, theirs in RANX.items()}
    seen = []
    for seed in range(150):
        shuffled = rankings.sample(fraction=1.0, shuffle=True, seed=seed)
        seen.append({name: scores.mean() for name, scores in by_ranx(shuffled, truth, list(names.values())).items()})
    for name, theirs in names.items():
        values = np.array([run[theirs] for run in seen])
        assert values.std() > 0.005
        assert abs(values.mean() - ours[f"{name}@5"]) < 4 * values.std() / np.sqrt(len(values))


@pytest.mark.parametrize("levels", [None, 4], ids=["no ties", "ties"])
def test_average_precision_of_scikit_learn(levels):
    # theirs knows the list alone: its recall is of the retrieved positives
    rankings, truth = case(levels=levels)
    rows = rankings.join(truth, on=["request_id", "item_id"], how="left").with_columns(pl.col("label").fill_null(0) > 0)
    listed = rows.filter(pl.col("label")).select("request_id", "item_id", label=pl.lit(1))
    ours = per_request(rankings, listed, cutoffs=[30])
    wanted = rows.filter(pl.col("request_id").is_in(ours["request_id"].implode()))
    theirs = np.array(
        [
            average_precision_score(group["label"], group["score"])
            for _, group in wanted.group_by("request_id", maintain_order=True)
        ]
    )
    if levels is None:
        np.testing.assert_allclose(ours["map@30"], theirs, rtol=1e-12)
    else:
        assert np.abs(ours["map@30"].to_numpy() - theirs).max() > 0.05


def test_scikit_learn_gives_a_tie_the_precision_at_its_end():
    # one positive in a tie of two at the top: ours is the mean of 1 / 1 and 1 / 2, theirs the 1 / 2
    rankings, truth = (
        pl.DataFrame({"request_id": [1, 1], "item_id": [1, 2], "score": [1.0, 1.0]}),
        pl.DataFrame({"request_id": [1], "item_id": [1], "label": [1]}),
    )
    assert per_request(rankings, truth, cutoffs=[2])["map@2"].item() == (1 + 1 / 2) / 2
    assert average_precision_score([1, 0], [1.0, 1.0]) == 1 / 2


def test_scikit_learn_does_not_know_a_positive_that_was_not_retrieved():
    rankings = pl.DataFrame({"request_id": [1, 1], "item_id": [1, 2], "score": [2.0, 1.0]})
    truth = pl.DataFrame({"request_id": [1, 1], "item_id": [1, 9], "label": [1, 1]})
    assert per_request(rankings, truth, cutoffs=[2])["ndcg@2"].item() == pytest.approx(1 / (1 + 1 / log2(3)))
    assert ndcg_score([[1, 0]], [[2.0, 1.0]], k=2) == 1.0


def lightgbm_says(scores, labels, group, metric="ndcg"):
    """Its own metrics of scores at `CUTOFFS`: a training of one tree that learns nothing, from these scores."""
    features = np.zeros((len(labels), 1))
    train = lgb.Dataset(features, label=labels, group=group, init_score=scores)
    told = {}
    lgb.train(
        {"objective": "lambdarank", "metric": metric, "eval_at": CUTOFFS, "verbosity": -1, "num_threads": 1}
        | {"label_gain": [2**label - 1 for label in range(31)], "feature_pre_filter": False},
        train,
        num_boost_round=1,
        valid_sets=[train],
        valid_names=["all"],
        callbacks=[lgb.record_evaluation(told)],
    )
    return {name: values[0] for name, values in told["all"].items()}


def lists(levels=None, n_requests=80, seed=1):
    rng = np.random.default_rng(seed)
    group = rng.integers(2, 40, size=n_requests)
    n_rows = group.sum()
    scores = rng.permutation(n_rows) / n_rows if levels is None else rng.integers(0, levels, n_rows) / levels
    labels = rng.choice([0, 0, 0, 1, 2, 4], size=n_rows)
    labels[np.cumsum(group) - 1] = 1  # each request has a positive
    return scores, labels, group


@pytest.mark.parametrize("k", CUTOFFS)
def test_without_ties_lightgbm_says_the_same_ndcg(k):
    scores, labels, group = lists()
    assert ndcg_at(scores, labels, group, k).mean() == pytest.approx(lightgbm_says(scores, labels, group)[f"ndcg@{k}"])


def test_lightgbm_counts_a_request_without_a_positive_as_one():
    scores, labels, group = lists()
    first = slice(0, group[0])
    labels[first] = 0
    ours = ndcg_at(scores, labels, group, 10)
    assert np.isnan(ours[0])
    theirs = lightgbm_says(scores, labels, group)["ndcg@10"]
    assert theirs == pytest.approx((1 + np.nansum(ours)) / len(group))
    assert theirs > np.nanmean(ours)


def test_with_ties_lightgbm_follows_the_order_of_rows_and_ours_is_its_mean_over_orders():
    scores, labels, group = lists(levels=3, n_requests=30)
    ours = ndcg_at(scores, labels, group, 5).mean()
    rng = np.random.default_rng(0)
    request = np.repeat(np.arange(len(group)), group)
    seen = []
    for _ in range(150):
        order = np.lexsort((rng.random(len(scores)), request))
        seen.append(lightgbm_says(scores[order], labels[order], group)["ndcg@5"])
    assert np.std(seen) > 0.005
    assert abs(np.mean(seen) - ours) < 4 * np.std(seen) / np.sqrt(len(seen))


def test_lightgbm_divides_the_average_precision_by_what_the_cut_off_has_room_for():
    # positives at ranks 1 and 3 of 4, k = 1: ours divides the 1 by both, theirs by min(2, 1)
    theirs = lightgbm_says(np.array([4.0, 3, 2, 1]), np.array([1, 0, 1, 0]), [4], "map")["map@1"]
    rankings = pl.DataFrame({"request_id": [1] * 4, "item_id": [1, 2, 3, 4], "score": [4.0, 3, 2, 1]})
    truth = pl.DataFrame({"request_id": [1, 1], "item_id": [1, 3], "label": [1, 1]})
    assert per_request(rankings, truth, cutoffs=[1])["map@1"].item() == 1 / 2
    assert theirs == pytest.approx(1.0)
