"""Interest of a row does not depend on the rows around it, and is what the formulas say."""

from math import exp

import numpy as np
import polars as pl
import pytest
import torch

import encoders.interest
from encoders.embed import on_grid
from encoders.interest import FINE_TUNED, INTEREST_COLUMNS, OF_QUERY, ZERO_SHOT, InterestScorer, _largest
from encoders.towers import UserTower
from features.tables.text import GRID

IN_REQUEST = ("interest_rank", "interest_z")
OF_HISTORY = tuple(name for name in INTEREST_COLUMNS if name not in IN_REQUEST)


def requests_of(*numbers) -> pl.DataFrame:
    return pl.DataFrame({"request": pl.Series(numbers, dtype=pl.UInt32)})


def history_of(*rows) -> pl.DataFrame:
    """Rows of (request, item, age, gain), most recent first; the type's code is its gain."""
    schema = {"request": pl.UInt32, "item": pl.UInt32, "age": pl.Int32, "gain": pl.Int64}
    table = pl.DataFrame(rows, schema=schema, orient="row").with_columns(as_of_day=pl.lit(100, pl.Int32))
    return table.with_columns(last_day=pl.col("as_of_day") - pl.col("age"), event_type=pl.col("gain").cast(pl.UInt16))


def rows_of(*pairs) -> pl.DataFrame:
    return pl.DataFrame(pairs, schema={"request": pl.UInt32, "item": pl.UInt32}, orient="row")


def z_of(values) -> np.ndarray:
    return (values - values.mean()) / values.std()


