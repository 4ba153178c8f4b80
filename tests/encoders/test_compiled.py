"""Vectors by OpenVINO are close to torch's, and as much as those a pure function of encoder, backend and text."""

import subprocess
import sys

import numpy as np
import pytest
import torch

import encoders.compiled
from encoders.config import EncoderConfig
from encoders.embed import ROWS
from encoders.model import LEAST_AGREEMENT, InterestModel
from features.errors import ConfigError, IntegrityError

openvino = pytest.mark.skipif(
    not encoders.compiled.openvino_is_installed(), reason="openvino is not installed (extra openvino)"
)
PRECISIONS = ["fp32", "bf16"]
ONE_OF_THEM_SLOW = ["fp32", pytest.param("bf16", marks=pytest.mark.slow)]


@pytest.fixture(scope="module")
def model(tiny_model):
    """Makes a model of some precision, run by OpenVINO, whose tuned tower is not the zero-shot one."""

    def make(precision, **changes) -> InterestModel:
        made = tiny_model(precision=precision, backend="openvino", **changes)
        moved(made, 0.05)
        return made

    return make


def moved(model, by) -> None:
    """Weights as after some training, changed in place."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in (*model.tuned.upper.parameters(), model.tuned.projection.weight):
            parameter.add_(torch.randn(parameter.shape, generator=generator) * by)


@openvino
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("which", ["tuned", "zero_shot"])
def test_vectors_are_those_of_torch_but_for_rounding(model, some_texts, which, precision):
    compiled = model(precision)
    texts = compiled.tokenise(some_texts(100))
    found = compiled.pool(which, texts)
    assert compiled.agreement(texts) >= LEAST_AGREEMENT
    compiled.backend = "torch"
    exact = compiled.pool(which, texts)
    assert torch.cosine_similarity(found, exact).min() >= LEAST_AGREEMENT
    assert not torch.equal(found, exact)  # or it was torch


@openvino
@pytest.mark.parametrize("name", ["modernbert", "roberta"])
def test_other_kinds_of_encoder_agree_too(random_shelf_encoder, some_texts, name):
    special = {"cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3}
    kinds = {
        "modernbert": {"local_attention": 128, "num_hidden_layers": 5, "initializer_cutoff_factor": 2.0, **special},
        "roberta": {"type_vocab_size": 1},
    }
    folder = random_shelf_encoder(kind=name, **kinds[name])
    compiled = InterestModel.start(
        EncoderConfig(model=str(folder), max_tokens=32, precision="fp32", backend="openvino")
    )
    texts = compiled.tokenise(some_texts(60))
    assert compiled.agreement(texts) >= LEAST_AGREEMENT
    assert compiled.batch_independent(texts)


@pytest.fixture
def threads():
    """Sets torch's number of threads, for one test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@openvino
@pytest.mark.parametrize("precision", ONE_OF_THEM_SLOW)
def test_a_vector_is_bit_equal_in_any_subset_in_any_order_on_any_threads(model, some_texts, threads, precision):
    compiled, texts = model(precision), some_texts(ROWS + 40, seed=6)
    whole = compiled.embed("tuned", compiled.tokenise(texts))
    assert len({row.tobytes() for row in whole}) > 0.9 * len(texts)  # the texts are told apart
    assert compiled.batch_independent(compiled.tokenise(texts))
    rng = np.random.default_rng(0)
    for count in (1, 2):
        threads(count)
        compiled = model(precision)  # compiled for so many
        for size in (1, 2, 9, 63, len(texts)):
            chosen = rng.permutation(len(texts))[:size]
            found = compiled.embed("tuned", compiled.tokenise([texts[at] for at in chosen]))
            assert np.array_equal(found, whole[chosen])


@openvino
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("train", [{"last": 2}, "full"])
def test_a_vector_is_bit_equal_with_and_without_the_cache_of_frozen_layers(model, some_texts, precision, train):
    compiled = model(precision, train=train)
    texts = compiled.tokenise(some_texts(90, seed=2))
    lower = compiled.read_lower(texts)
    assert torch.equal(compiled.pool("tuned", texts, lower=lower), compiled.pool("tuned", texts))


@openvino
def test_weights_that_changed_are_compiled_anew_and_those_of_before_give_the_bits_of_before(model, some_texts):
    compiled = model("fp32")
    texts = compiled.tokenise(some_texts(40))
    start, first = compiled.weights(), compiled.embed("tuned", texts)
    assert compiled.reader("tuned") is compiled.reader("tuned")
    moved(compiled, 0.1)
    second = compiled.embed("tuned", texts)
    compiled.restore(start)
    assert not np.array_equal(first, second)
    assert np.array_equal(compiled.embed("tuned", texts), first)


_ELSEWHERE = """
import sys
from pathlib import Path
import numpy as np
from encoders.model import InterestModel
folder = Path(sys.argv[1])
model = InterestModel.load(folder)
texts = (folder / "texts").read_text(encoding="utf-8").split("\\n")
np.save(folder / "vectors.npy", model.embed("tuned", model.tokenise(texts[::-1][:50])))
print(model.backend, model.digest("tuned"), "openvino" in sys.modules, sys.modules["openvino_telemetry"])
"""


@openvino
@pytest.mark.parametrize("precision", ONE_OF_THEM_SLOW)
def test_a_saved_model_makes_the_same_bits_in_another_process_and_tells_nobody(model, some_texts, tmp_path, precision):
    compiled, texts = model(precision), some_texts(80, seed=3)
    compiled.save(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "model.safetensors", "tokenizer.json"}
    (tmp_path / "texts").write_text("\n".join(texts), encoding="utf-8")
    command = [sys.executable, "-c", _ELSEWHERE, str(tmp_path)]
    ended = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    assert ended.stdout.split() == ["openvino", compiled.digest("tuned"), "True", "None"]
    expected = compiled.embed("tuned", compiled.tokenise(texts))[::-1][:50]
    assert np.array_equal(np.load(tmp_path / "vectors.npy"), expected)


@openvino
def test_a_backend_has_vectors_of_its_own_in_the_store(model):
    compiled = model("fp32")
    own = compiled.digest("tuned")
    compiled.backend = "torch"
    assert compiled.digest("tuned") != own


@openvino
def test_another_backend_in_a_saved_model_is_refused(model, tmp_path):
    model("fp32").save(tmp_path)
    config = tmp_path / "config.json"
    config.write_text(config.read_text().replace('"openvino"', '"abacus"'))
    with pytest.raises(IntegrityError, match="missing or altered"):
        InterestModel.load(tmp_path)


def test_without_the_package_its_extra_is_named(tiny_model, tmp_path, monkeypatch):
    saved = tiny_model()
    saved.backend = "openvino"
    saved.save(tmp_path)
    monkeypatch.setattr(encoders.compiled, "find_spec", lambda _: None)  # as if it were not installed
    with pytest.raises(ConfigError, match=r"encoder\.backend is openvino.*nightrank\[openvino\], or set it to torch"):
        tiny_model(backend="openvino")
    with pytest.raises(ConfigError, match=r"vectors are made by OpenVINO.*nightrank\[openvino\]"):
        InterestModel.load(tmp_path)
    assert tiny_model(backend="auto").backend == "torch"
