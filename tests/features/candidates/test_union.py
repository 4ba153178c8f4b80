from dataclasses import replace
from datetime import timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import features.candidates.union
from features.candidates.union import SOURCES, CandidateGenerators, blocked_items, histories, unmatched_ids
from features.config import CandidatesConfig
from features.log.event_log import EventLog
from features.requests.engaged import requests_tonight

seeds = st.integers(0, 10_000)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(seeds, st.sampled_from([0.5, 7.0, 30.0, 1e6]))
def test_histories_are_what_a_scan_finds(shop, scan, seed, half_life):
    tables = shop(seed)
    log, requests = tables.log(), tables.requests_on(0, 5, 20, 60)
    found, told = histories(log, requests, CandidatesConfig(half_life_days=half_life)), scan(log)
    expected = [
        (request, item, as_of_day, *known)
        for request, user, as_of_day in requests.iter_rows()
        for item, known in told.history(user, as_of_day, half_life).items()
    ]
    assert found.select("request", "item", "as_of_day", "count", "last_day", "gain", "weight").rows() == expected


def test_an_event_of_yesterday_weighs_one_and_halves_with_the_half_life(shop, scan):
    tables = shop(0, n_events=1)
    log = tables.log()
    user, _, day, _ = scan(log).engagements[0]
    for age, weight in ((1, scan.ONE), (31, scan.ONE / 2), (61, scan.ONE / 4), (10_000, 1)):
        requests = requests_tonight(pl.Series([user], dtype=pl.UInt32), day + age)
        held = histories(log, requests, CandidatesConfig(half_life_days=30))
        assert held["weight"].to_list() == [weight]


@settings(max_examples=15, deadline=None, derandomize=True)
@given(seeds, st.integers(1, 8))
def test_the_cap_keeps_what_some_generator_ranks_best(shop, wide_open, seed, most):
    tables = shop(seed)
    log, requests = tables.log(), tables.requests_on(25)
    history = histories(log, requests, wide_open)
    full = CandidateGenerators(log, wide_open, tables.text_vectors).propose(requests, history)
    capped = wide_open.model_copy(update={"max_per_request": most, "new_share": 0.0})
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
def test_items_new_to_the_user_have_a_share_of_the_list(shop, wide_open, seed, most, share):
    tables = shop(seed)
    log, requests = tables.log(), tables.requests_on(25)
    history = histories(log, requests, wide_open)
    config = wide_open.model_copy(update={"max_per_request": most, "new_share": share})
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


def test_items_are_proposed_only_while_they_are_on_sale(shop, wide_open):
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
    timed = replace(log, items=items)
    always = replace(log, items=items.with_columns(available_from=None, available_until=None))
    requests = tables.requests_on(25)
    history = histories(log, requests, wide_open)
    full = CandidateGenerators(always, wide_open).propose(requests, history)
    shut = [item for item, sold in enumerate(on_sale) if not sold]
    assert full["item"].is_in(shut).any()
    found = CandidateGenerators(timed, wide_open).propose(requests, history)
    assert found.equals(full.filter(~pl.col("item").is_in(shut)))


@pytest.mark.parametrize("cells", [1, 40, 150])  # a request at a time, few, many
def test_histories_are_the_same_however_many_cells_are_looked_through_at_a_time(shop, monkeypatch, cells):
    tables = shop(2)
    log, requests = tables.log(), tables.requests_on(30, 3, 12).sample(fraction=1, shuffle=True, seed=1)
    whole, made, once = (
        histories(log, requests, CandidatesConfig(), ("click",)),
        [],
        features.candidates.union._histories,
    )
    monkeypatch.setattr(features.candidates.union, "_CELLS", cells)
    monkeypatch.setattr(features.candidates.union, "_histories", lambda *told: made.append(1) or once(*told))
    assert histories(log, requests, CandidatesConfig(), ("click",)).equals(whole)
    assert len(made) > 1


def test_no_requests_and_no_past_give_no_candidates(shop, wide_open):
    tables = shop(2)
    log = tables.log()
    for known, requests in (
        (log, tables.requests_on(20).head(0)),
        (log, tables.requests_on(-2)),
        (log.before(log.first_day), tables.requests_on(log.first_day - tables.first_day)),
    ):
        generators = CandidateGenerators(known, wide_open, tables.text_vectors)
        found = generators.propose(requests, histories(known, requests, wide_open))
        assert found.is_empty()
        assert found.columns == [
            "request",
            "item",
            *(f"{s}_{part}" for s in SOURCES for part in ("rank", "score")),
        ]


