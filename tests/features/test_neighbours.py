import math
from collections import defaultdict
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.candidates import histories
from features.config import CandidatesConfig
from features.neighbours import GRID, Neighbours, top_per_request

seeds = st.integers(0, 10_000)


def pairs_of(neighbours):
    matrix = neighbours.matrix.tocoo()
    return {(int(one), int(two)): value for one, two, value in zip(matrix.row, matrix.col, matrix.data, strict=True)}


@settings(max_examples=50, deadline=None, derandomize=True)
@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 6), st.integers(0, 2)),
        max_size=20,
        unique_by=lambda r: r[:2],
    ),
    st.integers(0, 4),
)
def test_the_best_of_each_request_ties_by_item(rows, most):
    schema = {"request": pl.UInt32, "item": pl.UInt32, "score": pl.Int64}
    found = top_per_request(pl.DataFrame(rows, schema=schema, orient="row"), most)
    expected = []
    for request in range(4):
        ordered = sorted((-score, item) for r, item, score in rows if r == request)
        expected += [(request, item, -score, rank) for rank, (score, item) in enumerate(ordered[:most], start=1)]
    assert found.rows() == expected


@settings(max_examples=25, deadline=None, derandomize=True)
@given(seeds, st.integers(0, 60), st.sampled_from([1, 2, 5, 100]))
def test_co_visited_neighbours_are_shrunk_cosines(shop, scan, seed, day, most):
    log = shop(seed).log()
    before = log.first_day + day
    found = pairs_of(Neighbours.co_visited(log, before, CandidatesConfig(history_items=most)))
    assert found == pytest.approx(scan(log).co_visited(before, most), rel=1e-12)


def test_co_visited_neighbours_by_hand(shop):
    tables = shop(0, n_events=3)
    pairs = [("u00", "i00"), ("u00", "i01"), ("u01", "i00"), ("u01", "i01"), ("u02", "i01"), ("u02", "i02")]
    users, items = zip(*pairs, strict=True)
    events = tables.events[:1].select(pl.exclude("user_id", "item_id"))
    events = pl.DataFrame({"user_id": users, "item_id": items}).join(events, how="cross")
    log = replace(tables, events=events).log()
    matrix = Neighbours.co_visited(log, log.last_day + 1, CandidatesConfig()).matrix.toarray()
    assert matrix[0, 1] == matrix[1, 0] == 2 / (math.sqrt(2 * 3) + 10)  # one user is no pair: (1, 2)
    assert np.count_nonzero(matrix) == 2


@settings(max_examples=25, deadline=None, derandomize=True)
@given(seeds)
def test_text_neighbours_are_exact_dot_products(shop, scan, seed):
    vectors = shop(seed).text_vectors
    assert pairs_of(Neighbours.by_text(vectors)) == scan.similar_texts(vectors)


def test_dot_products_of_wide_vectors_are_exact():
    rng = np.random.default_rng(0)
    raw = rng.normal(size=(40, 384))
    vectors = np.round(raw / np.linalg.norm(raw, axis=1, keepdims=True) * GRID).astype(np.int16)
    vectors[1] = vectors[0]
    matrix = Neighbours.by_text(vectors).matrix
    whole = vectors.astype(np.int64) @ vectors.T.astype(np.int64)
    np.fill_diagonal(whole, 0)
    assert np.array_equal(matrix.toarray(), np.maximum(whole, 0) / GRID**2)


def test_at_most_a_hundred_neighbours_ties_by_item():
    vectors = np.tile(np.array([[GRID, 0]], dtype=np.int16), (130, 1))
    vectors[120] = (GRID // 2, 0)
    matrix = Neighbours.by_text(vectors).matrix
    assert matrix[0].indices.tolist() == list(range(1, 101))
    assert matrix[50].indices.tolist() == [n for n in range(101) if n != 50]
    assert matrix[129].indices.tolist() == list(range(100))
    assert np.diff(matrix.indptr).tolist() == [100] * 130


def test_of_many_items_with_few_texts_the_hundred_nearest_stay():
    rng = np.random.default_rng(0)
    texts = np.array([(GRID - 40 * n, 30 * n * side) for n in range(6) for side in (-1, 1)], np.int16)  # ties abound
    vectors = texts[rng.integers(0, len(texts), 500)]
    matrix = Neighbours.by_text(vectors).matrix
    dots = vectors.astype(np.int64) @ vectors.T.astype(np.int64)
    for item in range(len(vectors)):
        others = sorted((other for other in range(len(vectors)) if other != item), key=lambda o: (-dots[item, o], o))
        assert matrix[item].indices.tolist() == sorted(others[:100])


def test_a_catalogue_larger_than_a_block_has_the_same_neighbours(monkeypatch, shop):
    vectors = shop(3, n_items=30).text_vectors
    whole = Neighbours.by_text(vectors).matrix
    monkeypatch.setattr("features.neighbours._BLOCK_CELLS", 7 * 30)  # seven items a block
    blocked = Neighbours.by_text(vectors).matrix
    assert (whole != blocked).nnz == 0


@settings(max_examples=15, deadline=None, derandomize=True)
@given(seeds)
def test_neighbours_reach_into_the_history_where_that_is_asked(shop, scan, seed):
    tables = shop(seed)
    log, requests = tables.log(), tables.asked(25)
    history, similar = histories(log, requests, CandidatesConfig()), scan.similar_texts(tables.text_vectors)
    found = Neighbours.by_text(tables.text_vectors).reach(history, 1000, outside=False)
    for request, user, as_of_day in requests.iter_rows():
        expected = defaultdict(float)
        for one, known in scan(log).history(user, as_of_day).items():
            for two in range(tables.items.height):
                expected[two] += known[3] / scan.ONE * similar.get((one, two), 0)
        expected = {item: score for item, score in expected.items() if score > 0}
        scores = dict(found.filter(pl.col("request") == request).select("item", "score").rows())
        assert scores == pytest.approx(expected, rel=1e-12)
