import doctest
import time

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.config import TextFieldConfig
from features.tables import text
from features.tables.text import SEPARATOR, has_personal, item_texts, masked

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


E_MAILS = ["ann@example.org", "Ann.B+news@mail.example.co.uk", "m\u00fcller@b\u00fccher.de", "a-b_c%d@x-y.museum"]
PHONES = [
    *(
        "+49 30 1234567",
        "+49 (0)30 1234567",
        "+4915112345678",
        "+33 1 23 45 67 89",
        "+1.555.012.3456",
        "+49/30/1234567",
    ),
    *("0049 30 1234567", "0044-20-7946-0958", "00353 (1) 234 5678"),
    *(
        "030 1234567",
        "030/1234567",
        "(030) 123 45 67",
        "0151-23456789",
        "020 7946 0958",
        "044 668 18 00",
        "030\u00a01234567",
    ),
    *("01 23 45 67 89", "01.23.45.67.89", "06-12345678", "(02) 9374 4000"),
    *("(555) 012-3456", "555-012-3456", "1-555-012-3456", "555.012.3456"),
]
NEITHER = [
    *("EAN 4006381333931", "0012345678905", "978-3-16-148410-0", "ISBN 3-16-148410-0"),
    *("order 123-4567890-1234567", "20240501-0012", "AB-0123-4567890", "0815", "12345678901234567", "0123456789"),
    *("12.03.2024", "01.02.2024 10:30", "2024-03-12 10:30", "01/02/2024", "01-02-2024", "2024/03/12"),
    *("09:30-18:00", "0930-1800", "10:30 11:45 12:00", "1.234.567,89 EUR", "0,99 1,99", "+5 000 EUR", "1,030 123 4567"),
    *(
        "12 345 678",
        "38 39 40 41 42",
        "0 1 2 3 4 5 6 7 8 9",
        "5 x 100 ml",
        "+10 %",
        "3.14159265358979",
        "192.168.100.200",
    ),
    *("@home", "a @ b", "user@localhost", "50 @ 3.99", ""),
]


def mask(*texts):
    return pl.DataFrame({"text": texts}, schema={"text": pl.String}).select(masked(pl.col("text")))["text"].to_list()


@pytest.mark.parametrize("around", ["{}", "call {}.", "({})", "ann:{}, or later", "\u00fcber {}\nand"])
def test_addresses_and_numbers_are_masked_and_nothing_beside_them(around):
    assert mask(*map(around.format, E_MAILS)) == [around.format("[e-mail]")] * len(E_MAILS)
    assert mask(*map(around.format, PHONES)) == [around.format("[phone]")] * len(PHONES)


def test_what_is_no_telephone_number_stays():
    assert mask(*NEITHER) == NEITHER
    assert mask(None) == [None]


def test_all_of_a_text_are_masked():
    assert mask("030 1234567,040-7654321, a@b.de;c@d.fr") == ["[phone],[phone], [e-mail];[e-mail]"]
    assert mask("030 1234567\n040 7654321") == ["[phone]\n[phone]"]


@given(st.text(st.sampled_from("0123456789 +-./()@a.,"), max_size=40))
def test_a_text_is_masked_once_and_seen_as_such_before(text):
    (once,) = mask(text)
    seen = pl.DataFrame({"text": [text]}).select(has_personal(pl.col("text"))).item()
    assert seen == (once != text)


@pytest.mark.parametrize(
    "part", ["a", "a@", "x@a.1.", "0", "030 ", "+1 ", "01 ", "+1 1", "(", "030 1234567 ", "00 1", "555-"]
)
def test_the_time_is_linear_in_the_length_whatever_the_text(part):
    seconds = []
    for n in (2**18, 2**21):
        start = time.perf_counter()
        mask((part * n)[:n])
        seconds.append(time.perf_counter() - start)
    assert seconds[1] < 40 * max(seconds[0], 0.05)  # eight times the length; quadratic is sixty-four
