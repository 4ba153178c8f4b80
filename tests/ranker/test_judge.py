"""Two requests by hand: user 7 asks request 0, user 8 asks request 1."""

import math

import numpy as np
import polars as pl
import pytest

from features.errors import ContractError
from features.requests.engaged import SLICES
from ranker.compare import holm
from ranker.config import EvaluationConfig
from ranker.judge import Judged, Window, judge, pooled

CONFIG = EvaluationConfig(cutoffs=(1, 2), resamples=100)
SECOND = 1 / math.log2(3)  # discount of rank 2


def pairs(*rows, **columns):
    return pl.DataFrame(
        [*rows],
        schema={"request": pl.UInt32, "item": pl.UInt32, **columns},
        orient="row",
    )


WINDOW = Window(
    requests=pl.DataFrame({"request": [0, 1], "user": [7, 8]}, schema_overrides={"request": pl.UInt32}),
    truth=pairs((0, 0, 1, False), (0, 1, 1, True), (1, 2, 1, True), label=pl.Int32, is_new=pl.Boolean),
    had_before=pairs((0, 0), (1, 3)),
    cold=pl.Series([2], dtype=pl.UInt32),
)
GOOD = pairs((0, 0, 3.0), (0, 1, 2.0), (0, 3, 1.0), (1, 3, 2.0), (1, 2, 1.0), score=pl.Float64)
POOR = pairs((0, 3, 3.0), (0, 0, 2.0), score=pl.Float64)  # has no list for request 1
CANDIDATES = pairs((0, 0), (0, 3), (1, 2))


def judged(systems=None, **options) -> Judged:
    systems = systems or {"good": GOOD, "poor": POOR}
    return judge(WINDOW, systems, candidates=CANDIDATES, config=CONFIG, seed=0, **options)


@pytest.mark.parametrize(
    ("slice_name", "metric", "good", "poor", "requests"),
    [
        ("all", "ndcg@1", (1 + 0) / 2, 0.0, 2),
        ("all", "ndcg@2", (1 + SECOND) / 2, SECOND / (1 + SECOND) / 2, 2),
        ("all", "recall@1", (1 / 2 + 0) / 2, 0.0, 2),
        ("all", "recall@2", 1.0, (1 / 2 + 0) / 2, 2),
        ("repeat", "ndcg@1", 1.0, 1.0, 1),  # item 0 alone is known: 3 is not ranked here
        ("new-to-user", "ndcg@1", 1.0, 0.0, 2),  # without item 0; and without 3, which request 1 knows
        ("new-to-user", "recall@2", 1.0, 0.0, 2),
        ("cold item", "ndcg@1", 1.0, 0.0, 1),
    ],
)
def test_a_slice_keeps_its_items_in_truth_and_lists_alike(slice_name, metric, good, poor, requests):
    verdict = judged()
    for system, mean in (("good", good), ("poor", poor)):
        row = verdict.row(system, slice_name, metric)
        assert row["mean"] == pytest.approx(mean, abs=1e-12)
        assert row["requests"] == requests
        assert row["users"] == requests


def test_systems_are_compared_request_by_request():
    pair = judged(compared=[("good", "poor")]).pair("good", "poor", "all", "ndcg@1")
    assert pair["difference"] == pytest.approx((1 + 0) / 2)
    assert (pair["wins"], pair["ties"], pair["losses"]) == (1, 1, 0)
    other = judged(compared=[("poor", "good")]).pair("poor", "good", "all", "ndcg@1")
    assert (other["wins"], other["ties"], other["losses"]) == (0, 1, 1)
    assert other["difference"] == -pair["difference"]


