"""A text tower as torch runs it on a CUDA device."""

# T texts, L tokens, D width
import copy

import torch
from torch import Tensor

from encoders.embed import cast_once
from encoders.towers import TextTower
from features.errors import ConfigError

__all__ = ["GpuTower", "gpu_is_there", "gpu_name", "require_gpu"]


def gpu_is_there() -> bool:
    """Whether torch finds a CUDA device."""
    return torch.cuda.is_available()


def gpu_name() -> str:
    """What the device is called; vectors are the same to the bit on devices of one name alone."""
    return str(torch.cuda.get_device_name())


def require_gpu(what: str, remedy: str, *, named: str | None = None) -> None:
    """Refuse to go on without it.

    Args:
        what: What needs it.
        remedy: What else can be done.
        named: The device that it must be; None for any.

    Raises:
        ConfigError: There is none, or another one.
    """
    if not gpu_is_there():
        raise ConfigError(
            f"{what}, and torch finds no CUDA device here. Run it on a machine that has one, or {remedy}."
        )
    if named is not None and gpu_name() != named:
        raise ConfigError(
            f"{what} of the name {named}, and this is {gpu_name()}, whose last bits differ. Run it on a machine that "
            f"has one, or {remedy}."
        )


class GpuTower:
    """What `TextTower.read` and `TextTower.pool` do, on the device, from the weights of when it was made.

    What goes in may lie anywhere; what comes out lies on the device.

    Args:
        tower: The tower, in eval mode; whoever changes its weights makes a new one of these.
        bf16: Whether matrix products run in bfloat16.
    """

    def __init__(self, tower: TextTower, *, bf16: bool) -> None:
        on_device = copy.deepcopy(tower, {id(tower.config): tower.config}).to("cuda")
        self._tower = cast_once(on_device, bf16=bf16)
        self._bf16 = bf16

    def read(self, ids_TL: Tensor, mask_TL: Tensor) -> Tensor:
        """As `TextTower.read`: in bfloat16 where products run in it."""
        with self._precision():
            return self._tower.read(ids_TL.to("cuda"), mask_TL.to("cuda"))

    def pool(self, read: Tensor, mask_TL: Tensor) -> Tensor:
        """As `TextTower.pool`."""
        with self._precision():
            return self._tower.pool(read.to("cuda"), mask_TL.to("cuda"))

    def _precision(self) -> torch.autocast:
        return torch.autocast("cuda", dtype=torch.bfloat16, enabled=self._bf16)
