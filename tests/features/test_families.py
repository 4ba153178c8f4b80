"""Every registered family: agrees with a scan of the past, never sees the future, and does not depend on any order."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from family_oracles import CONTEXT, NAN, ORACLES, mean_price, shop_of
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from features.candidates.catalog import SOURCES, behaviour_ranks
from features.config import CalendarConfig, RequestsConfig
from features.errors import ConfigError
from features.families.registry import FAMILIES, FeatureSet
from features.signals.family import Plan

NAMES = tuple(FAMILIES)
ONLINE = RequestsConfig(source="logged", mode="online", context=CONTEXT)


def asked(tables, *days, seed=0):
    """Every user and item on some days, as a request a user-day with random sources, time, query and context."""
    parts = [
        pl.DataFrame({"user": range(tables.users.height)}).join(
            pl.DataFrame({"item": range(tables.items.height)}), how="cross"
        )
    ] * len(days)
    rows = pl.concat(
        part.with_columns(as_of_day=pl.lit(tables.first_day + day), request=pl.col("user") + 1000 * n)
        for n, (part, day) in enumerate(zip(parts, days, strict=True))
    )
    rng = np.random.default_rng(seed)
    ranks = {f"{name}_rank": pl.Series(rng.integers(1, 4, rows.height)).replace(3, None) for name in SOURCES}
    return rows.with_columns(**ranks).join(told_of(rows["request"].unique().sort(), rng), on="request")


def told_of(requests, rng):
    """What requests tell of themselves: some have no query, some no context, some one that the log never had."""
    count = len(requests)
    start = datetime(2024, 3, 30, tzinfo=UTC)
    hours = rng.integers(0, 24 * 400, count).tolist()
    return pl.DataFrame(
        {
            "request": requests,
            "requested_at": [start + timedelta(hours=hour) for hour in hours],
            "query": rng.choice(["lamp red", "no such word", None], count).tolist(),
            "device": rng.choice(["phone", "desk", "watch", None], count).tolist(),
            "depth": rng.choice([1.0, 2.5, None], count).tolist(),
        },
        schema_overrides={
            "requested_at": pl.Datetime("us", "UTC"),
            "query": pl.String,
            "device": pl.String,
            "depth": pl.Float64,
        },
    )


def alone(name, plan):
    """A plan with one family on, and the one that must be, for ranking at request time."""
    families = (name,) if name == "pair" else (name, "pair")
    return Plan(plan.config.model_copy(update={"families": families}), plan.inventory, ONLINE)


def computed(name, tables, log, rows):
    plan = alone(name, tables.plan)
    found = FeatureSet(log, plan)
    columns = list(FAMILIES[name].columns_of(plan))
    assert columns
    return found.compute(rows).select(columns)


def bits(frame):
    return {name: frame[name].to_numpy().tobytes() for name in frame.columns}


def small(shop, seed):
    return shop(seed, n_users=4, n_items=6, n_days=60, n_events=90)


every_family = pytest.mark.parametrize("name", NAMES)
few = settings(max_examples=4, deadline=None, derandomize=True, phases=(Phase.generate,))  # a log does not shrink
seeds, days = st.integers(0, 10_000), st.integers(0, 70)


def test_every_family_has_an_oracle():
    assert set(ORACLES) == set(FAMILIES) - {"request"}  # whose rows are a list: see below


@pytest.mark.parametrize("name", ORACLES)
@few
@given(seed=seeds, day=days)
def test_a_family_computes_what_a_scan_of_the_past_finds(shop, name, seed, day):
    tables = small(shop, seed)
    log, rows = tables.log(), asked(tables, day, 59)
    found = computed(name, tables, log, rows)
    pasts = {as_of: shop_of(log, tables.plan, as_of) for as_of in rows["as_of_day"].unique()}
    expected = [
        ORACLES[name](SimpleNamespace(**vars(pasts[row["as_of_day"]]), request=row), row["user"], row["item"])
        for row in rows.iter_rows(named=True)
    ]
    assert set(found.columns) == set(expected[0])
    near = {"rel": 1e-6, "abs": 1e-3} if name == "vectors" else {"rel": 1e-6, "abs": 1e-9}  # vectors lie on a grid
    for column in found.columns:
        told = [row[column] for row in expected]
        assert found[column].to_list() == pytest.approx(told, nan_ok=True, **near), column


@every_family
@settings(few, max_examples=3)
@given(seed=seeds, day=days)
def test_nothing_at_or_after_the_as_of_moves_a_family(shop, futures, name, seed, day):
    tables = small(shop, seed)
    rows = asked(tables, day)
    expected = bits(computed(name, tables, tables.log(), rows))
    as_of = tables.calendar.as_of(tables.first_day + day)
    others = list(futures(tables, as_of, np.random.default_rng(seed)))
    for other in others:
        assert bits(computed(name, tables, other.log(), rows)) == expected
    assert bits(computed(name, tables, tables.log().before(tables.first_day + day), rows)) == expected  # the night


@every_family
@few
@given(seed=seeds)
def test_order_of_log_and_rows_and_what_else_is_asked_move_no_bit(shop, name, seed):
    tables = small(shop, seed)
    rows = asked(tables, 10, 30, 41)
    found = computed(name, tables, tables.log(), rows)
    shuffled = replace(tables, events=tables.events.sample(fraction=1, shuffle=True, seed=seed))
    order = pl.Series(np.random.default_rng(seed).permutation(rows.height))
    assert bits(computed(name, tables, shuffled.log(), rows[order])) == bits(found[order])
    some = rows.with_row_index("place").filter(pl.col("request") % 2 == seed % 2)  # whole requests
    assert bits(computed(name, tables, tables.log(), some)) == bits(found[some["place"]])


@every_family
def test_a_family_answers_no_rows_and_unknown_users(shop, name):
    tables = small(shop, 3)
    log, rows = tables.log(), asked(tables, 30)
    none = computed(name, tables, log, rows.head(0))
    assert none.is_empty()
    assert set(none.dtypes) <= {pl.Float32}
    nobody = rows.with_columns(user=pl.lit(log.user_ids.len(), pl.Int64))
    assert computed(name, tables, log, nobody).height == rows.height


def test_the_list_counts_only_generators_without_text(shop):
    tables = small(shop, 0)
    rows = asked(tables, 30, 50)
    found = computed("request", tables, tables.log(), rows)
    silent = behaviour_ranks(f"{name}_rank" for name in SOURCES)
    sources = rows.select(pl.sum_horizontal(pl.col(silent).is_not_null().cast(pl.Int64)))
    assert found["request_sources"].to_list() == sources.to_series().to_list()
    lists = rows.with_columns(n=sources.to_series()).select((pl.col("n") > 0).sum().over("request")).to_series()
    assert found["request_candidates"].to_list() == lists.to_list()
    pasts = {as_of: shop_of(tables.log(), tables.plan, as_of) for as_of in rows["as_of_day"].unique()}
    for row, value in zip(rows.iter_rows(named=True), found["request_price_per_mean"], strict=True):
        past = pasts[row["as_of_day"]]
        price, usual = past.items[row["item"]]["price"], mean_price(past, row["user"])
        assert value == pytest.approx(NAN if price is None or not usual > 0 else price / usual, rel=1e-6, nan_ok=True)


@pytest.mark.parametrize("cells", [1, 7, 40])
def test_decayed_counts_do_not_depend_on_how_many_are_weighed_at_a_time(shop, monkeypatch, cells):
    tables = small(shop, 3)
    rows = asked(tables, 20, 45, 61)
    whole = computed("item", tables, tables.log(), rows)
    monkeypatch.setattr("features.families.item._CELLS", cells)
    assert bits(computed("item", tables, tables.log(), rows)) == bits(whole)


def test_in_batch_mode_no_feature_knows_the_request_itself(shop):
    tables = small(shop, 5)
    log, rows = tables.log(), asked(tables, 20, 45)
    others = rows.drop("requested_at", "query", *ONLINE.context)
    others = others.join(told_of(rows["request"].unique().sort(), np.random.default_rng(9)), on="request")
    assert not rows.select("requested_at", "query").equals(others.select("requested_at", "query"))
    batch, online = (FeatureSet(log, replace(tables.plan, requests=mode)) for mode in (RequestsConfig(), ONLINE))
    moved = bits(batch.compute(rows)).items() ^ bits(batch.compute(others)).items()
    assert not moved
    moved = {name for name, _ in bits(online.compute(rows)).items() ^ bits(online.compute(others)).items()}
    own = {"request_hour", "request_weekday", "context_device", "context_depth"}
    assert moved == {*own, "text_bm25_query", "text_days_since_query"}
    assert set(online.columns) - set(batch.columns) == own


def test_the_hour_and_the_weekday_are_local(shop):
    tables = shop(0, calendar=CalendarConfig(timezone="Europe/Berlin"))
    at = [datetime(2024, 3, 31, 0, 30, tzinfo=UTC), datetime(2024, 3, 31, 1, 30, tzinfo=UTC)]  # the clock skips 02:00
    at.append(datetime(2024, 3, 31, 22, 0, tzinfo=UTC))
    rows = asked(tables, 20).head(3).drop("requested_at", "request")
    rows = rows.with_columns(request=pl.Series([4, 2, 3]), requested_at=pl.Series(at, dtype=pl.Datetime("us", "UTC")))
    found = computed("request_time", tables, tables.log(), rows)
    assert found.rows() == [(1, 7), (3, 7), (0, 1)]


def test_requests_without_a_time_are_refused_in_online_mode(shop):
    tables = small(shop, 0)
    with pytest.raises(ConfigError, match=r"Train a version with requests\.mode: batch"):
        computed("request_time", tables, tables.log(), asked(tables, 30).drop("requested_at"))
