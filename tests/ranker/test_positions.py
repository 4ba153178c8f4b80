"""Positions are told from what is wanted, and clicks weighed by them."""

import numpy as np
import pytest

from ranker.positions import MOST_WEIGHT, clicks_weighed, discounted_gain, examination


def test_examination_is_found_where_the_model_holds():
    rng = np.random.default_rng(0)
    rows = 200_000
    position, score = rng.integers(0, 8, rows), rng.normal(size=rows)
    position = np.clip(position + (score < -1), 0, 7)  # good items stand higher, but not always
    true = 1 / (1 + np.arange(8))
    clicked = rng.random(rows) < true[position] / (1 + np.exp(1 - score))
    assert examination(score, position, clicked) == pytest.approx(true, abs=0.02)


def test_examination_of_a_position_without_rows_is_one_and_without_clicks_nothing():
    found = examination(np.array([0.0, 0.0, 1.0, 1.0]), np.array([0, 2, 0, 2]), np.array([True, False, True, False]))
    assert found.tolist() == [1, 1, 0]


def test_a_click_weighs_the_inverse_of_how_often_its_place_is_seen_up_to_a_most():
    weighed = clicks_weighed(np.array([1.0, 3.0, 1.0, 0.0]), np.array([0, 1, 2, 2]), np.array([1, 0.25, 0.001]))
    assert weighed.tolist() == [1, 12, MOST_WEIGHT, 0]


def test_discounted_gain_by_hand():
    score = np.array([0.1, 0.9, 0.5, 0.2, 0.2])
    weighed = np.array([4.0, 1.0, 0.0, 2.0, 8.0])
    request = np.array([0, 0, 0, 1, 1])
    # First request: 0.9 (1) at rank 1, 0.5 (0) at 2, 0.1 (4) at 3, beyond the cut. Second: a tie, in order of rows.
    assert discounted_gain(score, weighed, request, 2) == pytest.approx(1 + 2 + 8 / np.log2(3))
