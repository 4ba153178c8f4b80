"""Words and phrases as a sparse matrix, by hand."""

from math import log, sqrt
from types import SimpleNamespace

import numpy as np
import pytest

from encoders import ngrams
from encoders.ngrams import NGrams
from features.tables.text import MAX_TEXT_CHARS

TEXTS = ["Why? A dog", "A dog, a dog", "why not"]


def test_the_vocabulary_keeps_case_marks_and_order():
    fitted = NGrams.fit(TEXTS, longest=2, min_texts=1)
    assert {"Why", "?", "why", "Why ?", "A dog", "dog , a"} & set(fitted.vocabulary) == {
        "Why",
        "?",
        "why",
        "Why ?",
        "A dog",
    }
    assert list(fitted.vocabulary) == sorted(fitted.vocabulary)


def test_weights_by_hand():
    fitted = NGrams.fit(TEXTS, longest=1, min_texts=2)
    assert fitted.vocabulary == ("A", "dog")
    idf = 1 + log(4 / 3)
    assert fitted.idf.tolist() == pytest.approx([idf, idf])
    one, two = 1.0, 1 + log(2)
    norm = sqrt(one**2 + two**2)
    expected = [[1 / sqrt(2), 1 / sqrt(2)], [one / norm, two / norm], [0, 0]]
    assert np.allclose(fitted.transform(TEXTS).toarray(), expected)


def test_nothing_to_read_is_a_row_of_zeros_and_no_phrases_no_columns():
    fitted = NGrams.fit(TEXTS, longest=3, min_texts=1)
    assert fitted.transform(["", "   ", "kettle"]).nnz == 0
    assert fitted.transform([]).shape == (0, len(fitted.vocabulary))
    assert NGrams.fit(TEXTS, longest=0, min_texts=1).transform(TEXTS).shape == (3, 0)


@pytest.mark.parametrize("text", ["red mug ", "a", " ", "e\u0301", "\U0001f600"])
def test_fault_80_of_a_text_of_10_mb_what_contracts_let_through_is_read(text, monkeypatch):
    read = []
    monkeypatch.setattr(ngrams, "_TOKEN", SimpleNamespace(findall=lambda told: read.append(len(told)) or []))
    long = text * (10_000_000 // len(text.encode()))
    fitted = NGrams.fit([long, "why not"], longest=2, min_texts=1)
    fitted.transform([long])
    assert set(read) == {MAX_TEXT_CHARS, len("why not")}
