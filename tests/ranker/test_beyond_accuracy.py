import doctest
from itertools import combinations, pairwise, permutations
from math import log2

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from features.errors import ContractError
from ranker import beyond_accuracy as beyond
from ranker import tables
from ranker.beyond_accuracy import BEYOND_CONVENTIONS, beyond_accuracy, exposure

ITEMS = pl.DataFrame({"item_id": ["a", "b", "c", "d"], "users": [8, 4, 1, 0]})
VECTORS = np.array([[2.0, 0.0], [1.0, 1.0], [0.0, 3.0], [0.0, 0.0]])  # d has no text
ROOT = 0.5**0.5  # cosine of a with b, and of b with c; that of a with c is 0
SCHEMA = ["request_id", "item_id", "score"]


def rankings_of(*rows):
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def judged(rankings, **options):
    return beyond_accuracy(rankings, ITEMS, n_users=8, **({"vectors": VECTORS, "cutoffs": [2, 3]} | options))


def test_every_metric_by_hand():
    found = judged(rankings_of((1, "a", 3.0), (1, "b", 2.0), (1, "c", 1.0), (2, "c", 0.5), (2, "d", 0.1)))
    first, second = found.lists.iter_rows(named=True)
    assert first["popularity@2"] == (8 / 8 + 4 / 8) / 2
    assert first["popularity@3"] == pytest.approx((8 / 8 + 4 / 8 + 1 / 8) / 3)
    assert first["novelty@3"] == pytest.approx((0 + 1 + 3) / 3)
    assert first["diversity@2"] == pytest.approx(1 - ROOT)
    assert first["diversity@3"] == pytest.approx(1 - (ROOT + ROOT + 0) / 3)
    assert second["popularity@3"] == (1 / 8 + 0) / 2  # a short list counts as it is
    assert second["novelty@3"] == (3 + -log2(1 / 8)) / 2  # d, which nobody had, counts as if one user had
    assert second["diversity@3"] is None
    # exposures at 2: a, b, c, d once each; at 3: a 1, b 1, c 2, d 1
    assert found.catalogue == pytest.approx(
        {"coverage@2": 1.0, "gini@2": 0.0, "coverage@3": 1.0, "gini@3": (-3 - 1 + 1 + 3 * 2) / (4 * 5)}
    )
    assert found.means()["diversity@3"] == first["diversity@3"]  # over the lists that have one


def test_a_system_that_shows_all_the_same_item_covers_one_and_is_most_unequal():
    found = judged(rankings_of(*((request, "a", 1.0) for request in range(50))))
    assert found.catalogue["coverage@2"] == 1 / 4
    assert found.catalogue["gini@2"] == pytest.approx(3 / 4)
    assert found.means()["popularity@2"] == 1.0
    assert found.means()["novelty@2"] == 0.0


def over_all_orders(lists, k):
    """Every metric as its definition says, averaged over the orders that ties allow; `lists` of (item, score)."""
    per_list, inside = [], []
    for rows in lists:
        orders = [order for order in permutations(rows) if all(one[1] >= other[1] for one, other in pairwise(order))]
        tops = [[item for item, _ in order[:k]] for order in orders]
        unit = [vector / max(np.linalg.norm(vector), 1e-9) for vector in VECTORS]
        alike = [[unit[i] @ unit[j] for i, j in combinations(top, 2) if 3 not in (i, j)] for top in tops]
        users = ITEMS["users"].to_list()
        per_list.append(
            {
                f"popularity@{k}": np.mean([np.mean([users[i] / 8 for i in top]) for top in tops]),
                f"novelty@{k}": np.mean([np.mean([-log2(max(users[i], 1) / 8) for i in top]) for top in tops]),
                f"diversity@{k}": 1 - np.sum([sum(a) for a in alike]) / n if (n := sum(map(len, alike))) else None,
            }
        )
        inside.append([np.mean([item in top for top in tops]) for item in range(4)])
    return per_list, 1 - np.prod(1 - np.array(inside), axis=0)


a_list = st.permutations(range(4)).flatmap(
    lambda items: st.lists(st.sampled_from([0.0, 1.0, 2.0]), min_size=1, max_size=4).map(
        lambda scores: list(zip(items, scores, strict=False))
    )
)


@settings(max_examples=80, deadline=None)
@given(st.lists(a_list, min_size=1, max_size=3), st.integers(1, 4))
def test_ties_equal_the_mean_over_all_orders(lists, k):
    names = ITEMS["item_id"].to_list()
    rows = [(request, names[item], score) for request, rows in enumerate(lists) for item, score in rows]
    found = judged(rankings_of(*rows), cutoffs=[k])
    expected, covered = over_all_orders(lists, k)
    for row, by_hand in zip(found.lists.iter_rows(named=True), expected, strict=True):
        assert {name: row[name] for name in by_hand} == pytest.approx(by_hand, abs=1e-6)  # vectors are float32
    assert found.catalogue[f"coverage@{k}"] == pytest.approx(covered.mean())


def random_case(n_requests, n_items=30, seed=0):
    rng = np.random.default_rng(seed)
    rows = [
        (request, int(item), float(rng.integers(0, 6)))
        for request in range(n_requests)
        for item in rng.permutation(n_items)[: rng.integers(1, 15)]
    ]
    items = pl.DataFrame({"item_id": range(n_items), "users": rng.integers(0, 50, size=n_items)})
    return rankings_of(*rows), items, rng.normal(size=(n_items, 5))


