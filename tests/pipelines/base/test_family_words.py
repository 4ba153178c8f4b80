"""Each feature family has words of its own for a person who reads a list."""

from features.families.registry import FAMILIES
from pipelines.base.family_words import family_words, reason_words


def test_each_family_that_comes_with_nightrank_has_words():
    assert [name for name in (*FAMILIES, "interest", "sources") if family_words(name) == name] == []


def test_what_several_families_say_alike_is_said_once_and_one_without_words_by_its_name():
    assert reason_words(["ease", "text_words", "text_title", "moon"]) == (
        "it goes with what they buy; its words are like what they buy; moon"
    )
