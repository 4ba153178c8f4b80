import math
import re
from collections import Counter, defaultdict
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.candidates import (
    GRID,
    SOURCES,
    CandidateGenerators,
    Neighbours,
    histories,
    popular_items,
    top_per_request,
)
from features.config import CandidatesConfig, LabelsConfig
from features.queries import Queries
from features.requests import requests_tonight, truth_of

ONE = 2**16  # of the fixed-point weights
ALL = CandidatesConfig(
    bought_before=1000,
    popular=1000,
    co_visited=1000,
    text_neighbours=1000,
    next_basket=1000,
    popular_in_category=1000,
    new_arrivals=1000,
    by_query=1000,
    max_per_request=10_000,
)
seeds = st.integers(0, 10_000)


def asked(tables, *days):
    """A request of every user on each of some days after the log's first."""
    users = pl.int_range(tables.users.height, dtype=pl.UInt32, eager=True)
    parts = [requests_tonight(users, tables.first_day + day) for day in days]
    return pl.concat(parts).with_columns(request=pl.int_range(pl.len(), dtype=pl.UInt32))


def engagements(log):
    """(user, item, day, gain) of each event that counts."""
    return log.engaged.select("user", "item", "day", "gain").rows()


def history_of(log, user, as_of_day, half_life=30.0):
    """item: [count, last day, highest gain, weight], most recent first, by a scan of the log."""
    held = {}
    for who, item, day, gain in engagements(log):
        if who == user and day < as_of_day:
            count, last, best, weight = held.get(item, (0, 0, 0, 0))
            worth = max(1, math.floor(2 ** (-(as_of_day - day - 1) / half_life) * ONE + 1 / 2))
            held[item] = count + 1, max(last, day), max(best, gain), weight + worth
    return dict(sorted(held.items(), key=lambda row: (-row[1][1], -row[1][3], row[0])))


def co_visited_of(log, before_day, most):
    """(item, item): shrunk cosine, by a scan of the log."""
    last = defaultdict(dict)
    for user, item, day, _ in engagements(log):
        if day < before_day:
            last[user][item] = max(day, last[user].get(item, 0))
    held = [sorted(items, key=lambda item: (-items[item], item))[:most] for items in last.values()]
    users = Counter(item for items in held for item in items)
    both = Counter((one, two) for items in held for one in items for two in items if one != two)
    return {(one, two): n / (math.sqrt(users[one] * users[two]) + 10) for (one, two), n in both.items() if n >= 2}


def text_of(vectors):
    """(item, item): cosine above 0, from whole-number dot products."""
    whole = [[int(cell) for cell in row] for row in vectors]
    dots = {
        (one, two): sum(map(int.__mul__, whole[one], whole[two]))
        for one in range(len(whole))
        for two in range(len(whole))
        if one != two
    }
    return {pair: dot / GRID**2 for pair, dot in dots.items() if dot > 0}


def next_basket_of(log, before_day):
    """(item, item): shrunk cosine of items on successive active days of a user, by a scan of the log."""
    baskets = defaultdict(set)
    for user, item, day, _ in engagements(log):
        if day < before_day:
            baskets[user, day].add(item)
    former, latter, both = Counter(), Counter(), Counter()
    ordered = sorted(baskets)
    for (user, day), (other, later) in pairwise(ordered):
        if user == other:
            former.update(baskets[user, day])
            latter.update(baskets[user, later])
            both.update((one, two) for one in baskets[user, day] for two in baskets[user, later])
    return {(one, two): n / (math.sqrt(former[one] * latter[two]) + 10) for (one, two), n in both.items() if n >= 2}


def followed_from(log, full, before_day):
    """item: the sum of similarities to the items of the last active day."""
    last = [item for item, known in full.items() if known[1] == max(row[1] for row in full.values())]
    scores = defaultdict(float)
    for (one, two), value in next_basket_of(log, before_day).items():
        if one in last:
            scores[two] += value
    return dict(scores)


def in_categories(log, full, shown):
    """item: the user's share of its category times its events in the window."""
    category = dict(enumerate(log.items["category"]))
    counts = Counter()
    for item, known in full.items():
        if category[item] is not None:
            counts[category[item]] += known[0]
    return {item: counts[category[item]] * n / counts.total() for item, n in shown.items() if counts[category[item]]}


