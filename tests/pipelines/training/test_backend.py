"""What is not fit to run the encoder is refused before a training begins."""

import pytest
import torch

import encoders.gpu
import encoders.model
from encoders.config import EncoderConfig
from encoders.model import InterestModel
from features.errors import ConfigError
from pipelines.training.backend import refuse_unfit_backend

TEXTS = [
    "red mug",
    "blue kettle made with charger",
    "lamp",
    "",
    "green paint brush for stroller poles and perfume gift",
]


class Fit:
    """A backend that does what torch does."""

    def __init__(self, tower, *, bf16):
        del bf16
        self._tower = tower

    def read(self, ids_TL, mask_TL):
        return self._tower.read(ids_TL, mask_TL)

    def pool(self, read, mask_TL):
        return self._tower.pool(read, mask_TL)


class Jumbled(Fit):
    """A backend whose vectors depend on the batch."""

    def pool(self, read, mask_TL):
        return super().pool(read, mask_TL) + 1e-7 * mask_TL.sum()


class Coarse(Fit):
    """A backend whose vectors are not those of torch."""

    def pool(self, read, mask_TL):
        return super().pool(read, mask_TL).sign()


class Undefined(Fit):
    """A backend whose vectors are no numbers."""

    def pool(self, read, mask_TL):
        return super().pool(read, mask_TL) * torch.nan


class Broken(Fit):
    """A backend that does not know what an encoder is made of."""

    def pool(self, *_):
        raise RuntimeError("no kernel image\nfor all the rest")


@pytest.fixture
def held(tiny_encoder, monkeypatch):
    """Holds what stands for a GPU against some texts."""

    def hold(reader, texts=TEXTS):
        monkeypatch.setattr(encoders.gpu, "gpu_is_there", lambda: True)
        for module in (encoders.gpu, encoders.model):
            monkeypatch.setattr(module, "gpu_name", lambda: "Fast 1")
        monkeypatch.setattr(encoders.model, "GpuTower", reader)
        config = EncoderConfig(model=str(tiny_encoder), max_tokens=32, precision="fp32", backend="cuda")
        model = InterestModel.start(config)
        refuse_unfit_backend(model, model.tokenise(texts))

    return hold


@pytest.mark.parametrize(
    ("reader", "why"),
    [
        (Jumbled, "depend on the texts beside"),
        (Coarse, "of cosine 0"),
        (Undefined, "of cosine nan"),
        (Broken, "no kernel image"),
    ],
)
def test_what_is_not_fit_is_refused_with_the_reason(held, reader, why):
    with pytest.raises(ConfigError, match=f"encoder.backend is cuda, which .*{why}.*Set it to torch"):
        held(reader)


def test_what_does_as_torch_does_is_fit(held):
    held(Fit)
    held(Broken, [])  # nothing is to be read


def test_torch_is_held_against_nothing(tiny_encoder, monkeypatch):
    model = InterestModel.start(EncoderConfig(model=str(tiny_encoder), max_tokens=32, precision="fp32"))
    monkeypatch.setattr(InterestModel, "agreement", None)
    refuse_unfit_backend(model, model.tokenise(TEXTS))
