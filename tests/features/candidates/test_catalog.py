import math
import re
from collections import Counter, defaultdict
from dataclasses import replace

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.candidates.catalog import GENERATORS, SOURCES
from features.candidates.union import CandidateGenerators, histories
from features.config import CandidatesConfig
from features.requests.engaged import requests_tonight
from features.tables.text import GRID

seeds = st.integers(0, 10_000)


def proposed(log, requests, config, vectors=None, queries=None):
    generators = CandidateGenerators(log, config, vectors, queries=queries)
    return generators.propose(requests, histories(log, requests, config))


def by_request(frame, name):
    found = defaultdict(dict)
    for request, item, value in frame.select("request", "item", name).drop_nulls().rows():
        found[request][item] = value
    return found


def reached_from(held, similar, one_weight):
    """item: the sum over the history of weight times similarity, for items outside it."""
    scores = defaultdict(float)
    for (one, two), value in similar.items():
        if one in held and two not in held:
            scores[two] += held[one][3] / one_weight * value
    return dict(scores)


def followed_from(full, following):
    """item: the sum of similarities to the items of the last active day."""
    last = [item for item, known in full.items() if known[1] == max(row[1] for row in full.values())]
    scores = defaultdict(float)
    for (one, two), value in following.items():
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


def in_segment(kinds, user, window):
    """item: its events of users like this one."""
    return Counter(item for who, item in window if kinds[user] is not None and kinds[who] == kinds[user])