def many_users(n_users=120, seed=3):
    """Each user asks once: item 0 is true and known to every third, item 1 is true and new; item 2 is wrong."""
    rng = np.random.default_rng(seed)
    request = range(n_users)
    had_before = [(user, 0) for user in request if user % 3 == 0]
    truth = [(user, item, 1, item == 1) for user in request for item in ([0, 1] if user % 3 == 0 else [1])]
    window = Window(
        requests=pl.DataFrame({"request": request, "user": request}, schema_overrides={"request": pl.UInt32}),
        truth=pairs(*truth, label=pl.Int32, is_new=pl.Boolean),
        had_before=pairs(*had_before),
        cold=pl.Series([], dtype=pl.UInt32),
    )
    lists = [
        pairs(
            *((user, item, (item < 2) * lift + rng.random()) for user in request for item in range(3)), score=pl.Float64
        )
        for lift in (0.9, 0.1)
    ]
    return window, dict(zip(["good", "poor"], lists, strict=True))


def test_p_values_are_adjusted_over_the_slices_that_are_judged():
    window, systems = many_users()

    def compared(effect):
        config = EvaluationConfig(cutoffs=(2,), resamples=999, effect=effect)
        verdict = judge(window, systems, candidates=CANDIDATES, config=config, seed=0, compared=[("good", "poor")])
        return {row["slice"]: row for row in verdict.pairs.iter_rows(named=True)}

    rows = compared(effect=1.0)
    assert list(rows) == ["all", "repeat", "new-to-user"]
    assert [rows[name]["p_holm"] for name in rows] == holm([rows[name]["p_value"] for name in rows])
    assert rows["all"]["p_holm"] > rows["all"]["p_value"]
    apart = sorted(rows, key=lambda name: rows[name]["detectable"])
    assert rows[apart[1]]["detectable"] > rows[apart[0]]["detectable"] == 0.0  # repeats: one item to rank
    fewer = compared(effect=(rows[apart[1]]["detectable"] + rows[apart[2]]["detectable"]) / 2)
    assert fewer[apart[2]]["p_holm"] is None  # too small a sample: shown, and not judged
    assert fewer[apart[2]]["difference"] == rows[apart[2]]["difference"]
    assert [fewer[name]["p_holm"] for name in apart[:2]] == holm([rows[name]["p_value"] for name in apart[:2]])


def test_a_slice_of_a_single_user_is_not_judged():
    row = judged(compared=[("good", "poor")]).pair("good", "poor", "repeat", "ndcg@1")
    assert math.isnan(row["detectable"])
    assert row["p_holm"] is None


def test_an_interval_over_a_single_user_is_undefined():
    row = judged().row("good", "cold item", "ndcg@1")
    assert row["mean"] == 1.0
    assert math.isnan(row["low"])


def test_the_ceiling_is_the_share_of_positives_among_the_candidates():
    # request 0: item 0 of 0 and 1; request 1: item 2 of 2
    assert dict(judged().ceiling.rows()) == {"all": 0.75, "repeat": 1.0, "new-to-user": 0.5, "cold item": 1.0}


def test_a_slice_without_a_true_item_is_left_out():
    window = Window(WINDOW.requests, WINDOW.truth, WINDOW.had_before, pl.Series([], dtype=pl.UInt32))
    verdict = judge(window, {"good": GOOD}, candidates=CANDIDATES, config=CONFIG, seed=0)
    assert set(verdict.table["slice"]) == {"all", "repeat", "new-to-user"}
    assert dict(verdict.ceiling.rows())["cold item"] is None


def test_order_of_rows_and_systems_changes_nothing():
    mixed = {"poor": POOR.reverse(), "good": GOOD.reverse()}
    keys = ["system", "slice", "metric"]
    assert judged(mixed).table.sort(keys).equals(judged().table.sort(keys))


def test_scores_without_a_place_in_an_order_are_refused():
    with pytest.raises(ContractError, match="1 of 5 rows have a NaN score"):
        judged({"good": GOOD.with_columns(score=pl.when(pl.col("item") == 1).then(math.nan).otherwise("score"))})
    with pytest.raises(ContractError, match=r"repeat a \(request_id, item_id\)"):
        judged({"good": pl.concat([GOOD, GOOD.head(1)])})


