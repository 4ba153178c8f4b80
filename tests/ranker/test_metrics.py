import doctest
from itertools import chain, groupby, permutations, product
from math import comb, log2

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from sklearn.metrics import ndcg_score, roc_auc_score

from features.errors import ContractError
from ranker import metrics
from ranker import tables as tables_read
from ranker.metrics import CONVENTIONS, mean_metrics, ndcg_at, per_request

CUTOFFS = [1, 2, 3, 10]
NAMES = ["ndcg", "recall", "precision", "hit", "mrr", "map"]


def rankings_of(*rows):
    return pl.DataFrame(rows, schema=["request_id", "item_id", "score"], orient="row")


def truth_of(*rows):
    return pl.DataFrame(rows, schema=["request_id", "item_id", "label"], orient="row")


def judged(rankings, truth, **settings_):
    frame = per_request(rankings, truth, **settings_)
    assert frame.height == 1
    return frame.row(0, named=True)


def tables(lists, missed=()):
    """Both tables of requests 0, 1, ..., each a list of (score, label); `missed` are labels not retrieved."""
    rows = [(r, i, score, label) for r, rows in enumerate(lists) for i, (score, label) in enumerate(rows)]
    schema = {"request_id": pl.Int64, "item_id": pl.Int64, "score": pl.Float64, "label": pl.Int64}
    listed = pl.DataFrame(rows, schema=schema, orient="row")
    lost = [(r, 1000 + i, 0.0, label) for r, labels in enumerate(missed) for i, label in enumerate(labels)]
    truth = pl.concat([listed, pl.DataFrame(lost, schema=schema, orient="row")]).drop("score")
    return listed.drop("label"), truth


def by_definition(labels, all_labels, k, gain):
    """Every metric of one order of labels without ties, as the textbook says it."""
    worth = (lambda label: 2**label - 1) if gain == "exponential" else float
    positives = sum(label > 0 for label in all_labels)
    hits = [rank for rank, label in enumerate(labels[:k], start=1) if label > 0]
    dcg = sum(worth(label) / log2(rank + 1) for rank, label in enumerate(labels[:k], start=1))
    best = sorted(all_labels, reverse=True)[:k]
    ideal = sum(worth(label) / log2(rank + 1) for rank, label in enumerate(best, start=1))
    return {
        f"ndcg@{k}": dcg / ideal,
        f"recall@{k}": len(hits) / positives,
        f"precision@{k}": len(hits) / k,
        f"hit@{k}": float(bool(hits)),
        f"mrr@{k}": 1 / hits[0] if hits else 0.0,
        f"map@{k}": sum((n + 1) / rank for n, rank in enumerate(hits)) / positives,
    }


def over_all_orders(rows, missed, k, gain):
    """The mean of `by_definition` over every order that the ties among rows of (score, label) allow."""
    ranked = sorted(rows, key=lambda row: -row[0])
    tied = [[label for _, label in group] for _, group in groupby(ranked, key=lambda row: row[0])]
    orders = [list(chain(*order)) for order in product(*(permutations(labels) for labels in tied))]
    every = [label for _, label in rows] + list(missed)
    results = [by_definition(order, every, k, gain) for order in orders]
    return {name: np.mean([result[name] for result in results]) for name in results[0]}


# A request's list with many ties, and the labels that were not retrieved; at least one positive in all.
requests = st.tuples(
    st.lists(st.tuples(st.sampled_from([-1.5, 0.0, 2.0]), st.sampled_from([0, 0, 1, 2, 4])), max_size=5),
    st.lists(st.sampled_from([1, 3]), max_size=2),
).filter(lambda request: any(label for _, label in request[0]) or request[1])


