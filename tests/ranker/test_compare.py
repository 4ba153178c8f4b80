import doctest
from math import isnan, sqrt

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.errors import ContractError
from ranker import compare
from ranker.compare import clustered_interval, clustered_intervals, holm, paired_difference


def clustered_sample(rng, *, n_clusters=60, mean=0.0, spread=1.0, noise=0.5):
    """Values of 1 to 5 requests a user, with an effect of the user's own."""
    sizes = rng.integers(1, 6, size=n_clusters)
    users = np.repeat(np.arange(n_clusters), sizes)
    effects = rng.normal(mean, spread, size=n_clusters)
    return effects[users] + rng.normal(0, noise, size=len(users)), users


def test_interval_of_two_clusters_by_hand():
    # a resample has u twice (mean 0), u and v (mean 3 / 4) or v twice (mean 1): with 1/4, 1/2 and 1/4
    interval = clustered_interval([0.0, 1.0, 1.0, 1.0], np.array(["u", "v", "v", "v"]), level=0.4)
    assert (interval.mean, interval.n_requests, interval.n_clusters) == (3 / 4, 4, 2)
    assert (interval.low, interval.high) == (3 / 4, 3 / 4)  # from the 30th to the 70th percentile
    wide = clustered_interval([0.0, 1.0, 1.0, 1.0], np.array(["u", "v", "v", "v"]), level=0.95)
    assert (wide.low, wide.high) == (0.0, 1.0)


def test_one_cluster_has_no_interval():
    interval = clustered_interval([0.0, 1.0], np.array([3, 3]))
    assert interval.mean == 1 / 2
    assert isnan(interval.low)
    assert isnan(interval.high)
    result = paired_difference([0.0, 1.0], [1.0, 1.0], np.array([3, 3]))
    assert isnan(result.minimal_detectable_effect)
    assert result.p_value == 1.0


def test_width_of_the_interval_follows_the_standard_error():
    values = np.random.default_rng(0).normal(size=2500)
    interval = clustered_interval(values, np.arange(2500))
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * values.std() / sqrt(2500), rel=0.06)
    narrow = clustered_interval(values, np.arange(2500), level=0.5)
    assert narrow.high - narrow.low == pytest.approx(2 * 0.674 * values.std() / sqrt(2500), rel=0.08)


def test_copies_of_a_request_within_its_cluster_add_no_certainty():
    values = np.random.default_rng(0).normal(size=300)
    once = clustered_interval(values, np.arange(300))
    often = clustered_interval(np.repeat(values, 10), np.repeat(np.arange(300), 10))
    assert (often.low, often.high) == pytest.approx((once.low, once.high))


@settings(max_examples=30, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(1, 12))
def test_order_of_rows_changes_nothing(random, n_clusters):
    rng = np.random.default_rng(random.randrange(2**32))
    values, users = clustered_sample(rng, n_clusters=n_clusters)
    order = rng.permutation(len(values))
    ours = paired_difference(values, values[::-1], users, resamples=50)
    theirs = paired_difference(values[order], values[::-1][order], users[order], resamples=50)
    assert repr(ours) == repr(theirs)


def test_names_of_clusters_change_nothing_but_their_order():
    values, users = clustered_sample(np.random.default_rng(0))
    names = np.array([f"user {user:03}" for user in users])
    expected = clustered_interval(values, users)
    assert clustered_interval(values, names) == expected
    assert clustered_interval(values, names.astype(object)) == expected
    assert clustered_interval(values, pl.Series(names)) == expected
    assert clustered_interval(values, users.astype(np.uint16)) == expected


def test_a_seed_fixes_the_result():
    values, users = clustered_sample(np.random.default_rng(0))
    assert clustered_interval(values, users, seed=1) == clustered_interval(values, users, seed=1)
    assert clustered_interval(values, users, seed=1) != clustered_interval(values, users, seed=2)


@pytest.mark.parametrize("most", [20, 10_000])
def test_columns_judged_together_get_the_intervals_that_each_gets_alone(most, monkeypatch):
    monkeypatch.setattr(compare, "MAX_UNITS", most)
    monkeypatch.setattr(compare, "_BLOCK_CELLS", 7 * 60)
    values, users = clustered_sample(np.random.default_rng(4))
    table = pl.DataFrame({"a": values, "b": values**2, "c": np.arange(len(values))})
    together = clustered_intervals(table, users, resamples=100, seed=5, level=0.9)
    assert together == {
        name: clustered_interval(table[name], users, resamples=100, seed=5, level=0.9) for name in "abc"
    }
    assert len({interval.low for interval in together.values()}) == 3
    with pytest.raises(ContractError, match=r"b: 1 of \d+ values are not finite"):
        clustered_intervals(table.with_columns(b=pl.when(pl.col("c") > 0).then("b")), users)