def test_windows_are_pooled_as_one_and_a_user_of_both_is_one_cluster():
    """By hand: a - b is 1 and 0 for user 1 in the windows, and -0.5 for user 2 in the second."""
    names = ["ndcg@5", "recall@5"]

    def window(rows):
        told = [
            {"system": system, "slice": "all", "request": request, "user": user, **dict.fromkeys(names, value)}
            for system, place in (("a", 0), ("b", 1))
            for request, user, *values in rows
            for value in [values[place]]
        ]
        return pl.DataFrame(told, schema_overrides={"request": pl.UInt32, "user": pl.UInt32})

    nothing = dict.fromkeys(SLICES)
    first = (window([(0, 1, 1.0, 0.0)]), nothing | {"all": 0.25})
    second = (window([(0, 1, 0.5, 0.5), (1, 2, 0.0, 0.5)]), nothing | {"all": 1.0})
    windows, recalls = zip(first, second, strict=True)
    config = EvaluationConfig(cutoffs=(5,), resamples=100)
    judged = pooled(windows, recalls, config=config, seed=0, compared=[("a", "b")])
    pair = judged.pair("a", "b", "all", "ndcg@5")
    assert pair["difference"] == pytest.approx((1.0 + 0.0 - 0.5) / 3)
    # Two clusters: of user 1 (sum 1, two requests) and user 2 (sum -0.5, one); both are drawn, or one of them twice.
    assert pair["low"] == pytest.approx(-0.5)
    assert pair["high"] == pytest.approx(0.5)
    assert (pair["wins"], pair["ties"], pair["losses"]) == (1, 1, 1)
    row = judged.row("a", "all", "ndcg@5")
    assert (row["requests"], row["users"]) == (3, 2)
    assert row["mean"] == pytest.approx(0.5)
    assert judged.ceiling.rows() == [("all", 0.75), ("repeat", None), ("new-to-user", None), ("cold item", None)]
    apart = [
        rows.with_columns(user=pl.col("user") + pl.lit(10 * number, pl.UInt32)) for number, rows in enumerate(windows)
    ]
    # Taken for three users, the mean of user 1 alone could be 1.
    assert (
        pooled(apart, recalls, config=config, seed=0, compared=[("a", "b")]).pair("a", "b", "all", "ndcg@5")["high"]
        > 0.5
    )


def test_ndcg_by_value_counts_the_raised_labels_and_leaves_the_others_as_they_were():
    """Item 1 (label 1, by value 3) stands second, item 2 (label 1) first: gains 7 and 1 in place of 1 and 1."""
    kinds = {"request": pl.UInt32, "item": pl.UInt32, "label": pl.Int32, "value_label": pl.Int32}
    rows = {"request": [0, 0], "item": [1, 2], "label": [1, 1], "is_new": [True, True], "value_label": [3, 1]}
    truth = pl.DataFrame(rows, schema_overrides=kinds)
    asked = pl.DataFrame({"request": [0], "user": [7]}, schema_overrides={"request": pl.UInt32})
    lists = pl.DataFrame({"request": [0, 0], "item": [1, 2], "score": [1.0, 2.0]}, schema_overrides=kinds)
    had_before = pl.DataFrame(schema={"request": pl.UInt32, "item": pl.UInt32})

    def judged(truth):
        window = Window(asked, truth, had_before, pl.Series([], dtype=pl.UInt32))
        better = lists.with_columns(score=-pl.col("score"))
        systems = {"a": lists, "b": better}
        return judge(window, systems, candidates=lists, config=CONFIG, seed=0, compared=[("b", "a")])

    found, plain = judged(truth), judged(truth.drop("value_label"))
    assert found.row("a", "all", "ndcg@2 (value)")["mean"] == pytest.approx((1 + 7 * SECOND) / (7 + SECOND))
    assert found.row("a", "all", "ndcg@2")["mean"] == 1.0
    pair = found.pair("b", "a", "all", "ndcg@2 (value)")
    assert pair["difference"] == pytest.approx(1 - (1 + 7 * SECOND) / (7 + SECOND))
    assert found.table.filter(~pl.col("metric").str.contains("value")).equals(plain.table)
    assert found.pairs.filter(~pl.col("metric").str.contains("value")).equals(plain.pairs)