def test_every_metric_by_hand():
    rankings = rankings_of((7, "a", 0.9), (7, "b", 0.5), (7, "c", 0.4), (7, "d", 0.1))
    truth = truth_of((7, "b", 2), (7, "d", 1), (7, "z", 3))

    row = judged(rankings, truth, cutoffs=[3, 4])

    assert row["request_id"] == 7
    ideal = (2**3 - 1) / log2(2) + (2**2 - 1) / log2(3) + (2**1 - 1) / log2(4)
    assert row["ndcg@3"] == pytest.approx((2**2 - 1) / log2(3) / ideal)
    assert row["ndcg@4"] == pytest.approx(((2**2 - 1) / log2(3) + (2**1 - 1) / log2(5)) / ideal)
    assert (row["recall@3"], row["recall@4"]) == (1 / 3, 2 / 3)
    assert (row["precision@3"], row["precision@4"]) == (1 / 3, 2 / 4)
    assert (row["hit@3"], row["mrr@3"]) == (1.0, 1 / 2)
    assert row["map@3"] == pytest.approx((1 / 2) / 3)
    assert row["map@4"] == pytest.approx((1 / 2 + 2 / 4) / 3)
    assert row["auc"] == pytest.approx(1 / 4)  # of b-a, b-c, d-a, d-c only b stands above c


def test_linear_gain_by_hand():
    rankings = rankings_of((1, "a", 2.0), (1, "b", 1.0))
    row = judged(rankings, truth_of((1, "a", 1), (1, "b", 3)), cutoffs=[2], gain="linear")
    assert row["ndcg@2"] == pytest.approx((1 / log2(2) + 3 / log2(3)) / (3 / log2(2) + 1 / log2(3)))


def test_columns_come_in_the_documented_order():
    rankings, truth = tables([[(1.0, 1)]])
    expected = ["request_id", *(f"{name}@{k}" for k in (5, 10) for name in NAMES), "auc"]
    assert per_request(rankings, truth).columns == expected


def test_cut_off_inside_a_tie_counts_the_expectation():
    # rank 1 is a negative; two positives and one negative share ranks 2 to 4; the cut-off leaves ranks 2, 3
    rankings = rankings_of((1, "a", 9.0), (1, "b", 5.0), (1, "c", 5.0), (1, "d", 5.0))
    row = judged(rankings, truth_of((1, "b", 1), (1, "c", 1)), cutoffs=[2, 3])

    ideal = 1 / log2(2) + 1 / log2(3)
    assert row["ndcg@3"] == pytest.approx(2 / 3 * (1 / log2(3) + 1 / log2(4)) / ideal)
    assert row["recall@3"] == pytest.approx(2 / 3 * 2 / 2)
    assert row["precision@3"] == pytest.approx(2 / 3 * 2 / 3)
    assert row["hit@2"] == pytest.approx(2 / 3)
    assert row["hit@3"] == 1.0
    assert row["mrr@2"] == pytest.approx(2 / 3 * 1 / 2)
    assert row["mrr@3"] == pytest.approx(2 / 3 * 1 / 2 + 1 / 3 * 1 / 3)
    # orders of ranks 2 and 3: ++ gives 1/2 + 2/3, +- gives 1/2, -+ gives 1/3, each with probability 1/3
    assert row["map@3"] == pytest.approx(((1 / 2 + 2 / 3) + 1 / 2 + 1 / 3) / 3 / 2)


@settings(max_examples=60, deadline=None)
@given(st.lists(requests, min_size=1, max_size=3), st.sampled_from(["exponential", "linear"]))
def test_ties_equal_the_mean_over_all_orders(drawn, gain):
    rankings, truth = tables(*zip(*drawn, strict=True))
    result = per_request(rankings, truth, cutoffs=CUTOFFS, gain=gain)

    assert result["request_id"].to_list() == list(range(len(drawn)))
    for row, (rows, missed) in zip(result.iter_rows(named=True), drawn, strict=True):
        for k in CUTOFFS:
            expected = over_all_orders(rows, missed, k, gain)
            assert {name: row[name] for name in expected} == pytest.approx(expected, abs=1e-12)


def test_a_long_tie_by_its_closed_forms():
    # 3 positives among 50 tied rows
    rankings, truth = tables([[(0.5, int(place < 3)) for place in range(50)]])
    row = judged(rankings, truth, cutoffs=[10])
    first_at = [comb(50 - rank, 2) / comb(50, 3) for rank in range(1, 11)]
    assert row["hit@10"] == pytest.approx(1 - comb(47, 10) / comb(50, 10))
    assert row["mrr@10"] == pytest.approx(sum(share / rank for rank, share in enumerate(first_at, start=1)))
    precisions = [(1 + (rank - 1) * 2 / 49) / rank for rank in range(1, 11)]
    assert row["map@10"] == pytest.approx(3 / 50 * sum(precisions) / 3)
    assert row["precision@10"] == pytest.approx(3 / 50)
    assert row["auc"] == 1 / 2


