import doctest
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from features.config import CalendarConfig
from features.errors import ConfigError, ContractError
from features.log import event_log as timeline
from features.log.event_log import Calendar, EventLog, batch_day, date_of, day_of

# Apia once left out a whole day, Lord Howe changes by half an hour, Sao Paulo skipped midnight itself.
ZONES = (
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "America/Sao_Paulo",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",
    "Pacific/Apia",
)
CHANGES = (
    date(2011, 12, 30),
    date(2018, 11, 4),
    date(2024, 3, 10),
    date(2024, 3, 31),
    date(2024, 4, 7),
    date(2024, 10, 27),
)
MIDNIGHT = datetime(2024, 1, 1, tzinfo=UTC)
DAY = day_of(MIDNIGHT.date())

calendars = st.builds(
    lambda zone, cutoff, lag: Calendar(CalendarConfig(timezone=zone, cutoff=cutoff, ingestion_lag_hours=lag)),
    st.sampled_from(ZONES),
    st.times(),
    st.sampled_from([0.0, 0.25, 1.0, 23.5, 24.0, 36.0, 168.0]) | st.floats(0, 168),
)
days = st.dates(date(1975, 1, 1), date(2100, 1, 1)) | st.sampled_from(CHANGES)


def utc_series(stamps):
    return pl.Series("timestamp", stamps, dtype=pl.Datetime("us", "UTC"))


def log_of(*rows, items=("a", "b", "c"), users=None, calendar=None, gains=None):
    """A log of rows (user, item, event, hours after 2024-01-01 UTC)."""
    events = pl.DataFrame(
        {
            "user_id": [row[0] for row in rows],
            "item_id": [row[1] for row in rows],
            "event": [row[2] for row in rows],
            "timestamp": utc_series([MIDNIGHT + timedelta(hours=row[3]) for row in rows]),
            "value": pl.Series([None] * len(rows), dtype=pl.Float64),
        }
    )
    return EventLog.build(
        events=events,
        items=pl.DataFrame({"item_id": list(items)}),
        users=None if users is None else pl.DataFrame({"user_id": users}),
        calendar=calendar or Calendar(CalendarConfig()),
        gains=gains or {"click": 1, "purchase": 3},
        keep=("value",),  # of every event
    )


def test_doctests_hold():
    assert doctest.testmod(timeline).failed == 0


@given(st.dates())
def test_days_and_dates_are_one_to_one(when):
    assert date_of(day_of(when)) == when
    assert day_of(date(1970, 1, 1)) == 0


@settings(max_examples=50, deadline=None, derandomize=True)
@given(calendars, days, st.integers(-3, 3), st.lists(st.integers(-(10**12), 10**12), max_size=5))
def test_an_event_belongs_to_the_day_that_opened_last(calendar, when, shift, others):
    opening = calendar.as_of(day_of(when))
    stamps = [opening + timedelta(microseconds=micros) for micros in (shift, -1, 0, 1, *others)]
    for known, opens in ((True, calendar.as_of), (False, calendar.cutoff)):
        found = calendar.days(utc_series(stamps), by_as_of=known).tolist()
        for stamp, day in zip(stamps, found, strict=True):
            assert opens(day) <= stamp < opens(day + 1)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(calendars, days)
def test_the_cut_off_is_local_and_days_open_in_order(calendar, when):
    opening = calendar.cutoff(day_of(when))
    assert opening <= calendar.cutoff(day_of(when) + 1)
    assert opening - calendar.as_of(day_of(when)) == timedelta(hours=calendar.config.ingestion_lag_hours)
    local = opening.astimezone(ZoneInfo(calendar.config.timezone))
    wanted = datetime.combine(when, calendar.config.cutoff, ZoneInfo(calendar.config.timezone))
    skipped = wanted.astimezone(UTC).astimezone(wanted.tzinfo).replace(tzinfo=None) != wanted.replace(tzinfo=None)
    assert skipped or (local.date(), local.time()) == (when, calendar.config.cutoff)


