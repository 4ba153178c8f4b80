"""A vector is a pure function of the text, and dot products of vectors are exact."""

import os
from tempfile import TemporaryFile

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from encoders.config import EncoderConfig
from encoders.embed import ROWS, bf16_is_native, embed_pooled, on_grid
from encoders.model import InterestModel
from features.errors import TryAgainError
from features.tables.text import GRID


@pytest.fixture(scope="module", params=[{"train": {"last": 1}}, {"train": {"last": 2}, "precision": "bf16"}])
def model(request, tiny_model):
    """Two kinds of model, whose tuned tower is not the zero-shot one."""
    made = tiny_model(**request.param)
    with torch.no_grad():
        for parameter in (*made.tuned.upper.parameters(), made.tuned.projection.weight):
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)) * 0.05)
    return made


@pytest.mark.parametrize("which", ["tuned", "zero_shot"])
def test_a_vector_is_bit_equal_whatever_other_texts_order_and_batch(model, some_texts, which):
    texts = some_texts(ROWS + 40)
    whole = model.embed(which, model.tokenise(texts))
    assert len({row.tobytes() for row in whole}) > 0.9 * len(texts)  # the texts are told apart
    rng = np.random.default_rng(5)
    for size in (1, 1, 2, 3, 9, 63, len(texts)):
        chosen = rng.permutation(len(texts))[:size]
        assert np.array_equal(model.embed(which, model.tokenise([texts[at] for at in chosen])), whole[chosen])


@pytest.fixture
def threads():
    """Sets torch's number of threads, for one test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_vector_is_bit_equal_in_any_subset_in_any_order_on_any_threads(
    tiny_model, some_texts, threads, precision, count
):
    model, texts = tiny_model(precision=precision), some_texts(3 * ROWS, seed=6)
    whole = model.embed("zero_shot", model.tokenise(texts))
    rng = np.random.default_rng(count)
    threads(count)
    for size in (*rng.integers(1, len(texts), 25), len(texts)):
        chosen = rng.permutation(len(texts))[:size]
        assert np.array_equal(model.embed("zero_shot", model.tokenise([texts[at] for at in chosen])), whole[chosen])


def test_a_vector_of_the_default_encoder_is_bit_equal_in_any_subset_in_any_order(some_texts):
    model, texts = InterestModel.start(EncoderConfig()), some_texts(ROWS + 20, seed=7)
    whole = model.embed("zero_shot", model.tokenise(texts))
    rng = np.random.default_rng(0)
    for size in (1, 2, 7, 9, 30):
        chosen = rng.permutation(len(texts))[:size]
        assert np.array_equal(model.embed("zero_shot", model.tokenise([texts[at] for at in chosen])), whole[chosen])


@pytest.mark.parametrize("which", ["tuned", "zero_shot"])
def test_a_vector_is_bit_equal_with_and_without_the_cache_of_frozen_layers(model, some_texts, which):
    texts = model.tokenise(some_texts(90, seed=2))
    lower = model.read_lower(texts)
    assert [hidden.shape for hidden in lower] == [(length, 32) for length in texts.lengths]
    assert {hidden.dtype for hidden in lower} == {torch.bfloat16 if model.bf16 else torch.float32}
    cached, fresh = model.pool(which, texts, lower=lower), model.pool(which, texts)
    assert torch.equal(cached, fresh)
    assert np.array_equal(model.project(which, cached), model.embed(which, texts))


@pytest.mark.parametrize("which", ["tuned", "zero_shot"])
def test_matrices_cast_once_give_the_bits_of_autocast(model, some_texts, which):
    texts = model.tokenise(some_texts(90, seed=4))
    tower = model.tuned if which == "tuned" else model.zero_shot
    pooled = model.pool(which, texts)
    before = {name: weight.dtype for name, weight in tower.state_dict().items()}
    for _, positions in texts.buckets():
        ids, mask = map(torch.from_numpy, texts.padded(positions, len(positions)))
        with torch.autocast("cpu", torch.bfloat16, enabled=model.bf16), torch.inference_mode():
            assert torch.equal(tower.pool(tower.read(ids, mask), mask), pooled[positions])
    assert set(before.values()) == {torch.float32}


class Crowded:
    """Memory that holds no more than some rows: what is asked beyond that, torch itself refuses."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.seen: list[int] = []

    def __call__(self, _, args, kwargs) -> None:
        rows = len(kwargs.get("input_ids", args[0] if args else ()))
        self.seen.append(rows)
        if rows > self.most:
            torch.empty(1 << 60)


