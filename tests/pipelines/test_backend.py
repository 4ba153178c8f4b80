"""OpenVINO is taken where it is fit and clearly faster, and what was taken is what every step uses."""

import numpy as np
import pytest
import torch

import encoders.compiled
import pipelines.backend
from encoders.compiled import CompiledTower
from encoders.config import EncoderConfig
from encoders.model import InterestModel
from features.errors import ConfigError
from pipelines.backend import settle_backend
from pipelines.bundle import load_bundle
from pipelines.chain import Catalogue
from pipelines.check import read_inputs
from pipelines.vectors import VectorStore

openvino = pytest.mark.skipif(
    not encoders.compiled.openvino_is_installed(), reason="openvino is not installed (extra openvino)"
)
TEXTS = [
    "red mug",
    "blue kettle made with charger",
    "lamp",
    "",
    "green paint brush for stroller poles and perfume gift",
]


@pytest.fixture
def settled(tiny_encoder, capfd):
    """Settles what a new model is run by: the backend, and what was said."""

    def settle(backend, *, taught=False):
        config = EncoderConfig(model=str(tiny_encoder), max_tokens=32, precision="fp32", backend=backend)
        model = InterestModel.start(config)
        settle_backend(model, model.tokenise(TEXTS), config, taught=taught)
        return model.backend, capfd.readouterr().err

    return settle


class Jumbled(CompiledTower):
    """A backend whose vectors depend on the batch."""

    def pool(self, read, mask_TL):
        return super().pool(read, mask_TL) + 1e-7 * mask_TL.sum()


class Coarse(CompiledTower):
    """A backend whose vectors are not those of torch."""

    def pool(self, read, mask_TL):
        return super().pool(read, mask_TL).sign()


class Undefined(CompiledTower):
    """A backend whose vectors are no numbers."""

    def pool(self, read, mask_TL):
        return super().pool(read, mask_TL) * torch.nan


class Broken(CompiledTower):
    """A backend that does not know what an encoder is made of."""

    def pool(self, *_):
        raise RuntimeError("no conversion rule found\nfor all the rest")


@openvino
@pytest.mark.parametrize(("least", "backend"), [(0.0, "openvino"), (1e9, "torch")])
def test_auto_takes_what_is_clearly_faster(settled, monkeypatch, least, backend):
    monkeypatch.setattr(pipelines.backend, "LEAST_GAIN", least)
    chosen, said = settled("auto")
    assert chosen == backend
    assert ("times as fast as torch" in said) == (backend == "torch")


@openvino
@pytest.mark.parametrize(
    ("reader", "why"),
    [
        (Jumbled, "depend on the texts beside"),
        (Coarse, "of cosine 0"),
        (Undefined, "of cosine nan"),
        (Broken, "no conversion rule"),
    ],
)
def test_what_is_not_fit_is_not_taken_and_the_reason_is_said(settled, monkeypatch, reader, why):
    monkeypatch.setattr(pipelines.backend, "LEAST_GAIN", 0.0)
    monkeypatch.setattr("encoders.model.CompiledTower", reader)
    chosen, said = settled("auto")
    assert chosen == "torch"
    assert why in said
    with pytest.raises(ConfigError, match=f"encoder.backend is openvino, which .*{why}.*Set it to torch"):
        settled("openvino")


@openvino
def test_a_training_that_goes_on_keeps_the_backend_of_the_version(settled, monkeypatch):
    monkeypatch.setattr(pipelines.backend, "LEAST_GAIN", 0.0)
    assert settled("auto", taught=True) == ("torch", "")
    assert settled("openvino", taught=True) == ("openvino", "")


def test_auto_is_torch_where_openvino_is_not_installed(settled, monkeypatch):
    monkeypatch.setattr(encoders.compiled, "find_spec", lambda _: None)  # as if it were not
    chosen, said = settled("auto")
    assert chosen == "torch"
    assert "is not installed" in said


def never(texts):
    """Training kept all vectors."""
    raise AssertionError(len(texts))


@pytest.mark.slow
@openvino
def test_training_evaluation_and_night_use_one_backend(shop_project, tmp_path, command, monkeypatch):
    project = shop_project.copy(tmp_path / "project")
    project.change(encoder={"backend": "openvino"})
    trained = command(project, "train")
    assert trained.code == 0, trained.err
    assert command(project, "promote").code == 0
    (folder,) = (project.folder / "out/bundles").iterdir()
    bundle = load_bundle(folder)
    assert bundle.model.backend == "openvino"
    assert "openvino" in bundle.manifest["libraries"]
    texts = Catalogue.of(read_inputs(project.config).log, project.config.data.items.text).texts
    tokens = bundle.model.tokenise(texts)
    kept = VectorStore(project.folder / "out/vectors", bundle.model.digest("tuned")).vectors(texts, never)
    assert np.array_equal(bundle.model.embed("tuned", tokens), kept)
    pooled = bundle.model.pool("tuned", tokens)
    bundle.model.backend = "torch"
    assert not torch.equal(bundle.model.pool("tuned", tokens), pooled)  # on the grid they may be the same in fp32
    project.change(encoder={"backend": "torch"})  # tonight's own configuration knows nothing of it
    night = command(project, "score", "--date", str(project.day))
    assert night.code == 0, night.err
    assert night.facts["texts_encoded"] == 0  # what training kept is what the night looks for
    monkeypatch.setattr(encoders.compiled, "find_spec", lambda _: None)  # a machine that lacks it
    refused = command(project, "score", "--date", str(project.day))
    assert refused.code == 2
    assert "nightrank[openvino]" in refused.err
