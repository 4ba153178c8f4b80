"""Cells of sparse rows, looked up."""

import numpy as np
import pytest
from scipy import sparse

from features import by_day
from features.by_day import RowsByDay, cells_of


@pytest.mark.parametrize("cells", [1, 7, 25, 10_000])  # a row at a time, even ones narrower than a row, some, all
def test_cells_are_those_of_the_matrix_however_many_rows_are_written_out_at_a_time(cells, monkeypatch):
    monkeypatch.setattr(by_day, "_CELLS", cells)
    rng = np.random.default_rng(0)
    dense = rng.integers(1, 9, (11, 12)) * (rng.random((11, 12)) < 0.4)
    dense[[0, 5, 10]] = 0
    left = sparse.csr_matrix(dense)
    product = sparse.csr_matrix(left @ sparse.csr_matrix(rng.integers(0, 2, (12, 12))))  # indices in no order
    row, column = rng.integers(0, 11, 500), rng.integers(0, 12, 500)
    found = cells_of(product, row, column)
    assert found.dtype == product.dtype
    assert found.tolist() == product.toarray()[row, column].tolist()


def test_nothing_asked_and_nothing_there():
    none = np.empty(0, np.int64)
    assert cells_of(sparse.csr_matrix((3, 4), dtype=np.int64), none, none).tolist() == []
    assert cells_of(sparse.csr_matrix((0, 4)), none, none).tolist() == []
    assert cells_of(sparse.csr_matrix((2, 4)), np.array([1, 0]), np.array([3, 0])).tolist() == [0.0, 0.0]


def test_after_nobody_somebody_may_ask_about_the_same_day():
    rows = RowsByDay(lambda user, day: sparse.csr_matrix(np.outer(user, [day, 0])))
    assert rows.of(np.empty(0, np.int64), 7).shape == (0, 2)
    assert rows.of(np.array([2, 3]), 7).toarray().tolist() == [[14, 0], [21, 0]]
