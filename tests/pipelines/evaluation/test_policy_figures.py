"""Figures of slices and groups, by hand: three requests, five items, two systems that rank in opposite orders."""

from math import log2
from types import SimpleNamespace

import polars as pl
import pytest

from features.errors import ConfigError
from pipelines.base.config import Config
from pipelines.evaluation.evaluate import FULL
from pipelines.evaluation.policy_figures import policy_figures, refuse_unknown_values
from ranker.judge import Window, judge

CHAMPION = "nightrank/1"
TABLE = {"path": "none.parquet"}
SECOND = 1 / log2(3)  # what a positive on the second rank gains
LOG = SimpleNamespace(
    items=pl.DataFrame(
        {
            "item": [0, 1, 2, 3, 4],
            "category": ["mug", "mug", "lamp", "lamp", "vase"],
            "size": [1.0, 2.0, 2.0, 3.0, None],
        },
        schema_overrides={"item": pl.UInt32},
    ),
    users=pl.DataFrame({"user_id": ["a", "b", "c"], "country": ["DE", "DE", "FR"]}),
)


def config(**promotion):
    values = {"data": {"items": TABLE, "events": TABLE}, "evaluation": {"cutoffs": [2], "resamples": 100}}
    return Config.model_validate({**values, "promotion": promotion})


def pairs(requests, items, **columns):
    codes = {"request": pl.Series(requests, dtype=pl.UInt32), "item": pl.Series(items, dtype=pl.UInt32)}
    return pl.DataFrame({**codes, **columns})


def figures(settings, systems=(FULL, CHAMPION)):
    """User a wants item 0, b item 2 and c item 3; c had nothing before, and item 3 is cold."""
    users = pl.Series([0, 1, 2], dtype=pl.UInt32)
    window = Window(
        requests=pl.DataFrame({"request": users, "user": users}),
        truth=pairs([0, 1, 2], [0, 2, 3], label=pl.Series([1, 1, 1], dtype=pl.Int32), is_new=[True] * 3),
        had_before=pairs([0, 1], [1, 1]),
        cold=pl.Series([3], dtype=pl.UInt32),
    )
    rows, items = [0] * 4 + [1] * 4 + [2] * 4, [0, 1, 2, 3] * 3
    lists = {
        FULL: pairs(rows, items, score=[4.0, 3.0, 2.0, 1.0] * 3),
        CHAMPION: pairs(rows, items, score=[1.0, 2.0, 3.0, 4.0] * 3),
    }
    judged = judge(window, lists, candidates=lists[FULL], config=settings.evaluation, seed=0)
    return policy_figures(judged, window, lists, LOG, settings, systems=systems)


@pytest.mark.parametrize(
    ("name", "requests", "level", "lift"),
    [
        ("all", 3, 1 / 3, (1 - SECOND - 1) / 3),  # 1, 0, 0 against 0, second, 1
        ("users.country=DE", 2, 1 / 2, (1 - SECOND) / 2),
        ("new user", 1, 0.0, -1.0),
        ("items.category=lamp", 2, (1 + SECOND) / 2, 0.0),  # among the lamps alone: 1, second against second, 1
        ("items.size=2", 1, SECOND, SECOND - 1),  # of items 1 and 2, b wants the second
        ("cold item", 1, 1.0, 0.0),
    ],
)
def test_a_slice_has_its_requests_level_and_lift(name, requests, level, lift):
    of_slice = figures(config(slices=[{"slice": name, "floor": 0.1}])).slices[name]
    assert of_slice.level.n_requests == requests
    assert of_slice.level.mean == pytest.approx(level)
    assert of_slice.lift.mean == pytest.approx(lift)


def test_a_slice_without_a_positive_has_no_level_and_without_a_champion_there_is_no_lift():
    asks = [{"slice": "items.category=vase", "floor": 0.1}, {"slice": "all", "floor": 0.1}]
    of_slices = figures(config(slices=asks), systems=(FULL,)).slices
    assert of_slices["items.category=vase"].level is None
    assert of_slices["all"].lift is None


def test_groups_have_their_means_and_their_shares_of_exposure_and_positives():
    """All six places among the first two are mugs'; one of three positives is."""
    asks = [{"by": "users.country", "max_ndcg_gap": 0.1}, {"by": "items.category", "max_exposure_gap": 0.1}]
    of_groups = figures(config(groups=asks))
    assert of_groups.ndcg == {"users.country": {"DE": (0.5, 2), "FR": (0.0, 1)}}
    shares = {
        name: pytest.approx(pair) for name, pair in {"lamp": (0, 2 / 3), "mug": (1, 1 / 3), "vase": (0, 0)}.items()
    }
    assert of_groups.exposure == {"items.category": shares}
    assert of_groups.as_json()["policy_groups"]["users.country"]["DE"] == {"mean": 0.5, "requests": 2}


def test_values_that_no_row_has_are_all_named_with_the_nearest():
    asks = [{"slice": f"items.category={name}", "floor": 0.1} for name in ("mug", "mugs")]
    asks += [{"slice": "items.size=2", "floor": 0.1}, {"slice": "users.country=FRA", "floor": 0.1}]
    with pytest.raises(ConfigError) as refused:
        refuse_unknown_values(config(slices=asks).promotion, LOG)
    assert str(refused.value).splitlines() == [
        "promotion.slices: no row of items has the category 'mugs'. Did you mean 'mug'?",
        "promotion.slices: no row of users has the country 'FRA'. Did you mean 'FR'?",
    ]
