import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.behaviour import FAMILIES, BehaviourFeatures, ItemPopularity, Rows
from features.stream import PartedFeatures, distinct_questions, evaluated, summed_families
from features.timeline import EventLog

asked = st.lists(st.tuples(st.integers(0, 8), st.integers(19_000, 19_006)), max_size=40)


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
    features = PartedFeatures()
    logs = [part_of(log, np.flatnonzero(part == number).tolist()) for number in range(parts)]
    for number in rng.permutation(parts):
        features.absorb(features.part(logs[number]))
    whole = BehaviourFeatures(log).compute(rows)
    assert features.columns == tuple(whole.columns)
    for number in range(parts):
        mine = part[rows["user"].to_numpy()] == number
        found = features.compute(logs[number], rows.filter(pl.Series(mine)))
        assert bits(found) == bits(whole.filter(pl.Series(mine)))


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_question_asked_often_is_computed_once_and_answered_alike(shop, family):
    tables = shop(1)
    log = tables.log()
    once = Rows(*(np.array(column) for column in ([0, 1, 2, 2], [3, 3, 0, 3], [tables.first_day + 30] * 4)))
    many = Rows(*(np.tile(column, 5) for column in (once.user, once.item, once.as_of_day)))
    for one, other in zip(evaluated(family(log), once), evaluated(family(log), many), strict=True):
        assert np.tile(one, 5).tobytes() == other.tobytes()
    alike = [value.astype(np.float32).tobytes() for value in family(log).compute(once)]
    assert [value.tobytes() for value in evaluated(family(log), once)] == alike


@settings(max_examples=60, deadline=None, derandomize=True)
@given(asked, st.sampled_from([1, 100_000]))
def test_distinct_questions_are_all_there_once_in_order(questions, spread):
    key = np.array([one * spread for one, _ in questions], np.int64)
    day = np.array([one for _, one in questions], np.int64)
    first, place = distinct_questions(key, day)
    distinct = [(int(key[row]), int(day[row])) for row in first]
    assert distinct == sorted(set(zip(key.tolist(), day.tolist(), strict=True)))
    assert [distinct[one] for one in place] == list(zip(key.tolist(), day.tolist(), strict=True))


def test_state_that_does_not_add_up_is_refused(shop):
    class Odd(ItemPopularity):
        name = "odd"

        def __init__(self, log):
            super().__init__(log)
            self.mean = 3.0

    log = shop(0).log()
    with pytest.raises(TypeError, match=r"family 'odd' .* 'mean'"):
        summed_families(Odd(log), Odd(log))
