import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from features.candidates.cut import CandidateCut, Facts, facts_of, teaching_rows
from features.candidates.union import SOURCES, CandidateGenerators, histories
from features.config import CandidatesConfig, LabelsConfig
from features.errors import ContractError
from features.requests.engaged import truth_of
from features.signals.cache import AsOfCache

CONFIG = CandidatesConfig(max_per_request=5, new_share=0.0)


def three_facts(seed=0, count=4000):
    rng = np.random.default_rng(seed)
    columns = {name: rng.normal(size=count) * scale for name, scale in (("a", 1.0), ("b", 50.0), ("flat", 0.0))}
    chance = 1 / (1 + np.exp(-(1.5 * columns["a"] - 0.02 * columns["b"])))
    return Facts(columns), rng.random(count) < chance


def test_the_fit_finds_the_weights_that_made_the_labels():
    facts, positive = three_facts()
    cut = CandidateCut.fit(facts, positive, np.ones(len(positive)), n_requests=1)
    slopes = np.array(cut.weights) / np.array(cut.scales)
    assert slopes[:2] == pytest.approx([1.5, -0.02], rel=0.15)
    assert slopes[2] == 0  # what does not vary tells nothing


def test_a_fact_that_does_not_vary_changes_no_bit_of_the_fit():
    facts, positive = three_facts()
    rng = np.random.default_rng(1)
    varied = {name: facts.columns[name] for name in ("a", "b")} | {f"c{n}": rng.random(4000) for n in range(6)}
    idle = {"0": np.zeros(4000), "a idle": np.full(4000, 0.3), "c2 idle": np.full(4000, -7.0)}
    weight = rng.uniform(0.5, 2, 4000)
    alone = CandidateCut.fit(Facts(varied), positive, weight, n_requests=1)
    beside = CandidateCut.fit(Facts(dict(sorted((varied | idle).items()))), positive, weight, n_requests=1)
    known, told = (
        {name: rest for name, *rest in zip(cut.names, cut.means, cut.scales, cut.weights, strict=True)}
        for cut in (alone, beside)
    )
    assert told == known | {name: [0.0, 1.0, 0.0] for name in idle}


def test_where_no_fact_varies_no_candidate_scores_above_another():
    flat = Facts({"a": np.ones(2), "b": np.zeros(2)})
    cut = CandidateCut.fit(flat, np.array([True, False]), np.ones(2), n_requests=1)
    assert cut.score(Facts({"a": np.array([0.0, 5.0]), "b": np.array([1.0, 2.0])})).tolist() == [0, 0]


def test_where_all_became_positives_no_candidate_scores_above_another():
    facts, _ = three_facts()
    cut = CandidateCut.fit(facts, np.ones(4000, bool), np.ones(4000), n_requests=1)
    assert set(cut.weights) == {0.0}


def test_threads_change_no_bit_of_the_fit():
    rng = np.random.default_rng(4)
    columns = {f"c{number}": rng.normal(size=60_000) for number in range(10)}  # so many that BLAS takes two
    positive = rng.random(60_000) < 1 / (1 + np.exp(-columns["c0"]))
    fits = []
    for threads in (1, 2):
        with threadpool_limits(threads):
            fits.append(CandidateCut.fit(Facts(columns), positive, np.ones(60_000), n_requests=1))
    assert fits[0] == fits[1]


def test_at_the_fit_no_weight_can_move_for_the_better():
    facts, positive = three_facts(1)
    weight = np.random.default_rng(2).uniform(0.5, 2, len(positive))
    cut = CandidateCut.fit(facts, positive, weight, n_requests=1)
    X = (np.stack(list(facts.columns.values()), axis=1) - np.array(cut.means)) / np.array(cut.scales)

    def loss(weights, bias):
        margin = X @ weights + bias
        fit = np.average(np.logaddexp(0, margin) - positive * margin, weights=weight)
        return fit + 1e-6 * (weights**2).sum()

    bias = min(np.linspace(-1, 1, 2001), key=lambda told: loss(np.array(cut.weights), told))
    best = loss(np.array(cut.weights), bias)
    for place in range(2):
        for step in (-0.02, 0.02):
            moved = np.array(cut.weights)
            moved[place] += step
            assert loss(moved, bias) > best


