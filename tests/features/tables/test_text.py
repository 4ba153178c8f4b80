import doctest

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.config import TextFieldConfig
from features.tables import text
from features.tables.text import SEPARATOR, item_texts

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


@pytest.mark.parametrize(
    ("limit", "row", "expected"),
    [
        ({"max_words": 2}, (" Red \n big  mug ", "kitchen"), "Red big | kitchen"),
        ({"max_words": 9}, ("Red big mug", "kitchen"), "Red big mug | kitchen"),
        ({"max_words": 1}, (None, "kitchen"), "kitchen"),
        ({"max_words": 1}, (" ", None), ""),
        ({"max_chars": 4}, ("Red mug", "kitchen"), "Red | kitchen"),  # no white space at the end
        ({"max_chars": 2}, ("马克杯", "厨房"), "马克 | 厨房"),
        ({"max_words": 1, "max_chars": 2}, ("Red mug", None), "Re"),
        ({"max_words": 2, "max_chars": 5}, ("Red mug pan", None), "Red m"),
    ],
)
def test_a_field_is_cut_to_its_own_limit_and_leaves_the_others_alone(limit, row, expected):
    frame = pl.DataFrame([row], schema=dict.fromkeys(FIELDS, pl.String), orient="row")
    fields = (TextFieldConfig(field="title", **limit), "tags")
    assert item_texts(frame, fields).to_list() == [expected]


def test_a_field_without_a_limit_is_its_name():
    frame = pl.DataFrame({"title": ["a  b", None], "tags": ["c", "d"]})
    named = tuple(TextFieldConfig(field=name) for name in FIELDS)
    assert item_texts(frame, named).to_list() == item_texts(frame, FIELDS).to_list() == ["a b | c", "d"]


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
