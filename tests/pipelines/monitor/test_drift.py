"""Each check of drift on either side of its limit, by nights made by hand."""

from datetime import date
from math import log, log2, sqrt

import numpy as np
import pytest

from features.families.statistics import ColumnStatistics
from pipelines.base.monitor_config import DriftConfig
from pipelines.monitor.drift import CHECKS, Watched, drift_of, js_distance
from pipelines.night.measures import DAYS, InputMeasures, ListMeasures, Measures
from pipelines.night.text_measures import TextMeasures

DECILES = tuple(float(tenth) for tenth in range(1, 10))
EVEN = np.arange(0.5, 10)  # a score in each bin of the deciles
TEXTS = TextMeasures(lengths=(0.5, 0.5), scripts=(1.0, 0.0), words=(0.5, 0.5))


def night(day="2024-05-07", version="shop/1", texts=TEXTS, clicks=100, buys=100, strangers=50, lists=1000):
    inputs = {
        "events": 100_000,
        "by_day": {"click": [clicks] * DAYS, "buy": [buys] * DAYS},
        "users": 1000,
        "strangers": strangers,
        "items": 500,
        "on_sale": 400,
        "with_text": 500,
        "texts": texts,
    }
    made = {"lists": lists, "rows": 20_000, "full": 1000, "wrong": 0, "equal": 0, "shown": 400, "new_rows": 0}
    return Measures(
        day=day,
        version=version,
        rules="top: 20",
        inputs=InputMeasures.model_validate(inputs),
        lists=ListMeasures.model_validate(made | {"deciles": DECILES, "categories": {}}),
    )


def column(*shares, edges=(1.0,), rows=500):
    *_, null_share = shares
    facts = {"rows": rows, "mean": 0.0, "std": 0.0, "least": 0.0, "largest": 0.0}
    return ColumnStatistics.model_validate(facts | {"edges": edges, "shares": shares, "null_share": null_share})


def seen(tonight=None, before=(), columns=None, columns_before=(), scores=EVEN, encoder_day=None):
    watched = Watched(tonight or night(), before, columns, columns_before, np.asarray(scores), encoder_day)
    return {drift.check: drift for drift in drift_of(watched, DriftConfig())}


def test_nights_like_the_ones_before_pass_every_check():
    columns = {"price": column(0.5, 0.5, 0.0)}
    drifts = seen(before=[night()], columns=columns, columns_before=[columns], encoder_day=date(2024, 5, 1))
    assert drifts.keys() == CHECKS.keys()
    assert {drift.verdict for drift in drifts.values()} == {"passed"}


def test_a_first_night_has_nothing_to_compare_with_but_its_age():
    drifts = seen(encoder_day=date(2023, 5, 1))
    assert {name for name, drift in drifts.items() if drift.verdict != "not judged"} == {"encoder_age"}
    assert (drifts["encoder_age"].value, drifts["encoder_age"].verdict) == (372, "warned")


def test_columns_that_look_like_none_of_the_nights_before_are_named():
    """From (1/4, 3/4) to (3/4, 1/4) the stability index is 2 * 1/2 * ln 3 = 1.10; to (1/2, 1/2) it is 0.27."""
    now = {"price": column(0.75, 0.25, 0.0), "age": column(0.5, 0.5, 0.0), "new": column(0.0, 1.0, 0.0)}
    then = {"price": column(0.25, 0.75, 0.0), "age": column(0.5, 0.5, 0.0)}
    drift = seen(columns=now, columns_before=[then, then])["columns"]
    assert (drift.value, drift.verdict) == (0.5, "warned")
    assert drift.words == "1 of 2 columns moved, most price by 1.10"
    halfway = {"price": column(0.5, 0.5, 0.0)}
    assert (
        seen(columns=now, columns_before=[halfway, then])["columns"].words == "1 of 2 columns moved, most price by 0.27"
    )
    like_it = {"price": column(0.7, 0.3, 0.0)}
    assert seen(columns=now, columns_before=[like_it, then])["columns"].value == 0


