"""Four items and three users by hand, as of a day after a weekly refresh."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from frame_check import check_frame

from features.config import CalendarConfig
from features.log.event_log import Calendar, EventLog
from features.requests.engaged import requests_tonight
from features.tables.frames import Scored
from ranker.baselines import BASELINES, DEPTH, item_knn, personal_frequency, popularity, popularity_recent

REFRESH = 7 * 2818
"""A day on which neighbours are computed again."""
TODAY = REFRESH + 1


def log_of(*events):
    """Events (user, item, day): clicks at noon, of users a, b, c and items w, x, y, z."""
    start = datetime(1970, 1, 1, 12, tzinfo=UTC)
    table = pl.DataFrame(
        [(user, item, "click", start + timedelta(days=day)) for user, item, day in events],
        schema={
            "user_id": pl.String,
            "item_id": pl.String,
            "event": pl.String,
            "timestamp": pl.Datetime("us", "UTC"),
        },
        orient="row",
    ).with_columns(value=pl.lit(None, pl.Float64))
    return EventLog.build(
        events=table,
        items=pl.DataFrame({"item_id": list("wxyz")}),
        users=pl.DataFrame({"user_id": list("abc")}),
        calendar=Calendar(CalendarConfig()),
        gains={"click": 1},
    )


LOG = log_of(
    ("a", "x", TODAY - 20),
    ("a", "x", TODAY - 3),
    ("a", "x", TODAY - 3),
    ("a", "y", TODAY - 2),
    ("b", "x", TODAY - 4),
    ("b", "y", TODAY - 4),
    ("b", "z", TODAY - 2),
    ("b", "w", TODAY),  # as of today nobody knows
)


def scores(baseline, user, *, log=LOG, day=TODAY):
    """Item id and score of one user's list, best first."""
    requests = requests_tonight(pl.Series(["abc".index(user)], dtype=pl.UInt32), day)
    found = baseline(log, requests).sort("score", "item", descending=[True, False])
    return {log.items["item_id"][item]: score for item, score in found.select("item", "score").rows()}


@pytest.mark.parametrize("user", ["a", "b", "c"])
def test_popularity_counts_every_engagement_before_the_day(user):
    assert scores(popularity, user) == {"x": 4.0, "y": 2.0, "z": 1.0}
    assert scores(popularity, user, day=TODAY + 1) == {"x": 4.0, "y": 2.0, "w": 1.0, "z": 1.0}


def test_recent_popularity_counts_fourteen_days():
    assert scores(popularity_recent, "a") == {"x": 3.0, "y": 2.0, "z": 1.0}
    assert scores(popularity_recent, "a", day=TODAY + 11)["x"] == 2.0  # days TODAY-3 to TODAY+10
    assert scores(popularity_recent, "a", day=TODAY + 12) == {"y": 1.0, "z": 1.0, "w": 1.0}


def test_personal_frequency_counts_days_and_breaks_ties_by_recent_popularity():
    # x on two days, y on one; then what others like: all popularity divided by the highest plus 1
    assert scores(personal_frequency, "a") == {
        "x": pytest.approx(2 + 3 / 4),
        "y": pytest.approx(1 + 2 / 4),
        "z": pytest.approx(1 / 4),
    }
    assert list(scores(personal_frequency, "b")) == ["x", "y", "z"]
    assert scores(personal_frequency, "c") == pytest.approx({"x": 3 / 4, "y": 2 / 4, "z": 1 / 4})


def test_personal_frequency_knows_own_items_that_are_popular_no_more():
    assert scores(personal_frequency, "a", day=TODAY + 60) == {"x": 2.0, "y": 1.0}


def test_item_knn_sums_similarities_weighted_by_recency():
    # x and y share users a and b: 2 / (sqrt(2 * 2) + 10). a's x: of ages 20 and twice 3, its y: of age 2.
    weight_x = 2 ** (-19 / 30) + 2 * 2 ** (-2 / 30)
    weight_y = 2 ** (-1 / 30)
    found = scores(item_knn, "a")
    assert found == {
        "y": pytest.approx(weight_x * 2 / 12, rel=1e-4),
        "x": pytest.approx(weight_y * 2 / 12, rel=1e-4),
    }
    assert scores(item_knn, "c") == {}


def test_item_knn_knows_neighbours_of_the_last_refresh_only():
    young = log_of(*((user, item, REFRESH) for user in "ab" for item in "xy"))
    assert scores(item_knn, "a", log=young) == {}
    assert list(scores(item_knn, "a", log=young, day=REFRESH + 7)) == ["x", "y"]


@pytest.mark.parametrize("name", BASELINES)
def test_a_baseline_sees_nothing_of_its_day_or_later(name):
    known = LOG.before(TODAY)
    for user in "abc":
        assert scores(BASELINES[name], user) == scores(BASELINES[name], user, log=known)


@pytest.mark.parametrize("name", BASELINES)
def test_a_baseline_lists_an_item_once_and_no_more_than_its_depth(name):
    requests = requests_tonight(pl.Series([0, 1, 2], dtype=pl.UInt32), TODAY)
    found = BASELINES[name](LOG, requests)
    check_frame(found, Scored)
    assert found.group_by("request").len()["len"].max() <= DEPTH