def test_the_same_rows_give_the_same_cut_and_come_back_from_json_to_the_last_bit():
    facts, positive = three_facts(3)
    first, second = (CandidateCut.fit(facts, positive, np.ones(len(positive)), n_requests=7) for _ in range(2))
    assert first == second == CandidateCut.from_json(first.to_json())


@pytest.mark.parametrize("text", ["", "null", "[]", "{}", '{"n_requests": 1, "names": ["a"]}', '{"n_requests": "x"}'])
def test_a_text_that_is_no_cut_is_refused(text):
    with pytest.raises(ContractError, match="candidate cut: unreadable"):
        CandidateCut.from_json(text)


def test_parts_of_different_length_are_refused():
    text = CandidateCut(("a", "b"), (0.0, 0.0), (1.0, 1.0), (1.0,), 1).to_json()
    with pytest.raises(ContractError, match="differ in length"):
        CandidateCut.from_json(text)


def test_other_facts_are_refused():
    facts, positive = three_facts()
    cut = CandidateCut.fit(facts, positive, np.ones(len(positive)), n_requests=1)
    with pytest.raises(ContractError, match="Train again"):
        cut.score(Facts({"a": np.zeros(1)}))


@settings(max_examples=10, deadline=None, derandomize=True)
@given(st.integers(0, 10_000))
def test_the_cut_keeps_what_it_scores_highest_ties_by_item(shop, any_cut, seed):
    tables = shop(seed)
    generators = CandidateGenerators(tables.log(), CONFIG, tables.text_vectors)
    requests = tables.requests_on(25)
    history = histories(generators.log, requests, CONFIG)
    generators.cut = any_cut(generators, requests, history, seed)
    union = generators.scored_union(requests, history)
    expected = []
    for request in requests["request"]:
        rows = [(-score, item) for r, item, score in union.select("request", "item", "score").rows() if r == request]
        expected += [(request, item) for item in sorted(item for _, item in sorted(rows)[:5])]
    assert generators.propose(requests, history).select("request", "item").rows() == expected


def test_facts_of_a_pair_by_hand(shop):
    tables = shop(7)
    log, requests = tables.log(), tables.requests_on(25)
    generators = CandidateGenerators(log, CONFIG, tables.text_vectors)
    history = histories(log, requests, CONFIG)
    union = generators.union(requests, history)
    facts = facts_of(union, requests, history, generators._inputs.cache).columns
    days = {}
    for user, item, day in log.engaged.select("user", "item", "day").rows():
        if day < tables.first_day + 25:
            days.setdefault((user, item), []).append(day)
    user_of = dict(requests.select("request", "user").rows())
    keys = union.select("request", "item").rows()
    assert any((user_of[request], item) in days for request, item in keys)
    for row, (request, item) in enumerate(keys):
        mine = days.get((user_of[request], item), [])
        age = tables.first_day + 25 - max(mine) if mine else 1
        assert facts["held"][row] == bool(mine)
        assert facts["held_log_count"][row] == pytest.approx(np.log(len(mine)) if mine else 0)
        assert facts["held_log_days"][row] == pytest.approx(np.log(len(set(mine))) if mine else 0)
        assert facts["held_log_age"][row] == pytest.approx(np.log(age))
        if len(set(mine)) > 1:
            gap = (max(mine) - min(mine)) / (len(set(mine)) - 1)
            assert facts["held_due"][row] == pytest.approx(np.clip(np.log(age / gap), -3, 3))
        sold = sum(
            tables.first_day + 18 <= day < tables.first_day + 25
            for (_, other), known in days.items()
            for day in known
            if other == item
        )
        assert facts["events_7d"][row] == pytest.approx(np.log1p(sold))


def test_a_negative_in_four_weighs_four_and_a_request_the_root_of_its_positives():
    keys = np.array([1 << 32 | item for item in range(8)] + [2 << 32 | item for item in range(5)] + [3 << 32])
    positive = np.array([True, True, True, True] + [False] * 4 + [False, True] + [False] * 3 + [False])
    sampled = keys % 1_000_003 % 4 == 0
    rows, weights = teaching_rows(keys, positive)
    expected = dict.fromkeys(range(4), 1 / 2)  # one over the root of four positives
    expected |= {row: 4 / 2 for row in range(4, 8) if sampled[row]}
    expected |= {9: 1.0} | {row: 4.0 for row in (8, 10, 11, 12) if sampled[row]}
    assert {1 / 2, 4 / 2, 1.0, 4.0} == set(expected.values())  # each case is there
    assert dict(zip(rows.tolist(), weights.tolist(), strict=True)) == expected  # the third request has no positive


