"""Requests that the log says were shown: which, with which labels, and what of them may be known."""

from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from features.assemble import POSITION, Assembler
from features.config import (
    CalendarConfig,
    CandidatesConfig,
    FeaturesConfig,
    LabelsConfig,
    RequestsConfig,
)
from features.errors import ConfigError, ContractError
from features.log.event_log import Calendar, EventLog, day_of
from features.log.inventory import FeatureInventory
from features.requests.engaged import requests_tonight
from features.requests.logged import LoggedRequests
from features.shop.simulator import ShopConfig, simulate
from features.signals.family import Plan

START = datetime(2024, 1, 1, tzinfo=UTC)
D = day_of(date(2024, 1, 1))
LABELS = LabelsConfig()
KEPT = ("request_id", "position", "device")
SHOWN = ("impression",)


def log_of(*rows, keep=KEPT, calendar=None):
    """A log of rows (user, item, event, hours after 2024-01-01 UTC, request_id, further columns)."""
    events = pl.DataFrame(
        [
            {"user_id": user, "item_id": item, "event": kind, "hours": float(hours), "request_id": request, **further}
            for user, item, kind, hours, request, *more in rows
            for further in (more or [{}])
        ],
        schema={"user_id": pl.String, "item_id": pl.String, "event": pl.String, "hours": pl.Float64}
        | {"request_id": pl.String, "position": pl.Int32, "query": pl.String, "device": pl.String},
    )
    stamps = [START + timedelta(hours=hours) for hours in events["hours"]]
    events = events.with_columns(
        pl.Series("timestamp", stamps, pl.Datetime("us", "UTC")), value=pl.lit(None, pl.Float64)
    )
    return EventLog.build(
        events=events,
        items=pl.DataFrame({"item_id": ["a", "b", "c"]}),
        users=pl.DataFrame({"user_id": ["u", "v"]}),
        calendar=Calendar(calendar or CalendarConfig()),
        gains=LABELS.gains,
        keep=keep,
    )


def requests_of(log, labels=LABELS, **told):
    return LoggedRequests.of(log, labels, shown=SHOWN, **told)


def truth(log, horizon=1):
    """(request_id, item): (label, is_new)."""
    found = requests_of(log, LabelsConfig(horizon_days=horizon))
    asked = found.between(D, D + 99)
    names = dict(asked.select("request", "request_id").rows())
    return {
        (names[request], log.items["item_id"][item]): (label, is_new)
        for request, item, label, is_new in found.truth(asked).rows()
    }


def test_each_list_that_was_shown_is_a_request():
    log = log_of(
        ("u", "b", "impression", 10, "second", {"position": 2}),
        ("u", "a", "impression", 10.5, "second", {"position": 1}),
        ("u", "b", "impression", 10.6, "second", {"position": 1}),
        ("v", "c", "impression", 9, "third"),
        ("u", "c", "impression", 8, "first", {"position": 7}),
        ("u", "a", "click", 30, "elsewhere"),
        ("u", "a", "impression", 24, "tomorrow"),
    )
    asked = requests_of(log).between(D, D + 1)
    told = asked.select("request", "user", "as_of_day", "request_id", "shown", "positions").rows()
    assert told == [
        (0, 0, D, "first", [2], [7]),
        (1, 0, D, "second", [0, 1], [1, 1]),
        (2, 1, D, "third", [2], [None]),
    ]
    assert asked["requested_at"].to_list() == [START + timedelta(hours=hour) for hour in (8, 10, 9)]
    assert requests_of(log).between(D + 1, D + 9)["request_id"].to_list() == ["tomorrow"]
    assert requests_of(log).between(D + 2, D + 9).schema == asked.schema