def test_order_of_rows_and_of_items_changes_no_bit():
    rankings, items, vectors = random_case(200)
    expected = beyond_accuracy(rankings, items, n_users=50, vectors=vectors)
    order = np.random.default_rng(1).permutation(items.height)
    shuffled = rankings.sample(fraction=1.0, shuffle=True, seed=2)
    again = beyond_accuracy(shuffled, items, n_users=50, vectors=vectors)
    assert_frame_equal(again.lists, expected.lists, check_exact=True)
    assert again.catalogue == expected.catalogue
    other = beyond_accuracy(shuffled, items[order], n_users=50, vectors=vectors[order])
    assert_frame_equal(other.lists, expected.lists)
    assert other.catalogue == pytest.approx(expected.catalogue)


def test_blocks_change_nothing(monkeypatch):
    rankings, items, vectors = random_case(300)
    expected = beyond_accuracy(rankings, items, n_users=50, vectors=vectors)
    monkeypatch.setattr(tables, "BLOCK_ROWS", 100)
    monkeypatch.setattr(beyond, "_VECTOR_ROWS", 7)
    again = beyond_accuracy(rankings, items, n_users=50, vectors=vectors)
    assert_frame_equal(again.lists, expected.lists, check_exact=True)
    assert again.catalogue == pytest.approx(expected.catalogue)


def test_a_constant_score_shows_everything_a_little():
    rows = [(request, item, 1.0) for request in range(40) for item in "abcd"]
    found = judged(rankings_of(*rows), cutoffs=[1])
    assert found.catalogue["gini@1"] == pytest.approx(0.0)
    assert found.catalogue["coverage@1"] == pytest.approx(1 - (3 / 4) ** 40)
    assert found.means()["popularity@1"] == pytest.approx((8 + 4 + 1 + 0) / 8 / 4)


def test_length_of_a_vector_changes_nothing_and_no_vectors_make_no_diversity():
    rankings = rankings_of((1, "a", 3.0), (1, "b", 2.0))
    assert judged(rankings, vectors=VECTORS * 7).lists.equals(judged(rankings).lists)
    assert not [name for name in judged(rankings, vectors=None).lists.columns if name.startswith("diversity")]


def test_no_list_gives_no_row_and_nan():
    found = judged(rankings_of((1, "a", 3.0)).clear())
    assert found.lists.height == 0
    assert np.isnan(list(found.means().values())).all()


GOOD = rankings_of((1, "a", 1.0), (1, "b", 0.0))


@pytest.mark.parametrize(
    ("rankings", "items", "options", "message"),
    [
        (GOOD, ITEMS, {"cutoffs": [0]}, r"cut-offs are \[0\]"),
        (GOOD.with_columns(score=np.nan), ITEMS, {}, "2 of 2 rows have a NaN score"),
        (GOOD, ITEMS.drop("users"), {}, "items: there is no column users"),
        (GOOD, ITEMS[[0, 0, 1]], {"vectors": None}, "items: 1 of 3 rows repeat an item_id"),
        (GOOD, ITEMS[1:], {"vectors": None}, "rankings: 1 of 2 rows have an item that items lacks"),
        (GOOD.with_columns(item_id=pl.Series([1, 2])), ITEMS, {}, "item_id is Int64 in rankings and String in items"),
        (GOOD, ITEMS, {"n_users": 7}, "1 of 4 rows have users missing, below 0 or above n_users"),
        (GOOD, ITEMS.cast({"users": pl.Float64}), {}, "users is Float64: give whole counts"),
        (GOOD, ITEMS.with_columns(users=0), {"n_users": 0}, "n_users is 0: give the number of users"),
        (GOOD, ITEMS, {"vectors": VECTORS[:3]}, r"vectors have shape \(3, 2\): give one a row of items \(4\)"),
        (GOOD, ITEMS, {"vectors": VECTORS[:, 0]}, r"vectors have shape \(4,\)"),
        (GOOD, ITEMS, {"vectors": np.full((4, 2), np.nan)}, "vectors are not finite"),
    ],
)
def test_each_fault_is_named_alone(rankings, items, options, message):
    with pytest.raises(ContractError, match=message) as caught:
        beyond_accuracy(rankings, items, **({"n_users": 8, "vectors": VECTORS} | options))
    assert str(caught.value).count("\n- ") == 1


def test_conventions_name_every_metric():
    for word in ("Popularity", "Novelty", "Diversity", "Coverage", "Gini", "Ties"):
        assert word in BEYOND_CONVENTIONS


def test_docstring_examples_hold():
    assert doctest.testmod(beyond) == doctest.TestResults(failed=0, attempted=7)


def test_exposure_counts_first_places_and_shares_those_that_are_tied():
    """Request 1 shows a, then b or c by chance; request 2 shows c alone."""
    rankings = pl.DataFrame(
        {"request_id": [1, 1, 1, 2], "item_id": ["a", "b", "c", "c"], "score": [0.9, 0.5, 0.5, 0.1]}
    )
    items = pl.Series(["c", "b", "a", "z"])
    exposed = exposure(rankings, items, k=2)
    assert exposed.rows() == [("c", 1.5), ("b", 0.5), ("a", 1.0), ("z", 0.0)]
    with pytest.raises(ContractError, match="cut-offs are"):
        exposure(rankings, items, k=0)