def arrivals_of(log, held, vectors, as_of_day, new_days):
    """item: cosine with the history, of items first seen or opened in the window."""
    first = {}
    for item, day in log.events.select("item", "day").rows():
        first[item] = min(day, first.get(item, day))
    opened, before = (log.calendar.as_of(day) for day in (as_of_day, as_of_day - new_days))
    scores = {}
    for new, opens in enumerate(log.items["available_from"]):
        seen = new in first and as_of_day - new_days <= first[new] < as_of_day
        if seen or (opens is not None and before < opens <= opened):
            dots = {
                item: sum(int(a) * int(b) for a, b in zip(vectors[item], vectors[new], strict=True)) for item in held
            }
            weights = {item: max(1, known[3] * 256 // ONE) for item, known in held.items()}
            scores[new] = sum(weights[item] * dots[item] for item in held) / (256 * GRID**2)
    return {item: score for item, score in scores.items() if score > 0}


TEXT = ("title", "note")


def queries_of(log, *, online=False):
    return Queries(log, TEXT, max_words=1000, online=online)


def latest_query(log, user, as_of_day):
    """Of the user's last day with a query before a day the latest, by a scan of the log."""
    rows = log.events.drop_nulls("query").select("day", "timestamp", "query", "user").rows()
    return max((row[:3] for row in rows if row[3] == user and row[0] < as_of_day), default=(None,))[-1]


def answering(log, query):
    """item: BM25 of its text fields' words for a query (k1 1.2, b 0.75), as in the books."""
    texts = [" ".join(item[name] or "" for name in TEXT) for item in log.items.iter_rows(named=True)]
    words = [set(re.findall(r"[^\W_]+", text.lower())) for text in texts]
    mean = sum(map(len, words)) / len(words)
    scores = defaultdict(float)
    for word in set(re.findall(r"[^\W_]+", (query or "").lower())):
        n = sum(word in some for some in words)
        idf = round(math.log1p((len(words) - n + 0.5) / (n + 0.5)) * 64) / 64
        for item, some in enumerate(words):
            if word in some and idf > 0:
                scores[item] += idf * 2.2 / (1 + 1.2 * (0.25 + 0.75 * len(some) / mean))
    return dict(scores)


def with_categories(log, seed):
    """The same log with four categories, one of them unknown."""
    names = np.random.default_rng(seed).choice(["a", "b", "c", ""], log.items.height)
    items = log.items.with_columns(category=pl.Series(names).replace("", None))
    return type(log)(log.events, log.user_ids, items, log.calendar)


def always_on_sale(log):
    """The same log with items that never come or go."""
    never = pl.lit(None, pl.Datetime("us", "UTC"))
    items = log.items.with_columns(available_from=never, available_until=never)
    return type(log)(log.events, log.user_ids, items, log.calendar)


def reached_from(held, similar):
    """item: the sum over the history of weight times similarity, for items outside it."""
    scores = defaultdict(float)
    for (one, two), value in similar.items():
        if one in held and two not in held:
            scores[two] += held[one][3] / ONE * value
    return dict(scores)


def by_request(frame, name):
    found = defaultdict(dict)
    for request, item, value in frame.select("request", "item", name).drop_nulls().iter_rows():
        found[request][item] = value
    return found


@settings(max_examples=25, deadline=None, derandomize=True)
@given(seeds, st.sampled_from([0.5, 7.0, 30.0, 1e6]))
def test_histories_are_what_a_scan_finds(shop, seed, half_life):
    tables = shop(seed)
    log, requests = tables.log(), asked(tables, 0, 5, 20, 60)
    found = histories(log, requests, CandidatesConfig(half_life_days=half_life))
    expected = [
        (request, item, as_of_day, *known)
        for request, user, as_of_day in requests.iter_rows()
        for item, known in history_of(log, user, as_of_day, half_life).items()
    ]
    assert found.select("request", "item", "as_of_day", "count", "last_day", "gain", "weight").rows() == expected


def test_an_event_of_yesterday_weighs_one_and_halves_with_the_half_life(shop):
    tables = shop(0, n_events=1)
    log = tables.log()
    user, _, day, _ = engagements(log)[0]
    for age, weight in ((1, ONE), (31, ONE / 2), (61, ONE / 4), (10_000, 1)):
        requests = requests_tonight(pl.Series([user], dtype=pl.UInt32), day + age)
        held = histories(log, requests, CandidatesConfig(half_life_days=30))
        assert held["weight"].to_list() == [weight]


@settings(max_examples=50, deadline=None, derandomize=True)
@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 6), st.integers(0, 2)),
        max_size=20,
        unique_by=lambda r: r[:2],
    ),
    st.integers(0, 4),
)
def test_the_best_of_each_request_ties_by_item(rows, most):
    schema = {"request": pl.UInt32, "item": pl.UInt32, "score": pl.Int64}
    found = top_per_request(pl.DataFrame(rows, schema=schema, orient="row"), most)
    expected = []
    for request in range(4):
        ordered = sorted((-score, item) for r, item, score in rows if r == request)
        expected += [(request, item, -score, rank) for rank, (score, item) in enumerate(ordered[:most], start=1)]
    assert found.rows() == expected


