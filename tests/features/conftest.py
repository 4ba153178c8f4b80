"""Shared by the tests of candidates: all generators wide open, and what a scan of the log finds."""

from dataclasses import replace

import numpy as np
import pytest
from log_scan import Scan

from features.candidates.cut import CandidateCut, facts_of
from features.config import CandidatesConfig
from features.signals.queries import Queries

ALL = CandidatesConfig(
    bought_before=1000,
    popular=1000,
    co_visited=1000,
    text_neighbours=1000,
    similar_users=1000,
    ease=1000,
    next_basket=1000,
    popular_in_category=1000,
    popular_in_segment=1000,
    new_arrivals=1000,
    by_query=1000,
    segment="country",
    max_per_request=10_000,
)
TEXT = ("title", "note")


@pytest.fixture(scope="session")
def scan():
    """`Scan`: what the log tells, event by event."""
    return Scan


@pytest.fixture(scope="session")
def wide_open():
    """Every generator on, with quotas that nothing reaches."""
    return ALL


@pytest.fixture(scope="session")
def queries_of():
    """How queries are read, held against the texts of the shop's catalogue."""

    def make(*, online=False):
        return Queries(TEXT, max_words=1000, online=online)

    return make


@pytest.fixture(scope="session")
def always_on_sale():
    """The same log with items that never come or go."""

    def make(log):
        return replace(log, items=log.items.with_columns(available_from=None, available_until=None))

    return make


@pytest.fixture(scope="session")
def any_cut():
    """A cut of few and whole weights, so that scores tie; made in a hundredth of the time of a fit."""

    def make(generators, requests, history, seed):
        facts = facts_of(generators.union(requests, history), requests, history, generators._inputs.cache)
        weights = np.random.default_rng(seed).choice([-1.0, 0.0, 0.0, 1.0], len(facts.names))
        nothing, one = (np.full(len(facts.names), value) for value in (0.0, 1.0))
        return CandidateCut(facts.names, tuple(nothing), tuple(one), tuple(weights), n_requests=1)

    return make