def test_the_query_is_the_latest_and_the_context_the_first_that_is_told():
    log = log_of(
        ("u", "a", "impression", 1, "r", {"query": "mug", "device": None}),
        ("u", "b", "impression", 2, "r", {"query": None, "device": "phone"}),
        ("u", "c", "impression", 2, "r", {"query": None, "device": "watch"}),
        ("u", "a", "click", 3, "r", {"query": "red mug", "device": "desk"}),
        ("u", "a", "click", 4, "r", {"query": None}),
        ("u", "a", "impression", 5, "s"),
    )
    asked = requests_of(log, context=("device",)).between(D, D + 1)
    assert asked.select("query", "device").rows() == [("red mug", "phone"), (None, None)]
    silent = requests_of(log_of(("u", "a", "impression", 1, "r"), ("u", "a", "click", 1, "r"))).between(D, D + 1)
    assert silent["query"].to_list() == [None]
    with pytest.raises(ConfigError, match=r"requests\.context: 'devise' is no column of events; did you mean 'device'"):
        requests_of(log, context=("devise",))


def test_the_batch_day_is_the_one_that_holds_the_request():
    calendar = CalendarConfig(timezone="America/New_York", cutoff="23:00", ingestion_lag_hours=30)
    log = log_of(
        ("u", "a", "impression", 27.999, "early"),  # 2024-01-02 04:00 UTC is 23:00 on the 1st in New York
        ("u", "a", "impression", 28, "late"),
        ("u", "a", "click", 28, "late"),
        calendar=calendar,
    )
    asked = requests_of(log).between(D - 9, D + 9)
    assert dict(asked.select("request_id", "as_of_day").rows()) == {"early": D - 1, "late": D}
    log_days = log.events.select("kind", "day").rows()
    assert all(day > D for kind, day in log_days if kind == "click")  # no batch of that day knows its labels


def test_the_label_is_the_highest_gain_of_what_carries_the_request():
    log = log_of(
        ("u", "a", "impression", 1, "r"),
        ("u", "b", "impression", 1, "r"),
        ("u", "a", "impression", 2, "s"),
        ("u", "a", "click", 3, "r"),
        ("u", "a", "cart", 4, "r"),
        ("u", "c", "purchase", 4, "r"),  # it was not shown
        ("u", "b", "click", 4, "s"),  # not shown there
        ("v", "b", "click", 4, None),  # somebody else
    )
    assert truth(log) == {("r", "a"): (2, True)}


def test_what_carries_no_request_counts_for_those_that_had_shown_it():
    log = log_of(
        ("u", "a", "impression", 2, "r"),
        ("u", "a", "impression", 4, "s"),
        ("u", "a", "impression", 8, "t"),
        ("u", "b", "impression", 8, "t"),
        ("u", "a", "purchase", 4, None),
        ("u", "a", "click", 9, "elsewhere"),
        ("u", "b", "cart", 7.9, None),
    )
    assert truth(log) == {("r", "a"): (3, True), ("s", "a"): (3, True)}


def test_labels_close_with_the_horizon_whatever_they_carry():
    log = log_of(
        ("u", "a", "click", 1, None),
        ("u", "a", "impression", 30, "r"),
        ("u", "b", "impression", 30, "r"),
        ("u", "c", "impression", 30, "r"),
        ("u", "a", "click", 47.9, "r"),
        ("u", "b", "click", 48, "r"),
        ("u", "c", "click", 71.9, None),
    )
    assert truth(log, 1) == {("r", "a"): (1, False)}
    assert truth(log, 2) == {("r", "a"): (1, False), ("r", "b"): (1, True), ("r", "c"): (1, True)}


FAULTY = (
    *(("u", "a", "impression", hour, f"r{hour}") for hour in range(7)),
    ("u", "a", "impression", 7, None),
    ("u", "b", "impression", 8, "twice"),
    ("v", "b", "impression", 8, "twice"),
    ("u", "b", "click", 8, "twice"),
)


