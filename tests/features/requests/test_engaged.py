from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from single_events import relogged

from features.config import CalendarConfig, LabelsConfig
from features.log.event_log import Calendar, EventLog, day_of
from features.requests import engaged
from features.requests.engaged import requests_between, requests_tonight, truth_of

D = day_of(date(2024, 1, 1))


def log_of(*rows, lag_hours=0.0):
    """A log of rows (user, item, event, days after 2024-01-01 UTC); codes are a: 0, b: 1, c: 2."""
    start = datetime(2024, 1, 1, tzinfo=UTC)
    users, items, kinds, after = zip(*rows, strict=True)
    events = pl.DataFrame(
        {
            "user_id": users,
            "item_id": items,
            "event": kinds,
            "timestamp": pl.Series([start + timedelta(days=days) for days in after], dtype=pl.Datetime("us", "UTC")),
            "value": pl.Series([None] * len(rows), dtype=pl.Float64),
        }
    )
    catalogue = pl.DataFrame({"item_id": ["a", "b", "c"]})
    calendar = Calendar(CalendarConfig(ingestion_lag_hours=lag_hours))
    told = {"calendar": calendar, "gains": LabelsConfig().gains, "keep": ("value",)}
    return EventLog.build(events=events, items=catalogue, users=None, **told)


def truth(requests, log, horizon=1):
    """(request, item): (label, is_new)."""
    rows = truth_of(requests, log, LabelsConfig(horizon_days=horizon)).rows()
    return {(request, item): (label, is_new) for request, item, label, is_new in rows}


def test_a_request_is_a_users_day_with_an_engagement():
    log = log_of(
        ("v", "a", "click", 0.1),
        ("u", "a", "click", 1.0),
        ("u", "b", "purchase", 1.9),
        ("v", "a", "impression", 1.5),
        ("v", "c", "cart", 2.0),
    )
    assert requests_between(log, D, D + 3).rows() == [(0, 1, D), (1, 0, D + 1), (2, 1, D + 2)]
    assert requests_between(log, D + 1, D + 2).rows() == [(0, 0, D + 1)]
    assert requests_between(log, D + 3, D + 9).is_empty()


def test_tonight_everybody_asks_once():
    requests = requests_tonight(pl.Series([3, 1], dtype=pl.UInt32), D)
    assert requests.rows() == [(0, 1, D), (1, 3, D)]
    log = log_of(("u", "a", "click", 0))
    assert requests.schema == requests_between(log, D, D + 1).schema


def test_the_label_is_the_highest_gain_of_the_day():
    log = log_of(
        ("u", "a", "click", 0.0),
        ("u", "a", "purchase", 0.2),
        ("u", "a", "cart", 0.3),
        ("u", "b", "click", 0.4),
    )
    assert truth(requests_between(log, D, D + 1), log) == {(0, 0): (3, True), (0, 1): (1, True)}


def test_context_and_other_users_make_no_label():
    log = log_of(("u", "a", "click", 0), ("u", "b", "view", 0.1), ("v", "c", "click", 0.1))
    assert truth(requests_between(log, D, D + 1), log) == {(0, 0): (1, True), (1, 2): (1, True)}


def test_labels_close_with_the_horizon():
    log = log_of(("u", "a", "click", 0.5), ("u", "b", "click", 1.999), ("u", "c", "click", 2.0))
    requests = requests_between(log, D, D + 1)
    assert set(truth(requests, log, horizon=1)) == {(0, 0)}
    assert set(truth(requests, log, horizon=2)) == {(0, 0), (0, 1)}
    assert set(truth(requests, log, horizon=3)) == {(0, 0), (0, 1), (0, 2)}


def test_what_came_before_the_request_is_no_label_but_makes_the_item_old():
    log = log_of(("u", "a", "click", 0), ("u", "a", "purchase", 1), ("v", "b", "click", 0), ("u", "b", "click", 1))
    assert truth(requests_between(log, D + 1, D + 2), log) == {(0, 0): (3, False), (0, 1): (1, True)}


def test_an_item_seen_twice_within_the_horizon_is_still_new():
    log = log_of(("u", "a", "click", 0.1), ("u", "a", "click", 1.1))
    assert truth(requests_between(log, D, D + 1), log, horizon=2) == {(0, 0): (1, True)}


def test_with_a_lag_yesterdays_late_engagement_is_not_known_so_the_item_is_new():
    rows = (
        ("u", "a", "purchase", 0.9),
        ("u", "b", "click", 0.5),
        ("u", "a", "click", 1.5),
        ("u", "b", "click", 1.6),
    )
    log = log_of(
        *rows, lag_hours=6
    )  # the batch of day 1 knows what came before 18:00 of day 0, labels come after 24:00
    assert truth(requests_between(log, D + 1, D + 2), log) == {(0, 0): (1, True), (0, 1): (1, False)}


