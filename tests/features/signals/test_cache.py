"""Fits and rows are made once for all that ask about a log, and no more are kept than fit; cells are looked up."""

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import pytest
from scipy import sparse

from features.assemble import Assembler
from features.config import CandidatesConfig
from features.signals import cache, ease, queries, similar_users
from features.signals.base import UserSignal
from features.signals.cache import AsOfCache, cells_of


@pytest.mark.parametrize("cells", [1, 7, 25, 10_000])  # a row at a time, even ones narrower than a row, some, all
def test_cells_are_those_of_the_matrix_however_many_rows_are_written_out_at_a_time(cells, monkeypatch):
    monkeypatch.setattr(cache, "_CELLS", cells)
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


@dataclass(frozen=True)
class Ages(UserSignal[np.ndarray]):
    """Days since the week began, by user; it notes what it is asked to make."""

    factor: int = 1
    fits: list = field(default_factory=list, compare=False)
    made: list = field(default_factory=list, compare=False)
    name: ClassVar[str] = "ages"
    most_bytes: ClassVar[int] = 24

    def fit_day(self, log, day):  # noqa: ARG002 - one signature
        return day // 7 * 7

    def fit(self, log, fit_day):  # noqa: ARG002 - one signature
        self.fits.append(fit_day)
        return np.array([fit_day])

    def scores(self, fitted, log, user, day):  # noqa: ARG002 - one signature
        self.made.append((day, user.tolist()))
        return sparse.csr_matrix(np.outer(user, [day - fitted[0], 0]) * self.factor)


def test_a_fit_is_made_once_for_all_days_of_its_week_and_for_logs_that_end_elsewhere(shop):
    log, signal = shop(0).log(), Ages()
    for some in (log, log.before(log.first_day + 3), log):
        assert [AsOfCache(some).fitted(signal, day)[0] for day in (7, 13, 14, 8)] == [7, 7, 14, 7]
    assert AsOfCache(log).fitted(Ages(fits=signal.fits), 9)[0] == 7  # an equal one
    assert signal.fits == [7, 14]
    AsOfCache(shop(1).log()).fitted(signal, 9)
    assert signal.fits == [7, 14, 7]


def test_of_the_fits_of_a_class_those_used_last_are_kept_up_to_the_bound_and_one_in_any_case(shop):
    kept, signal = AsOfCache(shop(0).log()), Ages()
    other = Ages(factor=2, fits=signal.fits)
    for day in (7, 14, 21, 7, 28):  # three of 8 bytes are kept: 14 was used longest ago
        kept.fitted(signal, day)
    assert signal.fits == [7, 14, 21, 28]
    for day in (7, 21, 28):
        kept.fitted(signal, day)
    assert signal.fits == [7, 14, 21, 28]
    kept.fitted(other, 7)  # the same class: 7, used longest ago, makes room
    kept.fitted(signal, 7)
    assert signal.fits == [7, 14, 21, 28, 7, 7]


def test_a_fit_larger_than_the_bound_is_kept_until_the_next(shop, monkeypatch):
    monkeypatch.setattr(Ages, "most_bytes", 1)
    kept, signal = AsOfCache(shop(0).log()), Ages()
    for day in (7, 8, 14, 7):
        kept.fitted(signal, day)
    assert signal.fits == [7, 14, 7]


def test_rows_of_a_day_are_made_again_only_for_users_that_were_not_asked_about(shop):
    kept, signal = AsOfCache(shop(0).log()), Ages()
    assert kept.rows(signal, np.array([1, 4, 5]), 9).toarray().tolist() == [[2, 0], [8, 0], [10, 0]]
    assert kept.rows(signal, np.array([1, 5]), 9).toarray().tolist() == [[2, 0], [10, 0]]
    assert kept.rows(signal, np.array([1]), 10).toarray().tolist() == [[3, 0]]
    assert kept.rows(signal, np.array([2, 5]), 9).toarray().tolist() == [[4, 0], [10, 0]]
    assert kept.rows(Ages(factor=2), np.array([5]), 9).toarray().tolist() == [[20, 0]]
    assert signal.made == [(9, [1, 4, 5]), (10, [1]), (9, [2, 5])]


def test_rows_are_kept_up_to_a_bound(shop, monkeypatch):
    monkeypatch.setattr(cache, "_ROW_BYTES", 1)
    kept, signal = AsOfCache(shop(0).log()), Ages()
    for day in (9, 9, 10, 9):
        kept.rows(signal, np.array([1, 2]), day)
    assert [day for day, _ in signal.made] == [9, 10, 9]


def test_after_nobody_somebody_may_ask_about_the_same_day(shop):
    kept, signal = AsOfCache(shop(0).log()), Ages()
    assert kept.rows(signal, np.empty(0, np.int64), 9).shape == (0, 2)
    assert kept.rows(signal, np.array([2, 3]), 9).toarray().tolist() == [[4, 0], [6, 0]]


def test_generators_and_families_share_fits_and_rows(shop, monkeypatch):
    tables, made = shop(1), []

    def noting(signal, method):
        honest = getattr(signal, method)

        def noted(self, *told):
            made.append((signal.name, method, told[-1]))
            return honest(self, *told)

        monkeypatch.setattr(signal, method, noted)

    for signal in (ease.Ease, similar_users.NearestUsers):
        noting(signal, "fit")
        noting(signal, "scores")
    noting(queries.Queries, "fit")
    log = tables.log()
    assembler = Assembler(log, CandidatesConfig(), tables.text_vectors, tables.plan)
    pairs = {"pair_ease": "ease", "similar_users_7d": "similar_users", "text_bm25_query": "by_query"}
    assert {*pairs, *(f"{source}_score" for source in pairs.values())} <= set(assembler.features)
    assembler.portion(tables.requests_on(30))
    day = tables.first_day + 30
    fits = [("ease", "fit", day // 7 * 7), ("nearest_users", "fit", day), ("queries", "fit", log.end_day)]
    assert sorted(made) == sorted([*fits, ("ease", "scores", day), ("nearest_users", "scores", day)])
