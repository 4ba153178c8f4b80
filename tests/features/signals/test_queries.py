"""Queries are looked up as of a day, whichever end of the log was asked first."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from features.signals.cache import AsOfCache

NOON = datetime(2024, 3, 20, 12, tzinfo=UTC)


@pytest.fixture
def searched(shop):
    """One user who searches on two days, twice on the latter."""
    queries = [(0, "lamp"), (3, "red"), (3, "mug")]
    events = pl.DataFrame(
        {
            "user_id": "u00",
            "item_id": "i00",
            "event": "click",
            "timestamp": [NOON + timedelta(days=day) for day, _ in queries],
            "value": pl.Series([None] * 3, dtype=pl.Float64),
            "query": [query for _, query in queries],
        }
    )
    return replace(shop(0), events=events, offers=None).log()


def asked(log, signal, days):
    """The words of the query of the one user as of some days, and how old it is."""
    index = AsOfCache(log).fitted(signal, max(days))
    found = index.queries_of(np.zeros(len(days), np.int64), np.array(days))
    words = [index.vocabulary.gather(found.words[row].indices).to_list() if row >= 0 else None for row in found.row]
    return list(zip(words, found.days_since.tolist(), strict=True))


def test_of_the_last_day_before_the_as_of_the_latest_query_counts(searched, queries_of):
    first = searched.first_day
    found = asked(searched, queries_of(), [first, first + 1, first + 3, first + 4, first + 9])
    assert found == [(None, -1), (["lamp"], 1), (["lamp"], 3), (["red"], 1), (["red"], 6)]  # of one instant, by text


def test_a_log_that_ends_earlier_has_an_index_of_its_own(searched, queries_of):
    first, signal = searched.first_day, queries_of()
    short = searched.before(first + 2)
    assert asked(short, signal, [first + 9]) == [(["lamp"], 9)]
    assert asked(searched, signal, [first + 9]) == [(["red"], 6)]
    assert asked(short, signal, [first + 9]) == [(["lamp"], 9)]
