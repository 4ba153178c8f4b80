"""Neighbours are those of a scan, however few are kept and whoever asks beside."""

import numpy as np
import pytest
from log_scan import alike

from features.signals import similar_users
from features.signals.cache import AsOfCache
from features.signals.similar_users import NearestUsers, engaged_lately


def engagements(log, before_day):
    return [(user, item) for user, item, day in log.engaged.select("user", "item", "day").rows() if day < before_day]


def of(weights, row, pool):
    found = weights[row]
    return dict(zip(pool[found.indices].tolist(), found.data.tolist(), strict=True))


def weights_of(log, users, day):
    """Without a cache."""
    return NearestUsers().scores(NearestUsers().fit(log, day), log, users, day)


@pytest.mark.parametrize(("most", "pool"), [(400, 20_000), (2, 20_000), (400, 3), (2, 3)])
@pytest.mark.parametrize("seed", range(4))
def test_the_nearest_of_those_active_last_are_found(shop, monkeypatch, seed, most, pool):
    monkeypatch.setattr(similar_users, "_NEIGHBOURS", most)
    monkeypatch.setattr(similar_users, "_POOL", pool)
    tables = shop(seed, n_users=7, n_items=6, n_events=80)
    log, day = tables.log(), tables.first_day + 30
    known = engagements(log, day)
    last = {
        user: max(d for who, d in log.engaged.select("user", "day").rows() if who == user and d < day)
        for user, _ in known
    }
    latest = sorted(last, key=lambda user: (-last[user], user))[:pool]
    users = np.arange(log.user_ids.len() + 1)
    weights, pool_users = weights_of(log, users, day), NearestUsers().fit(log, day).users
    for user in users:
        assert of(weights, user, pool_users) == alike(known, user, most, latest)


def test_whoever_asks_beside_and_whatever_was_asked_before_change_nothing(shop):
    tables = shop(1, n_users=7, n_items=6, n_events=80)
    log, days = tables.log(), [tables.first_day + day for day in (40, 20, 30)]
    users = np.arange(log.user_ids.len())
    whole = {day: weights_of(log, users, day).toarray() for day in days}
    shared, rng = AsOfCache(log), np.random.default_rng(0)
    for _ in range(20):
        day = days[rng.integers(3)]
        some = np.sort(rng.permutation(users)[: rng.integers(1, len(users) + 1)])
        assert np.array_equal(shared.rows(NearestUsers(), some, day).toarray(), whole[day][some])


def test_without_a_past_there_is_nobody(shop):
    tables = shop(0)
    cache = AsOfCache(tables.log())
    weights = cache.rows(NearestUsers(), np.arange(3), tables.first_day)
    assert weights.nnz == 0
    assert [found.nnz for found in engaged_lately(cache, weights, tables.first_day, (3, 7))] == [0, 0]


def test_several_days_in_a_window_count_once_in_the_narrowest_and_the_day_itself_not(shop):
    tables = shop(3, n_users=7, n_items=6, n_events=80)
    log, day = tables.log(), tables.first_day + 30
    cache, users = AsOfCache(log), np.arange(log.user_ids.len())
    weights, pool = cache.rows(NearestUsers(), users, day), cache.fitted(NearestUsers(), day).users
    rows = log.engaged.select("user", "item", "day").rows()
    found = 0
    for window, last in zip((2, 9, 20), engaged_lately(cache, weights, day, (2, 9, 20)), strict=True):
        found = found + last.toarray()  # each has what no narrower one has
        had = {(user, item) for user, item, when in rows if day - window <= when < day}
        for user in users:
            near = of(weights, user, pool)
            told = [sum(n for who, n in near.items() if (who, item) in had) for item in range(log.items.height)]
            assert found[user].tolist() == told
        (alone,) = engaged_lately(cache, weights, day, (window,))
        assert (alone.toarray() == found).all()
