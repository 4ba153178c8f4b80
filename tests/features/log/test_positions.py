import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.log import positions
from features.log.positions import by_code, parts_of, sort_together

numbers = st.lists(st.integers(0, 9), max_size=30)


@pytest.fixture(autouse=True, scope="module")
def parts_of_four_rows():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(positions, "PART_ROWS", 4)
        yield


def test_parts_follow_one_another_and_cut_no_group():
    assert [(part.start, part.stop) for part in parts_of(9)] == [(0, 4), (4, 8), (8, 9)]
    assert [(part.start, part.stop) for part in parts_of(0)] == [(0, 0)]
    ends = {4: 6, 8: 9, 10: 11}
    assert [(part.start, part.stop) for part in parts_of(12, lambda place: ends[place])] == [(0, 6), (6, 11), (11, 12)]


@settings(max_examples=80, deadline=None, derandomize=True)
@given(numbers)
def test_places_by_code_are_a_stable_sort(codes):
    told = np.array(codes, np.int64)
    found, begins = by_code(lambda part: told[part], len(told), 10)
    assert found.dtype == np.uint32
    assert found.tolist() == sorted(range(len(codes)), key=lambda place: codes[place])
    assert begins.tolist() == [sum(code < wanted for code in codes) for wanted in range(11)]


@settings(max_examples=80, deadline=None, derandomize=True)
@given(numbers, st.sampled_from([1, 1 << 50]))
def test_columns_are_sorted_with_their_keys(keys, scale):
    told, other = np.array(keys, np.int64) * scale, -np.array(keys, np.int32)
    sort_together(told, other)
    assert told.tolist() == sorted(key * scale for key in keys)
    assert other.tolist() == [-key for key in sorted(keys)]
    assert other.dtype == np.int32
