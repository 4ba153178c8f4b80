import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from features.signals.text_neighbours import text_similarity
from features.tables.text import GRID

seeds = st.integers(0, 10_000)


def pairs_of(matrix):
    found = matrix.tocoo()
    return {(int(one), int(two)): value for one, two, value in zip(found.row, found.col, found.data, strict=True)}


@settings(max_examples=25, deadline=None, derandomize=True)
@given(seeds)
def test_text_neighbours_are_exact_dot_products(shop, scan, seed):
    vectors = shop(seed).text_vectors
    assert pairs_of(text_similarity(vectors)) == scan.similar_texts(vectors)


def test_dot_products_of_wide_vectors_are_exact():
    rng = np.random.default_rng(0)
    raw = rng.normal(size=(40, 384))
    vectors = np.round(raw / np.linalg.norm(raw, axis=1, keepdims=True) * GRID).astype(np.int16)
    vectors[1] = vectors[0]
    matrix = text_similarity(vectors)
    whole = vectors.astype(np.int64) @ vectors.T.astype(np.int64)
    np.fill_diagonal(whole, 0)
    assert np.array_equal(matrix.toarray(), np.maximum(whole, 0) / GRID**2)


def test_at_most_a_hundred_neighbours_ties_by_item():
    vectors = np.tile(np.array([[GRID, 0]], dtype=np.int16), (130, 1))
    vectors[120] = (GRID // 2, 0)
    matrix = text_similarity(vectors)
    assert matrix[0].indices.tolist() == list(range(1, 101))
    assert matrix[50].indices.tolist() == [n for n in range(101) if n != 50]
    assert matrix[129].indices.tolist() == list(range(100))
    assert np.diff(matrix.indptr).tolist() == [100] * 130


def test_of_many_items_with_few_texts_the_hundred_nearest_stay():
    rng = np.random.default_rng(0)
    texts = np.array([(GRID - 40 * n, 30 * n * side) for n in range(6) for side in (-1, 1)], np.int16)  # ties abound
    vectors = texts[rng.integers(0, len(texts), 500)]
    matrix = text_similarity(vectors)
    dots = vectors.astype(np.int64) @ vectors.T.astype(np.int64)
    for item in range(len(vectors)):
        others = sorted((other for other in range(len(vectors)) if other != item), key=lambda o: (-dots[item, o], o))
        assert matrix[item].indices.tolist() == sorted(others[:100])


def test_a_catalogue_larger_than_a_block_has_the_same_neighbours(monkeypatch, shop):
    vectors = shop(3, n_items=30).text_vectors
    whole = text_similarity(vectors)
    monkeypatch.setattr("features.signals.text_neighbours._BLOCK_CELLS", 7 * 30)  # seven items a block
    blocked = text_similarity(vectors)
    assert (whole != blocked).nnz == 0
