"""The vector store: a text is encoded once, and an altered segment is never read."""

import hashlib
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import pipelines.stores.vectors
from features.errors import IntegrityError
from pipelines.stores.vectors import VectorStore

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
    return sorted((root / DIGEST[:32]).glob("*.npy"))


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
    real = pipelines.stores.vectors.atomic_writer

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

    monkeypatch.setattr(pipelines.stores.vectors, "atomic_writer", HalfWritten)
    with pytest.raises(KeyboardInterrupt):
        VectorStore(tmp_path, DIGEST).vectors(["a"], encode)
    assert not segments(tmp_path)
    monkeypatch.undo()
    assert VectorStore(tmp_path, DIGEST).vectors(["a"], encode).tolist() == [vector_of("a")]


def test_a_segment_is_named_by_its_own_sha256_and_holds_texts_only_as_hashes_sorted(tmp_path, encode):
    texts = ["secret title", "b", "c", "d", "e"]
    VectorStore(tmp_path, DIGEST).vectors(texts, encode)
    (segment,) = segments(tmp_path)
    assert segment.stem == hashlib.sha256(segment.read_bytes()).hexdigest()
    rows = np.load(segment)
    expected = sorted((hashlib.sha256(text.encode()).digest(), vector_of(text)) for text in texts)
    assert [row.tobytes() for row in rows["text"]] == [key for key, _ in expected]
    assert rows["vector"].tolist() == [vector for _, vector in expected]
    assert rows["vector"].dtype == np.int16
    assert b"secret title" not in segment.read_bytes()


def test_keys_that_end_in_zero_bytes_or_differ_in_one_bit_are_told_apart(tmp_path, monkeypatch):
    keys = [bytes(32), bytes(31) + b"\1", b"a" + bytes(31), b"a\0b" + bytes(29), b"a" * 32, b"\xff" * 32]
    named = dict(zip("uvwxyz", keys, strict=True))
    found = np.frombuffer(b"".join(keys), "S32")
    monkeypatch.setattr(
        pipelines.stores.vectors, "_keys", lambda texts: found[["uvwxyz".index(text) for text in texts]]
    )
    store = VectorStore(tmp_path, DIGEST)
    store.vectors(list("zwu"), lambda texts: np.array([[ord(text)] for text in texts], np.int16))
    told = store.vectors(list(named), lambda texts: np.array([[-ord(text)] for text in texts], np.int16))
    assert told.ravel().tolist() == [ord("u"), -ord("v"), ord("w"), -ord("x"), -ord("y"), ord("z")]


def test_no_texts_have_no_vectors(tmp_path, encode):
    store = VectorStore(tmp_path, DIGEST)
    assert len(store.vectors([], encode)) == 0
    store.vectors(["a"], encode)
    assert len(store.vectors([], encode)) == 0
    assert encode.asked == [["a"]]


def test_many_texts_are_kept_portion_by_portion_so_that_a_killed_writer_goes_on(tmp_path, encode, monkeypatch):
    monkeypatch.setattr(pipelines.stores.vectors, "SEGMENT_TEXTS", 4)
    texts = [f"text {number}" for number in range(11)]

    def dies(portion: list[str]) -> np.ndarray:
        if "text 9" in portion:
            raise KeyboardInterrupt
        return encode(portion)

    with pytest.raises(KeyboardInterrupt):
        VectorStore(tmp_path, DIGEST).vectors(texts, dies)
    store = VectorStore(tmp_path, DIGEST)
    assert store.vectors(texts, encode).tolist() == [vector_of(text) for text in texts]
    assert encode.asked == [texts[:4], texts[4:8], texts[8:]]
    assert store.encoded == 3


def test_many_small_segments_become_one_and_nothing_is_lost(tmp_path, encode):
    texts = [f"night {number}" for number in range(40)]
    for text in texts:
        VectorStore(tmp_path, DIGEST).vectors([text], encode)
        assert len(segments(tmp_path)) <= 16
    assert VectorStore(tmp_path, DIGEST).vectors(texts, encode).tolist() == [vector_of(text) for text in texts]
    assert encode.asked == [[text] for text in texts]


