"""What functions make is what the frames say, on the simulated shop; and what the frames make of columns."""

import numpy as np
import polars as pl
import pytest
from frame_check import check_frame

from features.assemble import Assembler
from features.candidates.recall import recall_by_source, seen_items
from features.candidates.supplied import supplied_candidates
from features.candidates.union import CandidateGenerators, histories
from features.config import CalendarConfig, CandidatesConfig, LabelsConfig, RequestsConfig, ValueGainConfig
from features.log.event_log import Calendar, EventLog, date_of
from features.log.offers import coded_offers
from features.requests.engaged import requests_between, requests_tonight, truth_of
from features.requests.logged import LoggedRequests
from features.shop.simulator import ShopConfig, simulate
from features.signals.popularity import popular_items
from features.signals.queries import Queries
from features.tables.frames import (
    PAIR,
    CandidateRows,
    Cells,
    CodedOffers,
    CodedSupplied,
    DailyCounts,
    DaySpans,
    EventRows,
    HistoryItems,
    LabelRows,
    LoggedLists,
    Pairs,
    PopularItems,
    Ranked,
    RawRows,
    Recall,
    Requests,
    ShownRows,
    Truth,
    UserItemDays,
    ValuedTruth,
)

LABELS = LabelsConfig()
VALUED = LabelsConfig(value_gain=ValueGainConfig(unit=10.0))
CONFIG = CandidatesConfig()


@pytest.fixture(scope="module")
def small_shop():
    return simulate(ShopConfig(users=30, items=40, days=21, list_length=6, requests_per_user_per_day=0.6))


@pytest.fixture(scope="module")
def log(small_shop):
    return EventLog.build(
        events=small_shop.events,
        items=small_shop.items.with_columns(available_until=pl.lit(None, pl.Datetime("us", "UTC"))),
        users=small_shop.users,
        calendar=Calendar(CalendarConfig()),
        gains=LABELS.gains,
        keep=("request_id", "position"),
    )


@pytest.fixture(scope="module")
def requests(log):
    return requests_between(log, log.first_day + 14, log.first_day + 18)


@pytest.fixture(scope="module")
def history(log, requests):
    return histories(log, requests, CONFIG, ("click",))


def test_the_log(log):
    check_frame(log.cells.frame(), Cells)
    check_frame(log.interactions.frame, DailyCounts, sorted_by=("user", "item", "day"))
    check_frame(log.first_meetings, UserItemDays, sorted_by=("user", "item"))
    check_frame(log.events, EventRows, further=True, sorted_by=("day",))
    check_frame(log.raw_events.rows, RawRows, further=True)
    check_frame(log.label_events.between(0, log.end_day), LabelRows, further=True)
    check_frame(log.label_events.spans, DaySpans, sorted_by=("day", "label_day"))


def test_requests_and_their_truth(log, requests):
    check_frame(requests, Requests, sorted_by=("as_of_day", "user"))
    assert requests["request"].to_list() == list(range(requests.height))
    check_frame(requests_tonight(log.active_users, log.end_day), Requests, sorted_by=("user",))
    check_frame(truth_of(requests, log, LABELS), Truth, sorted_by=PAIR)
    check_frame(truth_of(requests, log, VALUED), ValuedTruth, sorted_by=PAIR)


def test_logged_requests_their_truth_and_rows(log):
    source = LoggedRequests.of(log, VALUED, shown=("impression",))
    requests = source.between(log.first_day + 14, log.first_day + 18)
    check_frame(requests, LoggedLists, sorted_by=("as_of_day", "user", "requested_at"))
    check_frame(source.truth(requests), ValuedTruth, sorted_by=PAIR)
    assembler = Assembler(log, CandidatesConfig(source="logged"), None)
    check_frame(assembler.portion(requests).rows, ShownRows, further=True, sorted_by=PAIR)


def test_histories_candidates_and_rows(log, requests, history):
    check_frame(history, HistoryItems)
    assembler = Assembler(log, CONFIG, None)
    union = assembler.generators.union(requests, history)
    check_frame(union, Pairs, further=True, sorted_by=PAIR)
    portion = assembler.portion(requests)
    check_frame(portion.rows, CandidateRows, further=True, sorted_by=PAIR)
    assert set(portion.rows.drop(CandidateRows.column_names()).dtypes) == {pl.Float32()}
    check_frame(assembler.candidates(requests).rows, CandidateRows, sorted_by=PAIR)


def test_what_generators_propose(log, requests, history):
    config, queries = CandidatesConfig(segment="segment"), Queries(("title",), max_words=1000, online=False)
    vectors = np.random.default_rng(0).integers(100, 300, (log.items.height, 4), dtype=np.int16)
    table = requests.select("user", item=pl.lit(0, pl.UInt32), day=pl.lit(None, pl.Int32), score=pl.lit(1.0)).unique()
    generators = CandidateGenerators(log.with_tables(supplied=table), config, vectors, queries=queries)
    for generator in generators._generators:
        check_frame(generator.propose(requests, history), Ranked)
    recall = recall_by_source(
        requests,
        history,
        generators.scored_union(requests, history),
        truth_of(requests, log, LABELS),
        seen=seen_items(log, log.first_day + 14),
    )
    check_frame(recall, Recall)
    check_frame(popular_items(log, requests["as_of_day"], most=5, window_days=7), PopularItems)


def test_supplied_tables(log):
    pair = {"user_id": log.user_ids.head(2), "item_id": log.items["item_id"].head(2)}
    check_frame(supplied_candidates(pl.DataFrame(pair), log), CodedSupplied)
    dated = pl.DataFrame({**pair, "day": [date_of(log.first_day), None], "score": [1, 2]})
    check_frame(supplied_candidates(dated, log), CodedSupplied)
    offers = pl.DataFrame({"item_id": pair["item_id"], "offer": "leaflet", "first_day": date_of(log.first_day)})
    check_frame(coded_offers(offers, log), CodedOffers)


def test_a_frame_that_differs_from_its_class_is_noticed():
    good = Ranked.of(request=[0], item=[1], score=[0.5], rank=[1])
    check_frame(good, Ranked)
    for other in (
        good.select("item", "request", "score", "rank"),
        good.rename({"rank": "place"}),
        good.cast({"rank": pl.Int64}),
        good.with_columns(rank=pl.lit(0, pl.Int32)),
        good.with_columns(score=pl.lit(None, pl.Float64)),
        pl.concat([good, good]),
    ):
        with pytest.raises(AssertionError):
            check_frame(other, Ranked)


def test_a_frame_is_made_in_the_order_and_the_dtypes_of_its_class():
    made = Ranked.of(rank=np.array([1, 2]), score=[3, 1], item=pl.Series([4, 5]), request=[0, 0])
    assert made.schema == Ranked.dtypes()
    assert made.rows() == [(0, 4, 3.0, 1), (0, 5, 1.0, 2)]
    assert Ranked.of(rank=[], score=[], item=[], request=[]).equals(Ranked.create_empty())


@pytest.mark.parametrize("columns", [{"request": [0]}, {"request": [0], "item": [1], "place": [2]}])
def test_a_frame_takes_all_columns_of_its_class_and_no_other(columns):
    with pytest.raises(KeyError, match=r"Pairs has the columns request, item: see (item|place)"):
        Pairs.of(**columns)


@pytest.mark.parametrize("name", sorted({*RawRows.column_names(), *LoggedLists.column_names()}))
def test_no_column_of_events_may_describe_a_request_under_a_name_that_a_frame_has(name):
    with pytest.raises(ValueError, match=name):
        RequestsConfig(source="logged", mode="online", context=(name,))
