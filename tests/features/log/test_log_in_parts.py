"""What is made of a log a part of the users at a time is what is made of it at once."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.log import asof, positions
from features.log.asof import AsOfIndex, summed
from features.log.engagements import first_days


def indexes_of(log):
    """Whatever is made of the whole log, as lists."""
    done, history = log.interactions, log.history
    asked = log.before(log.first_day + 9)
    indexes = [log.user_index, log.item_index, log.item_return_gaps]
    return {
        "done": done.frame.rows(),
        "worth": log.cells.values_of(log.gains).frame.rows(),
        "by day": done.by_day.tolist(),
        "history": [history.stamps.tolist(), *(part.tolist() for part in history.taken(slice(None)))],
        "indexes": [(index.stamps.tolist(), index.running.tolist()) for index in indexes],
        "first days": [part.tolist() for part in first_days(log.cells)],
        "by days": [part.tolist() for part in log.events_a_day],
        "before": [{*asked.kinds}, asked.has_values, asked.latest_day, asked.active_users.to_list()],
    }


@pytest.mark.parametrize("rows", [1, 7, 60])
def test_parts_of_any_size_give_the_same(shop, monkeypatch, rows):
    tables = shop(3)
    whole = indexes_of(tables.log())
    monkeypatch.setattr(positions, "PART_ROWS", rows)
    monkeypatch.setattr(asof, "_FEW_TOTALS", rows)
    assert indexes_of(tables.log()) == whole


def test_no_part_cuts_a_user(shop, monkeypatch):
    monkeypatch.setattr(positions, "PART_ROWS", 5)
    log = shop(3).log()
    for parts in ([part.users for part in log.cells.parts()], [part.user for part in log.interactions.parts()]):
        assert len(parts) > 1
        assert all(one[-1] < other[0] for one, other in pairwise(parts))
        assert all(len(part) >= 5 for part in parts[:-1])


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.lists(st.tuples(st.integers(0, 40), st.integers(-5, 5)), max_size=8), min_size=1, max_size=6))
def test_an_index_of_parts_is_that_of_all_rows(parts):
    arrays = [np.array(part, np.int64).reshape(len(part), 2) for part in parts]
    found = AsOfIndex.adding((part[:, 0], part[:, 1]) for part in arrays)
    whole = AsOfIndex.of(*np.concatenate(arrays).T.copy())
    assert found.stamps.tolist() == whole.stamps.tolist() == summed(np.concatenate(arrays)[:, 0])[0].tolist()
    assert found.running.tolist() == whole.running.tolist()
