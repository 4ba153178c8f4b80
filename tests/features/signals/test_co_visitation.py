import math
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.signals.co_visitation import CoVisitation

seeds = st.integers(0, 10_000)


def pairs_of(matrix):
    found = matrix.tocoo()
    return {(int(one), int(two)): value for one, two, value in zip(found.row, found.col, found.data, strict=True)}


@settings(max_examples=25, deadline=None, derandomize=True)
@given(seeds, st.integers(0, 60), st.sampled_from([1, 2, 5, 100]))
def test_co_visited_neighbours_are_shrunk_cosines(shop, scan, seed, day, most):
    log = shop(seed).log()
    before = log.first_day + day
    found = pairs_of(CoVisitation(most, 7).fit(log, before))
    assert found == pytest.approx(scan(log).co_visited(before, most), rel=1e-12)


def test_co_visited_neighbours_by_hand(shop):
    tables = shop(0, n_events=3)
    pairs = [("u00", "i00"), ("u00", "i01"), ("u01", "i00"), ("u01", "i01"), ("u02", "i01"), ("u02", "i02")]
    users, items = zip(*pairs, strict=True)
    events = tables.events[:1].select(pl.exclude("user_id", "item_id"))
    events = pl.DataFrame({"user_id": users, "item_id": items}).join(events, how="cross")
    log = replace(tables, events=events).log()
    matrix = CoVisitation(100, 7).fit(log, log.last_day + 1).toarray()
    assert matrix[0, 1] == matrix[1, 0] == 2 / (math.sqrt(2 * 3) + 10)  # one user is no pair: (1, 2)
    assert np.count_nonzero(matrix) == 2


def test_a_day_is_answered_by_the_last_refresh_at_or_before_it(shop):
    log = shop(0).log()
    assert [CoVisitation(100, 7).fit_day(log, day) for day in (6, 7, 13, 14)] == [0, 7, 7, 14]
