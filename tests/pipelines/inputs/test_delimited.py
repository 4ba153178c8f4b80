import csv
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.errors import ContractError
from pipelines.inputs.delimited import parse_csv


def rows(content):
    return parse_csv(content if isinstance(content, bytes) else content.encode()).rows()


@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
def test_fault_43_the_separator_is_that_of_the_header(mark):
    frame = parse_csv(
        f"item_id{mark}title{mark}price\n1{mark}a, b; c{mark}3\n".replace("a, b; c", '"a, b; c"').encode()
    )
    assert frame.columns == ["item_id", "title", "price"]
    assert frame.rows() == [("1", "a, b; c", "3")]


def test_fault_43_spreadsheets_write_a_mark_carriage_returns_and_quoted_lines():
    assert rows(b'\xef\xbb\xbfid,title\r\ni1,"red\r\nmug"\r\n') == [("i1", "red\r\nmug")]
    assert rows(b"id,title\ri1,mug\r") == [("i1", "mug")]


def test_fault_42_quotes_within_a_field_are_inch_marks():
    text = 'id,title,kind\ni1,19" monitor,tech\ni2,mug,home\ni3,24" monitor,tech\ni4,"a ""b""",x\ni5,5" and 6",y\n'
    assert rows(text) == [
        ("i1", '19" monitor', "tech"),
        ("i2", "mug", "home"),
        ("i3", '24" monitor', "tech"),
        ("i4", 'a "b"', "x"),
        ("i5", '5" and 6"', "y"),
    ]


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("a,b\n1,2\n3,4,5\n", 3, "has 3 fields and the header 2"),
        ("a,b,c\n1,2,3\n\n4,5\n", 4, "has 2 fields and the header 3"),
        ('a,b\n1,"x\ny"\n2\n', 4, "has 1 fields and the header 2"),
        ('a,b\n1,2\n"Best" mug,3\n', 3, "are not balanced"),
        ('a,b\n1,2\n"open,3\n4,5\n', 3, "are not balanced"),
    ],
)
def test_fault_42_a_row_that_is_none_is_named_by_its_line(text, line, what):
    with pytest.raises(ContractError, match=rf"line {line}\b.*{what}"):
        parse_csv(text.encode())


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("id,title\n1,é\n".encode("latin-1"), r"line 2 is not UTF-8 \(byte 0xE9\).*iconv -f WINDOWS-1252"),
        ("id,title\n1,é\n".encode("utf-16"), "it is in UTF-16. Convert it: iconv -f UTF-16"),
        ("id,title\n1,é\n".encode("utf-16-le"), "every other byte is zero"),
        ("id,title\n1,é\n".encode("utf-32"), "it is in UTF-32"),
        (b"id,id,x\n1,2,3\n", "names 'id' more than once"),
    ],
)
def test_fault_41_another_encoding_is_named_with_its_line(content, says):
    with pytest.raises(ContractError, match=says):
        parse_csv(content)


def test_half_a_character_is_replaced_and_blank_lines_are_no_rows():
    assert rows(b"id,title\n\n1,\xed\xa0\xbdx\n\n\n2,y\n\n") == [("1", "\ufffdx"), ("2", "y")]


def test_a_header_alone_has_no_rows():
    assert parse_csv(b"id,title").columns == ["id", "title"]
    assert rows(b"id,title\n") == []


CELLS = st.text(st.sampled_from('ab,;"\n\r é'), max_size=6)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.lists(st.tuples(CELLS, CELLS, CELLS), min_size=1, max_size=6))
def test_what_a_writer_quotes_is_read_back(cells):
    buffer = io.StringIO()
    csv.writer(buffer, quoting=csv.QUOTE_ALL).writerows([("x", "y", "z"), *cells])
    found = [tuple(cell or "" for cell in row) for row in rows(buffer.getvalue())]
    assert found == cells


def test_characters_that_were_written_as_two_surrogates_are_made_whole():
    pair = "🔑".encode("utf-16-be")
    halves = b"".join(chr(int.from_bytes(pair[at : at + 2], "big")).encode("utf-8", "surrogatepass") for at in (0, 2))
    assert rows(b"id,title\nu" + halves + b",x\n") == [("u🔑", "x")]


def test_a_header_may_be_long_and_its_quotes_must_be_balanced():
    assert parse_csv(b"x" * 300_000).columns == ["x" * 300_000]
    with pytest.raises(ContractError, match="line 1 are not balanced"):
        parse_csv(b'item_id,"title"s,size\n1,2,3\n')
    assert parse_csv(b'item_id,title,size 5"\n1,2,3\n').columns == ["item_id", "title", 'size 5"']


def test_an_empty_field_is_null_whether_it_is_quoted_or_not():
    assert rows('a,b\n"",1\n,2\n') == rows('a,b\n"",1\n,2"\n'.replace('2"', "2")) == [(None, "1"), (None, "2")]
