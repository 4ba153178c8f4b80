"""What is kept of texts, by hand."""

import polars as pl
import pytest

from pipelines.night.text_measures import SCRIPTS, measure_texts


def test_lengths_scripts_and_words_are_shares():
    measured = measure_texts(pl.Series(["ab", "", None, "Чай", "ab ab"]))
    assert measured.lengths[:4] == (0.0, pytest.approx(2 / 3), pytest.approx(1 / 3), 0.0)
    assert dict(zip(SCRIPTS, measured.scripts, strict=False)) | {"Latin": 6 / 9, "Cyrillic": 3 / 9} == dict(
        zip(SCRIPTS, measured.scripts, strict=False)
    )
    assert sorted(measured.words)[-2:] == [0.25, 0.75]


def test_letters_of_other_systems_come_last():
    assert measure_texts(pl.Series(["აბ", "ab"])).scripts[-1] == 0.5


def test_a_catalogue_without_texts_has_shares_of_nothing():
    measured = measure_texts(pl.Series(["", None], dtype=pl.String))
    assert not any((*measured.lengths, *measured.scripts, *measured.words))