def test_rows_that_belong_to_no_request_are_told_with_counts_and_refused_above_the_share():
    log = log_of(*FAULTY)
    with pytest.raises(ContractError) as raised:
        requests_of(log, max_faulty_share=0.29)
    assert "of 10 rows that were shown, 1 have no request_id and 2 belong to the 1 request_ids" in str(raised.value)
    assert "data.quarantine.max_share (0.29)" in str(raised.value)
    found = requests_of(log, max_faulty_share=0.3)
    assert (found.without_id, found.of_many_users) == (1, 2)
    assert found.requests["request_id"].to_list() == [f"r{hour}" for hour in range(7)]


def test_an_engagement_of_another_user_makes_a_request_id_shared_too():
    log = log_of(("u", "a", "impression", 1, "r"), ("v", "a", "click", 2, "r"))
    with pytest.raises(ContractError, match="1 belong to the 1 request_ids that more than one user has"):
        requests_of(log)
    with pytest.raises(ContractError, match="more than one user has"):
        requests_of(log, max_faulty_share=1.0)  # nothing would be left


def test_a_log_of_which_nothing_was_shown_says_where_to_name_it():
    log = log_of(("u", "a", "click", 1, "r"))
    with pytest.raises(ContractError, match=r"none of the 1 rows .*features\.roles\.shown: 'impression'"):
        requests_of(log)
    with pytest.raises(ContractError, match=r"Set requests\.source: logged"):
        requests_of(log_of(("u", "a", "click", 1, "r"), keep=()))


@pytest.fixture(scope="module")
def small_shop():
    return simulate(ShopConfig(users=30, items=40, days=21, list_length=6, requests_per_user_per_day=0.6))


def shop_log(shop, events=None, keep=("request_id", "position")):
    events = shop.events if events is None else events
    never = pl.lit(None, pl.Datetime("us", "UTC"))
    return EventLog.build(
        events=events,
        items=shop.items.with_columns(available_from=never, available_until=never),
        users=shop.users,
        calendar=Calendar(CalendarConfig(timezone="Europe/Berlin", cutoff="03:00")),
        gains=LABELS.gains,
        keep=keep,
    )


def test_the_requests_of_the_simulated_shop_are_found_as_it_made_them(small_shop):
    log = shop_log(small_shop)
    found = requests_of(log).requests
    made = small_shop.requests.select("request_id", "user_id", "requested_at", "query")
    told = found.select("request_id", log.user_ids.gather(found["user"]).alias("user_id"), "requested_at", "query")
    assert_frame_equal(told.sort("request_id"), made.sort("request_id"), check_dtypes=False)
    assert set(found["shown"].list.len()) == {6}
    assert {tuple(sorted(places)) for places in found["positions"]} == {(1, 2, 3, 4, 5, 6)}


@pytest.mark.parametrize("forgetful", [False, True])
def test_labels_are_what_a_scan_of_the_log_finds(small_shop, forgetful):
    events = small_shop.events
    if forgetful:  # only what was shown carries its request
        carries = pl.when(pl.col("event") == "impression").then("request_id")
        events = events.with_columns(request_id=carries)
    log = shop_log(small_shop, events)
    found = requests_of(log, LabelsConfig(horizon_days=2))
    asked = found.between(log.first_day + 5, log.first_day + 9)
    engaged = log.engaged.select("user", "item", "gain", "label_day", "day", "timestamp", "request_id").rows()
    expected = {}
    for row in asked.iter_rows(named=True):
        for user, item, gain, label_day, _, at, carried in engaged:
            ours = carried == row["request_id"] if carried is not None else at >= row["requested_at"]
            inside = row["as_of_day"] <= label_day < row["as_of_day"] + 2
            if user == row["user"] and item in row["shown"] and inside and ours:
                best = max(gain, expected.get((row["request"], item), (0,))[0])
                new = not any((u, i) == (user, item) and day < row["as_of_day"] for u, i, _, _, day, _, _ in engaged)
                expected[row["request"], item] = (best, new)
    assert len(expected) > 20
    assert {(r, i): told for r, i, *told in found.truth(asked).rows()} == {key: [*v] for key, v in expected.items()}


