import doctest

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features import text
from features.text import SEPARATOR, item_texts

FIELDS = ("title", "tags")


def texts_of(*rows):
    frame = pl.DataFrame(rows, schema=dict.fromkeys(FIELDS, pl.String), orient="row")
    return item_texts(frame, FIELDS).to_list()


def test_doctests_hold():
    assert doctest.testmod(text).failed == 0


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (("Red mug", "kitchen"), "Red mug | kitchen"),
        (("Red mug", None), "Red mug"),
        ((None, "kitchen"), "kitchen"),
        ((None, None), ""),
        (("", "  \t\n"), ""),
        ((" Red\n\n mug\t", "\u3000kitchen\u00a0"), "Red mug | kitchen"),
        (("a [SEP] b", "[PAD]"), "a [SEP] b | [PAD]"),
        (("👩‍👩‍👧 שלום", "马克杯"), "👩‍👩‍👧 שלום | 马克杯"),
    ],
)
def test_the_text_of_an_item(row, expected):
    assert texts_of(row) == [expected]


def test_fields_are_read_in_their_order():
    frame = pl.DataFrame({"a": ["x"], "b": ["y"]})
    assert item_texts(frame, ("b", "a")).to_list() == ["y | x"]


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.none() | st.text(), st.none() | st.text()), max_size=6))
def test_an_items_text_depends_on_nothing_else(rows):
    found = texts_of(*rows)
    assert found == [text for row in rows for text in texts_of(row)]
    assert None not in found
    for row, text_ in zip(rows, found, strict=True):
        filled = [part for field in row if field and (part := " ".join(field.split()))]
        if not any(control in (field or "") for field in row for control in "\x1c\x1d\x1e\x1f"):
            assert text_ == SEPARATOR.join(filled)  # Python counts these four as white space, Unicode does not
