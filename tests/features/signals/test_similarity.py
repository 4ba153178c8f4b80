from collections import defaultdict

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.candidates.union import histories
from features.config import CandidatesConfig
from features.signals.similarity import near, strongest
from features.signals.text_neighbours import text_similarity

seeds = st.integers(0, 10_000)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(seeds)
def test_neighbours_reach_into_the_history_where_that_is_asked(shop, scan, seed):
    tables = shop(seed)
    log, requests = tables.log(), tables.requests_on(25)
    history, similar = histories(log, requests, CandidatesConfig()), scan.similar_texts(tables.text_vectors)
    found = near(text_similarity(tables.text_vectors), history, outside=False)
    for request, user, as_of_day in requests.iter_rows():
        expected = defaultdict(float)
        for one, known in scan(log).history(user, as_of_day).items():
            for two in range(tables.items.height):
                expected[two] += known[3] / scan.ONE * similar.get((one, two), 0)
        expected = {item: score for item, score in expected.items() if score > 0}
        scores = dict(found.filter(pl.col("request") == request).select("item", "score").rows())
        assert scores == pytest.approx(expected, rel=1e-12)


def test_the_hundred_strongest_of_an_item_stay_ties_by_code():
    rng = np.random.default_rng(0)
    row, col = (some.ravel() for some in np.indices((150, 150)))
    value = rng.integers(1, 5, len(row)) / 8
    found = strongest(row, col, value, 150)
    for item in range(150):
        of_item = value[row == item]
        best = np.lexsort((np.arange(150), -of_item))[:100]
        assert found[item].indices.tolist() == sorted(best)
        assert found[item].data.tolist() == of_item[np.sort(best)].tolist()