@settings(max_examples=25, deadline=None, derandomize=True)
@given(seeds, st.integers(0, 15), st.none() | st.integers(1, 30))
def test_popular_items_are_counted_in_their_window_ties_by_item(shop, seed, most, window):
    tables = shop(seed, n_events=60)
    log = tables.log()
    days = [tables.first_day + day for day in (30, 0, 12, 12)]
    found = popular_items(log, pl.Series(days, dtype=pl.Int32), most=most, window_days=window)
    expected = set()
    for as_of_day in days:
        start = -math.inf if window is None else as_of_day - window
        counts = Counter(item for _, item, day, _ in engagements(log) if start <= day < as_of_day)
        ordered = sorted(counts, key=lambda item: (-counts[item], item))
        expected |= {(as_of_day, item, counts[item], rank) for rank, item in enumerate(ordered[:most], start=1)}
    rows = found.select("as_of_day", "item", "score", "rank").rows()
    assert len(rows) == len(expected)
    assert set(rows) == expected


@settings(max_examples=25, deadline=None, derandomize=True)
@given(seeds, st.integers(0, 60), st.sampled_from([1, 2, 5, 100]))
def test_co_visited_neighbours_are_shrunk_cosines(shop, seed, day, most):
    log = shop(seed).log()
    before = log.first_day + day
    matrix = Neighbours.co_visited(log, before, CandidatesConfig(history_items=most)).matrix.tocoo()
    found = {(int(one), int(two)): value for one, two, value in zip(matrix.row, matrix.col, matrix.data, strict=True)}
    assert found == pytest.approx(co_visited_of(log, before, most), rel=1e-12)


def test_co_visited_neighbours_by_hand(shop):
    tables = shop(0, n_events=3)
    pairs = [("u00", "i00"), ("u00", "i01"), ("u01", "i00"), ("u01", "i01"), ("u02", "i01"), ("u02", "i02")]
    users, items = zip(*pairs, strict=True)
    events = tables.events[:1].select(pl.exclude("user_id", "item_id"))
    events = pl.DataFrame({"user_id": users, "item_id": items}).join(events, how="cross")
    log = replace(tables, events=events).log()
    matrix = Neighbours.co_visited(log, log.last_day + 1, CandidatesConfig()).matrix.toarray()
    assert matrix[0, 1] == matrix[1, 0] == 2 / (math.sqrt(2 * 3) + 10)  # one user is no pair: (1, 2)
    assert np.count_nonzero(matrix) == 2


@settings(max_examples=25, deadline=None, derandomize=True)
@given(seeds)
def test_text_neighbours_are_exact_dot_products(shop, seed):
    vectors = shop(seed).text_vectors
    matrix = Neighbours.by_text(vectors).matrix.tocoo()
    found = {(int(one), int(two)): value for one, two, value in zip(matrix.row, matrix.col, matrix.data, strict=True)}
    assert found == text_of(vectors)


def test_dot_products_of_wide_vectors_are_exact():
    rng = np.random.default_rng(0)
    raw = rng.normal(size=(40, 384))
    vectors = np.round(raw / np.linalg.norm(raw, axis=1, keepdims=True) * GRID).astype(np.int16)
    vectors[1] = vectors[0]
    matrix = Neighbours.by_text(vectors).matrix
    whole = vectors.astype(np.int64) @ vectors.T.astype(np.int64)
    np.fill_diagonal(whole, 0)
    assert np.array_equal(matrix.toarray(), np.maximum(whole, 0) / GRID**2)