def arrivals_of(log, held, vectors, as_of_day, new_days, one_weight):
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
            weights = {item: max(1, known[3] * 256 // one_weight) for item, known in held.items()}
            scores[new] = sum(weights[item] * dots[item] for item in held) / (256 * GRID**2)
    return {item: score for item, score in scores.items() if score > 0}


def latest_query(log, user, as_of_day):
    """Of the user's last day with a query before a day the latest, by a scan of the log."""
    rows = log.events.drop_nulls("query").select("day", "timestamp", "query", "user").rows()
    return max((row[:3] for row in rows if row[3] == user and row[0] < as_of_day), default=(None,))[-1]


def answering(log, query):
    """item: BM25 of its text fields' words for a query (k1 1.2, b 0.75), as in the books."""
    texts = [f"{title or ''} {note or ''}" for title, note in log.items.select("title", "note").rows()]
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


@pytest.mark.parametrize(("refresh_days", "segment"), [(1, "country"), (7, "age")])
@settings(max_examples=15, deadline=None, derandomize=True)
@given(seed=seeds)
def test_every_source_is_what_a_scan_finds(shop, scan, wide_open, queries_of, refresh_days, segment, seed):
    tables = shop(seed)
    log, requests = tables.log(), tables.requests_on(0, 8, 25, 41)
    told = {"refresh_days": refresh_days, "segment": segment, "history_items": 4, "popular_days": 9, "new_days": 11}
    config = wide_open.model_copy(update=told)
    endless = replace(log, items=log.items.with_columns(available_until=pl.lit(None, pl.Datetime("us", "UTC"))))
    found = proposed(endless, requests, config, tables.text_vectors, queries_of())
    known, similar, kinds = scan(log), scan.similar_texts(tables.text_vectors), log.users[segment].to_list()
    scores = {source: by_request(found, f"{source}_score") for source in SOURCES}
    union = dict(found.group_by("request").agg("item").iter_rows())
    for request, user, as_of_day in requests.iter_rows():
        full = known.history(user, as_of_day)
        held = dict(list(full.items())[:4])
        window = [(who, item) for who, item, day, _ in known.engagements if as_of_day - 9 <= day < as_of_day]
        shown = Counter(item for _, item in window)
        refreshed = as_of_day // refresh_days * refresh_days
        expected = {
            "bought_before": {item: row[3] / scan.ONE for item, row in full.items()},
            "popular": dict(shown),
            "co_visited": reached_from(held, known.co_visited(refreshed, 4), scan.ONE),
            "text_neighbours": reached_from(held, similar, scan.ONE),
            "next_basket": followed_from(full, known.next_basket(refreshed)),
            "similar_users": known.similar_users(user, as_of_day, 9),
            "ease": known.ease(user, as_of_day),
            "popular_in_category": in_categories(log, full, shown),
            "popular_in_segment": in_segment(kinds, user, window),
            "new_arrivals": arrivals_of(log, held, tables.text_vectors, as_of_day, 11, scan.ONE),
            "supplied": {},
            "by_query": answering(log, latest_query(log, user, as_of_day)),
        }
        as_of = log.calendar.as_of(as_of_day)
        shut = {item for item, opens in enumerate(log.items["available_from"]) if opens is not None and opens > as_of}
        expected = {
            source: {item: score for item, score in scores.items() if item not in shut}
            for source, scores in expected.items()
        }
        for source in SOURCES:
            assert scores[source][request] == pytest.approx(expected[source], rel=1e-12)
        assert union.get(request, []) == sorted(set().union(*expected.values()))


@settings(max_examples=15, deadline=None, derandomize=True)
@given(seeds)
def test_ranks_follow_the_scores_and_quotas_cut_them(shop, wide_open, queries_of, always_on_sale, seed):
    tables = shop(seed)
    log, requests = always_on_sale(tables.log()), tables.requests_on(25)
    queries = queries_of()
    quotas = {
        "bought_before": 3,
        "popular": 2,
        "co_visited": 4,
        "text_neighbours": 0,
        "next_basket": 5,
        "similar_users": 3,
        "ease": 3,
        "popular_in_category": 2,
        "popular_in_segment": 3,
        "new_arrivals": 1,
        "by_query": 2,
    }
    full = proposed(log, requests, wide_open, tables.text_vectors, queries)
    found = proposed(log, requests, wide_open.model_copy(update=quotas), tables.text_vectors, queries)
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


@pytest.mark.parametrize("source", SOURCES)
def test_a_quota_of_nothing_switches_a_source_off(shop, wide_open, queries_of, source):
    tables = shop(5)
    log, requests = tables.log(), tables.requests_on(25)
    queries = queries_of()
    found = proposed(log, requests, wide_open.model_copy(update={source: 0}), tables.text_vectors, queries)
    assert found[f"{source}_rank"].null_count() == found.height
    full = proposed(log, requests, wide_open, tables.text_vectors, queries)
    others = [f"{other}_rank" for other in SOURCES if other != source]
    assert found.equals(
        full.filter(pl.any_horizontal(pl.col(others).is_not_null())).with_columns(
            pl.lit(None, full.schema[name]).alias(name) for name in (f"{source}_rank", f"{source}_score")
        )
    )


def test_users_without_history_get_what_is_popular_everywhere_and_among_their_like(shop, scan, wide_open):
    tables = shop(2)
    log = tables.log()
    silent = set(range(tables.users.height)) - {user for user, *_ in scan(log).engagements}
    requests = requests_tonight(pl.Series(sorted(silent), dtype=pl.UInt32), tables.first_day + 30)
    found = proposed(log, requests, wide_open, tables.text_vectors)
    assert found.height > 0
    assert found["popular_rank"].null_count() == 0
    assert found["popular_in_segment_rank"].null_count() < found.height
    popular = [name for name in found.columns if name.startswith(("popular_rank", "popular_score", "popular_in_segm"))]
    others = found.select(pl.exclude("request", "item", *popular))
    assert others.null_count().row(0) == (found.height,) * (2 * (len(SOURCES) - 2))


@pytest.mark.parametrize("online", [False, True])
def test_a_requests_own_query_counts_where_it_is_known_when_it_is_answered(
    shop, wide_open, queries_of, always_on_sale, online
):
    tables = shop(6)
    log = always_on_sale(tables.log())
    own = ["lamp", None, "no such word", "Red MUG", None, "чай", "big"]
    requests = tables.requests_on(25).with_columns(query=pl.Series(own, dtype=pl.String))
    found = proposed(log, requests, wide_open, queries=queries_of(online=online))
    scores = by_request(found, "by_query_score")
    answered = 0
    for request, user, as_of_day, query in requests.iter_rows():
        wanted = query if online and query is not None else latest_query(log, user, as_of_day)
        expected = answering(log, wanted)
        assert scores[request] == pytest.approx(expected, rel=1e-12)
        answered += bool(expected)
    assert answered > 2


def test_every_generator_has_its_quota_and_its_meaning(shop):
    log = shop(0).log()
    for made in CandidateGenerators(log, CandidatesConfig(popular_in_segment=7))._generators:
        assert made.most == (7 if made.name == "popular_in_segment" else CandidatesConfig().model_dump()[made.name])
        assert made.meaning
    assert len(set(SOURCES)) == len(GENERATORS)


def test_after_weeks_of_silence_the_popular_generators_propose_nothing_and_the_others_go_on(
    shop, wide_open, always_on_sale
):
    tables = shop(3)
    log = always_on_sale(tables.log())
    requests = requests_tonight(pl.Series([0, 1, 2], dtype=pl.UInt32), log.last_day + 30)
    rows = proposed(log, requests, wide_open, tables.text_vectors)
    held = histories(log, requests, wide_open)
    assert rows.drop_nulls("bought_before_rank").height == held.height > 0
    for name in ("popular", "popular_in_category", "popular_in_segment"):
        assert rows[f"{name}_rank"].is_null().all()