def test_cut_offs_on_the_days_of_a_clock_change():
    berlin = Calendar(CalendarConfig(timezone="Europe/Berlin", cutoff=time(2, 30)))
    assert berlin.cutoff(day_of(date(2024, 3, 30))) == datetime(2024, 3, 30, 1, 30, tzinfo=UTC)
    assert berlin.cutoff(day_of(date(2024, 3, 31))) == datetime(2024, 3, 31, 1, 30, tzinfo=UTC)  # 03:30 there
    assert berlin.cutoff(day_of(date(2024, 4, 1))) == datetime(2024, 4, 1, 0, 30, tzinfo=UTC)
    assert berlin.cutoff(day_of(date(2024, 10, 27))) == datetime(2024, 10, 27, 0, 30, tzinfo=UTC)  # the first
    assert berlin.cutoff(day_of(date(2024, 10, 28))) == datetime(2024, 10, 28, 1, 30, tzinfo=UTC)


def test_no_instants_have_no_days():
    assert Calendar(CalendarConfig()).days(utc_series([])).tolist() == []


@pytest.mark.parametrize(("hours", "expected"), [(0.0, 0), (0.5, 1), (24.0, 1), (24.5, 2), (168.0, 7)])
def test_the_lag_in_whole_days(hours, expected):
    assert Calendar(CalendarConfig(ingestion_lag_hours=hours)).lag_days == expected


def test_an_event_exactly_at_the_cut_off_belongs_to_the_new_day_and_is_unknown_to_its_batch():
    log = log_of(("u", "a", "click", -1 / 3600), ("u", "b", "click", 0), ("u", "c", "click", 1 / 3600))
    assert log.events["day"].to_list() == [DAY - 1, DAY, DAY]
    assert log.before(DAY).events["item"].to_list() == [0]


def test_with_a_lag_an_event_is_known_later_than_it_is_due():
    calendar = Calendar(CalendarConfig(ingestion_lag_hours=6))
    log = log_of(("u", "a", "click", 17), ("u", "a", "click", 18), ("u", "a", "click", 24), calendar=calendar)
    assert log.events["label_day"].to_list() == [DAY, DAY, DAY + 1]
    assert log.events["day"].to_list() == [
        DAY,
        DAY + 1,
        DAY + 1,
    ]  # the batch of the next midnight knows 17:59
    assert log.first_day == DAY
    assert log.last_day == DAY + 1


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.integers(0, 10_000))
def test_order_of_input_rows_changes_nothing(shop, seed):
    tables = shop(seed, n_users=2, n_items=4, n_days=4, n_events=60)  # many events at one instant
    log = tables.log()
    shuffled = {
        name: getattr(tables, name).sample(fraction=1, shuffle=True, seed=seed) for name in ("events", "items", "users")
    }
    other = EventLog.build(
        **shuffled,
        calendar=tables.calendar,
        gains={"purchase": 3, "cart": 2, "click": 1, "share": 9},
        keep=("query", "text", "mood", "value", "device", "depth"),
    )
    assert_frame_equal(other.events, log.events)
    assert_frame_equal(other.items, log.items)
    assert other.user_ids.equals(log.user_ids)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.integers(0, 10_000))
def test_the_coded_log_says_what_the_tables_say(shop, seed):
    tables = shop(seed, n_events=60)
    log = tables.log()
    assert log.user_ids.to_list() == sorted(set(tables.users["user_id"]))
    assert log.items["item_id"].to_list() == sorted(set(tables.items["item_id"]))
    assert log.items["item"].to_list() == list(range(log.items.height))
    gain = {"click": 1, "cart": 2, "purchase": 3}
    told_of = ["user_id", "item_id", "event", "timestamp", "value"]
    told = sorted(
        (stamp, user, item, kind, gain.get(kind, 0), value or 0.0)
        for user, item, kind, stamp, value in tables.events.select(told_of).iter_rows()
    )
    coded = log.events.select("timestamp", "user", "item", "kind", "gain", pl.col("value").fill_null(0.0))
    assert (
        sorted(
            (stamp, log.user_ids[user], log.items["item_id"][item], *rest)
            for stamp, user, item, *rest in coded.iter_rows()
        )
        == told
    )
    keys = log.events.select("day", "timestamp", "user", "item").rows()
    assert keys == sorted(keys)
    assert log.engaged["gain"].min() >= 1
    assert log.engaged.height == sum(kind in gain for kind in tables.events["event"])


def test_types_without_gain_are_context():
    log = log_of(("u", "a", "view", 1), ("u", "a", "purchase", 2))
    assert log.events["gain"].to_list() == [0, 3]
    assert log.events["kind"].to_list() == ["view", "purchase"]
    assert log.engaged.height == 1


