"""Vectors by a GPU are close to the processor's, and as much as those a pure function of encoder, backend and text.

pytest -m gpu tests/encoders        # on a machine with a CUDA device; the others run everywhere
"""

import json

import numpy as np
import pytest
import torch

import encoders.gpu
import encoders.model
from encoders.embed import ROWS, bf16_is_native
from encoders.model import LEAST_AGREEMENT, InterestModel
from features.errors import ConfigError, IntegrityError

PRECISIONS = ["fp32", "bf16"]


@pytest.fixture
def model(tiny_model):
    """Makes a model of some precision, run by the GPU, whose tuned tower is not the zero-shot one."""

    def make(precision, **changes) -> InterestModel:
        made = tiny_model(precision=precision, backend="cuda", **changes)
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in (*made.tuned.upper.parameters(), made.tuned.projection.weight):
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
        return made

    return make


@pytest.mark.gpu
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("which", ["tuned", "zero_shot"])
def test_vectors_are_those_of_the_processor_but_for_rounding(model, some_texts, which, precision):
    fast = model(precision)
    texts = fast.tokenise(some_texts(100))
    found = fast.pool(which, texts)
    assert found.device.type == "cpu"
    assert next(fast.tuned.parameters()).device.type == "cpu"  # a copy ran
    fast.use_backend("torch")
    assert torch.cosine_similarity(found, fast.pool(which, texts)).min() >= LEAST_AGREEMENT


@pytest.mark.gpu
@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_vector_is_bit_equal_in_any_subset_in_any_order(model, some_texts, precision):
    fast, texts = model(precision), some_texts(ROWS + 40, seed=6)
    whole = fast.embed("tuned", fast.tokenise(texts))
    assert len({row.tobytes() for row in whole}) > 0.9 * len(texts)  # the texts are told apart
    assert fast.batch_independent(fast.tokenise(texts))
    rng = np.random.default_rng(0)
    for size in (1, 2, 9, 63, len(texts)):
        chosen = rng.permutation(len(texts))[:size]
        found = fast.embed("tuned", fast.tokenise([texts[at] for at in chosen]))
        assert np.array_equal(found, whole[chosen])


@pytest.mark.gpu
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("train", [{"last": 2}, "full"])
def test_a_vector_is_bit_equal_with_and_without_the_cache_of_frozen_layers(model, some_texts, precision, train):
    fast = model(precision, train=train)
    texts = fast.tokenise(some_texts(90, seed=2))
    lower = fast.read_lower(texts)
    assert torch.equal(fast.pool("tuned", texts, lower=lower), fast.pool("tuned", texts))


@pytest.mark.gpu
@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_saved_model_makes_the_same_bits_on_a_gpu_of_the_same_name(model, some_texts, tmp_path, precision):
    fast = model(precision)
    texts = fast.tokenise(some_texts(80, seed=3))
    fast.save(tmp_path)
    again = InterestModel.load(tmp_path)
    assert (again.backend, again.gpu) == ("cuda", torch.cuda.get_device_name())
    assert again.digest("tuned") == fast.digest("tuned")
    assert np.array_equal(again.embed("tuned", texts), fast.embed("tuned", texts))


@pytest.mark.gpu
def test_auto_precision_asks_the_device_that_runs(tiny_model):
    assert tiny_model(precision="auto", backend="cuda").bf16 == bf16_is_native(on_gpu=True)
    assert tiny_model(precision="auto", backend="torch").bf16 == bf16_is_native()


@pytest.fixture
def device(monkeypatch):
    """Pretends that there is a GPU of some name, or none."""

    def pretend(name):
        monkeypatch.setattr(encoders.gpu, "gpu_is_there", lambda: name is not None)
        for module in (encoders.gpu, encoders.model):
            monkeypatch.setattr(module, "gpu_name", lambda: name)
        monkeypatch.setattr(encoders.model, "bf16_is_native", lambda *, on_gpu: on_gpu)

    return pretend


def test_without_a_gpu_it_is_refused_with_the_remedy(tiny_model, tmp_path, device):
    device("Fast 1")
    tiny_model(backend="cuda").save(tmp_path)
    device(None)
    with pytest.raises(ConfigError, match=r"encoder\.backend is cuda.*no CUDA device.*set it to torch"):
        tiny_model(backend="cuda")
    with pytest.raises(ConfigError, match=r"made by a GPU.*no CUDA device.*encoder\.backend torch"):
        InterestModel.load(tmp_path)


def test_a_gpu_of_another_name_is_refused(tiny_model, tmp_path, device):
    device("Fast 1")
    saved = tiny_model(backend="cuda")
    saved.save(tmp_path)
    assert InterestModel.load(tmp_path).digest("tuned") == saved.digest("tuned")
    device("Fast 2")
    assert tiny_model(backend="cuda").digest("tuned") != saved.digest("tuned")
    with pytest.raises(ConfigError, match=r"of the name Fast 1, and this is Fast 2"):
        InterestModel.load(tmp_path)


def test_auto_precision_is_that_of_the_gpu_where_it_runs(tiny_model, device):
    device("Fast 1")
    assert [tiny_model(backend=name, precision="auto").bf16 for name in ("cuda", "torch")] == [True, False]


@pytest.mark.parametrize(
    ("name", "kind", "told"),
    [
        ("openvino", ConfigError, "made by OpenVINO, which this nightrank does not run.*nightrank train"),
        ("abacus", IntegrityError, "missing or altered"),
    ],
)
def test_a_model_of_a_backend_that_is_no_more_is_refused(tiny_model, tmp_path, name, kind, told):
    tiny_model().save(tmp_path)
    config = tmp_path / "config.json"
    config.write_text(config.read_text().replace('"backend": "torch"', f'"backend": "{name}"'))
    with pytest.raises(kind, match=told):
        InterestModel.load(tmp_path)


def test_a_model_of_before_gpus_is_loaded(tiny_model, tmp_path):
    saved = tiny_model()
    saved.save(tmp_path)
    config = tmp_path / "config.json"
    about = json.loads(config.read_text(encoding="utf-8"))
    del about["gpu"]
    config.write_text(json.dumps(about), encoding="utf-8")
    assert InterestModel.load(tmp_path).digest("tuned") == saved.digest("tuned")
