"""Every registered family: agrees with a scan of the past, never sees the future, and does not depend on any order."""

import math
import re
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from statistics import fmean
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from features.candidates import SOURCES, TEXT_SOURCES
from features.config import CalendarConfig, RequestsConfig
from features.errors import ConfigError
from features.families.base import Plan
from features.families.registry import FAMILIES, FeatureSet

NAN = math.nan
MU, PRIOR, HALF_LIFE = 5.0, 20.0, 30.0
NAMES = tuple(FAMILIES)
ONLINE = RequestsConfig(source="logged", mode="online", context=("device", "depth"))


def ratio(part, whole):
    return part / whole if whole > 0 else NAN


def mean(values):
    return fmean(values) if values else NAN


def last(days, as_of):
    return as_of - max(days) if days else NAN


def first(days, as_of):
    return as_of - min(days) if days else NAN


def gaps(days):
    return [later - earlier for earlier, later in pairwise(sorted(set(days)))]


def within(days, as_of, window):
    return sum(as_of - window <= day for day in days)


def weight(age, half_life):
    return max(round(2 ** (-(age - 1) / half_life) * 2**16), 1) / 2**16


def shop_of(log, plan, as_of):
    """What is known as of a day, as plain Python."""
    events = [SimpleNamespace(**row) for row in log.events.filter(pl.col("day") < as_of).iter_rows(named=True)]
    return SimpleNamespace(
        as_of=as_of,
        events=events,
        engaged=[event for event in events if event.gain > 0],
        items=log.items.to_dicts(),
        users=log.users.to_dicts(),
        supply=plan.supply,
    )


def counted(prefix, shop, has):
    """Counts of the engagements, and of each type of event, that `has` chooses."""
    found = {}
    kinds = {f"{prefix}_events": [event for event in shop.engaged if has(event)]}
    for kind in shop.supply.counted:
        kinds[f"{prefix}_events_{kind}"] = [event for event in shop.events if event.kind == kind and has(event)]
    for name, events in kinds.items():
        days = [event.day for event in events]
        found |= {f"{name}_{window}d": within(days, shop.as_of, window) for window in (1, 7, 28, 90)}
        found[f"{name}_all"] = len(days)
    return found


def mean_price(shop, user):
    return mean([price for e in shop.engaged if e.user == user and (price := shop.items[e.item]["price"]) is not None])


def of_user(shop, user, _):
    mine = [event for event in shop.engaged if event.user == user]
    days, items = [event.day for event in mine], {event.item for event in mine}
    categories = Counter(c for event in mine if (c := shop.items[event.item]["category"]) is not None)
    told = categories.total()
    return {
        **counted("user", shop, lambda event: event.user == user),
        "user_days_since_last": last(days, shop.as_of),
        "user_days_since_first": first(days, shop.as_of),
        "user_active_days": len(set(days)),
        "user_events_per_active_day": ratio(len(days), len(set(days))),
        "user_mean_gap_days": mean(gaps(days)),
        "user_days_since_last_per_gap": last(days, shop.as_of) / mean(gaps(days)),
        "user_items_all": len(items),
        "user_events_per_item": ratio(len(days), len(items)),
        "user_mean_price": mean_price(shop, user),
        "user_category_entropy": abs(sum(n / told * math.log(n / told) for n in categories.values())) if told else NAN,
    }


def users_days(events, has):
    """Days of each user's engagements that `has` chooses."""
    found = {}
    for event in events:
        if has(event):
            found.setdefault(event.user, []).append(event.day)
    return found


def of_item(shop, _, item):
    days = [event.day for event in shop.engaged if event.item == item]
    of_users = users_days(shop.engaged, lambda event: event.item == item)
    met = [min(some) for some in of_users.values()]
    week, month = within(days, shop.as_of, 7), within(days, shop.as_of, 28)
    returns = sum(event.kind == "return" and event.item == item for event in shop.events)
    price, category = shop.items[item]["price"], shop.items[item]["category"]
    others = [o["price"] for o in shop.items if o["category"] == category and o["price"] is not None]
    below = (
        sum(other < price for other in others) + sum(other == price for other in others) / 2 if price is not None else 0
    )
    return {
        **counted("item", shop, lambda event: event.item == item),
        **{f"item_decayed_{h}d": sum(weight(shop.as_of - day, h) for day in days) for h in (7, 30, 90)},
        "item_trend": (4 * week + 1) / (month + 1),
        "item_days_since_first": first(days, shop.as_of),
        "item_days_since_last": last(days, shop.as_of),
        "item_users_28d": within(met, shop.as_of, 28),
        "item_users_all": len(met),
        "item_events_per_user": ratio(len(days), len(met)),
        "item_repeat_share": ratio(sum(len(set(some)) > 1 for some in of_users.values()), len(met)),
        "item_mean_gap_days": mean([gap for some in of_users.values() for gap in gaps(some)]),
        "item_return_share": ratio(returns, len(days)),
        "item_price": NAN if price is None else price,
        "item_price_percentile": NAN if price is None else below / len(others),
    }