def test_what_was_bought_is_dropped_where_that_is_asked(shop, wide_open):
    tables = shop(4)
    log, requests = tables.log(), tables.requests_on(25)
    history = histories(log, requests, wide_open)
    kept = CandidateGenerators(log, wide_open, tables.text_vectors).propose(requests, history)
    dropping = wide_open.model_copy(update={"already_bought": "drop"})
    dropped = CandidateGenerators(log, dropping, tables.text_vectors).propose(requests, history)
    assert 0 < dropped.height < kept.height
    assert dropped.equals(kept.join(history, on=["request", "item"], how="anti", maintain_order="left"))


def test_blocked_items_are_never_candidates(shop, wide_open):
    tables = shop(4)
    log, requests = tables.log(), tables.requests_on(25)
    history = histories(log, requests, wide_open)
    kept = CandidateGenerators(log, wide_open, tables.text_vectors).propose(requests, history)
    blocking = wide_open.model_copy(update={"blocked": ("i01", "i03", "no longer in the catalogue")})
    found = CandidateGenerators(log, blocking, tables.text_vectors).propose(requests, history)
    codes = log.items.filter(pl.col("item_id").is_in(["i01", "i03"]))["item"].to_list()
    assert kept["item"].is_in(codes).any()
    assert found.equals(kept.filter(~pl.col("item").is_in(codes)))


NUMBERS = pl.Series("item_id", [1, 7, 123])
TEXTS = pl.Series("item_id", ["007", "7", "no", "i1"])


@pytest.mark.parametrize(
    ("item_ids", "told", "blocked", "unmatched"),
    [
        (NUMBERS, (7,), [7], 0),
        (NUMBERS, ("7", "00123"), [7, 123], 0),
        (NUMBERS.cast(pl.UInt8), ("7", "300", "-1"), [7], 2),
        (NUMBERS, ("1.0", "i1", "", "1_0"), [], 4),
        (TEXTS, (7,), ["7"], 0),
        (TEXTS, ("007",), ["007"], 0),
        (TEXTS, ("no", "0007", "I1"), ["no"], 2),
        (TEXTS, ("gone", "gone", 8), [], 2),
        (TEXTS.cast(pl.Categorical), (7, "no", "gone"), ["7", "no"], 1),
        (TEXTS, (), [], 0),
        (TEXTS.clear(), ("7",), [], 1),
    ],
)
def test_a_blocked_id_is_an_items_as_text_or_as_a_whole_number(item_ids, told, blocked, unmatched):
    assert item_ids.filter(pl.Series(blocked_items(item_ids, told))).cast(pl.String).to_list() == [*map(str, blocked)]
    assert unmatched_ids(item_ids, told) == unmatched


@settings(max_examples=10, deadline=None, derandomize=True)
@given(seeds, st.randoms(use_true_random=False))
def test_a_request_gets_the_same_candidates_in_whatever_batch(shop, wide_open, queries_of, any_cut, seed, random):
    tables = shop(seed)
    log, requests = tables.log(), tables.requests_on(18, 25)
    config = wide_open.model_copy(update={"max_per_request": 6})
    generators = CandidateGenerators(log, config, tables.text_vectors, queries=queries_of())
    history = histories(log, requests, config)
    generators.cut = any_cut(generators, requests, history, seed)
    whole = generators.propose(requests, history)
    shuffled = random.sample(requests["request"].to_list(), k=requests.height)
    for batch in (shuffled[:1], shuffled[1:3], shuffled[3:]):
        asked = requests.filter(pl.col("request").is_in(batch))
        found = generators.propose(asked, histories(log, asked, config))
        assert found.equals(whole.filter(pl.col("request").is_in(batch)))


def listed(log, *rows):
    """The log with a supplied table of rows (user, item, score) that hold always."""
    schema = {"user": pl.UInt32, "item": pl.UInt32, "score": pl.Float64}
    table = pl.DataFrame(rows, schema=schema, orient="row")
    return log.with_tables(supplied=table.with_columns(day=pl.lit(None, pl.Int32)))