def test_coverage_is_near_its_level_and_needs_the_clusters():
    rng = np.random.default_rng(5)
    covered, ignored = [], []
    for _ in range(300):
        values, users = clustered_sample(rng)
        honest = clustered_interval(values, users, resamples=200)
        naive = clustered_interval(values, np.arange(len(values)), resamples=200)
        covered.append(honest.low <= 0 <= honest.high)
        ignored.append(naive.low <= 0 <= naive.high)
    assert 0.90 <= np.mean(covered) <= 0.98
    assert np.mean(ignored) < 0.85


def test_pooling_many_clusters_keeps_the_interval(monkeypatch):
    values, users = clustered_sample(np.random.default_rng(1), n_clusters=4000)
    exact = paired_difference(values, values[::-1], users)
    monkeypatch.setattr(compare, "MAX_UNITS", 1500)
    pooled = paired_difference(values, values[::-1], users)
    assert pooled.difference.mean == exact.difference.mean
    assert pooled.difference.n_clusters == 4000
    width = exact.difference.high - exact.difference.low
    assert pooled.difference.high - pooled.difference.low == pytest.approx(width, rel=0.1)
    assert pooled.p_value == pytest.approx(exact.p_value, abs=0.05)


def test_small_blocks_give_the_same_interval(monkeypatch):
    values, users = clustered_sample(np.random.default_rng(1))
    whole = paired_difference(values, values[::-1], users, resamples=1000)
    monkeypatch.setattr(compare, "_BLOCK_CELLS", 7 * 60)
    cut = paired_difference(values, values[::-1], users, resamples=1000)
    assert cut.difference.low == pytest.approx(whole.difference.low, abs=0.05)
    assert cut.difference.high == pytest.approx(whole.difference.high, abs=0.05)
    assert cut.p_value == pytest.approx(whole.p_value, abs=0.05)


def test_paired_difference_by_hand():
    a = np.array([0.5, 0.4, 0.9, 0.3])
    b = np.array([0.1, 0.4, 0.6, 0.4])
    result = paired_difference(a, b, np.array([1, 2, 3, 4]))
    assert result.difference.mean == pytest.approx((0.4 + 0.0 + 0.3 - 0.1) / 4)
    assert (result.wins, result.ties, result.losses) == (2, 1, 1)
    # of the 8 sign patterns of (.4, .3, -.1), |sum| >= .6 for +++, ++-, --- and --+
    assert result.p_value == pytest.approx(4 / 8, abs=0.04)
    variance = sum((d - 0.15) ** 2 for d in (0.4, 0.0, 0.3, -0.1)) / 3
    assert result.minimal_detectable_effect == pytest.approx((1.959964 + 0.841621) * sqrt(variance / 4), rel=1e-5)


def test_detectable_effect_counts_clusters_of_unequal_size_by_hand():
    # differences 1, 1 of u and 0 of v: the mean is 2/3, the residual sums are 2 - 2 * 2/3 and 0 - 2/3
    result = paired_difference([1.0, 1.0, 0.0], [0.0, 0.0, 0.0], np.array(["u", "u", "v"]))
    error = sqrt(2 / 1 * ((2 - 4 / 3) ** 2 + (2 / 3) ** 2)) / 3
    assert result.minimal_detectable_effect == pytest.approx((1.959964 + 0.841621) * error, rel=1e-5)


def test_rounding_is_a_tie():
    result = paired_difference([0.1 + 0.2, 0.5], [0.3, 0.5 - 1e-9], np.array([1, 2]))
    assert (result.wins, result.ties, result.losses) == (1, 1, 0)


def test_flips_that_are_equal_but_for_rounding_count_as_equal():
    result = paired_difference([-0.8, -0.4, 0.0, -0.1], np.zeros(4), np.arange(4))
    assert result.p_value == pytest.approx(2 / 8, abs=0.04)  # +++ and ---, whatever the sign of the 0


def test_equal_systems_have_p_value_one():
    values, users = clustered_sample(np.random.default_rng(2))
    result = paired_difference(values, values, users)
    assert (result.p_value, result.difference.low, result.difference.high) == (1.0, 0.0, 0.0)
    assert result.ties == len(values)