def test_where_nothing_became_a_positive_no_row_teaches():
    for keys in (np.empty(0, np.int64), np.arange(8)):
        rows, weights = teaching_rows(keys, np.zeros(len(keys), bool))
        assert (rows.tolist(), weights.tolist()) == ([], [])


def test_the_cut_is_fitted_on_the_latest_requests(shop):
    tables = shop(9)
    log, requests = tables.log(), tables.requests_on(10, 20)  # seven users each
    truth = truth_of(requests, log, LabelsConfig(horizon_days=2))
    generators = CandidateGenerators(log, CONFIG, tables.text_vectors)
    early, late = (generators.fit_cut(some, truth) for some in (requests.head(7), requests.tail(7)))
    assert generators.fit_cut(requests, truth, most=7) == late != early


def test_facts_of_sources_and_users_by_hand(shop):
    log, requests = shop(7).log(), shop(7).requests_on(25).head(2)
    union = pl.DataFrame(
        {"request": [0, 0, 1], "item": [1, 2, 1]}
        | {f"{source}_rank": [None, None, None] for source in SOURCES}
        | {f"{source}_score": [None, None, None] for source in SOURCES}
        | {"popular_rank": [1, 30, None], "popular_score": [0.5, 0.0, None]},
        schema_overrides={"request": pl.UInt32, "item": pl.UInt32}
        | {f"{source}_rank": pl.Int32 for source in SOURCES}
        | {f"{source}_score": pl.Float64 for source in SOURCES},
    )
    day = requests["as_of_day"][0]
    history = pl.DataFrame(  # of the first request: an item on three days, one on two
        {"request": [0, 0], "item": [1, 3], "as_of_day": [day, day], "count": [5, 2], "days": [3, 2]}
        | {"first_day": [day - 9, day - 4], "last_day": [day - 1, day - 2]},
        schema_overrides={"request": pl.UInt32, "item": pl.UInt32},
    )
    facts = facts_of(union, requests, history, AsOfCache(log)).columns
    assert facts["popular_proposed"].tolist() == [1, 1, 0]
    assert facts["popular_log_rank"] == pytest.approx([0, np.log(30), 0])
    assert facts["popular_nearness"] == pytest.approx([1 / 11, 1 / 40, 0])
    assert facts["popular_log_score"] == pytest.approx([np.log(51), 0, 0])
    repeats, log_items = 1 - 2 / 5, np.log(3)  # two items on five active days
    assert facts["held_x_repeats"] == pytest.approx([repeats, 0, 0])
    assert facts["held_log_count_x_log_items"] == pytest.approx([np.log(5) * log_items, 0, 0])
    assert facts["events_28d_x_repeats"] == pytest.approx(facts["events_28d"] * [repeats, repeats, 0])


def test_without_a_positive_there_is_no_cut(shop):
    tables = shop(8)
    log, requests = tables.log(), tables.requests_on(10)
    generators = CandidateGenerators(log, CONFIG)
    truth = truth_of(requests, log, LabelsConfig()).head(0)
    assert generators.fit_cut(requests, truth) is None
    assert generators.fit_cut(requests.head(0), truth) is None


def test_what_comes_after_the_requests_does_not_change_the_cut(shop):
    tables = shop(9)
    log, requests = tables.log(), tables.requests_on(10, 12)
    truth = truth_of(requests, log, LabelsConfig(horizon_days=2))
    cuts = [
        CandidateGenerators(known, CONFIG, tables.text_vectors).fit_cut(requests, truth)
        for known in (log, log.before(tables.first_day + 14))
    ]
    assert cuts[0] is not None
    assert cuts[0] == cuts[1]


def test_facts_name_every_source(shop):
    tables = shop(3)
    log, requests = tables.log(), tables.requests_on(10, 12, 14)
    generators = CandidateGenerators(log, CONFIG, tables.text_vectors)
    names = generators.fit_cut(requests, truth_of(requests, log, LabelsConfig(horizon_days=2))).names
    for source in SOURCES:
        assert {f"{source}_{part}" for part in ("proposed", "log_rank", "nearness", "log_score")} <= set(names)