def rate(part, whole, parts, wholes):
    return (part + PRIOR * parts / wholes) / (whole + PRIOR) if wholes else NAN


def of_exposure(shop, _, item):
    kinds = Counter(event.kind for event in shop.events)
    own = Counter(event.kind for event in shop.events if event.item == item)
    return {
        "item_click_rate": rate(own["click"], own["impression"], kinds["click"], kinds["impression"]),
        "item_conversion_rate": rate(own["purchase"], own["click"], kinds["purchase"], kinds["click"]),
    }


def of_pair_exposure(shop, user, item):
    days = [e.day for e in shop.events if (e.user, e.item, e.kind) == (user, item, "impression")]
    return {
        "pair_shown_7d": within(days, shop.as_of, 7),
        "pair_shown_28d": within(days, shop.as_of, 28),
        "pair_shown_all": len(days),
        "pair_days_since_shown": last(days, shop.as_of),
    }


def due(days, of_users, as_of):
    """Days since the last time over the mean of the own gaps and, once, of everybody's mean gap."""
    usual = mean([gap for some in of_users.values() for gap in gaps(some)])
    return last(days, as_of) / mean([*gaps(days), *([] if math.isnan(usual) else [usual])])


def lift(n, of_user, of_value, of_all):
    """The formula as it is in the paper; its limit where nobody, so neither the user, was seen with the value."""
    if of_value == 0:
        return math.log(MU / (of_user + MU))
    p = of_value / of_all
    return math.log((n + MU * p) / ((of_user + MU) * p))


def together(prefix, shop, user, has, all_of):
    """What a user did with an item or with all items of a value; `all_of` are the events that could be with one."""
    days = [event.day for event in all_of if event.user == user and has(event)]
    of_user = sum(event.user == user for event in all_of)
    of_value = sum(map(has, all_of))
    return {
        **{f"{prefix}_events_{window}d": within(days, shop.as_of, window) for window in (7, 28, 90)},
        f"{prefix}_events_all": len(days),
        f"{prefix}_days_since_last": last(days, shop.as_of),
        f"{prefix}_days_since_last_per_gap": last(days, shop.as_of) / mean(gaps(days)),
        f"{prefix}_due": due(days, users_days(all_of, has), shop.as_of),
        f"{prefix}_share": ratio(len(days), of_user),
        f"{prefix}_lift": lift(len(days), of_user, of_value, len(all_of)),
    }


def of_pair(shop, user, item):
    days = [event.day for event in shop.engaged if (event.user, event.item) == (user, item)]
    of_all = {event.day for event in shop.engaged if event.user == user}
    return {
        **together("pair", shop, user, lambda event: event.item == item, shop.engaged),
        "pair_active_days": len(set(days)),
        "pair_days_since_first": first(days, shop.as_of),
        "pair_share_of_active_days": ratio(len(set(days)), len(of_all)),
    }


def of_value(attribute):
    def oracle(shop, user, item):
        value = shop.items[item][attribute]
        valued = [event for event in shop.engaged if shop.items[event.item][attribute] is not None]
        found = together(
            f"user_{attribute}", shop, user, lambda event: shop.items[event.item][attribute] == value, valued
        )
        return found if value is not None else dict.fromkeys(found, NAN)

    return oracle


def code(value, vocabulary):
    if value is None or vocabulary is None:
        return NAN if value is None else value
    return 1 + vocabulary.index(value) if value in vocabulary else 0


def of_attributes(prefix, table, names):
    def oracle(shop, user, item):
        row = shop.users[user] if table == "users" else shop.items[item]
        vocabularies = shop.supply.vocabularies
        there = [name for name in names if f"{table}.{name}" in shop.supply.inputs]  # not where all are null
        return {f"{prefix}_{name}": code(row[name], vocabularies.get(f"{table}.{name}")) for name in there}

    return oracle


def of_comments(shop, _, item):
    written = [event for event in shop.events if event.item == item and event.text is not None]
    days = [event.day for event in written]
    return {
        "comments_28d": within(days, shop.as_of, 28),
        "comments_all": len(days),
        "comments_days_since_last": last(days, shop.as_of),
        "comments_mean_length": mean([len(event.text) for event in written]),
        "comments_mean_sentiment": mean([event.mood for event in written if event.mood is not None]),
    }


def words(shop, item):
    texts = (shop.items[item][name] or "" for name in shop.supply.text)
    return {word for text in texts for word in re.findall(r"[^\W_]+", text.lower())}


def phrases(shop, item):
    texts = [" ".join((shop.items[item][name] or "").lower().split()) for name in shop.supply.text]
    return {(place, text) for place, text in enumerate(texts) if text}