def test_p_value_is_never_zero():
    result = paired_difference(np.ones(100), np.zeros(100), np.arange(100), resamples=99)
    assert result.p_value == 1 / 100


def test_swapping_the_systems_mirrors_the_result():
    values, users = clustered_sample(np.random.default_rng(3), mean=0.3)
    ours, theirs = (paired_difference(*pair, users) for pair in ((values, 0 * values), (0 * values, values)))
    assert (theirs.wins, theirs.losses, theirs.p_value) == (ours.losses, ours.wins, ours.p_value)
    assert theirs.difference.mean == pytest.approx(-ours.difference.mean)
    assert theirs.difference.low == pytest.approx(-ours.difference.high)
    assert theirs.minimal_detectable_effect == pytest.approx(ours.minimal_detectable_effect)


def test_equal_systems_seldom_raise_a_false_alarm_and_a_detectable_effect_is_found():
    rng = np.random.default_rng(8)
    alarms, found = [], []
    for _ in range(400):
        difference, users = clustered_sample(rng)
        null = paired_difference(difference, np.zeros(len(users)), users, resamples=199)
        alarms.append(null.p_value <= 0.05)
        shifted = difference + null.minimal_detectable_effect
        real = paired_difference(shifted, np.zeros(len(users)), users, resamples=199)
        found.append(real.p_value <= 0.05)
    assert 0.02 <= np.mean(alarms) <= 0.08
    assert 0.72 <= np.mean(found) <= 0.88


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([3 * 0.01, 2 * 0.03, 2 * 0.03, 4 * 0.005])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([0.2]) == [0.2]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_holm_is_monotone_between_the_p_value_and_bonferroni(p_values, random):
    adjusted = holm(p_values)
    by_size = [q for _, q in sorted(zip(p_values, adjusted, strict=True))]
    assert by_size == sorted(by_size)
    bonferroni = [min(1.0, p * len(p_values)) for p in p_values]
    assert all(p <= q for p, q in zip(p_values, adjusted, strict=True))
    assert max(adjusted) <= max(bonferroni)
    assert min(adjusted) == min(bonferroni)
    order = random.sample(range(len(p_values)), len(p_values))
    assert holm([p_values[place] for place in order]) == [adjusted[place] for place in order]


@pytest.mark.parametrize("p", [float("nan"), -0.1, 1.1])
def test_holm_refuses_what_is_no_p_value(p):
    with pytest.raises(ContractError, match="1 of 2 p-values are NaN or outside 0 to 1"):
        holm([0.5, p])


@pytest.mark.parametrize(
    ("values", "clusters", "options", "message"),
    [
        ([], np.array([], dtype=np.int64), {}, r"values has shape \(0,\)"),
        ([[1.0]], np.array([1]), {}, r"values has shape \(1, 1\)"),
        (1.0, np.array([1]), {}, r"values has shape \(\)"),
        ([1.0, np.nan, np.inf], np.array([1, 2, 3]), {}, "values: 2 of 3 values are not finite"),
        ([1.0, 2.0], np.array([1]), {}, r"lengths differ \(values 2, clusters 1\)"),
        ([1.0, 2.0], np.array([1.0, np.nan]), {}, "clusters are Float64"),
        ([1.0, 2.0], np.array(["secret", None]), {}, "clusters: 1 of 2 are missing"),
        ([1.0, 2.0], np.array([1, 2]), {"resamples": 0}, "resamples is 0: give 1 or more"),
        ([1.0, 2.0], np.array([1, 2]), {"level": 95}, "level is 95: give a share between 0 and 1"),
    ],
)
def test_each_fault_of_the_input_is_named_alone(values, clusters, options, message):
    with pytest.raises(ContractError, match=message) as caught:
        clustered_interval(values, clusters, **options)
    assert str(caught.value).count("\n- ") == 1
    assert "secret" not in str(caught.value)


def test_all_faults_are_named_at_once():
    with pytest.raises(ContractError) as caught:
        paired_difference([1.0, np.nan], [1.0], pl.Series([None, "u"]), resamples=-1, level=0)
    assert str(caught.value).splitlines() == [
        "compare: the input cannot be judged.",
        "- a: 1 of 2 values are not finite: leave those requests out",
        "- lengths differ (a 2, b 1, clusters 2): give the same requests in the same order",
        "- clusters: 1 of 2 are missing: give the user of each request",
        "- resamples is -1: give 1 or more",
        "- level is 0: give a share between 0 and 1",
    ]


def test_docstring_examples_hold():
    assert doctest.testmod(compare) == doctest.TestResults(failed=0, attempted=7)
