import math
from collections import Counter
from dataclasses import replace

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.candidates.catalog import SOURCES
from features.candidates.union import CandidateGenerators, histories
from features.config import CandidatesConfig
from features.errors import ConfigError
from features.requests.engaged import requests_tonight
from features.signals.popularity import popular_items

seeds = st.integers(0, 10_000)


def proposed(log, requests, config):
    return CandidateGenerators(log, config).propose(requests, histories(log, requests, config))


@settings(max_examples=25, deadline=None, derandomize=True)
@given(seeds, st.integers(0, 15), st.none() | st.integers(1, 30))
def test_popular_items_are_counted_in_their_window_ties_by_item(shop, scan, seed, most, window):
    tables = shop(seed, n_events=60)
    log = tables.log()
    days = [tables.first_day + day for day in (30, 0, 12, 12)]
    found = popular_items(log, pl.Series(days, dtype=pl.Int32), most=most, window_days=window)
    expected = set()
    for as_of_day in days:
        start = -math.inf if window is None else as_of_day - window
        counts = Counter(item for _, item, day, _ in scan(log).engagements if start <= day < as_of_day)
        ordered = sorted(counts, key=lambda item: (-counts[item], item))
        expected |= {(as_of_day, item, counts[item], rank) for rank, item in enumerate(ordered[:most], start=1)}
    rows = found.select("as_of_day", "item", "score", "rank").rows()
    assert len(rows) == len(expected)
    assert set(rows) == expected


def test_the_popular_of_a_segment_by_hand(shop, always_on_sale):
    tables = shop(0, n_events=3)
    bought = [("u00", "i03"), ("u01", "i03"), ("u01", "i02"), ("u02", "i01"), ("u03", "i00")]
    users, items = zip(*bought, strict=True)
    events = tables.events[:1].select(pl.exclude("user_id", "item_id"))
    events = pl.DataFrame({"user_id": users, "item_id": items}).join(events, how="cross")
    plans = {"u00": "basic", "u01": "basic", "u02": "gold", "u03": None, "u04": "basic", "u05": "none bought"}
    people = pl.DataFrame({"user_id": list(plans), "plan": list(plans.values())})
    log = always_on_sale(replace(tables, events=events, users=people).log())
    codes = pl.Series([0, 1, 2, 3, 4, 5, 6], dtype=pl.UInt32)  # 6 is nobody
    requests = requests_tonight(codes, log.last_day + 1)
    only = CandidatesConfig(**dict.fromkeys(SOURCES, 0)).model_copy(update={"popular_in_segment": 1, "segment": "plan"})
    told = ["request", "item", "popular_in_segment_score"]
    of_all = [(user, 3, 2.0) for user in (0, 1, 4)]
    assert proposed(log, requests, only).select(told).rows() == sorted([*of_all, (2, 1, 1.0)])
    two = only.model_copy(update={"popular_in_segment": 2})
    assert (0, 2, 1.0) in proposed(log, requests, two).select(told).rows()
    unnamed = only.model_copy(update={"segment": None})
    assert proposed(log, requests, unnamed).is_empty()
    later = requests_tonight(codes, log.last_day + 1 + only.popular_days)
    assert proposed(log, later, only).is_empty()


def test_a_segment_that_is_no_column_of_users_is_refused_with_the_nearest(shop):
    log = shop(0).log()
    with pytest.raises(ConfigError, match=r"candidates\.segment: 'county' is no column of users; did you mean 'countr"):
        CandidateGenerators(log, CandidatesConfig(segment="county"))
    with pytest.raises(ConfigError, match=r"candidates\.segment: 'country' .* name that table under data\.users"):
        CandidateGenerators(replace(log, users=None), CandidatesConfig(segment="country"))