def test_large_segments_are_left_alone_when_small_ones_are_merged(tmp_path, encode, monkeypatch):
    large = [f"text {number}" for number in range(200)]
    VectorStore(tmp_path, DIGEST).vectors(large, encode)
    (kept,) = segments(tmp_path)
    monkeypatch.setattr(pipelines.stores.vectors, "MERGED_BYTES", kept.stat().st_size - 1)
    for number in range(20):
        VectorStore(tmp_path, DIGEST).vectors([f"night {number}"], encode)
    assert kept in segments(tmp_path)
    assert len(segments(tmp_path)) <= 17


def test_a_segment_that_another_process_merges_away_is_looked_for_again(tmp_path, encode, monkeypatch):
    texts = [f"night {number}" for number in range(15)]
    for text in texts:
        VectorStore(tmp_path, DIGEST).vectors([text], encode)
    real, other = pipelines.stores.vectors.segment_files, VectorStore(tmp_path, DIGEST)

    def listed_then_merged(folder: Path) -> list[Path]:
        files = real(folder)
        monkeypatch.setattr(pipelines.stores.vectors, "segment_files", real)
        other.vectors(["one more"], encode)
        return files

    monkeypatch.setattr(pipelines.stores.vectors, "segment_files", listed_then_merged)
    store = VectorStore(tmp_path, DIGEST)
    assert store.vectors(texts, encode).tolist() == [vector_of(text) for text in texts]
    assert len(segments(tmp_path)) == 1
    assert store.encoded == 0


WRITER = """
import hashlib, sys
from pathlib import Path
import numpy as np
import pipelines.stores.vectors
from pipelines.stores.vectors import VectorStore

def encode(texts):
    return np.array([list(hashlib.sha256(text.encode()).digest()[:4]) * 100 for text in texts], np.int16)

root, first, last, step = Path(sys.argv[1]), *map(int, sys.argv[2:])
print("ready", flush=True)
for start in range(first, last, step):
    texts = [f"text {number}" for number in range(start, start + step)]
    VectorStore(root, "ab" * 32).vectors(texts, encode)
print("done", flush=True)
"""


def writer(root: Path, first: int, last: int, step: int) -> subprocess.Popen:
    started = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(root), str(first), str(last), str(step)],
        cwd=Path(__file__).resolve().parents[3],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert started.stdout is not None
    return started


def assert_whole(root: Path, count: int) -> int:
    """Every vector that is found is right; tells how many are not there."""
    texts = [f"text {number}" for number in range(count)]
    asked = []

    def encode(missing: list[str]) -> np.ndarray:
        asked.extend(missing)
        return np.array([vector_of(text) * 100 for text in missing], np.int16)

    assert VectorStore(root, DIGEST).vectors(texts, encode).tolist() == [vector_of(text) * 100 for text in texts]
    return len(asked)


@pytest.mark.slow
def test_a_writer_killed_at_any_point_leaves_only_whole_segments_and_a_rerun_is_right(tmp_path):
    rng = np.random.default_rng(1)
    for number in range(5):
        root = tmp_path / str(number)
        killed = writer(root, 0, 10**7, 100)
        killed.stdout.readline()
        time.sleep(float(rng.uniform(0, 0.4)))
        killed.kill()
        killed.communicate()
        assert killed.returncode == -signal.SIGKILL
        assert_whole(root, 20_000)


def test_processes_that_write_and_merge_one_store_at_once_lose_nothing(tmp_path):
    writers = [writer(tmp_path, first, first + 1500, 30) for first in (0, 0, 750, 1500)]
    assert [process.communicate()[0] for process in writers] == ["ready\ndone\n"] * 4
    assert assert_whole(tmp_path, 3000) == 0
    assert len(segments(tmp_path)) <= 40
