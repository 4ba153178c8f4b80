import doctest
from math import isnan, log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss, log_loss, precision_recall_fscore_support

from features.errors import ContractError
from ranker import calibration as calibration_module
from ranker.calibration import at_threshold, calibration

rows = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 1)), min_size=1, max_size=30)


def columns(drawn):
    p, y = zip(*drawn, strict=True)
    return np.array(p), np.array(y)


def test_every_measure_by_hand():
    found = calibration([0.1, 0.15, 0.8, 0.9, 0.95], [0, 1, 1, 1, 0], bins=4)
    # bins (0, .25]: mean p .125, mean y 1/2; (.75, 1]: mean p 2.65 / 3, mean y 2/3
    assert found.ece == pytest.approx(2 / 5 * (0.5 - 0.125) + 3 / 5 * (2.65 / 3 - 2 / 3))
    assert found.log_loss == pytest.approx(-(log(0.9) + log(0.15) + log(0.8) + log(0.9) + log(0.05)) / 5)
    assert found.brier == pytest.approx((0.1**2 + 0.85**2 + 0.2**2 + 0.1**2 + 0.95**2) / 5)
    assert (found.n, found.rate) == (5, 3 / 5)


def test_an_edge_belongs_to_the_bin_below_it_and_zero_to_the_first():
    # with two bins 0 and .5 share one: mean p .25, mean y 1/2
    assert calibration([0.0, 0.5], [1, 0], bins=2).ece == pytest.approx(abs(0.25 - 1 / 2))
    assert calibration([0.0, 0.5 + 1e-9], [1, 0], bins=2).ece == pytest.approx((1 + 0.5) / 2)


def test_a_calibrated_source_has_a_small_ece_and_a_bent_one_has_not():
    rng = np.random.default_rng(0)
    p = rng.random(50_000)
    y = rng.random(50_000) < p
    assert calibration(p, y).ece < 0.01
    assert calibration(p**2, y).ece == pytest.approx(1 / 2 - 1 / 3, abs=0.01)


@given(rows)
def test_log_loss_and_brier_agree_with_scikit_learn(drawn):
    p, y = columns(drawn)
    found = calibration(p, y)
    assert found.brier == pytest.approx(brier_score_loss(y, p, labels=[0, 1]), abs=1e-12)
    clipped = np.clip(p, 1e-15, 1 - 1e-15)
    assert found.log_loss == pytest.approx(log_loss(y, clipped, labels=[0, 1]), rel=1e-3)


@given(rows, st.floats(0, 1))
def test_threshold_agrees_with_scikit_learn(drawn, threshold):
    p, y = columns(drawn)
    found = at_threshold(p, y, threshold)
    options = {"average": "binary", "zero_division": np.nan}
    expected = precision_recall_fscore_support(y, p >= threshold, **options)[:3]
    np.testing.assert_allclose([found.precision, found.recall, found.f1], expected)


@given(rows, st.randoms(use_true_random=False))
def test_order_of_rows_changes_no_bit(drawn, random):
    shuffled = random.sample(drawn, len(drawn))
    assert calibration(*columns(shuffled)) == calibration(*columns(drawn))


def test_sure_and_wrong_is_bounded():
    assert calibration([0.0], [1]).log_loss == pytest.approx(-log(1e-15))
    assert calibration([1.0], [1]).log_loss == pytest.approx(0.0, abs=1e-14)


def test_nothing_called_and_nothing_there_are_nan():
    none = at_threshold([0.1, 0.2], [0, 0], 0.5)
    assert all(map(isnan, (none.precision, none.recall, none.f1)))
    missed = at_threshold([0.1, 0.2], [0, 1], 0.5)
    assert (isnan(missed.precision), missed.recall, missed.f1) == (True, 0.0, 0.0)


def test_all_faults_are_named_at_once():
    with pytest.raises(ContractError) as caught:
        calibration([0.5, np.nan, 1.5], [0, 2], bins=0)
    assert str(caught.value).splitlines() == [
        "calibration: the input cannot be judged.",
        "- bins is 0: give 1 or more",
        "- probabilities have shape (3,), outcomes (2,): give one of each a row, for one or more",
        "- 2 of 3 probabilities are not within 0 to 1: give probabilities, not scores",
        "- 1 of 2 outcomes are neither 0 nor 1: say 1 where it was clicked",
    ]
    with pytest.raises(ContractError, match="threshold is 2: give a probability"):
        at_threshold([0.5], [1], 2)
    with pytest.raises(ContractError, match=r"shape \(0,\)"):
        calibration([], [])


def test_docstring_examples_hold():
    assert doctest.testmod(calibration_module) == doctest.TestResults(failed=0, attempted=3)