def lifts(prefix, shop, user, item, tokens):
    """Mean, largest and smallest lift of the item's tokens, plain and decayed."""
    everybody = Counter(token for event in shop.engaged for token in tokens(shop, event.item))
    found = {}
    for name, half_life in (("lift", math.inf), ("decayed_lift", HALF_LIFE)):
        mine = Counter()
        for event in shop.engaged:
            if event.user == user:
                for token in tokens(shop, event.item):
                    mine[token] += weight(shop.as_of - event.day, half_life)
        values = [lift(mine[t], mine.total(), everybody[t], everybody.total()) for t in tokens(shop, item)]
        chosen = (mean(values), max(values), min(values)) if values else (NAN,) * 3
        found |= {f"{prefix}_{name}_{what}": value for what, value in zip(("mean", "max", "min"), chosen, strict=True)}
    return found


def idf(shop):
    held = Counter(word for item in range(len(shop.items)) for word in words(shop, item))
    count = len(shop.items)
    weights = {word: round(math.log1p((count - n + 0.5) / (n + 0.5)) * 64) / 64 for word, n in held.items()}
    return weights, held


def bm25_of(shop, item):
    """What BM25 makes of one occurrence, by the length of the item's text."""
    lengths = [len(words(shop, other)) for other in range(len(shop.items))]
    return 2.2 / (1 + 1.2 * (0.25 + 0.75 * len(words(shop, item)) / (sum(lengths) / len(lengths))))


def of_words(shop, user, item):
    told, (weights, held) = words(shop, item), idf(shop)
    mine = Counter(word for event in shop.engaged if event.user == user for word in words(shop, event.item))
    norms = math.hypot(*(n * weights[w] for w, n in mine.items())) * math.hypot(*(weights[w] for w in told))
    matched = sum(mine[w] * weights[w] for w in told)
    return {
        **lifts("text_words", shop, user, item, words),
        "text_tfidf_cosine": ratio(sum(mine[w] * weights[w] ** 2 for w in told), norms),
        "text_bm25_history": ratio(matched, mine.total() if told else 0) * bm25_of(shop, item),
        "text_shared_rare_words": sum(w in mine and held[w] <= 2 for w in told),
    }


def of_phrases(shop, user, item):
    return lifts("text_phrases", shop, user, item, phrases)


def of_title(shop, _, item):
    title = shop.items[item]["title"]
    scripts = (
        sum("a" <= letter.lower() <= "z" for letter in title),
        sum("\u0430" <= c.lower() <= "\u044f" for c in title),
    )
    most = scripts.index(max(scripts)) + 1 if max(scripts) else 0
    return {"text_title_words": len(re.findall(r"[^\W_]+", title)), "text_title_script": most}


def of_time(shop, _, __):
    at = shop.request["requested_at"]
    return {"request_hour": at.hour, "request_weekday": at.isoweekday()}


def of_context(shop, _, __):
    vocabularies = shop.supply.vocabularies
    return {f"context_{name}": code(shop.request[name], vocabularies.get(f"events.{name}")) for name in ONLINE.context}


def of_query(shop, user, item):
    asked = [(e.day, e.timestamp, e.query) for e in shop.events if e.user == user and e.query is not None]
    if shop.request["query"] is not None:
        asked = [(shop.as_of, None, shop.request["query"])]
    if not asked:
        return {"text_bm25_query": NAN, "text_days_since_query": NAN}
    day, _, query = max(asked)
    shared, (weights, _) = set(query.lower().split()) & words(shop, item), idf(shop)
    return {
        "text_bm25_query": sum(weights[word] for word in shared) * bm25_of(shop, item),
        "text_days_since_query": shop.as_of - day,
    }


def cosine(one, other):
    return sum(a * b for a, b in zip(one, other, strict=True)) / (math.hypot(*one) * math.hypot(*other))


def of_vectors(shop, user, item):
    pictures = [row["picture"] if row["picture"] and any(row["picture"]) else None for row in shop.items]
    mine = {}
    for event in shop.engaged:
        if event.user == user and pictures[event.item]:
            mine[event.item] = max(event.day, mine.get(event.item, event.day))
    names = [f"vector_picture_{name}" for name in ("nearest", "mean", "last")]
    if not mine or not pictures[item]:
        return dict.fromkeys(names, NAN)
    near = {other: cosine(pictures[item], pictures[other]) for other in mine}
    latest = [near[other] for other, day in mine.items() if day == max(mine.values())]
    return dict(zip(names, (max(near.values()), mean(list(near.values())), max(latest)), strict=True))


ORACLES = {
    "user": of_user,
    "item": of_item,
    "exposure": of_exposure,
    "pair": of_pair,
    "pair_exposure": of_pair_exposure,
    "user_category": of_value("category"),
    "user_attribute": lambda *asked: of_value("brand")(*asked) | of_value("size")(*asked),
    "item_attribute": of_attributes("item_attribute", "items", ("brand", "size")),
    "own_attribute": of_attributes("own_attribute", "users", ("age", "country")),
    "request_time": of_time,
    "context": of_context,
    "comments": of_comments,
    "text_title": of_title,
    "text_words": of_words,
    "text_phrases": of_phrases,
    "text_query": of_query,
    "vectors": of_vectors,
}


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
    return Plan(plan.config.model_copy(update={"families": families}), plan.supply, ONLINE)


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
    silent = [f"{name}_rank" for name in SOURCES if name not in TEXT_SOURCES]
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