def test_at_most_a_hundred_neighbours_ties_by_item():
    vectors = np.tile(np.array([[GRID, 0]], dtype=np.int16), (130, 1))
    vectors[120] = (GRID // 2, 0)
    matrix = Neighbours.by_text(vectors).matrix
    assert matrix[0].indices.tolist() == list(range(1, 101))
    assert matrix[50].indices.tolist() == [n for n in range(101) if n != 50]
    assert matrix[129].indices.tolist() == list(range(100))
    assert np.diff(matrix.indptr).tolist() == [100] * 130


def test_a_catalogue_larger_than_a_block_has_the_same_neighbours(monkeypatch, shop):
    vectors = shop(3, n_items=30).text_vectors
    whole = Neighbours.by_text(vectors).matrix
    monkeypatch.setattr("features.neighbours._BLOCK_CELLS", 7 * 30)  # seven items a block
    blocked = Neighbours.by_text(vectors).matrix
    assert (whole != blocked).nnz == 0


@pytest.mark.parametrize("refresh_days", [1, 7])
@settings(max_examples=15, deadline=None, derandomize=True)
@given(seed=seeds)
def test_every_source_is_what_a_scan_finds(shop, refresh_days, seed):
    tables = shop(seed)
    log, requests = tables.log(), asked(tables, 0, 8, 25, 41)
    log = with_categories(log, seed)
    config = ALL.model_copy(
        update={"refresh_days": refresh_days, "history_items": 4, "popular_days": 9, "new_days": 11}
    )
    endless = log.items.with_columns(available_until=pl.lit(None, pl.Datetime("us", "UTC")))
    always = type(log)(log.events, log.user_ids, endless, log.calendar)
    found = CandidateGenerators(always, config, tables.text_vectors, queries=queries_of(always)).propose(
        requests, histories(always, requests, config)
    )
    similar = text_of(tables.text_vectors)
    for request, user, as_of_day in requests.iter_rows():
        full = history_of(log, user, as_of_day)
        held = dict(list(full.items())[:4])
        shown = Counter(item for _, item, day, _ in engagements(log) if as_of_day - 9 <= day < as_of_day)
        refreshed = as_of_day // refresh_days * refresh_days
        expected = {
            "bought_before": {item: known[3] / ONE for item, known in full.items()},
            "popular": dict(shown),
            "co_visited": reached_from(held, co_visited_of(log, refreshed, 4)),
            "text_neighbours": reached_from(held, similar),
            "next_basket": followed_from(log, full, refreshed),
            "popular_in_category": in_categories(log, full, shown),
            "new_arrivals": arrivals_of(log, held, tables.text_vectors, as_of_day, 11),
            "supplied": {},
            "by_query": answering(log, latest_query(log, user, as_of_day)),
        }
        as_of = log.calendar.as_of(as_of_day)
        shut = {item for item, opens in enumerate(log.items["available_from"]) if opens is not None and opens > as_of}
        expected = {
            source: {item: score for item, score in scores.items() if item not in shut}
            for source, scores in expected.items()
        }
        rows = found.filter(pl.col("request") == request)
        for source in SOURCES:
            assert by_request(rows, f"{source}_score")[request] == pytest.approx(expected[source], rel=1e-12)
        assert rows["item"].to_list() == sorted(set().union(*expected.values()))


@settings(max_examples=15, deadline=None, derandomize=True)
@given(seeds)
def test_ranks_follow_the_scores_and_quotas_cut_them(shop, seed):
    tables = shop(seed)
    log, requests = tables.log(), asked(tables, 25)
    log = always_on_sale(with_categories(log, seed))
    quotas = {
        "bought_before": 3,
        "popular": 2,
        "co_visited": 4,
        "text_neighbours": 0,
        "next_basket": 5,
        "popular_in_category": 2,
        "new_arrivals": 1,
        "by_query": 2,
    }
    config, history = CandidatesConfig(**quotas), histories(log, requests, ALL)
    queries = queries_of(log)
    full = CandidateGenerators(log, ALL, tables.text_vectors, queries=queries).propose(requests, history)
    found = CandidateGenerators(log, config, tables.text_vectors, queries=queries).propose(requests, history)
    for source, most in quotas.items():
        scores, ranks = by_request(full, f"{source}_score"), by_request(full, f"{source}_rank")
        for request, items in scores.items():
            ordered = sorted(items, key=lambda item: (-items[item], item))
            assert sorted(ranks[request], key=ranks[request].get) == ordered
        kept = {
            request: {item: rank for item, rank in items.items() if rank <= most} for request, items in ranks.items()
        }
        cut = by_request(found, f"{source}_rank")
        assert {r: items for r, items in cut.items() if items} == {r: items for r, items in kept.items() if items}


@settings(max_examples=15, deadline=None, derandomize=True)
@given(seeds, st.integers(1, 8))
def test_the_cap_keeps_what_some_generator_ranks_best(shop, seed, most):
    tables = shop(seed)
    log, requests = tables.log(), asked(tables, 25)
    history = histories(log, requests, ALL)
    full = CandidateGenerators(log, ALL, tables.text_vectors).propose(requests, history)
    capped = ALL.model_copy(update={"max_per_request": most, "new_share": 0.0})
    found = CandidateGenerators(log, capped, tables.text_vectors).propose(requests, history)
    ranks = [f"{source}_rank" for source in SOURCES]
    best = full.select("request", "item", best=pl.min_horizontal(ranks))
    expected = []
    for request in requests["request"]:
        ordered = sorted((rank, item) for r, item, rank in best.iter_rows() if r == request)[:most]
        expected += [(request, item) for item in sorted(item for _, item in ordered)]
    assert found.select("request", "item").rows() == expected
    assert found.equals(full.join(found, on=["request", "item"], how="semi", maintain_order="left"))


@settings(max_examples=15, deadline=None, derandomize=True)
@given(seeds, st.integers(1, 8), st.sampled_from([0.25, 0.5, 1.0]))
def test_items_new_to_the_user_have_a_share_of_the_list(shop, seed, most, share):
    tables = shop(seed)
    log, requests = tables.log(), asked(tables, 25)
    history = histories(log, requests, ALL)
    config = ALL.model_copy(update={"max_per_request": most, "new_share": share})
    generators = CandidateGenerators(log, config, tables.text_vectors)
    scored = generators.scored_union(requests, history).select("request", "item", "score").rows()
    known = set(history.select("request", "item").rows())
    expected = []
    for request in requests["request"]:
        ordered = [(r, item) for _, r, item in sorted((-score, r, item) for r, item, score in scored if r == request)]
        new = [pair for pair in ordered if pair not in known]
        old = [pair for pair in ordered if pair in known][: most - min(len(new), round(most * share))]
        expected += sorted([pair for pair in ordered if pair in new or pair in old][:most])
    assert generators.propose(requests, history).select("request", "item").rows() == expected


@settings(max_examples=15, deadline=None, derandomize=True)
@given(seeds)
def test_neighbours_reach_into_the_history_where_that_is_asked(shop, seed):
    tables = shop(seed)
    log, requests = tables.log(), asked(tables, 25)
    history, similar = histories(log, requests, ALL), text_of(tables.text_vectors)
    found = Neighbours.by_text(tables.text_vectors).reach(history, 1000, outside=False)
    scores = by_request(found, "score")
    for request, user, as_of_day in requests.iter_rows():
        expected = defaultdict(float)
        for one, known in history_of(log, user, as_of_day).items():
            for two in range(tables.items.height):
                expected[two] += known[3] / ONE * similar.get((one, two), 0)
        expected = {item: score for item, score in expected.items() if score > 0}
        assert scores[request] == pytest.approx(expected, rel=1e-12)


def test_items_are_proposed_only_while_they_are_on_sale(shop):
    tables = shop(1)
    log = tables.log()
    as_of = log.calendar.as_of(tables.first_day + 25)
    tick = timedelta(microseconds=1)
    windows = [
        (None, None, True),
        (as_of, None, True),
        (as_of + tick, None, False),
        (None, as_of, False),
        (None, as_of + tick, True),
        (as_of - tick, as_of + tick, True),
        (as_of + tick, as_of + 2 * tick, False),
    ]
    opens, shuts, on_sale = zip(*windows, strict=True)
    kind = pl.Datetime("us", "UTC")
    items = log.items.head(len(windows)).with_columns(
        pl.Series("available_from", opens, dtype=kind), pl.Series("available_until", shuts, dtype=kind)
    )
    items = pl.concat([items, log.items.tail(-len(windows)).with_columns(available_from=None, available_until=None)])
    timed = type(log)(log.events, log.user_ids, items, log.calendar)
    always = type(log)(
        log.events, log.user_ids, items.with_columns(available_from=None, available_until=None), log.calendar
    )
    requests = asked(tables, 25)
    history = histories(log, requests, ALL)
    full = CandidateGenerators(always, ALL).propose(requests, history)
    shut = [item for item, sold in enumerate(on_sale) if not sold]
    assert full["item"].is_in(shut).any()
    found = CandidateGenerators(timed, ALL).propose(requests, history)
    assert found.equals(full.filter(~pl.col("item").is_in(shut)))


def test_users_without_history_get_what_is_popular(shop):
    tables = shop(2)
    log = tables.log()
    silent = set(range(tables.users.height)) - {user for user, *_ in engagements(log)}
    requests = requests_tonight(pl.Series(sorted(silent), dtype=pl.UInt32), tables.first_day + 30)
    found = CandidateGenerators(log, ALL, tables.text_vectors).propose(requests, histories(log, requests, ALL))
    assert found.height > 0
    assert found["popular_rank"].null_count() == 0
    others = found.select(pl.exclude("request", "item", "popular_rank", "popular_score"))
    assert others.null_count().row(0) == (found.height,) * (2 * (len(SOURCES) - 1))


def test_no_requests_and_no_past_give_no_candidates(shop):
    tables = shop(2)
    log = tables.log()
    for known, requests in (
        (log, asked(tables, 20).head(0)),
        (log, asked(tables, -2)),
        (log.before(log.first_day), asked(tables, 20)),
    ):
        generators = CandidateGenerators(known, ALL, tables.text_vectors)
        found = generators.propose(requests, histories(known, requests, ALL))
        assert found.is_empty()
        assert found.columns == [
            "request",
            "item",
            *(f"{s}_{part}" for s in SOURCES for part in ("rank", "score")),
        ]


def test_what_was_bought_is_dropped_where_that_is_asked(shop):
    tables = shop(4)
    log, requests = tables.log(), asked(tables, 25)
    history = histories(log, requests, ALL)
    kept = CandidateGenerators(log, ALL, tables.text_vectors).propose(requests, history)
    dropping = ALL.model_copy(update={"already_bought": "drop"})
    dropped = CandidateGenerators(log, dropping, tables.text_vectors).propose(requests, history)
    assert 0 < dropped.height < kept.height
    assert dropped.equals(kept.join(history, on=["request", "item"], how="anti", maintain_order="left"))


def test_blocked_items_are_never_candidates(shop):
    tables = shop(4)
    log, requests = tables.log(), asked(tables, 25)
    history = histories(log, requests, ALL)
    kept = CandidateGenerators(log, ALL, tables.text_vectors).propose(requests, history)
    blocking = ALL.model_copy(update={"blocked": ("i01", "i03", "no longer in the catalogue")})
    found = CandidateGenerators(log, blocking, tables.text_vectors).propose(requests, history)
    codes = log.items.filter(pl.col("item_id").is_in(["i01", "i03"]))["item"].to_list()
    assert kept["item"].is_in(codes).any()
    assert found.equals(kept.filter(~pl.col("item").is_in(codes)))


@pytest.mark.parametrize("source", SOURCES)
def test_a_quota_of_nothing_switches_a_source_off(shop, source):
    tables = shop(5)
    log, requests = with_categories(tables.log(), 5), asked(tables, 25)
    history = histories(log, requests, ALL)
    off = ALL.model_copy(update={source: 0})
    queries = queries_of(log)
    found = CandidateGenerators(log, off, tables.text_vectors, queries=queries).propose(requests, history)
    assert found[f"{source}_rank"].null_count() == found.height
    full = CandidateGenerators(log, ALL, tables.text_vectors, queries=queries).propose(requests, history)
    others = [f"{other}_rank" for other in SOURCES if other != source]
    assert found.equals(
        full.filter(pl.any_horizontal(pl.col(others).is_not_null())).with_columns(
            pl.lit(None, full.schema[name]).alias(name) for name in (f"{source}_rank", f"{source}_score")
        )
    )


@settings(max_examples=10, deadline=None, derandomize=True)
@given(seeds)
def test_a_request_gets_the_same_candidates_in_whatever_batch(shop, seed):
    tables = shop(seed)
    log, requests = with_categories(tables.log(), seed), asked(tables, 18, 25)
    early = asked(tables, 15)
    config = ALL.model_copy(update={"max_per_request": 6})
    generators = CandidateGenerators(log, config, tables.text_vectors, queries=queries_of(log))
    generators.cut = generators.fit_cut(early, truth_of(early, log, LabelsConfig(horizon_days=3)))
    whole = generators.propose(requests, histories(log, requests, config))
    for number in requests["request"]:
        alone = requests.filter(pl.col("request") == number)
        found = generators.propose(alone, histories(log, alone, config))
        assert found.equals(whole.filter(pl.col("request") == number))


@pytest.mark.parametrize("online", [False, True])
def test_a_requests_own_query_counts_where_it_is_known_when_it_is_answered(shop, online):
    tables = shop(6)
    log, requests = always_on_sale(tables.log()), asked(tables, 25)
    own = ["lamp", None, "no such word", "Red MUG", None, "чай", "big"]
    asking = requests.with_columns(query=pl.Series(own, dtype=pl.String))
    found = CandidateGenerators(log, ALL, queries=queries_of(log, online=online))
    scores = by_request(found.scored_union(asking, histories(log, asking, ALL)), "by_query_score")
    answered = 0
    for request, user, as_of_day, query in asking.iter_rows():
        wanted = query if online and query is not None else latest_query(log, user, as_of_day)
        expected = answering(log, wanted)
        assert scores[request] == pytest.approx(expected, rel=1e-12)
        answered += bool(expected)
    assert answered > 2


def logged(requests, *lists):
    """Requests with the lists that were shown."""
    shown = pl.Series(lists, dtype=pl.List(pl.UInt32))
    return requests.head(len(lists)).with_columns(shown=shown, positions=shown.cast(pl.List(pl.Int32)))


@settings(max_examples=10, deadline=None, derandomize=True)
@given(seeds)
def test_given_lists_are_ranked_as_they_were_shown_whatever_the_generators_think(shop, seed):
    tables = shop(seed)
    log = with_categories(tables.log(), seed)
    requests = logged(asked(tables, 25), [0, 3, 7], [11], [1, 2, 3, 4, 5])
    history = histories(log, requests, ALL)
    given_config = ALL.model_copy(update={"source": "logged", "blocked": ("i01",), "max_per_request": 2})
    table = pl.DataFrame(
        {"user": [0, 1], "item": [3, 3], "day": [None, None], "score": [1.0, 1.0]},
        schema={"user": pl.UInt32, "item": pl.UInt32, "day": pl.Int32, "score": pl.Float64},
    )
    generators = CandidateGenerators(log, given_config, tables.text_vectors, table, queries=queries_of(log))
    found = generators.propose(requests, history)
    assert found.select("request", "item").rows() == [
        (request, item) for request, shown in requests.select("request", "shown").rows() for item in shown
    ]
    assert found["supplied_rank"].null_count() == found.height  # which would tell the night from the log
    free = CandidateGenerators(log, ALL, tables.text_vectors, queries=queries_of(log)).union(requests, history)
    assert found.join(free, on=["request", "item"], how="semi").equals(
        free.join(found, on=["request", "item"], how="semi").with_columns(
            pl.lit(None, pl.Int32).alias("supplied_rank"), pl.lit(None, pl.Float64).alias("supplied_score")
        )
    )
    assert generators.fit_cut(requests, pl.DataFrame({"request": [0], "item": [3]})) is None


def test_at_night_the_given_lists_are_the_supplied_ones_without_what_is_blocked(shop):
    tables = shop(4)
    log = always_on_sale(tables.log())
    tonight = asked(tables, 25)
    rows = [(0, 3, 2.0), (0, 5, 1.0), (0, 1, 3.0), (2, 11, 1.0)]
    table = pl.DataFrame(rows, schema={"user": pl.UInt32, "item": pl.UInt32, "score": pl.Float64}, orient="row")
    table = table.with_columns(day=pl.lit(None, pl.Int32))
    config = ALL.model_copy(update={"source": "logged", "blocked": ("i01",), "supplied": 1})
    found = CandidateGenerators(log, config, supplied=table).propose(tonight, histories(log, tonight, config))
    assert found.select("request", "item").rows() == [(0, 3), (0, 5), (2, 11)]
    none = CandidateGenerators(log, config).propose(tonight, histories(log, tonight, config))
    assert none.is_empty()