def test_a_user_without_a_future_has_no_truth():
    log = log_of(("u", "a", "click", 0))
    assert truth(requests_tonight(pl.Series([0], dtype=pl.UInt32), D + 1), log) == {}


@pytest.mark.parametrize("horizon", [1, 3])
@settings(max_examples=15, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10_000))
def test_truth_is_what_a_scan_of_the_log_finds(shop, horizon, seed):
    tables = shop(seed, n_events=80, n_days=15)
    log = tables.log()
    requests = requests_between(log, tables.first_day + 3, tables.first_day + 12)
    engaged = log.engaged.select("user", "item", "gain", "label_day", "day").rows()
    expected = {}
    for request, user, as_of_day in requests.iter_rows():
        for who, item, gain, label_day, _ in engaged:
            if who == user and as_of_day <= label_day < as_of_day + horizon:
                best = max(gain, expected.get((request, item), (0,))[0])
                known = any((w, i) == (user, item) and day < as_of_day for w, i, _, _, day in engaged)
                expected[request, item] = (best, not known)
    assert requests.height > 0
    assert truth(requests, log, horizon) == expected
    keys = truth_of(requests, log, LabelsConfig()).select("request", "item").rows()
    assert keys == sorted(keys)


def test_a_value_raises_a_label_by_one_with_each_doubling_up_to_a_bound():
    values = [None, float("nan"), -5.0, 1.99, 2.0, 5.99, 6.0, 14.0, 1e9]
    log = log_of(*(("u", "a", "click", 0.1 * n) for n in range(len(values))))
    log = relogged(log, log.events.with_columns(value=pl.Series(values, dtype=pl.Float64)))
    told = LabelsConfig(value_gain={"unit": 2.0, "most": 3})
    each = [log.events.slice(n, 1) for n in range(len(values))]
    labels = [truth_of(requests_between(log, D, D + 1), relogged(log, one), told) for one in each]
    assert [one["value_label"].item() for one in labels] == [1, 1, 1, 1, 2, 2, 3, 4, 4]
    assert {one["label"].item() for one in labels} == {1}
    # 6 / 2 units: 2^2 is 1 + 3, so that gain 2^label doubles as 1 + v / unit does.
    whole = truth_of(requests_between(log, D, D + 1), log, told)
    assert whole.rows() == [(0, 0, 1, True, 4)]
    assert whole.schema["value_label"] == whole.schema["label"]
    assert "value_label" not in truth_of(requests_between(log, D, D + 1), log, LabelsConfig()).columns


def test_a_label_is_raised_by_the_value_of_its_own_event():
    log = log_of(("u", "a", "purchase", 0.1), ("u", "a", "click", 0.2))
    log = relogged(log, log.events.with_columns(value=pl.Series([None, 1.0], dtype=pl.Float64)))
    told = LabelsConfig(value_gain={"unit": 1.0})
    assert truth_of(requests_between(log, D, D + 1), log, told).rows() == [(0, 0, 3, True, 3)]


def test_labels_that_value_would_raise_above_30_are_refused():
    with pytest.raises(ValueError, match=r"value_gain\.most \(4\) raises the largest of labels\.gains \(27\) above 30"):
        LabelsConfig(gains={"click": 27}, value_gain={"unit": 1.0})
    assert LabelsConfig(gains={"click": 26}, value_gain={"unit": 1.0}).value_gain.most == 4


def test_a_log_that_ends_has_its_labels_and_no_cell_that_came_in_later():
    """With a lag of six hours, what happens on the evening of the last day comes in after the log's end."""
    log = log_of(("u", "a", "click", 0.1), ("u", "b", "click", 0.9), ("u", "a", "click", 1.1), lag_hours=6)
    ended = log.until(D + 1)
    assert (log.last_day, ended.last_day) == (D + 1, D)
    assert ended.event_counts == {"click": 1}
    assert ended.label_events.between(D, D + 9)["item"].to_list() == [0, 1]
    requests = requests_between(ended, D, D + 9)
    assert requests.rows() == [(0, 0, D)]
    assert truth(requests, ended) == truth(requests, log) == {(0, 0): (1, True), (0, 1): (1, True)}
    assert truth(requests, ended, horizon=3) == {(0, 0): (1, True), (0, 1): (1, True)}
    assert requests_between(log, D + 5, D + 9).is_empty()


def test_users_are_graded_some_at_a_time_to_the_same_truth(shop, monkeypatch):
    log = shop(5).log()
    labels = LabelsConfig(gains=log.gains, horizon_days=3)
    requests = requests_between(log, log.first_day, log.last_day)
    whole = truth_of(requests, log, labels)
    monkeypatch.setattr(engaged, "_AT_ONCE", 5)
    assert truth_of(requests, log, labels).equals(whole)
    assert whole.height > 20
