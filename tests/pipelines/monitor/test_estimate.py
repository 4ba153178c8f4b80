"""Estimates by nights made by hand: who acts, what their lists get, and what past estimates missed."""

from datetime import UTC, date, datetime, timedelta
from math import log, sqrt

import numpy as np
import polars as pl
import pytest

from features.config import CalendarConfig
from features.log.event_log import Calendar, EventLog
from pipelines.monitor.estimate import LEAST_NIGHTS, NightUsers, estimate, known_of, mean_of_last

FIRST = date(2024, 5, 1)
USERS = 400


def night(number, *, regulars=0.5, level=0.0, version="v1", closed=True):
    """The first column says who is a regular: they act, and their lists get 0.6; every tenth of the others gets 0.2.

    One user without a list gets nothing.
    """
    rng = np.random.default_rng(number)
    is_regular = np.arange(USERS) < regulars * USERS
    features = np.column_stack([is_regular, rng.normal(size=(USERS, 7))]).astype(np.float64)
    acted = (is_regular & (rng.random(USERS) < 0.3)) | (~is_regular & (rng.random(USERS) < 0.1))
    ndcg = np.where(acted, np.where(is_regular, 0.6, 0.2) + level, np.nan)
    n = int(acted.sum()) + 1
    return NightUsers(
        day=FIRST + timedelta(days=number),
        version=version,
        features=features,
        requests=acted.astype(np.float64) * closed,
        ndcg=ndcg if closed else np.full(USERS, np.nan),
        fallback=np.zeros(closed * 1),
        n_requests=n * closed,
        mean=float(np.nansum(ndcg)) / n if closed else np.nan,
    )


def test_too_few_nights_give_no_estimate():
    past = [night(each) for each in range(LEAST_NIGHTS)]
    assert estimate(past[1:], night(20, closed=False)) is None
    assert estimate(past, night(20, closed=False)).nights == LEAST_NIGHTS


def test_who_will_act_decides():
    """Of 400 users 200 act by 0.3 and 200 by 0.1, (0.3 * 0.6 + 0.1 * 0.2) / 0.4 = 0.5; of 40 regulars it is less."""
    past = [night(each) for each in range(20)]
    usual, few = (estimate(past, night(30, regulars=share, closed=False)) for share in (0.5, 0.1))
    assert usual.value == pytest.approx(0.5, abs=0.02)
    assert few.value == pytest.approx((0.03 * 0.6 + 0.09 * 0.2) / 0.12, abs=0.03)
    assert usual.low < usual.value < usual.high


def test_the_estimate_looks_at_no_outcome_of_the_night_itself():
    past = [night(each) for each in range(10)]
    assert estimate(past, night(30)) == estimate(past, night(30, closed=False))


def test_what_the_last_nights_missed_is_added_in_part():
    """A level that rose by 0.2 on the last seven nights is followed further than by the mean of all that is learned."""
    past = [night(each, level=0.2 * (each >= 13)) for each in range(20)]
    followed = estimate(past, night(30, closed=False)).value
    assert mean_of_last(past).value == pytest.approx(0.6, abs=0.02)
    assert followed == pytest.approx(0.7, abs=0.03)


def test_scores_of_another_version_say_nothing():
    """The columns of scores are left out, and the estimate stays one of who acts."""
    past = [night(each, version="v0") for each in range(20)]
    tonight = night(30, closed=False)
    moved = night(30, closed=False)
    moved.features[:, 5:] += 1000
    assert estimate(past, tonight) == estimate(past, moved)
    assert estimate([night(each) for each in range(20)], tonight) != estimate(
        [night(each) for each in range(20)], moved
    )


def test_the_mean_of_the_last_nights_has_the_interval_of_a_prediction():
    past = [night(0), night(1)]
    one, two = (each.mean for each in past)
    half = 12.7062047 * abs(one - two) / sqrt(2) * sqrt(1.5)  # Student's t of one degree of freedom, 0.975
    mean = mean_of_last(past)
    assert (mean.value, mean.high - mean.value) == (pytest.approx((one + two) / 2), pytest.approx(half))
    assert mean_of_last(past[:1]) is None


def test_what_is_known_of_users_lies_before_the_night():
    at = [datetime(2024, 5, 7, tzinfo=UTC) - timedelta(days=days) for days in (14, 7, 7, 40, 0)]
    events = pl.DataFrame(
        {
            "user_id": ["ann", "ann", "ann", "bob", "bob"],
            "item_id": [1, 1, 2, 1, 2],
            "event": ["buy"] * 5,
            "timestamp": at,
        }
    )
    log_of = EventLog.build(
        events=events.with_columns(pl.col("timestamp").cast(pl.Datetime("us", "UTC")), value=pl.lit(None, pl.Float64)),
        items=pl.DataFrame({"item_id": [1, 2], "title": ["mug", "cup"]}),
        users=pl.DataFrame({"user_id": ["dan"]}),
        calendar=Calendar(CalendarConfig()),
        gains={"buy": 1},
    )
    ids = ["ann"] * 11 + ["bob", "dan"]
    lists = pl.DataFrame({"user_id": ids, "rank": [*range(1, 12), 1, 1], "score": [2.0, *[1.0] * 9, -5.0, 7.0, 0.5]})
    known = known_of(lists, log_of, date(2024, 5, 7))
    ann, bob, dan = (row[1:] for row in known.rows())
    assert ann == pytest.approx((log(3), log(8), log(3), log(8), 1.0, 1.1, 2.0, -5.0))
    assert bob == pytest.approx((log(2), log(41), 0.0, log(41), 0.0, 7.0, 7.0, 7.0))
    assert dan == pytest.approx((0.0, 0.0, 0.0, 0.0, 0.0, 0.5, 0.5, 0.5))


def test_a_night_is_made_of_what_is_known_and_what_became_of_it():
    known = pl.DataFrame({"user_id": ["ann", "bob"], "active_days": [1.0, 2.0]})
    judged = pl.DataFrame(
        {
            "user_id": ["ann", "ann", "cat", "dan"],
            "is_fallback": [False, False, True, False],  # dan has a list and is not among the users that were drawn
            "ndcg": [0.2, 0.4, 0.1, 0.5],
        }
    )
    made = NightUsers.of(FIRST, "v1", known, judged)
    assert (made.requests.tolist(), made.fallback.tolist(), made.n_requests) == ([2.0, 0.0], [0.1], 4)
    assert made.ndcg[0] == pytest.approx(0.3)
    assert np.isnan(made.ndcg[1])
    assert made.mean == pytest.approx(0.3)
    unseen = NightUsers.of(FIRST, "v1", known, None)
    assert (unseen.requests.tolist(), unseen.n_requests, np.isnan(unseen.mean)) == ([0.0, 0.0], 0, True)
