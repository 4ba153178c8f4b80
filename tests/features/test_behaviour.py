import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from features.behaviour import FAMILIES, BehaviourFeatures, Rows
from hypothesis import given, settings
from hypothesis import strategies as st

NAN = math.nan


def ratio(part, whole):
    return part / whole if whole > 0 else NAN


def since(days, as_of):
    """Days from the last and from the first of some days to the as-of."""
    return (as_of - max(days), as_of - min(days)) if days else (NAN, NAN)


def mean_gap(days):
    """Mean distance of consecutive distinct days."""
    ordered = sorted(set(days))
    gaps = [later - earlier for earlier, later in pairwise(ordered)]
    return sum(gaps) / len(gaps) if gaps else NAN


def within(days, as_of, window):
    return sum(as_of - window <= day for day in days)


def of_user(past, user, _, as_of):
    days = [day for who, _, day in past if who == user]
    last, _ = since(days, as_of)
    active = len(set(days))
    windows = [within(days, as_of, window) for window in (7, 28, 90)]
    return [*windows, len(days), last, active, ratio(len(days), active), mean_gap(days)]


def of_item(past, _, item, as_of):
    days = [day for _, what, day in past if what == item]
    last, first = since(days, as_of)
    week, month, quarter = (within(days, as_of, window) for window in (7, 28, 90))
    users = {who for who, what, _ in past if what == item}
    met = [min(day for who, what, day in past if (who, what) == (user, item)) for user in users]
    return [
        *(week, month, quarter, len(days), (4 * week + 1) / (month + 1), first, last),
        *(within(met, as_of, 28), len(users), ratio(len(days), len(users))),
    ]


def of_pair(past, user, item, as_of):
    days = [day for who, what, day in past if (who, what) == (user, item)]
    last, first = since(days, as_of)
    active = len(set(days))
    of_all = len({day for who, _, day in past if who == user})
    due = last / mean_gap(days) if active > 1 else NAN
    month, quarter = (within(days, as_of, window) for window in (28, 90))
    return [month, quarter, len(days), active, last, first, ratio(active, of_all), due]


ORACLES = {"user": of_user, "item": of_item, "pair": of_pair}


def past_of(log, as_of):
    return [row for row in log.engaged.select("user", "item", "day").iter_rows() if row[2] < as_of]


def all_rows(tables, *days):
    users, items = (
        pl.DataFrame({name: range(count)}, schema={name: pl.UInt32})
        for name, count in (("user", tables.users.height), ("item", tables.items.height))
    )
    as_of_days = pl.DataFrame({"as_of_day": days}, schema={"as_of_day": pl.Int32})
    return users.join(items, how="cross").join(as_of_days + tables.first_day, how="cross")


def bits(frame):
    return [frame[name].to_numpy().tobytes() for name in frame.columns]


def test_every_family_has_an_oracle_and_its_own_columns():
    assert {family.name for family in FAMILIES} == set(ORACLES)
    names = [column for family in FAMILIES for column in family.columns]
    assert len(set(names)) == len(names)
    assert BehaviourFeatures.columns == tuple(names)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
@settings(max_examples=12, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10_000), day=st.integers(0, 130))
def test_a_family_computes_what_a_scan_of_the_past_finds(shop, family, seed, day):
    tables = shop(seed, n_users=4, n_items=5, n_days=120, n_events=120)
    log, rows = tables.log(), all_rows(tables, day, 119)
    found = np.stack(family(log).compute(Rows.of(rows)), axis=1).astype(np.float64)
    pasts = {as_of: past_of(log, as_of) for as_of in rows["as_of_day"].unique()}
    oracle = ORACLES[family.name]
    expected = [oracle(pasts[as_of], user, item, as_of) for user, item, as_of in rows.iter_rows()]
    for n, name in enumerate(family.columns):
        assert found[:, n].tolist() == pytest.approx([row[n] for row in expected], rel=1e-14, nan_ok=True), name


def test_features_by_hand(shop):
    tables = shop(0, n_events=1)
    stamp = pl.col("timestamp")
    first = tables.events.with_columns(pl.lit("click").alias("event"), user_id=pl.lit("u00"), item_id=pl.lit("i00"))
    moved = [first.with_columns(stamp.dt.offset_by(f"{days}d")) for days in (0, 0, 4, 10)]
    other = first.with_columns(stamp.dt.offset_by("5d"), item_id=pl.lit("i01"))
    log = replace(tables, events=pl.concat([*moved, other])).log()
    rows = pl.DataFrame({"user": [0], "item": [0], "as_of_day": [log.first_day + 10]})
    known = BehaviourFeatures(log).compute(rows).row(0, named=True)  # the event of day 10 is not known yet
    assert known["user_events_7d"] == 2
    assert known["user_events_all"] == 4
    assert known["user_active_days"] == 3
    assert known["user_days_since_last"] == 10 - 5
    assert known["user_mean_gap_days"] == np.float32((4 + 1) / 2)
    assert known["item_events_7d"] == 1
    assert known["item_trend"] == np.float32((4 * 1 + 1) / (3 + 1))
    assert known["item_events_per_user"] == 3 / 1
    assert known["pair_days_since_last"] == 10 - 4
    assert known["pair_days_since_first"] == 10
    assert known["pair_share_of_active_days"] == np.float32(2 / 3)
    assert known["pair_days_since_last_per_gap"] == np.float32(6 / 4)


def test_what_was_never_seen_is_undefined_and_its_counts_are_zero(shop):
    tables = shop(0)
    features = BehaviourFeatures(tables.log()).compute(all_rows(tables, -2))
    for name in features.columns:
        undefined = "since" in name or "per_" in name or "gap" in name or "share" in name
        value = NAN if undefined else 1 if name == "item_trend" else 0
        assert features[name].to_list() == pytest.approx([value] * features.height, nan_ok=True), name


@settings(max_examples=15, deadline=None, derandomize=True)
@given(st.integers(0, 10_000))
def test_order_of_the_rows_and_of_the_log_does_not_matter(shop, seed):
    tables = shop(seed, n_events=100)
    rows = all_rows(tables, 10, 30)
    features = BehaviourFeatures(tables.log()).compute(rows)
    shuffled = replace(tables, events=tables.events.sample(fraction=1, shuffle=True, seed=seed))
    order = pl.Series(np.random.default_rng(seed).permutation(rows.height))
    other = BehaviourFeatures(shuffled.log()).compute(rows[order])
    assert bits(other) == bits(features[order])
    assert bits(BehaviourFeatures(tables.log()).compute(rows[5:9])) == bits(features[5:9])


def test_a_column_is_float32_whatever_is_asked(shop):
    tables = shop(0)
    features = BehaviourFeatures(tables.log()).compute(all_rows(tables, 3).head(0))
    assert features.is_empty()
    assert features.schema == dict.fromkeys(BehaviourFeatures.columns, pl.Float32)