def test_a_log_without_any_success_is_refused():
    with pytest.raises(ContractError, match=r"none of the 1 rows has an event type of labels.gains \('click'"):
        log_of(("u", "a", "view", 1))


def test_users_stand_in_the_order_of_their_codes_with_nulls_for_those_without_a_row(shop):
    tables = shop(0)
    known = tables.users.filter(pl.col("user_id") != "u03").sort("user_id", descending=True)
    log = replace(tables, users=known).log()
    assert log.users["user_id"].to_list() == log.user_ids.to_list()
    ages = dict(known.select("user_id", "age").rows())
    assert log.users["age"].to_list() == [ages.get(user) for user in log.user_ids]


def test_query_and_text_are_kept_only_where_there_are_any(shop):
    tables = shop(0)
    silent = tables.events.with_columns(query=pl.lit(None, pl.String))
    log = EventLog.build(events=silent, items=tables.items, users=None, calendar=tables.calendar, gains={"click": 1})
    assert {"query", "text", "mood"} & set(log.events.columns) == {"text"}


def test_users_without_events_have_codes_too():
    log = log_of(("v", "a", "click", 1), users=["w", "v", "u"])
    assert log.user_ids.to_list() == ["u", "v", "w"]
    assert log.events["user"].to_list() == [1]


def test_integer_ids_sort_as_numbers():
    log = log_of((10, 3, "click", 1), (9, 20, "click", 2), items=(100, 20, 3))
    assert log.user_ids.to_list() == [9, 10]
    assert log.items["item_id"].to_list() == [3, 20, 100]
    assert log.events.select("user", "item").rows() == [(1, 0), (0, 1)]


def test_users_of_another_kind_than_in_events_are_refused():
    with pytest.raises(ContractError, match="user_id is text in one"):
        log_of(("u", "a", "click", 1), users=[1])


def test_what_a_batch_knows_keeps_its_codes(shop):
    log = shop(0).log()
    middle = log.first_day + 20
    known = log.before(middle)
    assert known.events.equals(log.events.filter(pl.col("day") < middle))
    assert np.all(known.events["timestamp"].to_numpy() < np.datetime64(log.calendar.as_of(middle).replace(tzinfo=None)))
    assert known.user_ids.equals(log.user_ids)
    assert known.items.equals(log.items)
    assert log.before(log.first_day).events.is_empty()


def test_dates_for_always_and_never_are_the_first_and_last_day_that_are_counted():
    stamps = [datetime(1, 1, 2, tzinfo=UTC), MIDNIGHT, datetime(9999, 12, 31, 23, tzinfo=UTC)]
    for zone in ("UTC", "America/New_York", "Pacific/Apia"):
        days = Calendar(CalendarConfig(timezone=zone, ingestion_lag_hours=30)).days(utc_series(stamps)).tolist()
        assert abs(days[0]) <= 2
        assert abs(days[2] - day_of(date(2300, 1, 1))) <= 2
        assert abs(days[1] - DAY) <= 2


def test_days_far_from_all_others_decide_nothing():
    rows = [("u", "a", "click", 24 * day + hour) for day in range(20) for hour in range(12)]
    far = [("w", "b", "click", 24 * 400), ("u", "b", "click", -24 * 9000), ("u", "c", "view", 24 * 27_000)]
    log, clean = log_of(*rows, *far).without_far_days(), log_of(*rows).without_far_days()
    assert (log.first_day, log.last_day, log.latest_day) == (DAY, DAY + 19, DAY + 19)
    assert log.events.drop("user").equals(clean.events.drop("user"))
    assert log.active_users.to_list() == [0]
    assert log.user_ids.to_list() == ["u", "w"]  # the codes stay
    assert [day - DAY for day, _ in log.far.counts] == [-9000, 400, 27_000]
    assert log.before(DAY + 5).far == log.far
    assert clean.far.counts == ()


@pytest.mark.parametrize("when", [date(1, 1, 1), date(1970, 12, 31), date(2300, 1, 1), date(9999, 12, 31)])
def test_days_that_no_log_reaches_are_refused(when):
    with pytest.raises(ConfigError, match=f"{when} is no day of a log"):
        batch_day(when)
    assert batch_day(date(2299, 12, 31)) == day_of(date(2299, 12, 31)) < 1 << 17
