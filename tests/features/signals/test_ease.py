"""EASE is each item's own ridge regression, knows the items with most weight, and answers alike whoever asks beside."""

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest

import features.signals.ease
from features.signals.cache import AsOfCache
from features.signals.ease import Ease

START = datetime(2024, 3, 20, 12, tzinfo=UTC)


def pairs_of(matrix):
    found = matrix.tocoo()
    return dict(zip(zip(found.row.tolist(), found.col.tolist(), strict=True), found.data.tolist(), strict=True))


def scores_of(log, users, day):
    """Without a cache."""
    return Ease().scores(Ease().fit(log, Ease().fit_day(log, day)), log, users, day)


@pytest.mark.parametrize("few_users", [0.0, 100.0])  # by the matrix of items, by that of users
@pytest.mark.parametrize("day", [0, 1, 13, 30, 60])
@pytest.mark.parametrize("seed", range(4))
def test_weights_are_those_of_each_items_own_regression(shop, scan, seed, day, few_users, monkeypatch):
    monkeypatch.setattr(features.signals.ease, "_FEW_USERS", few_users)
    log = shop(seed).log()
    before = log.first_day + day
    assert pairs_of(Ease().fit(log, before)) == scan(log).ease_weights(before)


def test_it_knows_the_items_with_most_weight_ties_by_code(shop, monkeypatch):
    tables = shop(0)
    baskets = {"u00": ("i02", "i05", "i01"), "u01": ("i05", "i02", "i01"), "u02": ("i02", "i00")}  # i01, i05 alike
    events = pl.DataFrame([{"user_id": user, "item_id": item} for user, items in baskets.items() for item in items])
    events = events.with_columns(event=pl.lit("click"), timestamp=pl.lit(START), value=pl.lit(None, pl.Float64))
    log = replace(tables, events=events, offers=None).log()
    items = dict(log.items.select("item", "item_id").rows())
    for most, expected in ((9, ["i00", "i01", "i02", "i05"]), (3, ["i01", "i02", "i05"]), (2, ["i01", "i02"])):
        monkeypatch.setattr(features.signals.ease, "MOST_ITEMS", most)
        found = {items[item] for pair in pairs_of(Ease().fit(log, log.last_day + 1)) for item in pair}
        assert sorted(found) == expected


def test_what_is_asked_twice_is_fitted_once(shop, monkeypatch):
    tables = shop(1)
    log, fitted, users = tables.log(), [], np.arange(tables.users.height)
    inverse = features.signals.ease._ridge_inverse
    monkeypatch.setattr(features.signals.ease, "_ridge_inverse", lambda *asked: fitted.append(1) or inverse(*asked))
    for _ in ("generator", "family"):
        for day in range(30):
            AsOfCache(log).rows(Ease(), users, tables.first_day + day)
    weeks = {(tables.first_day + day) // 7 for day in range(30)}
    assert 1 <= len(fitted) <= len(weeks)


def test_the_strongest_weights_of_an_item_stay(shop, monkeypatch):
    log = shop(1).log()
    whole = Ease().fit(log, log.last_day + 1).toarray()
    monkeypatch.setattr(features.signals.ease, "_STRONGEST", 2)
    for of_whole, of_few in zip(whole, Ease().fit(log, log.last_day + 1).toarray(), strict=True):
        best = [item for item in np.lexsort((np.arange(len(of_whole)), -of_whole))[:2] if of_whole[item] > 0]
        assert np.flatnonzero(of_few).tolist() == sorted(best)
        assert of_few[best].tolist() == of_whole[best].tolist()


def test_whoever_asks_beside_and_whatever_was_asked_before_change_nothing(shop):
    tables = shop(1, n_users=7, n_items=6, n_events=80)
    log, days = tables.log(), [tables.first_day + day for day in (40, 20, 30)]
    users = np.arange(log.user_ids.len() + 1)
    whole = {day: scores_of(log, users, day).toarray() for day in days}
    assert all(scores[:-1].any() and not scores[-1].any() for scores in whole.values())
    shared, rng = AsOfCache(log), np.random.default_rng(0)
    for _ in range(20):
        day = days[rng.integers(3)]
        some = np.sort(rng.permutation(users)[: rng.integers(1, len(users) + 1)])
        assert np.array_equal(shared.rows(Ease(), some, day).toarray(), whole[day][some])


def test_without_a_past_nothing_is_said(shop):
    tables = shop(0)
    assert scores_of(tables.log(), np.arange(3), tables.first_day).nnz == 0