@pytest.mark.parametrize("most", [40, 16, 1])
def test_where_memory_does_not_suffice_batches_shrink_and_vectors_stay_as_they_are(model, some_texts, most):
    texts = model.tokenise(some_texts(200, seed=3))
    expected = model.embed("tuned", texts)
    lower = model.read_lower(texts)
    crowded = Crowded(most)
    with model.tuned.embeddings.register_forward_pre_hook(crowded, with_kwargs=True):
        assert np.array_equal(model.embed("tuned", texts), expected)
        assert all(torch.equal(one, two) for one, two in zip(model.read_lower(texts), lower, strict=True))
    refused = [at for at, rows in enumerate(crowded.seen) if rows > most]
    assert refused
    assert all(crowded.seen[at + 1] == crowded.seen[at] // 2 for at in refused)


def test_where_memory_does_not_suffice_for_one_text_it_says_so(model, some_texts):
    texts = model.tokenise(some_texts(3))
    with (
        model.tuned.embeddings.register_forward_pre_hook(Crowded(0), with_kwargs=True),
        pytest.raises(TryAgainError, match=r"a single text.*encoder\.max_tokens"),
    ):
        model.embed("tuned", texts)


def test_other_errors_are_not_taken_for_a_lack_of_memory(model, some_texts):
    def fail(*_) -> None:
        raise RuntimeError("shapes cannot be multiplied")

    texts = model.tokenise(some_texts(3))
    with (
        model.tuned.embeddings.register_forward_pre_hook(fail),
        pytest.raises(RuntimeError, match="cannot be multiplied"),
    ):
        model.embed("tuned", texts)


def test_hidden_states_in_a_file_are_those_in_memory_to_the_bit(model, some_texts, tmp_path):
    texts = model.tokenise(some_texts(90, seed=2))
    lower = model.read_lower(texts)
    with TemporaryFile(dir=tmp_path) as file:
        kept = model.read_lower(texts, file=file)
        assert os.fstat(file.fileno()).st_size == model.hidden_bytes(texts)
    assert list(tmp_path.iterdir()) == []
    assert len(kept) == len(lower) == 90
    assert all(torch.equal(one, two) for one, two in zip(kept, lower, strict=True))
    assert [part.shape for part in kept[3:5]] == [part.shape for part in lower[3:5]]
    assert torch.equal(model.pool("tuned", texts, lower=kept), model.pool("tuned", texts, lower=lower))


def test_bf16_agrees_with_fp32_closely_but_not_wholly(model, some_texts):
    least = model.agreement(model.tokenise(some_texts(300)))
    assert 0.99 < least < 1 - 1e-6 if model.bf16 else least == pytest.approx(1)
    assert model.agreement(model.tokenise(["mug"])) == model.agreement(model.tokenise(["mug", "mug"]))


def test_pooling_leaves_the_towers_mode_as_it_was_and_has_no_dropout(model, some_texts):
    texts = model.tokenise(some_texts(5))
    expected = model.pool("tuned", texts)
    model.tuned.train()
    found = model.pool("tuned", texts)
    assert model.tuned.training
    model.tuned.eval()
    assert torch.equal(found, expected)


@pytest.mark.parametrize(
    "text", [None, "", "\0", "\ud800", "👩\u200d👧", "كوب", "红茶杯", "[PAD] [SEP]", "mug " * 10**5]
)
def test_every_text_has_a_unit_vector(model, text):
    (vector,) = model.embed("tuned", model.tokenise([text])).astype(float)
    assert np.linalg.norm(vector) == pytest.approx(GRID, rel=0.002)


def test_null_and_empty_are_one_text(model):
    null, empty = model.embed("tuned", model.tokenise([None, ""]))
    assert np.array_equal(null, empty)


def test_no_texts_make_no_vectors(model):
    assert model.embed("tuned", model.tokenise([])).shape == (0, 32)


def test_progress_adds_up_to_the_texts(model, some_texts):
    texts, told = model.tokenise(some_texts(80)), []
    model.read_lower(texts, progress=told.append)
    assert sum(told) == 80
    model.embed("tuned", texts, progress=told.append)
    assert sum(told) == 160


def test_a_pooled_text_projects_alike_in_any_batch(model):
    pooled = torch.randn(2 * ROWS + 5, 32, generator=torch.Generator().manual_seed(3))
    whole = embed_pooled(model.tuned, pooled)
    for chosen in ([7], [100, 3], list(range(60, 130))):
        assert np.array_equal(embed_pooled(model.tuned, pooled[chosen]), whole[chosen])


def test_bf16_is_a_yes_or_no():
    assert isinstance(bf16_is_native(), bool)


def test_on_grid_by_hand():
    # (3, 4) / 5 times GRID less half the diagonal of a unit cell, rounded
    length = GRID - 0.5 * 2**0.5
    assert on_grid(np.array([[3.0, 4.0], [0.0, 0.0], [-1e20, 0.0]], np.float32)).tolist() == [
        [round(0.6 * length), round(0.8 * length)],
        [0, 0],
        [-round(length), 0],
    ]


@given(
    seed=st.integers(0, 2**32 - 1),
    width=st.sampled_from([1, 2, 3, 8, 31, 384, 1024]),
    rows=st.integers(1, 40),
    kind=st.sampled_from(["normal", "alike", "uniform", "one_hot", "heavy"]),
)
def test_norms_stay_within_the_grid_so_that_float32_dot_products_are_exact(seed, width, rows, kind):
    rng = np.random.default_rng(seed)
    raw = {
        "normal": lambda: rng.normal(size=(rows, width)),
        "alike": lambda: np.repeat(rng.normal(size=(1, width)), rows, 0),
        "uniform": lambda: rng.choice([-1.0, 1.0], size=(rows, width)),
        "one_hot": lambda: np.eye(width)[rng.integers(0, width, rows)] * rng.choice([-1e-3, 1e3], (rows, 1)),
        "heavy": lambda: rng.standard_cauchy(size=(rows, width)),
    }[kind]()
    vectors = on_grid(raw.astype(np.float32))
    exact = vectors.astype(np.int64)
    assert (exact**2).sum(1).max() <= GRID**2 < 2**24
    expected = exact @ exact.T
    floats = torch.from_numpy(vectors.astype(np.float32))
    assert np.array_equal((floats @ floats.T).numpy(), expected)
    some, order = rng.permutation(rows)[: rng.integers(1, rows + 1)], rng.permutation(width)
    part = floats[some][:, order]
    assert np.array_equal((part @ floats[:, order].T).numpy(), expected[some])
    assert np.array_equal(torch.bmm(part[None], floats[:, order].T[None])[0].numpy(), expected[some])
    assert np.array_equal((part @ floats[0, order]).numpy(), expected[some, 0])
