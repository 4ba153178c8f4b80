"""JSON lines and RecBole's atomic files, read as tables."""

import gzip

import polars as pl
import pytest

from features.errors import ContractError
from pipelines.base.config import TableConfig
from pipelines.inputs.delimited import parse_csv
from pipelines.inputs.json_lines import parse_json_lines
from pipelines.inputs.tables import read_raw


def test_a_key_that_a_line_lacks_is_null_and_nan_too():
    frame = parse_json_lines(b'{"id": 1, "price": NaN}\n\n{"id": 2, "price": 2.5, "name": "mug"}\n')
    assert frame.to_dict(as_series=False) == {"id": [1, 2], "price": [None, 2.5], "name": [None, "mug"]}


def test_lists_of_texts_become_one_text_and_other_nests_json():
    frame = parse_json_lines(
        b'{"kinds": ["a", "b"], "more": {"x": 1}, "vector": [1, 2.5]}\n{"kinds": [], "more": {}}\n'
    )
    assert frame["kinds"].to_list() == ["a, b", None]
    assert frame["more"].to_list() == ['{"x": 1}', None]
    assert frame["vector"].to_list() == [[1.0, 2.5], None]


def test_numbers_here_and_texts_there_are_text():
    assert parse_json_lines(b'{"id": 7}\n{"id": "007"}\n')["id"].to_list() == ["7", "007"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"id": 1}\n{"id": \n', "line 2 is no JSON"),
        (b'[{"id": 1}, {"id": 2}]\n', r"line 1 is no JSON object.*jq"),
    ],
)
def test_what_is_no_object_a_line_is_refused_with_its_line(content, words):
    with pytest.raises(ContractError, match=words):
        parse_json_lines(content)


def test_a_packed_file_is_read_by_its_suffix(tmp_path):
    path = tmp_path / "log.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"user": 1, "sku": "a"}\n'))
    table = read_raw(TableConfig(path=str(path), columns={"user_id": "user", "item_id": "sku"}), name="events")
    assert table.frame.select("user_id", "item_id").rows() == [(1, "a")]


def test_the_types_of_an_atomic_file_are_no_part_of_its_names_and_quotes_are_ordinary():
    frame = parse_csv(b'item_id:token\tname:token_seq\n1\t"Round mug\n2\t\n')
    assert frame.equals(pl.DataFrame({"item_id": ["1", "2"], "name": ['"Round mug', None]}))


def test_a_row_of_an_atomic_file_with_too_many_fields_is_refused():
    with pytest.raises(ContractError, match="more fields than the 2"):
        parse_csv(b"item_id:token\tname:token_seq\n1\ta\tb\n")
