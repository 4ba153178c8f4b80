"""Which requests are drawn: by ids, not by codes; so many as are needed, the latest blocks first."""

from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

from pipelines.training.draw import Quota, Round, block_quotas, in_hash_order, whole_users


def log_of(*ids):
    return SimpleNamespace(user_ids=pl.Series(list(ids)))


def requests(*pairs):
    """Requests of (user, day)."""
    users, days = zip(*pairs, strict=True)
    kinds = {"request": pl.UInt32, "user": pl.UInt32, "as_of_day": pl.Int32}
    return pl.DataFrame({"request": range(len(pairs)), "user": users, "as_of_day": days}, schema=kinds)


def test_the_order_of_drawing_is_that_of_ids_and_days_whatever_the_codes_and_the_rest_of_the_log():
    log, other = log_of("a", "b", "c"), log_of("c", "x", "b", "a")
    asked = requests(*((user, day) for day in range(40) for user in range(3)))
    recoded = asked.with_columns(user=pl.col("user").replace_strict({0: 3, 1: 2, 2: 0}, return_dtype=pl.UInt32))
    order = in_hash_order(asked, log)["request"].to_list()
    assert in_hash_order(recoded, other)["request"].to_list() == order
    some = asked.filter(pl.col("user") != 1)
    assert in_hash_order(some, log)["request"].to_list() == [one for one in order if one % 3 != 1]
    assert order != sorted(order)
    first = np.array(order[:60])  # neither a user nor a time is preferred
    assert abs(first.mean() - 59.5) < 10
    assert np.bincount(first % 3).min() > 10


def test_requests_of_one_user_and_day_stay_in_their_order():
    order = in_hash_order(requests((0, 5), (1, 5), (0, 5), (1, 5)), log_of(1, 2))["request"].to_list()
    assert order in ([0, 2, 1, 3], [1, 3, 0, 2])


@pytest.mark.parametrize("most", [None, 40, 41])
def test_a_window_that_is_small_enough_is_judged_whole(most):
    asked = requests(*((user, user) for user in range(40)))
    drawn, left_out = whole_users(asked, log_of(*range(40)), most)
    assert drawn is asked
    assert left_out is None


def test_of_a_larger_window_whole_users_are_drawn_the_same_ones_of_any_log():
    asked = requests(*((user, day) for day in range(5) for user in range(40)))
    drawn, left_out = whole_users(asked, log_of(*range(40)), 61)
    assert drawn.height == 65  # 13 users of five requests each
    assert drawn["request"].to_list() == list(range(65))
    assert not set(drawn["user"]) & set(left_out["user"])
    assert pl.concat([drawn, left_out]).drop("request").sort("as_of_day", "user").equals(asked.drop("request"))
    more, _ = whole_users(asked, log_of(*range(40)), 100)
    assert set(drawn["user"]) < set(more["user"])
    ids = list(range(40))[::-1]
    again, _ = whole_users(asked.with_columns(39 - pl.col("user")), log_of(*ids), 61)
    assert {ids[code] for code in again["user"]} == set(drawn["user"])


def test_the_latest_blocks_give_first_and_earlier_ones_what_is_not_sure():
    blocks = [Quota(100, 80), Quota(100, 80), Quota(100, 80)]
    # Each block is sure of 0.9 * 0.5 * 100 = 45 whole lists, and of 0.9 * 0.25 * 80 = 18 of new items.
    assert block_quotas(100, blocks, (0.5, 0.25)) == [Quota(10, 164), Quota(55, 182), Quota(100, 200)]
    assert block_quotas(40, blocks, (0.5, 0.25)) == [Quota(0, 44), Quota(0, 62), Quota(40, 80)]
    # What a block gives depends on those after it: the last is sure of 45 and 18, the first of 90 and none.
    unlike = [Quota(200, 0), Quota(100, 80)]
    assert block_quotas(100, unlike, (0.5, 0.25)) == [Quota(55, 182), Quota(100, 200)]


def drawn_by(rounds, usable):
    """Draw until the quota is full; the rounds' sizes."""
    sizes = []
    while len(drawn := rounds.next()):
        sizes.append(len(drawn))
        some = usable.filter(pl.col("request").is_in(drawn.implode()))
        rounds.record(Quota(int(some["whole"].sum()), int(some["new"].sum())))
    return sizes


@pytest.fixture
def usable():
    """1,000 requests, half of them with a new positive; of both kinds a quarter is usable."""
    at = pl.int_range(1000, eager=True)
    return pl.DataFrame(
        {"request": at.cast(pl.UInt32), "is_new": at % 2 == 0, "whole": at % 4 == 0, "new": at % 8 == 0}
    )


@pytest.mark.parametrize("share", [(0.25, 0.25), (1.0, 1.0), (0.01, 0.01)])
def test_rounds_end_when_the_quota_is_full_with_few_requests_to_spare(usable, share):
    rounds = Round.of(usable.select("request", "is_new"), Quota(50, 10), share)
    sizes = drawn_by(rounds, usable)
    assert rounds.usable.whole >= 50
    if share[0] > 0.1:
        assert rounds.usable.whole < 70
    assert sum(sizes) == rounds.drawn.sum()
    assert len(sizes) <= 3
    assert not rounds.drawn[900:].any() or share[0] < 0.1  # the first in the order are drawn first


def test_once_there_are_enough_whole_lists_only_requests_with_new_items_are_drawn(usable):
    rounds = Round.of(usable.select("request", "is_new"), Quota(20, 100), (0.25, 0.25))
    drawn_by(rounds, usable)
    assert rounds.usable.new >= 100
    assert rounds.drawn[1::2].sum() < 80  # those without a new positive
    assert rounds.drawn[::2].sum() > 390


def test_a_quota_beyond_the_block_draws_it_all_at_once(usable):
    rounds = Round.of(usable.select("request", "is_new"), Quota(8000, 16_000), (0.25, 0.25))
    assert drawn_by(rounds, usable) == [1000]
    assert Round.of(usable.select("request", "is_new"), Quota(0, 0), (1, 1)).next().is_empty()
