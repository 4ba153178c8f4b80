"""What is live: the pointer moves to the same day or a later one, and never back by itself."""

import json
from datetime import date

import polars as pl
import pytest

from features.errors import IntegrityError
from pipelines.stores.publish import Attempt, live_day, published


@pytest.fixture
def attempt(tmp_path):
    """A complete attempt of a day."""

    def make(name):
        made = Attempt(tmp_path, name)
        made.write("shard-00000", pl.DataFrame({"user_id": [name]}))
        made.write("fallback", pl.DataFrame({"rank": [1]}))
        made.finish(["shard-00000", "fallback"], {"date": name[:10]})
        return made

    return make


def test_nothing_is_live_before_anything_was_published(tmp_path):
    assert live_day(tmp_path) is None
    assert published(tmp_path) is None


def test_fault_49_an_earlier_day_never_replaces_a_later_one(attempt, tmp_path):
    night, past = attempt("2024-02-19-a"), attempt("2024-02-18-b")
    assert past.publish()
    assert night.publish()
    pointer = (tmp_path / "published.json").read_bytes()
    assert not past.publish()
    assert not attempt("2023-12-31-c").publish()
    assert (tmp_path / "published.json").read_bytes() == pointer
    assert live_day(tmp_path) == date(2024, 2, 19)
    assert published(tmp_path).manifest["date"] == "2024-02-19"


def test_a_later_attempt_of_the_same_day_and_a_later_day_go_live(attempt, tmp_path):
    first, second = attempt("2024-02-19-a"), attempt("2024-02-19-b")
    assert first.publish()
    assert second.publish()
    assert not second.publish()  # it is live already
    assert first.publish()  # an item is no longer blocked, say
    assert attempt("2024-02-20-a").publish()
    assert live_day(tmp_path) == date(2024, 2, 20)


@pytest.mark.parametrize("pointer", [{}, [], {"attempt": ""}, {"attempt": "../2024-02-19-a"}, {"attempt": "night"}])
def test_a_pointer_to_no_attempt_is_damaged(pointer, attempt, tmp_path):
    night = attempt("2024-02-19-a")
    (tmp_path / "published.json").write_text(json.dumps(pointer), encoding="utf-8")
    for follow in (night.publish, lambda: live_day(tmp_path), lambda: published(tmp_path)):
        with pytest.raises(IntegrityError, match="names no attempt folder"):
            follow()