@settings(max_examples=10, deadline=None, derandomize=True)
@given(seeds)
def test_given_lists_are_ranked_as_they_were_shown_whatever_the_generators_think(shop, wide_open, queries_of, seed):
    tables = shop(seed)
    log = listed(tables.log(), (0, 3, 1.0), (1, 3, 1.0))
    shown = pl.Series([[0, 3, 7], [11], [1, 2, 3, 4, 5]], dtype=pl.List(pl.UInt32))
    requests = tables.requests_on(25).head(3).with_columns(shown=shown, positions=shown.cast(pl.List(pl.Int32)))
    history, queries = histories(log, requests, wide_open), queries_of()
    given_config = wide_open.model_copy(update={"source": "logged", "blocked": ("i01",), "max_per_request": 2})
    generators = CandidateGenerators(log, given_config, tables.text_vectors, queries=queries)
    found = generators.propose(requests, history)
    assert found.select("request", "item").rows() == [
        (request, item) for request, items in requests.select("request", "shown").rows() for item in items
    ]
    assert found["supplied_rank"].null_count() == found.height  # which would tell the night from the log
    free = CandidateGenerators(log, wide_open, tables.text_vectors, queries=queries).union(requests, history)
    assert found.join(free, on=["request", "item"], how="semi").equals(
        free.join(found, on=["request", "item"], how="semi").with_columns(
            pl.lit(None, pl.Int32).alias("supplied_rank"), pl.lit(None, pl.Float64).alias("supplied_score")
        )
    )
    assert generators.fit_cut(requests, pl.DataFrame({"request": [0], "item": [3]})) is None


def test_at_night_the_given_lists_are_the_supplied_ones_without_what_is_blocked(shop, always_on_sale):
    tables = shop(4)
    log, tonight = always_on_sale(tables.log()), tables.requests_on(25)
    config = CandidatesConfig(source="logged", blocked=("i01",), supplied=1)

    def proposed(log):
        return CandidateGenerators(log, config).propose(tonight, histories(log, tonight, config))

    found = proposed(listed(log, (0, 3, 2.0), (0, 5, 1.0), (0, 1, 3.0), (2, 11, 1.0)))
    assert found.select("request", "item").rows() == [(0, 3), (0, 5), (2, 11)]
    assert proposed(log).is_empty()


def test_context_of_ones_own_under_whatever_name_moves_no_candidate(shop, wide_open, queries_of):
    tables = shop(3)
    log, requests = listed(tables.log(), (0, 3, 2.0), (1, 5, 1.0)), tables.requests_on(25)
    history = histories(log, requests, wide_open)
    generators = CandidateGenerators(log, wide_open, tables.text_vectors, queries=queries_of())
    found = generators.propose(requests, history)
    context = requests.with_columns(segment=pl.lit("phone"), score=pl.lit(9.0), rank=pl.lit(1), category=pl.lit("toys"))
    assert generators.propose(context, history).equals(found)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(seeds)
def test_histories_tell_the_type_of_the_highest_gain(shop, seed):
    tables = shop(seed)
    log, requests = tables.log(), tables.requests_on(5, 20)
    found = histories(log, requests, CandidatesConfig(), ("click", "purchase"))
    code = {1: 1, 2: 0, 3: 2}  # a cart is not among the two
    assert found["event_type"].to_list() == [code[gain] for gain in found["gain"]]
    plain = histories(log, requests, CandidatesConfig())
    assert set(plain["event_type"]) == {0}
    assert found.drop("event_type").equals(plain.drop("event_type"))


def test_of_several_types_with_the_gain_the_last_one_named_is_told(shop):
    tables = shop(3)
    events = tables.events.with_columns(event=pl.col("event").replace({"impression": "like", "return": "like"}))
    gains = {"like": 3, "purchase": 3}
    for seed in (0, 1):
        log = EventLog.build(
            events=events.sample(fraction=1.0, shuffle=True, seed=seed),
            items=tables.items,
            users=tables.users,
            calendar=tables.calendar,
            gains=gains,
        )
        requests = tables.requests_on(39)
        found = histories(log, requests, CandidatesConfig(), ("like", "purchase"))
        pairs = requests.join(log.engaged.filter(pl.col("day") < requests["as_of_day"][0]), on="user")
        bought = pairs.group_by("request", "item").agg((pl.col("kind") == "purchase").any().alias("bought"))
        both = found.join(bought, on=["request", "item"])
        assert both["event_type"].to_list() == (both["bought"].cast(pl.Int64) + 1).to_list()
        assert both["bought"].n_unique() == 2
