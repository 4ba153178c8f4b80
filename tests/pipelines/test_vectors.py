"""The vector store: a text is encoded once, and an altered segment is never read."""

import hashlib
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import pipelines.vectors
from features.errors import IntegrityError
from pipelines.vectors import VectorStore

DIGEST = "ab" * 32


def vector_of(text: str) -> list[int]:
    return list(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:4])


class Encoder:
    """Counts what it is asked."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    def __call__(self, texts: list[str]) -> np.ndarray:
        self.asked.append(list(texts))
        return np.array([vector_of(text) for text in texts], np.int16)


@pytest.fixture
def encode():
    return Encoder()


def segments(root: Path) -> list[Path]:
    return sorted((root / DIGEST[:32]).glob("*.parquet"))


def test_only_new_texts_are_encoded_and_order_is_kept(tmp_path, encode):
    store = VectorStore(tmp_path, DIGEST)
    assert store.vectors(["c", "a", "b"], encode).tolist() == [vector_of(text) for text in "cab"]
    assert store.vectors(["d", "a", "e", "c"], encode).tolist() == [vector_of(text) for text in "daec"]
    assert encode.asked == [["c", "a", "b"], ["d", "e"]]
    assert store.encoded == 5


def test_what_is_known_is_found_by_another_object_without_encoding(tmp_path, encode):
    VectorStore(tmp_path, DIGEST).vectors(["c", "a", "b"], encode)
    before = {path: path.read_bytes() for path in segments(tmp_path)}
    again = VectorStore(tmp_path, DIGEST)
    found = again.vectors(["b", "c"], encode)
    assert found.tolist() == [vector_of("b"), vector_of("c")]
    assert found.dtype == np.int16
    assert found.flags.writeable
    assert again.encoded == 0
    assert len(encode.asked) == 1
    assert {path: path.read_bytes() for path in segments(tmp_path)} == before


def test_encoders_do_not_share_vectors(tmp_path, encode):
    VectorStore(tmp_path, DIGEST).vectors(["a"], encode)
    other = VectorStore(tmp_path, "cd" * 32)
    other.vectors(["a"], encode)
    assert other.encoded == 1


def test_texts_that_utf8_cannot_hold_have_keys_too(tmp_path, encode):
    texts = ["", "\ud800", "\ufffd", "\0", "e\u0301", "é", "红"]
    store = VectorStore(tmp_path, DIGEST)
    assert store.vectors(texts, encode).tolist() == [vector_of(text) for text in texts]
    assert store.vectors(texts[::-1], encode).tolist() == [vector_of(text) for text in texts[::-1]]
    assert store.encoded == len(texts)


def test_put_keeps_what_is_new_and_leaves_what_is_known(tmp_path, encode):
    store = VectorStore(tmp_path, DIGEST)
    store.vectors(["a"], encode)
    store.put(["b", "a"], np.array([[1, 2, 3, 4], [9, 9, 9, 9]], np.int16))
    assert store.vectors(["a", "b"], encode).tolist() == [vector_of("a"), [1, 2, 3, 4]]
    assert len(encode.asked) == 1
    store.put(["b", "a"], np.zeros((2, 4), np.int16))
    assert len(segments(tmp_path)) == 2


def test_every_single_flipped_bit_of_a_segment_is_noticed(tmp_path, encode):
    store = VectorStore(tmp_path, DIGEST)
    store.vectors(["a", "b"], encode)
    (segment,) = segments(tmp_path)
    content = segment.read_bytes()
    for at in np.linspace(0, 8 * len(content) - 1, 25).astype(int):
        altered = bytearray(content)
        altered[at // 8] ^= 1 << (at % 8)
        segment.write_bytes(altered)
        with pytest.raises(IntegrityError, match=rf"{segment.name} was altered .* Delete it"):
            VectorStore(tmp_path, DIGEST).vectors(["a"], encode)
    segment.write_bytes(content)
    assert store.vectors(["a"], encode).tolist() == [vector_of("a")]


@pytest.mark.parametrize("keep", [0, 10, -1])
def test_a_truncated_segment_is_noticed_and_the_remedy_works(tmp_path, encode, keep):
    VectorStore(tmp_path, DIGEST).vectors(["a", "b"], encode)
    (segment,) = segments(tmp_path)
    segment.write_bytes(segment.read_bytes()[:keep])
    with pytest.raises(IntegrityError, match="was altered"):
        VectorStore(tmp_path, DIGEST).vectors(["a"], encode)
    segment.unlink()
    assert VectorStore(tmp_path, DIGEST).vectors(["a"], encode).tolist() == [vector_of("a")]


def test_two_writers_at_once_leave_one_vector_a_text(tmp_path, encode):
    """The second one encodes and writes while the first is still encoding."""
    first, second, other = VectorStore(tmp_path, DIGEST), VectorStore(tmp_path, DIGEST), Encoder()

    def slowly(texts: list[str]) -> np.ndarray:
        second.vectors(["b", "c"], other)
        return encode(texts)

    assert first.vectors(["a", "b"], slowly).tolist() == [vector_of("a"), vector_of("b")]
    assert len(segments(tmp_path)) == 2
    third = VectorStore(tmp_path, DIGEST)
    assert third.vectors(["c", "b", "a"], encode).tolist() == [vector_of(text) for text in "cba"]
    assert third.encoded == 0


def test_two_writers_of_the_same_texts_write_one_segment(tmp_path, encode):
    first, second = VectorStore(tmp_path, DIGEST), VectorStore(tmp_path, DIGEST)

    def slowly(texts: list[str]) -> np.ndarray:
        second.vectors(["a"], Encoder())
        return encode(texts)

    first.vectors(["a"], slowly)
    assert len(segments(tmp_path)) == 1


def test_what_a_killed_writer_left_is_ignored(tmp_path, encode):
    store = VectorStore(tmp_path, DIGEST)
    store.vectors(["a"], encode)
    (segment,) = segments(tmp_path)
    for name in (".0123.tmp", f"{segment.name}.tmp", "_SUCCESS"):
        (segment.parent / name).write_bytes(segment.read_bytes()[:50])
    assert VectorStore(tmp_path, DIGEST).vectors(["a"], encode).tolist() == [vector_of("a")]
    assert len(encode.asked) == 1


def test_a_writer_that_dies_leaves_nothing_visible(tmp_path, encode, monkeypatch):
    real = pipelines.vectors.atomic_writer

    class HalfWritten:
        def __init__(self, path: Path) -> None:
            self.context = real(path)

        def __enter__(self):
            self.file = self.context.__enter__()
            return self

        def write(self, content: bytes) -> None:
            self.file.write(content[: len(content) // 2])
            raise KeyboardInterrupt

        def __exit__(self, *error) -> bool | None:
            return self.context.__exit__(*error)

    monkeypatch.setattr(pipelines.vectors, "atomic_writer", HalfWritten)
    with pytest.raises(KeyboardInterrupt):
        VectorStore(tmp_path, DIGEST).vectors(["a"], encode)
    assert not segments(tmp_path)
    monkeypatch.undo()
    assert VectorStore(tmp_path, DIGEST).vectors(["a"], encode).tolist() == [vector_of("a")]


def test_a_segment_is_named_by_its_own_sha256_and_holds_texts_only_as_hashes(tmp_path, encode):
    VectorStore(tmp_path, DIGEST).vectors(["secret title"], encode)
    (segment,) = segments(tmp_path)
    assert segment.stem == hashlib.sha256(segment.read_bytes()).hexdigest()
    assert pl.read_parquet(segment)["text"].to_list() == [hashlib.sha256(b"secret title").digest()]
    assert b"secret title" not in segment.read_bytes()
