"""The best of each request, ties by item code, of tables, sparse rows and dense rows alike."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from features.signals import top_k as module
from features.signals.top_k import NOTHING, leaders, leaders_of_blocks, top_k, top_k_of_rows


def ordered(dense, most, *, numbers, codes):
    """request, item, score, rank of the scores above 0 of each row, by sorting pairs."""
    expected = []
    for number, row in zip(numbers, dense, strict=True):
        best = sorted((-score, code) for code, score in zip(codes, row, strict=True) if score > 0)
        expected += [(number, code, -score, rank) for rank, (score, code) in enumerate(best[:most], start=1)]
    return expected


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
    found = top_k(pl.DataFrame(rows, schema=schema, orient="row"), most)
    expected = []
    for request in range(4):
        ordered = sorted((-score, item) for r, item, score in rows if r == request)
        expected += [(request, item, -score, rank) for rank, (score, item) in enumerate(ordered[:most], start=1)]
    assert found.rows() == expected


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.integers(0, 1000), st.integers(0, 5), st.integers(0, 9))
def test_rows_and_blocks_of_them_are_cut_alike_ties_by_item(seed, most, n_items):
    rng = np.random.default_rng(seed)
    dense = rng.integers(-1, 4, (7, n_items))  # ties abound
    numbers, codes = np.sort(rng.permutation(20)[:7]), np.sort(rng.permutation(30)[:n_items])
    above = np.maximum(dense, 0)
    shuffled = sparse.csr_matrix(above @ np.eye(n_items)[:, ::-1])[:, ::-1]  # indices descend
    assert top_k_of_rows(shuffled, most).rows() == ordered(dense, most, numbers=range(7), codes=range(n_items))
    expected = ordered(dense, most, numbers=numbers, codes=range(n_items))
    assert top_k(leaders(sparse.csr_matrix(above), most, requests=numbers), most).rows() == expected
    blocks = top_k(leaders_of_blocks(lambda rows: dense[rows], most, requests=numbers, items=codes), most)
    assert blocks.rows() == ordered(dense, most, numbers=numbers, codes=codes)
    assert blocks.schema == NOTHING.schema


@pytest.mark.parametrize("rows", [1, 3, 7])
def test_dense_rows_are_made_so_many_at_a_time(monkeypatch, rows):
    monkeypatch.setattr(module, "_BLOCK_ROWS", rows)
    dense, made = np.arange(35).reshape(7, 5) % 4, []
    found = leaders_of_blocks(
        lambda some: made.append(some.stop - some.start) or dense[some], 2, requests=np.arange(7), items=np.arange(5)
    )
    assert max(made) == rows
    assert sum(made) == 7
    assert top_k(found, 2).rows() == ordered(dense, 2, numbers=range(7), codes=range(5))


def test_of_all_that_tie_with_the_last_the_smallest_items_stay():
    scores = sparse.csr_matrix(np.array([[0, 5, 7, 5, 5, 7, 5]]))
    assert top_k_of_rows(scores, 4).rows() == [(0, 2, 7.0, 1), (0, 5, 7.0, 2), (0, 1, 5.0, 3), (0, 3, 5.0, 4)]
    assert leaders(scores, 2, requests=np.array([8])).rows() == [(8, 2, 7.0), (8, 5, 7.0)]
    assert leaders(scores, 4, requests=np.array([8])).height == 6
