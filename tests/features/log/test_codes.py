import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.log.codes import UNKNOWN, Codes, Numbers

spread = st.sampled_from([1, 3, 1_000_000])
texts = st.text(alphabet="\0a~é߿ࠀ\uffff\U00010000😀", max_size=3)  # of one to four bytes, at the edges


@settings(max_examples=80, deadline=None, derandomize=True)
@given(st.sets(st.integers(-30, 30), max_size=20), st.lists(st.integers(-40, 40), max_size=20), spread)
def test_integers_have_the_position_they_have_among_the_ids(known, asked, factor):
    ids, wanted = sorted(n * factor for n in known), [n * factor for n in asked] + [1]
    codes = Codes.of(pl.Series(ids, dtype=pl.Int64))
    assert codes.code(pl.Series(wanted)).tolist() == [ids.index(n) if n in ids else UNKNOWN for n in wanted]
    assert len(codes) == len(ids)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.sets(texts, max_size=20), st.lists(texts, max_size=20))
def test_texts_have_the_position_they_have_among_the_ids(known, asked):
    ids = sorted(known, key=str.encode)
    codes = Codes.of(pl.Series(ids, dtype=pl.String))
    assert codes.code(pl.Series([*asked, *ids], dtype=pl.String)).tolist() == [
        ids.index(text) if text in known else UNKNOWN for text in [*asked, *ids]
    ]


@pytest.mark.parametrize("ids", [["1", "2"], [1, 2], [1, 5, 10**12]])
def test_text_and_integers_never_meet(ids):
    other = [int(one) if isinstance(one, str) else str(one) for one in ids]
    assert (Codes.of(pl.Series(ids)).code(pl.Series(other)) == UNKNOWN).all()


def test_all_ways_to_look_up_agree():
    ids = pl.Series([3, 4, 5, 6])
    asked = pl.Series([6, 2, 3, 7, 5])
    found = [
        Codes(ids, table, compact=compact).code(asked).tolist()
        for table, compact in ((None, True), (None, False), (np.arange(4), False))
    ]
    assert found == [[3, UNKNOWN, 0, UNKNOWN, 2]] * 3


def test_numbers_are_given_in_order_of_appearance_and_kept():
    numbers = Numbers(pl.Series([], dtype=pl.Null))
    assert numbers.number(pl.Series(["c", "a", "c"])).tolist() == [1, 0, 1]
    assert numbers.number(pl.Series(["b", "c", "0"])).tolist() == [3, 1, 2]
    assert numbers.ids.to_list() == ["a", "c", "0", "b"]
    assert numbers.number(pl.Series([], dtype=pl.String)).tolist() == []
