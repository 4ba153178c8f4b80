"""A text tower as OpenVINO runs it on the processor; OpenVINO is optional (extra `openvino`)."""

# T texts, L tokens, D width
import sys
import warnings
from functools import cached_property
from importlib.util import find_spec
from typing import Any, Literal

import torch
from torch import Tensor, nn

from encoders.towers import TextTower
from features.errors import ConfigError

__all__ = ["CompiledTower", "openvino_is_installed", "require_openvino"]

_IDS = torch.ones(2, 8, dtype=torch.int32)  # to trace by


def openvino_is_installed() -> bool:
    """Whether the package is there; it is not imported."""
    return find_spec("openvino") is not None


def require_openvino(what: str, remedy: str) -> None:
    """Refuse to go on without it.

    Args:
        what: What needs it.
        remedy: What else can be done.

    Raises:
        ConfigError: It is not installed.
    """
    if not openvino_is_installed():
        raise ConfigError(f"{what}, which is not installed. Install the extra nightrank[openvino], or {remedy}.")


class CompiledTower:
    """What `TextTower.read` and `TextTower.pool` do, each compiled when it is first asked, from the weights of then.

    Nothing of it is written to disk: it is made of the weights alone, in every process anew, to the same bits.

    Args:
        tower: The tower, in eval mode, on the processor; whoever changes its weights makes a new one of these.
        bf16: Whether matrix products run in bfloat16.
    """

    def __init__(self, tower: TextTower, *, bf16: bool) -> None:
        self._tower = tower
        self._bf16 = bf16

    def read(self, ids_TL: Tensor, mask_TL: Tensor) -> Tensor:
        """As `TextTower.read`: in bfloat16 where products run in it."""
        if self._tower.train_embeddings:
            return self._tower.read(ids_TL, mask_TL)
        hidden_TLD = _run(self._lower, ids_TL, mask_TL)
        return hidden_TLD.to(torch.bfloat16) if self._bf16 else hidden_TLD

    def pool(self, read: Tensor, mask_TL: Tensor) -> Tensor:
        """As `TextTower.pool`."""
        return _run(self._upper, read.float() if read.is_floating_point() else read, mask_TL)

    @cached_property
    def _lower(self) -> Any:  # noqa: ANN401 - OpenVINO's own, where it is installed
        return self._compile("read", _IDS)

    @cached_property
    def _upper(self) -> Any:  # noqa: ANN401
        ids = self._tower.train_embeddings
        return self._compile("pool", _IDS if ids else torch.zeros(*_IDS.shape, self._tower.width))

    def _compile(self, half: Literal["read", "pool"], example: Tensor) -> Any:  # noqa: ANN401
        # NOTE: before OpenVINO is imported: it would tell its makers of every import and conversion. Without this
        # package it does what it does where that is not installed.
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
        import openvino

        plain = (torch.inference_mode(mode=False), torch.no_grad(), torch.autocast("cpu", enabled=False))
        with warnings.catch_warnings(), plain[0], plain[1], plain[2]:
            warnings.simplefilter("ignore")  # tracing is old, and says that it follows one path: there is one alone
            mask_TL = torch.ones(example.shape[:2], dtype=torch.bool)
            graph = openvino.convert_model(_Half(self._tower, half), example_input=(example, mask_TL))
        told = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "bf16" if self._bf16 else "f32",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "ENABLE_CPU_PINNING": False,  # processes would meet on the same cores
        }
        return openvino.Core().compile_model(graph, "CPU", told)


class _Half(nn.Module):
    """One of a tower's two methods as a module of its own, for tracing."""

    def __init__(self, tower: TextTower, half: Literal["read", "pool"]) -> None:
        super().__init__()
        self._tower = tower
        self._half = half

    def forward(self, first: Tensor, mask_TL: Tensor) -> Tensor:
        """What the method gives."""
        after: Tensor = getattr(self._tower, self._half)(first, mask_TL)
        return after


def _run(compiled: Any, first: Tensor, mask_TL: Tensor) -> Tensor:  # noqa: ANN401
    # NOTE: a copy, since OpenVINO writes its next result in the same place.
    return torch.from_numpy(compiled([first.numpy(), mask_TL.numpy()])[0].copy())
