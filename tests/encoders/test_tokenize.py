"""Tokens are a function of the text alone, whatever it holds."""

from time import perf_counter

import numpy as np
import pytest

from encoders.tokenize import MAX_CHARS_PER_TOKEN, clean, statistics, tokenise

CLS, SEP, PAD, UNK = "[CLS]", "[SEP]", "[PAD]", "[UNK]"


@pytest.fixture
def read(tiny_tokenizer):
    tokenizer, pad_id = tiny_tokenizer

    def tokens(*texts, max_tokens=16):
        found = tokenise(texts, tokenizer, max_tokens=max_tokens, pad_id=pad_id)
        return [[tokenizer.id_to_token(int(token)) for token in ids] for ids in found.ids]

    return tokens


@pytest.mark.parametrize(("words", "padded"), [(0, 8), (5, 8), (6, 8), (7, 16), (14, 16), (15, 24), (30, 32)])
def test_a_text_is_padded_to_the_next_multiple_of_8_of_its_own_length(tiny_tokenizer, words, padded):
    tokenizer, pad_id = tiny_tokenizer
    beside = ["", "mug " * 60, "mug"]
    found = tokenise([" ".join(["mug"] * words), *beside], tokenizer, max_tokens=32, pad_id=pad_id)
    assert len(found.ids[0]) == words + 2
    assert found.lengths[0] == padded


def test_truncation_keeps_the_closing_token(read):
    (tokens,) = read("mug " * 50)
    assert tokens == [CLS, *["mug"] * 14, SEP]


def test_a_prefix_stands_before_every_text_and_counts_as_its_tokens(tiny_tokenizer):
    tokenizer, pad_id = tiny_tokenizer

    def read(*texts, prefix=""):
        return [ids.tolist() for ids in tokenise(texts, tokenizer, max_tokens=8, pad_id=pad_id, prefix=prefix).ids]

    assert read("mug", "", None, prefix="red ") == read("red mug", "red ", "red ")
    assert read("mug " * 50, prefix="red ") == read("red mug mug mug mug mug")
    assert read("a" * 10**6, prefix="red ") == read("red " + "a" * 8 * MAX_CHARS_PER_TOKEN)
    assert read("mug") == read("mug", prefix="")


def test_padding_is_masked_and_missing_rows_repeat_the_first(tiny_tokenizer):
    tokenizer, pad_id = tiny_tokenizer
    found = tokenise(["mug", "red mug kitchen"], tokenizer, max_tokens=16, pad_id=pad_id)
    ids, mask = found.padded(np.array([1, 0]), 4)
    assert ids.shape == mask.shape == (4, 8)
    assert mask.sum(1).tolist() == [5, 3, 5, 5]
    assert (ids[~mask] == pad_id).all()
    assert ids[0].tolist() == ids[2].tolist() == ids[3].tolist()
    assert ids[1, :3].tolist() == found.ids[0].tolist()


def test_buckets_hold_every_text_once_short_ones_first(tiny_tokenizer):
    tokenizer, pad_id = tiny_tokenizer
    texts = ["mug " * n for n in (20, 0, 3, 12, 7)]
    found = tokenise(texts, tokenizer, max_tokens=32, pad_id=pad_id)
    assert [(length, where.tolist()) for length, where in found.buckets()] == [(8, [1, 2]), (16, [3, 4]), (24, [0])]
    assert [(length, where.tolist()) for length, where in found.buckets(np.array([4, 2, 0, 3]))] == [
        (8, [2]),
        (16, [4, 3]),
        (24, [0]),
    ]


@pytest.mark.parametrize("literal", [SEP, PAD, CLS, UNK])
def test_special_tokens_in_a_text_are_ordinary_text(read, literal):
    (tokens,) = read(f"red {literal} mug")
    assert literal not in tokens[1:-1]
    assert tokens[:3] == [CLS, "red", "["]
    assert tokens[-3:] == ["]", "mug", SEP]
    assert read(f"{literal}")[0] == read(literal.lower())[0]


@pytest.mark.parametrize("text", [None, "", " ", "\n\t"])
def test_nothing_gets_the_special_tokens_alone(read, text):
    assert read(text) == [[CLS, SEP]]


@pytest.mark.parametrize(
    "text",
    [
        "\0",
        "red\0mug",
        "\ud800",
        "mug \udfff mug",
        "🙂",
        "👩\u200d👩\u200d👧 mug",
        "كوب أحمر",
        "\u202ekitchen",
        "红茶杯",
    ],
)
def test_strange_texts_are_stable_and_leave_their_neighbours_alone(read, text):
    alone = read(text)
    assert alone[0][0] == CLS
    assert alone[0][-1] == SEP
    assert read("mug", text, "red") == [[CLS, "mug", SEP], *alone, [CLS, "red", SEP]]


def test_lone_surrogate_and_nul_become_the_replacement_character():
    assert clean("a\ud83db\0c", 8) == "a\ufffdb\ufffdc"
    assert clean("😀", 8) == "😀"


def test_chinese_is_read_character_by_character(read):
    assert read("红茶杯") == [[CLS, "红", "茶", "杯", SEP]]


@pytest.mark.parametrize("piece", ["mug ", "m", "红", "[SEP]", "\ud800", "e\u0301", " "])
def test_a_10_mb_text_is_capped_and_fast(tiny_tokenizer, piece):
    tokenizer, pad_id = tiny_tokenizer
    text = piece * (10_000_000 // len(piece))
    assert len(clean(text, 32)) == 32 * MAX_CHARS_PER_TOKEN
    took = []
    for _ in range(5):
        start = perf_counter()
        found = tokenise([text], tokenizer, max_tokens=32, pad_id=pad_id)
        took.append(perf_counter() - start)
    assert len(found.ids[0]) <= 32
    assert min(took) < 0.1


def test_a_tokenizer_is_left_as_it_was(tiny_tokenizer):
    tokenizer, pad_id = tiny_tokenizer
    before = tokenizer.to_str()
    tokenise(["mug"], tokenizer, max_tokens=8, pad_id=pad_id)
    assert tokenizer.to_str() == before


def test_statistics_by_hand(tiny_tokenizer):
    tokenizer, _ = tiny_tokenizer
    texts = [
        "red mug",  # 2 + 2 tokens
        "mug 🙂 🙂",  # 3 + 2 tokens, two unknown
        "mug " * 6,  # 6 + 2 tokens: just fits
        "mug " * 7,  # 7 + 2 tokens: is cut
    ]
    found = statistics(texts, tokenizer, max_tokens=8)
    assert found.unknown_share == 2 / (2 + 3 + 6 + 7)
    assert found.truncated_share == 1 / 4
    assert found.mean_tokens == (2 + 3 + 6 + 7) / 4


def test_the_word_for_unknown_is_not_unknown(tiny_tokenizer):
    assert statistics(["[UNK] mug"], tiny_tokenizer[0], max_tokens=8).unknown_share == 0


def test_statistics_of_nothing(tiny_tokenizer):
    found = statistics([], tiny_tokenizer[0], max_tokens=8)
    assert (found.unknown_share, found.truncated_share, found.mean_tokens) == (0, 0, 0)