@settings(max_examples=60, deadline=None)
@given(requests)
def test_auc_agrees_with_scikit_learn_within_the_list(request_):
    rows, missed = request_
    rankings, truth = tables([rows], [missed])
    hits = [label > 0 for _, label in rows]
    auc = judged(rankings, truth)["auc"]
    if len(set(hits)) < 2:
        assert auc is None
    else:
        assert auc == pytest.approx(roc_auc_score(hits, [score for score, _ in rows]))


@settings(max_examples=40, deadline=None)
@given(st.lists(requests, min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_order_of_rows_changes_nothing(drawn, random):
    rankings, truth = tables(*zip(*drawn, strict=True))
    shuffled = [frame[random.sample(range(frame.height), frame.height)] for frame in (rankings, truth)]
    assert_frame_equal(
        per_request(*shuffled, cutoffs=CUTOFFS),
        per_request(rankings, truth, cutoffs=CUTOFFS),
        check_exact=True,
    )


@settings(max_examples=40, deadline=None)
@given(st.lists(requests, min_size=1, max_size=4))
def test_a_rising_transform_of_the_scores_changes_nothing(drawn):
    rankings, truth = tables(*zip(*drawn, strict=True))
    curved = rankings.with_columns((pl.col("score") * 3 - 7).exp())
    assert_frame_equal(per_request(curved, truth), per_request(rankings, truth), check_exact=True)


def test_id_and_score_dtypes_change_nothing():
    rankings, truth = random_tables(40, 12)
    expected = per_request(rankings, truth)
    as_text = [frame.with_columns(pl.format("item {}", "item_id").alias("item_id")) for frame in (rankings, truth)]
    assert_frame_equal(per_request(*as_text), expected, check_exact=True)
    in_steps = rankings.with_columns(pl.col("score").cast(pl.Int8))
    assert_frame_equal(
        per_request(in_steps, truth),
        per_request(in_steps.cast({"score": pl.Float32}), truth),
        check_exact=True,
    )
    graded = truth.with_columns(pl.col("label").cast(pl.Float32))
    assert_frame_equal(per_request(rankings, graded), expected, check_exact=True)


def random_tables(n_requests, n_rows, seed=0):
    """Scores with ties in lists of 1 to n_rows rows, a few positives, some of them not retrieved."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, n_rows + 1, size=n_requests)
    scores = [rng.integers(0, 8, size=length).astype(float).tolist() for length in lengths]
    labels = [rng.choice([0, 0, 0, 1, 3], size=length).tolist() for length in lengths]
    lists = [list(zip(*pair, strict=True)) for pair in zip(scores, labels, strict=True)]
    return tables(lists, [[1] * count for count in rng.integers(0, 3, size=n_requests)])


def test_blocks_of_requests_change_nothing(monkeypatch):
    rankings, truth = random_tables(60, 9)
    absent = truth.with_columns(pl.col("request_id") + 1000)  # requests of the truth that have no list
    truth = pl.concat([truth, absent])
    expected = per_request(rankings, truth)
    monkeypatch.setattr(tables_read, "BLOCK_ROWS", 20)
    assert_frame_equal(per_request(rankings, truth), expected, check_exact=True)
    with pytest.raises(ContractError, match=f"rankings: {rankings.height} of {2 * rankings.height} rows repeat"):
        per_request(pl.concat([rankings, rankings]), truth)


@pytest.mark.parametrize("order", ["sorted", "together", "mixed"])
def test_blocks_of_text_ids_in_any_order_change_nothing(order, monkeypatch):
    named = [frame.with_columns(pl.format("r{}", "request_id").alias("request_id")) for frame in random_tables(60, 9)]
    expected = per_request(*named)
    monkeypatch.setattr(tables_read, "BLOCK_ROWS", 20)
    arranged = {
        "sorted": lambda frame: frame.sort("request_id"),
        "together": lambda frame: frame,  # r2 before r10
        "mixed": lambda frame: frame.sample(fraction=1, shuffle=True, seed=0),
    }
    rankings, truth = map(arranged[order], named)
    assert_frame_equal(per_request(rankings, truth), expected, check_exact=True)
    with pytest.raises(ContractError, match="rankings: 1 of"):
        per_request(pl.concat([rankings, rankings[30:31]]), truth)


def test_colliding_hashes_change_nothing(monkeypatch):
    rankings, truth = random_tables(30, 9)
    expected = per_request(rankings, truth)
    for module in (metrics, tables_read):
        monkeypatch.setattr(module, "KEY_HASH", pl.col("item_id").hash() * 0)
    assert_frame_equal(per_request(rankings, truth), expected, check_exact=True)
    with pytest.raises(ContractError, match="rankings: 1 of"):
        per_request(pl.concat([rankings, rankings.head(1)]), truth)


@pytest.mark.parametrize("levels", [1000, 4], ids=["no ties", "ties"])
@pytest.mark.parametrize("k", [1, 5, 20])
def test_ndcg_agrees_with_scikit_learn(levels, k):
    rng = np.random.default_rng(levels + k)
    n_requests, n_rows = 50, 12
    scores = rng.permuted(np.tile(np.linspace(0, 1, n_rows), (n_requests, 1)), axis=1)
    scores = np.round(scores * levels) / levels
    labels = rng.integers(0, 4, size=(n_requests, n_rows))
    lists = [list(zip(*pair, strict=True)) for pair in zip(scores.tolist(), labels.tolist(), strict=True)]
    ours = per_request(*tables(lists), cutoffs=[k])[f"ndcg@{k}"].to_numpy()
    theirs = [ndcg_score([2**label - 1], [score], k=k) for score, label in zip(scores, labels, strict=True)]
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)
    group = np.full(n_requests, n_rows)
    np.testing.assert_allclose(ndcg_at(scores.ravel(), labels.ravel(), group, k), theirs, rtol=1e-12)


def test_ndcg_at_is_the_ndcg_of_per_request():
    rng = np.random.default_rng(3)
    lists = [
        [(float(rng.integers(0, 6)), int(rng.integers(0, 4))) for _ in range(length)] for length in (1, 9, 2, 33, 4)
    ]
    lists = [[*rows, (0.0, 1)] for rows in lists]
    flat = np.array([row for rows in lists for row in rows])
    fast = ndcg_at(flat[:, 0], flat[:, 1], [len(rows) for rows in lists], 3, "linear")
    slow = per_request(*tables(lists), cutoffs=[3], gain="linear")["ndcg@3"]
    np.testing.assert_array_equal(fast, slow.to_numpy())


def test_ndcg_at_is_nan_without_a_positive():
    value = ndcg_at([0.1, 0.2, 0.3], [0, 0, 1], [2, 0, 1], 5)
    np.testing.assert_array_equal(value, [np.nan, np.nan, 1.0])
    assert ndcg_at([], [], [], 5).tolist() == []
    assert np.isnan(ndcg_at([0.5], [0], [1], 1)).all()


@pytest.mark.parametrize("n_rows", [7, 100])
def test_a_perfect_order_scores_exactly_one(n_rows):
    labels = [0, 0, *np.sort(np.random.default_rng(n_rows).integers(0, 4, size=n_rows - 2)).tolist()]
    rankings, truth = tables([[(float(place), label) for place, label in enumerate(labels)]])
    row = judged(rankings, truth, cutoffs=[3, n_rows])
    exact = ["ndcg@3", "hit@3", "mrr@3", f"ndcg@{n_rows}", f"recall@{n_rows}", "auc"]
    assert {name: row[name] for name in exact} == dict.fromkeys(exact, 1.0)
    assert row[f"map@{n_rows}"] == pytest.approx(1.0)


@pytest.mark.parametrize("k", [3, 5, 10, 20])
def test_rounding_takes_no_ndcg_above_one(k):
    sizes = np.arange(1, 50)
    value = ndcg_at(np.zeros(sizes.sum()), np.ones(sizes.sum()), sizes, k)
    assert value.max() == 1.0
    assert value.min() == pytest.approx(1.0)


def random_ndcg(labels, k):
    """E[NDCG@k] over all orders: each of the k places has the mean gain."""
    gains = 2.0 ** np.asarray(labels) - 1
    discounts = 1 / np.log2(np.arange(k) + 2)
    return gains.mean() * discounts.sum() / (np.sort(gains)[::-1][:k] * discounts).sum()


def test_constant_scores_get_the_random_ndcg():
    labels = [0, 3, 0, 1, 0, 0, 1, 0]
    rankings, truth = tables([[(0.5, label) for label in labels]])
    assert judged(rankings, truth, cutoffs=[3])["ndcg@3"] == pytest.approx(random_ndcg(labels, 3))


def test_shuffled_labels_get_the_random_ndcg():
    rng = np.random.default_rng(11)
    labels = np.array([2, 1, 1] + [0] * 17)
    shuffled = rng.permuted(np.tile(labels, (4000, 1)), axis=1)
    scores = np.tile(np.arange(20.0), 4000)
    value = ndcg_at(scores, shuffled.ravel(), np.full(4000, 20), 10)
    assert abs(value.mean() - random_ndcg(labels, 10)) < 4 * value.std() / np.sqrt(4000)


def test_a_positive_that_was_not_retrieved_is_a_miss():
    rankings, truth = tables([[(2.0, 1), (1.0, 0)]], [[1]])
    row = judged(rankings, truth, cutoffs=[2])
    assert row["recall@2"] == 1 / 2
    assert row["map@2"] == (1 / 1) / 2
    assert row["ndcg@2"] == pytest.approx((1 / log2(2)) / (1 / log2(2) + 1 / log2(3)))


def test_a_short_list_is_not_padded():
    rankings, truth = tables([[(2.0, 1)]])
    row = judged(rankings, truth, cutoffs=[5])
    assert (row["precision@5"], row["recall@5"], row["ndcg@5"]) == (1 / 5, 1.0, 1.0)


def test_a_request_without_a_list_misses_everything():
    rankings = rankings_of(("other", "a", 1.0))
    row = judged(rankings, truth_of(("asked", "a", 1)), cutoffs=[5])
    assert {row[f"{name}@5"] for name in NAMES} == {0.0}
    assert row["auc"] is None


def test_only_requests_with_a_positive_are_judged():
    rankings = rankings_of((1, "a", 1.0), (2, "a", 1.0), (3, "a", 1.0), (3, "b", 0.5))
    truth = truth_of((3, "b", 1), (3, "a", 0), (1, "a", 0))
    assert per_request(rankings, truth)["request_id"].to_list() == [3]


def test_no_positive_and_no_rankings_give_frames_of_the_same_schema():
    rankings, truth = tables([[(1.0, 1), (0.0, 0)]])
    full = per_request(rankings, truth)
    nothing = per_request(rankings, truth.with_columns(label=0))
    assert nothing.schema == full.schema
    assert nothing.height == 0
    missed = per_request(rankings.clear(), truth)
    assert missed.schema == full.schema
    assert missed["ndcg@5"].to_list() == [0.0]


def test_other_columns_are_ignored():
    rankings, truth = tables([[(1.0, 1), (0.0, 0)]])
    wider = rankings.with_columns(label=pl.lit("x"), request=1), truth.with_columns(score=pl.lit("x"))
    assert_frame_equal(per_request(*wider), per_request(rankings, truth))


def test_means_are_over_requests_and_auc_over_those_that_have_one():
    rankings = rankings_of((1, "a", 2.0), (1, "b", 1.0), (2, "a", 1.0))
    truth = truth_of((1, "b", 1), (2, "a", 1), (3, "a", 1))
    means = mean_metrics(per_request(rankings, truth, cutoffs=[1, 2]), n_requests=12)
    assert means["recall@1"] == pytest.approx((0 + 1 + 0) / 3)
    assert means["mrr@2"] == pytest.approx((1 / 2 + 1 + 0) / 3)
    assert means["auc"] == 0.0  # request 1 alone has both kinds
    assert means["requests"] == 3.0
    assert means["share_without_positive"] == pytest.approx((12 - 3) / 12)


def test_means_of_no_requests_are_nan():
    rankings, truth = tables([[(1.0, 0)]])
    means = mean_metrics(per_request(rankings, truth, cutoffs=[1]), n_requests=0)
    assert means.pop("requests") == 0.0
    assert np.isnan(list(means.values())).all()
    assert mean_metrics(per_request(rankings, truth), n_requests=None)["requests"] == 0.0


def test_fewer_asked_than_judged_is_refused():
    rankings, truth = tables([[(1.0, 1)], [(1.0, 1)]])
    with pytest.raises(ContractError, match="2 requests were judged, but n_requests says that only 1 were asked"):
        mean_metrics(per_request(rankings, truth), n_requests=1)


GOOD_RANKINGS = rankings_of(("secret", "a", 1.0), ("secret", "b", 0.0))
GOOD_TRUTH = truth_of(("secret", "a", 1.0), ("secret", "b", 0.0))


def with_first(frame, column, value):
    return frame.with_columns(pl.Series(column, [value, *frame[column].to_list()[1:]], dtype=frame.schema[column]))


@pytest.mark.parametrize(
    ("rankings", "truth", "message"),
    [
        (GOOD_RANKINGS.drop("score"), GOOD_TRUTH, "rankings: there is no column score"),
        (GOOD_RANKINGS, GOOD_TRUTH.drop("item_id"), "truth: there is no column item_id"),
        (GOOD_RANKINGS[[0, 1, 1, 1]], GOOD_TRUTH, r"rankings: 2 of 4 rows repeat a \(request_id, item_id\)"),
        (GOOD_RANKINGS, GOOD_TRUTH[[0, 0, 1]], r"truth: 1 of 3 rows repeat a \(request_id, item_id\)"),
        (with_first(GOOD_RANKINGS, "score", None), GOOD_TRUTH, "rankings: 1 of 2 rows have no score"),
        (with_first(GOOD_RANKINGS, "score", np.nan), GOOD_TRUTH, "rankings: 1 of 2 rows have a NaN score"),
        (
            with_first(GOOD_RANKINGS, "score", np.inf),
            GOOD_TRUTH,
            "rankings: 1 of 2 rows have an infinite score",
        ),
        (
            with_first(GOOD_RANKINGS, "score", -np.inf),
            GOOD_TRUTH,
            "rankings: 1 of 2 rows have an infinite score",
        ),
        (with_first(GOOD_RANKINGS, "item_id", None), GOOD_TRUTH, "rankings: 1 of 2 rows have no item_id"),
        (GOOD_RANKINGS, with_first(GOOD_TRUTH, "request_id", None), "truth: 1 of 2 rows have no request_id"),
        (GOOD_RANKINGS, with_first(GOOD_TRUTH, "label", None), "truth: 1 of 2 rows have no label"),
        (GOOD_RANKINGS, with_first(GOOD_TRUTH, "label", np.nan), "truth: 1 of 2 rows have a NaN label"),
        (GOOD_RANKINGS, with_first(GOOD_TRUTH, "label", -1.0), "truth: 1 of 2 rows have a label below 0"),
        (
            GOOD_RANKINGS,
            with_first(GOOD_TRUTH, "label", 1.5),
            "truth: 1 of 2 rows have a label that is not whole",
        ),
        (GOOD_RANKINGS, with_first(GOOD_TRUTH, "label", 31.0), "truth: 1 of 2 rows have a label above 30"),
        (GOOD_RANKINGS, with_first(GOOD_TRUTH, "label", np.inf), "truth: 1 of 2 rows have a label above 30"),
        (
            GOOD_RANKINGS.cast({"score": pl.String}),
            GOOD_TRUTH,
            "rankings: score is String: cast it to a number",
        ),
        (
            GOOD_RANKINGS,
            GOOD_TRUTH.cast({"request_id": pl.Categorical}),
            "truth: request_id is Categorical.*: cast it to an integer or String",
        ),
        (
            GOOD_RANKINGS.with_columns(item_id=pl.lit(1).cast(pl.UInt32)),
            GOOD_TRUTH,
            "item_id is UInt32 in rankings and String in truth: cast one to the other",
        ),
    ],
)
def test_each_fault_of_a_table_is_named_alone_and_without_ids(rankings, truth, message):
    expected = 2 if "cast it to an integer" in message or "UInt32" in message else 1
    with pytest.raises(ContractError, match=message) as caught:
        per_request(rankings, truth)
    assert 1 <= str(caught.value).count("\n- ") <= expected
    assert "secret" not in str(caught.value)


def test_rows_without_an_id_are_not_also_called_repeats():
    rankings = GOOD_RANKINGS.with_columns(item_id=pl.lit(None, dtype=pl.String))
    with pytest.raises(ContractError) as caught:
        per_request(rankings, GOOD_TRUTH)
    assert str(caught.value).splitlines()[1:] == ["- rankings: 2 of 2 rows have no item_id: drop them"]


def test_all_faults_are_named_at_once():
    rankings = with_first(GOOD_RANKINGS, "score", np.nan)[[0, 1, 1]].with_columns(item_id=pl.Series([1, 2, 2]))
    truth = with_first(GOOD_TRUTH, "label", -3.0)
    with pytest.raises(ContractError) as caught:
        per_request(rankings, truth, cutoffs=[0], gain="cubic")
    assert str(caught.value).splitlines() == [
        "metrics: the input cannot be judged.",
        "- cut-offs are [0]: give whole numbers from 1 up, none twice",
        "- gain is 'cubic': choose exponential or linear",
        "- rankings: 1 of 3 rows have a NaN score: it has no place in an order",
        "- rankings: 1 of 3 rows repeat a (request_id, item_id): keep one row a pair",
        "- truth: 1 of 2 rows have a label below 0: the least is 0, no positive",
        "- item_id is Int64 in rankings and String in truth: cast one to the other",
    ]


@pytest.mark.parametrize("cutoffs", [[], [0], [5, 5], [-1], [2.5], [True]])
def test_odd_cut_offs_are_refused(cutoffs):
    with pytest.raises(ContractError, match="give whole numbers from 1 up, none twice"):
        per_request(GOOD_RANKINGS, GOOD_TRUTH, cutoffs=cutoffs)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0.1, 0.2], [0, 1], [3], 5), "group sums to 3 rows for 2 scores"),
        (([0.1, 0.2], [0, 1], [3, -1], 5), "group sums to 2 rows for 2 scores"),
        (([0.1, 0.2], [0], [2], 5), "1 labels for 2 scores"),
        (([0.1, np.nan], [0, 1], [2], 5), "1 of 2 scores are not finite"),
        (([0.1, -np.inf], [0, 1], [2], 5), "1 of 2 scores are not finite"),
        (([0.1, 0.2], [0, 1.5], [2], 5), "1 of 2 labels are not whole numbers from 0 to 30"),
        (([0.1, 0.2], [np.nan, -1], [2], 5), "2 of 2 labels are not whole numbers from 0 to 30"),
        (([0.1, 0.2], [0, 31], [2], 5), "1 of 2 labels are not whole numbers from 0 to 30"),
        (([[0.1, 0.2]], [0, 1], [2], 5), "must have one dimension each"),
        (([0.1, 0.2], [0, 1], [2], 0), r"cut-offs are \[0\]"),
        (([0.1, 0.2], [0, 1], [2], 5, "cubic"), "gain is 'cubic': choose exponential or linear"),
    ],
)
def test_ndcg_at_refuses_arrays_out_of_contract(arguments, message):
    with pytest.raises(ContractError, match=message):
        ndcg_at(*arguments)


def test_conventions_state_what_a_report_must_print():
    assert CONVENTIONS.startswith("- Request-wise")
    for word in ("not retrieved", "Ties", "exponential", "linear", "padded", "Recall", "MRR", "MAP", "AUC"):
        assert word in CONVENTIONS


def test_docstring_examples_hold():
    assert doctest.testmod(metrics) == doctest.TestResults(failed=0, attempted=8)