def test_the_order_of_the_log_changes_no_request_and_no_label(small_shop):
    one, other = (
        requests_of(shop_log(small_shop, events))
        for events in (small_shop.events, small_shop.events.sample(fraction=1, shuffle=True, seed=3))
    )
    assert one.requests.equals(other.requests)
    asked = one.between(D, D + 99)
    assert one.truth(asked).equals(other.truth(asked))


def rows_of(shop, events=None, requests=None, mode="batch", **candidates):
    log = shop_log(shop, events)
    features = FeaturesConfig(families=("user", "pair", "pair_exposure", "request", "request_time", "text_query"))
    inventory = FeatureInventory.of(log, features, text=("title",))
    plan = Plan(features, inventory, RequestsConfig(source="logged", mode=mode))
    asked = requests_of(log).between(log.first_day + 14, log.first_day + 18)
    assembler = Assembler(log, CandidatesConfig(**candidates), None, plan)
    return asked, assembler, assembler.portion(asked if requests is None else requests(asked)).rows


def test_a_given_list_is_all_that_was_shown_with_its_positions(small_shop):
    asked, _, rows = rows_of(small_shop, source="logged")
    shown = asked.select("request", item="shown", position="positions").explode("item", "position")
    assert rows.select("request", "item", "position").equals(shown)
    _, _, found = rows_of(small_shop)
    told = found.join(shown, on=["request", "item"], how="left", maintain_order="left")
    assert told["position"].equals(told["position_right"])
    assert 0 < found["position"].null_count() < found.height


@pytest.mark.parametrize("source", ["generated", "logged"])
def test_a_position_is_no_feature_and_moves_none(small_shop, source):
    positions = pl.Series(np.random.default_rng(0).integers(1, 99, small_shop.events.height), dtype=pl.Int32)
    _, assembler, one = rows_of(small_shop, source=source)
    _, _, other = rows_of(small_shop, small_shop.events.with_columns(position=positions), source=source)
    assert POSITION not in assembler.features
    assert not one[POSITION].equals(other[POSITION])
    assert one.drop(POSITION).equals(other.drop(POSITION))


def test_in_batch_mode_neither_clock_nor_query_of_a_request_moves_a_row(small_shop):
    def otherwise(asked):
        at = pl.col("requested_at") + pl.duration(hours=7)
        return asked.with_columns(requested_at=at, query=pl.lit("espresso machine"))

    one, other = (rows_of(small_shop, requests=how)[2] for how in (None, otherwise))
    assert one.equals(other)
    online = [rows_of(small_shop, requests=how, mode="online")[2] for how in (None, otherwise)]
    assert not online[0]["request_hour"].equals(online[1]["request_hour"])
    assert online[0]["by_query_rank"].is_not_nan().sum() != online[1]["by_query_rank"].is_not_nan().sum()
    assert "request_hour" not in one.columns


def test_a_list_ranked_at_night_gets_the_rows_that_training_gave_it(small_shop):
    asked, assembler, _ = rows_of(small_shop, source="logged")
    once = asked.unique(["user", "as_of_day"], keep="first", maintain_order=True)
    once = once.filter(pl.col("as_of_day") == once["as_of_day"][0])
    trained = assembler.portion(once).rows.drop("request", POSITION)
    table = once.select("user", item="shown", day="as_of_day").explode("item").with_columns(score=pl.lit(1.0))
    log = assembler.log.before(once["as_of_day"][0]).with_tables(supplied=table)
    night = Assembler(log, CandidatesConfig(source="logged"), None, assembler.plan)
    tonight = requests_tonight(once["user"], once["as_of_day"][0])
    assert once.height > 5
    assert night.portion(tonight).rows.drop("request").equals(trained)