@pytest.fixture(scope="module")
def plane():
    """Six items in the plane: cosines with item 0 are 1, 0.6, 0, -1, 0.8, 0.6. The tower takes plain means."""
    vectors = np.array([[5, 0], [3, 4], [0, 5], [-5, 0], [4, 3], [3, 4]], np.int16) * (GRID // 5)
    tower = UserTower(2, heads=1)  # sharpness 0
    with torch.no_grad():
        tower.ageing_K.zero_()
        tower.log_scale.zero_()
    return InterestScorer(tower, vectors, vectors, 4)


def test_columns_by_hand(plane):
    history = history_of((1, 0, 1, 1), (1, 2, 31, 3))
    found = plane.columns(requests_of(1), history, rows_of((1, 1), (1, 3), (1, 4), (1, 5)))
    assert found.columns == [FINE_TUNED, *INTEREST_COLUMNS]
    assert set(found.dtypes) == {pl.Float32}
    first, second = np.array([0.6, -1.0, 0.8, 0.6]), np.array([0.8, 0.0, 0.6, 0.8])  # cosines with items 0 and 2
    mean = (first + second) / 2
    expected = {
        FINE_TUNED: mean,
        "interest_rank": [1, 4, 1, 1],  # ties share the best rank: the means are 0.7, -0.5, 0.7, 0.7
        "interest_z": (mean - 0.4) / np.sqrt((3 * 0.3**2 + 0.9**2) / 4),  # 0.4 is the mean of the four
        "interest_last_z": z_of(first),
        "interest_nearest_z": z_of(np.maximum(first, second)),
        "interest_mean_z": z_of(mean),
        "zero_shot_mean": mean,
        "zero_shot_top3": mean,  # two items are all there are
        "zero_shot_decayed": (2 * first + second) / 3,  # 30 days older: half the weight
    }
    for name, values in expected.items():
        assert found[name].to_list() == pytest.approx(list(values), abs=1e-6), name


def test_top3_takes_the_three_nearest(plane):
    history = history_of((1, 3, 1, 1), (1, 1, 2, 1), (1, 2, 3, 1), (1, 4, 4, 1))
    found = plane.columns(requests_of(1), history, rows_of((1, 0)))
    assert found["zero_shot_top3"].item() == pytest.approx((0.6 + 0.0 + 0.8) / 3, abs=1e-6)


def test_the_largest_are_what_sorting_finds_ties_and_gaps_included():
    values = torch.from_numpy(np.random.default_rng(0).integers(-3, 4, (5, 9, 40)).astype(np.float32))
    values[:, 2:][torch.rand(5, 7, 40) < 0.7] = -torch.inf
    assert torch.equal(torch.stack(_largest(values, 3), 1), values.sort(1, descending=True).values[:, :3])


def test_only_the_most_recent_items_are_looked_at(plane):
    history = history_of((1, 0, 1, 1), (1, 0, 2, 1), (1, 0, 3, 1), (1, 0, 4, 1), (1, 3, 5, 1))
    found = plane.columns(requests_of(1), history, rows_of((1, 4)))
    assert found["zero_shot_mean"].item() == pytest.approx(0.8)


def test_the_fine_tuned_match_does_not_count_the_candidate_itself(plane):
    history = history_of((1, 0, 1, 1), (1, 2, 2, 1))
    found = plane.columns(requests_of(1), history, rows_of((1, 0), (1, 4)))
    assert found[FINE_TUNED].to_list() == pytest.approx([0.0, (0.8 + 0.6) / 2], abs=1e-6)
    only = plane.columns(requests_of(1), history_of((1, 0, 1, 1)), rows_of((1, 0)))
    assert only[FINE_TUNED].to_list() == [0]


def test_no_similarity_counts_the_candidate_itself(plane):
    history = history_of((1, 0, 1, 1), (1, 2, 31, 1), (1, 4, 61, 1))  # cosines 0-2: 0, 0-4: 0.8, 2-4: 0.6
    found = plane.columns(requests_of(1), history, rows_of((1, 0), (1, 2), (1, 4)))
    assert found["zero_shot_mean"].to_list() == pytest.approx([0.4, 0.3, 0.7], abs=1e-6)
    assert found["zero_shot_top3"].to_list() == pytest.approx([0.4, 0.3, 0.7], abs=1e-6)  # of the two that are left
    assert found["zero_shot_decayed"].to_list() == pytest.approx([0.8 / 3, 0.6 / 5, (2 * 0.8 + 0.6) / 3], abs=1e-6)
    assert found["interest_last_z"].to_list() == pytest.approx(z_of(np.array([0.0, 0.0, 0.8])), abs=1e-6)
    assert found["interest_nearest_z"].to_list() == pytest.approx(z_of(np.array([0.8, 0.6, 0.8])), abs=1e-6)
    alone = plane.columns(requests_of(1), history_of((1, 0, 1, 1)), rows_of((1, 0), (1, 1), (1, 4)))
    assert np.isnan(alone[:1].select(OF_HISTORY).to_numpy()).all()
    assert alone["interest_last_z"][1:].to_list() == pytest.approx([-1, 1], abs=1e-6)  # among those that have one


def test_similarities_of_another_scale_give_the_ranker_the_same(plane):
    history, rows = history_of((1, 0, 1, 1), (1, 2, 31, 3)), rows_of((1, 1), (1, 3), (1, 4), (1, 5))
    tower = UserTower(2, heads=1)
    tower.load_state_dict(plane.user_tower.state_dict())
    with torch.no_grad():
        tower.log_scale.fill_(2.0)
    other = InterestScorer(tower, plane.fine_tuned, plane.zero_shot, 4)
    one, two = plane.columns(requests_of(1), history, rows), other.columns(requests_of(1), history, rows)
    for name in INTEREST_COLUMNS:
        assert one[name].to_list() == pytest.approx(two[name].to_list(), abs=1e-5), name


def test_zero_shot_columns_read_the_zero_shot_vectors(plane):
    turned = InterestScorer(plane.user_tower, plane.fine_tuned, plane.zero_shot[::-1].copy(), 4)
    found = turned.columns(requests_of(1), history_of((1, 0, 1, 1)), rows_of((1, 1)))
    assert found[FINE_TUNED].item() == pytest.approx(0.6)
    assert found["zero_shot_mean"].item() == pytest.approx(0.6 * 0.8 + 0.8 * 0.6)  # items 5 and 4 of the plane


def test_what_everybody_wants_is_added_and_alone_ranks_a_user_without_history(plane):
    tower = UserTower(2, heads=1)
    with torch.no_grad():
        tower.wanted_D.copy_(torch.tensor([0.0, 2.0]))
        tower.log_scale.zero_()
    scorer = InterestScorer(tower, plane.fine_tuned, plane.zero_shot, 4)
    found = scorer.columns(requests_of(1, 2), history_of((1, 0, 1, 1)), rows_of((1, 1), (1, 3), (2, 1), (2, 2), (2, 3)))
    wanted = np.array([1.6, 0.0, 1.6, 2.0, 0.0])
    assert found[FINE_TUNED].to_list() == pytest.approx(list(wanted + np.array([0.6, -1.0, 0, 0, 0])), abs=2e-3)
    assert found["interest_rank"].to_list() == [1, 2, 2, 1, 3]
    assert found["interest_z"].is_finite().all()
    assert np.isnan(found[2:].select(OF_HISTORY).to_numpy()).all()
    assert np.isfinite(found[:2].to_numpy()).all()


def test_the_scale_multiplies_the_match(plane):
    tower = UserTower(2, heads=1)
    with torch.no_grad():
        tower.log_scale.fill_(2.0)
    scorer = InterestScorer(tower, plane.fine_tuned, plane.zero_shot, 4)
    found = scorer.columns(requests_of(1), history_of((1, 0, 1, 1)), rows_of((1, 1)))
    assert found[FINE_TUNED].item() == pytest.approx(0.6 * exp(2))


@pytest.mark.parametrize("history", [history_of(), history_of((1, 0, 1, 1))])
def test_one_candidate_is_first_with_z_0(plane, history):
    found = plane.columns(requests_of(1), history, rows_of((1, 4)))
    assert found.select(IN_REQUEST).row(0) == (1, 0)


@pytest.mark.parametrize("count", [2, 3, 7, 50])
def test_equal_scores_are_all_first_with_z_0(plane, count):
    found = plane.columns(requests_of(1), history_of((1, 0, 1, 1), (1, 4, 3, 1)), rows_of(*[(1, 1)] * count))
    assert found["interest_rank"].to_list() == [1] * count
    assert found["interest_z"].to_list() == [0] * count


def test_requests_without_rows_and_no_rows_at_all(plane):
    history = history_of((2, 0, 1, 1), (3, 0, 1, 1))
    rows = rows_of((2, 1), (2, 3))
    alone = plane.columns(requests_of(2), history, rows)
    assert plane.columns(requests_of(1, 2, 3), history, rows).equals(alone)
    empty = plane.columns(requests_of(1, 2), history, rows_of())
    assert empty.columns == alone.columns
    assert empty.is_empty()


@pytest.fixture(scope="module")
def many():
    """A scorer, and 40 requests of 0 to 9 history items and 1 to 40 candidates."""
    rng = np.random.default_rng(0)
    tuned, plain = (on_grid(rng.normal(0.3, 1, size=(60, 32)).astype(np.float32)) for _ in range(2))
    tower = UserTower(32)
    with torch.no_grad():
        for parameter in (tower.wanted_D, tower.mixture_K, tower.gain_K):
            parameter.copy_(torch.from_numpy(rng.normal(size=parameter.shape)))
    events, pairs = [], []
    for request in range(40):
        length = int(rng.integers(1, 10)) if request % 7 else 0
        ages = np.sort(rng.integers(1, 90, length))
        events += [(request, int(item), int(age), int(rng.integers(1, 4))) for item, age in
                   zip(rng.choice(60, length, replace=False), ages, strict=True)]  # fmt: skip
        pairs += [(request, int(item)) for item in np.sort(rng.choice(60, int(rng.integers(1, 41)), replace=False))]
    return InterestScorer(tower, tuned, plain, 7), requests_of(*range(40)), history_of(*events), rows_of(*pairs)


def same_bits(one: pl.DataFrame, other: pl.DataFrame) -> list[str]:
    return [name for name in one.columns if one[name].to_numpy().tobytes() != other[name].to_numpy().tobytes()]


def test_a_request_is_bit_equal_whatever_requests_stand_beside_it(many):
    scorer, requests, history, rows = many
    whole = rows.hstack(scorer.columns(requests, history, rows))
    assert np.isfinite(whole[FINE_TUNED].to_numpy()).all()
    rng = np.random.default_rng(1)
    for _ in range(60):
        among = pl.col("request").is_in(rng.permutation(40)[: rng.integers(1, 12)].tolist())
        part = scorer.columns(requests.filter(among), history.filter(among), rows.filter(among))
        assert same_bits(part, whole.filter(among).select(part.columns)) == []


def test_a_row_is_bit_equal_whatever_candidates_stand_beside_it(many):
    scorer, requests, history, rows = many
    whole = rows.hstack(scorer.columns(requests, history, rows))
    rng = np.random.default_rng(2)
    for _ in range(60):
        keep = pl.Series(rng.random(rows.height) < max(rng.random(), 0.05))
        part = scorer.columns(requests, history, rows.filter(keep)).select(FINE_TUNED, *ZERO_SHOT)
        assert same_bits(part, whole.filter(keep).select(FINE_TUNED, *ZERO_SHOT)) == []


@pytest.mark.parametrize("size", [1, 300, 3000])
@pytest.mark.parametrize("limit", ["_CELLS", "_PART_CELLS", "_WASTE"])
def test_the_size_of_inner_batches_changes_no_bit(many, monkeypatch, limit, size):
    scorer, requests, history, rows = many
    whole = scorer.columns(requests, history, rows)
    monkeypatch.setattr(encoders.interest, limit, size)
    assert same_bits(scorer.columns(requests, history, rows), whole) == []


@pytest.mark.parametrize(("shared", "products"), [(True, 1), (False, 2)])
def test_only_requests_that_share_texts_share_a_product(many, monkeypatch, shared, products):
    """Eight requests of 2 history items and 3 candidates need 48 cosines of each tower."""
    scorer, requests, *_ = many
    made, product = [], encoders.interest._product

    def counted(vectors, history, candidates):
        made.append(len(history) * len(candidates))
        return product(vectors, history, candidates)

    monkeypatch.setattr(encoders.interest, "_product", counted)
    first = [0] * 8 if shared else range(0, 40, 5)
    history = history_of(*((request, at + own, 1, 1) for request, at in enumerate(first) for own in (0, 1)))
    rows = rows_of(*((request, at + own) for request, at in enumerate(first) for own in (2, 3, 4)))
    InterestScorer(scorer.user_tower, scorer.fine_tuned, scorer.zero_shot, 2).columns(requests[:8], history, rows)
    assert made == [2 * 3 if shared else 4 * 2 * 4 * 3] * products * 2  # of four requests: four times what they need


@pytest.mark.parametrize("threads", [1, 2])
def test_the_number_of_threads_changes_no_bit(many, threads):
    scorer, requests, history, rows = many
    whole = scorer.columns(requests, history, rows)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert same_bits(scorer.columns(requests, history, rows), whole) == []
    finally:
        torch.set_num_threads(before)


def test_ranks_and_z_scores_of_many_requests_against_polars(many):
    scorer, requests, history, rows = many
    found = rows.hstack(scorer.columns(requests, history, rows))
    wide = pl.col(FINE_TUNED).cast(pl.Float64)
    centred = wide - wide.mean().over("request")
    expected = found.select(
        rank=wide.rank("min", descending=True).over("request").cast(pl.Float32),
        z=pl.when(pl.len().over("request") > 1).then(centred / wide.std(ddof=0).over("request")).otherwise(0.0),
    )
    assert found["interest_rank"].to_list() == expected["rank"].to_list()
    np.testing.assert_allclose(found["interest_z"], expected["z"], rtol=1e-5, atol=1e-5)


def test_the_fine_tuned_score_reads_the_event_type(plane):
    tower = UserTower(2, heads=1, event_types=3)
    with torch.no_grad():
        tower.ageing_K.zero_()
        tower.log_scale.zero_()
        tower.event_KE.copy_(torch.tensor([[0.0, 0.0, 2.0]]))
    scorer = InterestScorer(tower, plane.fine_tuned, plane.zero_shot, 4)
    history = history_of((1, 0, 1, 1), (1, 2, 1, 3))
    found = scorer.columns(requests_of(1), history, rows_of((1, 1), (1, 3)))
    first, second, weight = np.array([0.6, -1.0]), np.array([0.8, 0.0]), exp(2)
    assert found[FINE_TUNED].to_list() == pytest.approx(list((first + weight * second) / (1 + weight)), abs=1e-6)
    without = history.with_columns(event_type=pl.lit(0, pl.UInt16))
    plain = plane.columns(requests_of(1), without, rows_of((1, 1), (1, 3)))
    assert scorer.columns(requests_of(1), without, rows_of((1, 1), (1, 3))).equals(plain)


@pytest.fixture(scope="module")
def asked(plane):
    """The same plane for requests with queries, which weigh twice what a match does."""
    tower = UserTower(2, heads=1, queries=True)
    with torch.no_grad():
        tower.ageing_K.zero_()
        tower.log_scale.zero_()
        tower.query_gate.fill_(2.0)
    return InterestScorer(tower, plane.fine_tuned, plane.zero_shot, 4)


def test_the_query_is_answered_beside_the_history(plane, asked):
    """Of three requests the first has a query and a history, the second a query alone, the third a history alone."""
    history = history_of((1, 0, 1, 1), (3, 0, 1, 1))
    rows = rows_of(*((request, item) for request in (1, 2, 3) for item in (1, 3, 4)))
    query_RD = np.array([[0, 5], [5, 0], [0, 0]], np.int16) * (GRID // 5)
    found = asked.columns(requests_of(1, 2, 3), history, rows, query_RD)
    assert found.columns == [FINE_TUNED, *INTEREST_COLUMNS, OF_QUERY]
    match, up, right = (np.array(cosines) for cosines in ([0.6, -1.0, 0.8], [0.8, 0.0, 0.6], [0.6, -1.0, 0.8]))
    assert found[FINE_TUNED].to_list() == pytest.approx([*(match + 2 * up), *(2 * right), *match], abs=1e-6)
    assert found[OF_QUERY][:6].to_list() == pytest.approx([*z_of(up), *z_of(right)], abs=1e-5)
    assert found[OF_QUERY][6:].is_nan().all()
    assert found["interest_rank"].to_list() == [1, 3, 2, 2, 3, 1, 2, 3, 1]  # the first query turns the order
    others = found.select(*OF_HISTORY)
    assert others.equals(plane.columns(requests_of(1, 2, 3), history, rows).select(*OF_HISTORY))
    without = found.filter(rows["request"] == 3)
    assert without.equals(asked.columns(requests_of(3), history[1:], rows[6:]))
    assert without.drop(OF_QUERY).equals(plane.columns(requests_of(3), history[1:], rows[6:]))


def test_no_rows_have_the_query_column_too(asked):
    assert OF_QUERY in asked.columns(requests_of(1), history_of(), rows_of()).columns


def test_a_request_with_a_query_is_bit_equal_whatever_requests_stand_beside_it(many):
    scorer, requests, history, rows = many
    rng = np.random.default_rng(5)
    tower = UserTower(32, queries=True)
    tower.load_state_dict(scorer.user_tower.state_dict(), strict=False)
    scorer = InterestScorer(tower, scorer.fine_tuned, scorer.zero_shot, 7)
    query_RD = on_grid(rng.normal(size=(40, 32)).astype(np.float32)) * (rng.random((40, 1)) < 0.7)
    whole = rows.hstack(scorer.columns(requests, history, rows, query_RD))
    assert 0 < whole[OF_QUERY].is_nan().sum() < rows.height
    for _ in range(60):
        taken = np.sort(rng.permutation(40)[: rng.integers(1, 40)])
        among = pl.col("request").is_in(taken.tolist())
        part = scorer.columns(requests.filter(among), history.filter(among), rows.filter(among), query_RD[taken])
        assert same_bits(part, whole.filter(among).select(part.columns)) == []
