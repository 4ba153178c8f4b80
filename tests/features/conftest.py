"""Shared by the tests of candidates: all generators wide open, and what a scan of the log finds."""

import math
from collections import Counter, defaultdict
from dataclasses import replace
from functools import cache
from itertools import pairwise

import numpy as np
import pytest

from features.candidates import GRID
from features.config import CandidatesConfig
from features.cut import CandidateCut, facts_of
from features.queries import Queries

ALL = CandidatesConfig(
    bought_before=1000,
    popular=1000,
    co_visited=1000,
    text_neighbours=1000,
    next_basket=1000,
    popular_in_category=1000,
    popular_in_segment=1000,
    new_arrivals=1000,
    by_query=1000,
    segment="country",
    max_per_request=10_000,
)
TEXT = ("title", "note")


class Scan:
    """What a log tells, by going through it event by event."""

    ONE = 2**16
    """One, in the fixed-point weights."""

    def __init__(self, log):
        self.log = log
        self.engagements = log.engaged.select("user", "item", "day", "gain").rows()
        self.co_visited, self.next_basket = cache(self._co_visited), cache(self._next_basket)

    def history(self, user, as_of_day, half_life=30.0):
        """item: [count, last day, highest gain, weight], most recent first."""
        held = {}
        for who, item, day, gain in self.engagements:
            if who == user and day < as_of_day:
                count, last, best, weight = held.get(item, (0, 0, 0, 0))
                worth = max(1, math.floor(2 ** (-(as_of_day - day - 1) / half_life) * self.ONE + 1 / 2))
                held[item] = count + 1, max(last, day), max(best, gain), weight + worth
        return dict(sorted(held.items(), key=lambda row: (-row[1][1], -row[1][3], row[0])))

    def _co_visited(self, before_day, most):
        """(item, item): shrunk cosine."""
        last = defaultdict(dict)
        for user, item, day, _ in self.engagements:
            if day < before_day:
                last[user][item] = max(day, last[user].get(item, 0))
        held = [sorted(items, key=lambda item: (-items[item], item))[:most] for items in last.values()]
        users = Counter(item for items in held for item in items)
        both = Counter((one, two) for items in held for one in items for two in items if one != two)
        return {(one, two): n / (math.sqrt(users[one] * users[two]) + 10) for (one, two), n in both.items() if n >= 2}

    def _next_basket(self, before_day):
        """(item, item): shrunk cosine of items on successive active days of a user."""
        baskets = defaultdict(set)
        for user, item, day, _ in self.engagements:
            if day < before_day:
                baskets[user, day].add(item)
        former, latter, both = Counter(), Counter(), Counter()
        for (user, day), (other, later) in pairwise(sorted(baskets)):
            if user == other:
                former.update(baskets[user, day])
                latter.update(baskets[user, later])
                both.update((one, two) for one in baskets[user, day] for two in baskets[user, later])
        return {(one, two): n / (math.sqrt(former[one] * latter[two]) + 10) for (one, two), n in both.items() if n >= 2}

    @staticmethod
    def similar_texts(vectors):
        """(item, item): cosine above 0, from whole-number dot products."""
        whole = [[int(cell) for cell in row] for row in vectors]
        dots = {
            (one, two): sum(map(int.__mul__, whole[one], whole[two]))
            for one in range(len(whole))
            for two in range(len(whole))
            if one != two
        }
        return {pair: dot / GRID**2 for pair, dot in dots.items() if dot > 0}


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
    """The queries of a log, held against the texts of its catalogue."""

    def make(log, *, online=False):
        return Queries(log, TEXT, max_words=1000, online=online)

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
        facts = facts_of(generators.union(requests, history), requests, history, generators._known)
        weights = np.random.default_rng(seed).choice([-1.0, 0.0, 0.0, 1.0], len(facts.names))
        nothing, one = (np.full(len(facts.names), value) for value in (0.0, 1.0))
        return CandidateCut(facts.names, tuple(nothing), tuple(one), tuple(weights), n_requests=1)

    return make
