import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.asof import AsOfIndex
from features.config import FeaturesConfig
from features.errors import ConfigError
from features.families.base import Plan
from features.families.registry import FeatureSet
from features.stream import PARTED, PartedFeatures, added, parted
from features.timeline import EventLog


def part_of(log, users):
    """The same codes, and only what these users did."""
    return EventLog(log.events.filter(pl.col("user").is_in(users)), log.user_ids, log.items, log.calendar)


def bits(frame):
    return {name: frame[name].to_numpy().tobytes() for name in frame.columns}


@settings(max_examples=12, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10_000), parts=st.integers(1, 7), day=st.integers(0, 45))
def test_parts_of_the_users_give_the_features_of_the_whole_log_to_the_bit(shop, seed, parts, day):
    tables = shop(seed)
    log, rng = tables.log(), np.random.default_rng(seed)
    users, items = log.user_ids.len(), log.items.height
    rows = pl.DataFrame(
        {
            "user": rng.integers(0, users, 200),
            "item": rng.integers(0, items, 200),
            "as_of_day": tables.first_day + rng.choice([day, day + 1, 30], 200),
        }
    )
    part = rng.integers(0, parts, users)
    plan = Plan(FeaturesConfig(families=tuple(family.name for family in PARTED)), tables.plan.supply)
    features = PartedFeatures(plan)
    logs = [part_of(log, np.flatnonzero(part == number).tolist()) for number in range(parts)]
    for number in rng.permutation(parts):
        features.absorb(features.part(logs[number]))
    whole = FeatureSet(log, plan).compute(rows)
    assert features.columns == tuple(whole.columns)
    for number in range(parts):
        mine = part[rows["user"].to_numpy()] == number
        found = features.compute(logs[number], rows.filter(pl.Series(mine)))
        assert bits(found) == bits(whole.filter(pl.Series(mine)))


def test_families_that_need_the_whole_log_are_refused_by_name():
    config = FeaturesConfig(families=("pair", "comments", "item", "text_words"))
    with pytest.raises(ConfigError, match=r"'comments', 'text_words' cannot .* only 'user', 'item', 'pair' can"):
        parted(config)
    assert [family.name for family in parted(FeaturesConfig(families=("pair", "user")))] == ["pair", "user"]


def test_every_state_that_does_not_belong_to_users_is_summed(shop):
    """A family without a user key has nothing that belongs to a part."""
    tables = shop(0)
    for family, summed in PARTED.items():
        if "user" not in family.keys:
            assert set(vars(family(tables.log(), tables.plan))) == set(summed)


def test_indexes_add_up_and_all_else_must_be_alike():
    one, other = (AsOfIndex.of(np.array([day]), np.array([2])) for day in (5, 6))
    both = added([one, 3, np.array([1.0, np.nan]), "a", None], [other, 3, np.array([1.0, np.nan]), "a", None])
    assert both[0].stamps.tolist() == [5, 6]
    assert both[0].running.tolist() == [0, 2, 4]
    for left, right in ((3.0, 4.0), (np.array([1.0]), np.array([2.0])), ([one], [one, one]), (one, 3), ({"a": 1}, {})):
        with pytest.raises(TypeError, match="do not add up"):
            added(left, right)