def test_columns_in_other_bins_are_not_compared():
    now, then = {"price": column(0.75, 0.25, 0.0)}, {"price": column(0.25, 0.75, 0.0, edges=(2.0,))}
    assert seen(columns=now, columns_before=[then])["columns"].verdict == "not judged"


def test_columns_of_small_samples_are_not_compared():
    now, then = {"price": column(0.75, 0.25, 0.0)}, {"price": column(0.25, 0.75, 0.0, rows=499)}
    assert seen(columns=now, columns_before=[then])["columns"].verdict == "not judged"


def test_rare_values_may_be_missing_by_chance():
    now = {"price": column(0.0, 0.0, 1.0, rows=1000)}
    assert seen(columns=now, columns_before=[{"price": column(0.01, 0.0, 0.99)}])["gone_columns"].value == 0
    assert seen(columns=now, columns_before=[{"price": column(0.02, 0.0, 0.98)}])["gone_columns"].value == 1


def test_gone_and_empty_columns_block():
    then = {"price": column(0.5, 0.5, 0.0), "age": column(0.5, 0.5, 0.0), "never": column(0.0, 0.0, 1.0)}
    now = {"price": column(0.0, 0.0, 1.0), "never": column(0.0, 0.0, 1.0)}
    drift = seen(columns=now, columns_before=[then])["gone_columns"]
    assert (drift.value, drift.verdict) == (2, "blocked")
    assert drift.words.endswith("gone or empty: age, price")


def test_scores_are_compared_with_nights_of_the_same_version_alone():
    crowded = [0.5] * 10  # all in the first bin
    expected = (1 - 0.1) * log(1 / 0.1) + 9 * (0.1 - 1e-4) * log(0.1 / 1e-4)
    assert seen(before=[night(), night()], scores=crowded)["scores"].value == pytest.approx(expected)
    assert seen(before=[night(version="shop/0")], scores=crowded)["scores"].verdict == "not judged"


@pytest.mark.parametrize(
    ("check", "changed"),
    [
        ("text_lengths", {"lengths": (1.0, 0.0)}),
        ("text_scripts", {"scripts": (0.0, 1.0)}),
        ("text_words", {"words": (0.0, 1.0)}),
    ],
)
def test_other_texts_are_seen(check, changed):
    drifts = seen(night(texts=TEXTS.model_copy(update=changed)), [night()])
    assert {name for name, drift in drifts.items() if drift.verdict in {"warned", "blocked"}} == {check}
    assert drifts["text_scripts"].value == (1.0 if check == "text_scripts" else 0.0)


def test_nights_of_before_texts_were_measured_are_passed_over():
    assert seen(night(), [night(texts=None)])["text_words"].verdict == "not judged"


def test_the_mix_of_events_is_compared_with_the_mean_of_the_nights_before():
    """(1/2, 1/2) against (0, 1): the middle is (1/4, 3/4)."""
    divergence = (0.5 * log2(0.5 / 0.25) + 0.5 * log2(0.5 / 0.75) + 1 * log2(1 / 0.75)) / 2
    drift = seen(night(), [night(buys=0)])["event_mix"]
    assert (drift.value, drift.verdict) == (pytest.approx(sqrt(divergence)), "warned")


def test_shares_of_users_without_lists_or_history_may_rise_a_little():
    drifts = seen(night(lists=790, strangers=160), [night(), night(lists=980, strangers=50)])
    assert (drifts["no_list"].value, drifts["no_list"].verdict) == (pytest.approx(0.2), "passed")
    assert (drifts["no_history"].value, drifts["no_history"].verdict) == (pytest.approx(0.11), "warned")


def test_levels_and_limits_follow_the_configuration():
    config = DriftConfig.model_validate({"no_history": {"level": "block", "limit": 0.5}, "encoder_age": False})
    watched = Watched(night(strangers=700), [night()], None, (), EVEN, date(2020, 1, 1))
    drifts = {drift.check: drift for drift in drift_of(watched, config)}
    assert drifts["no_history"].verdict == "blocked"
    assert "encoder_age" not in drifts


def test_distances_of_nothing():
    assert js_distance([], []) == 0.0
    assert js_distance([0, 0], [1, 1]) == 1.0
