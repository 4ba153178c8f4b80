"""Adapters of peft in a text tower's layers while it is trained; outside of training there are only plain weights."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from typing import Any

from torch import nn

from encoders.config import TrainConfig
from encoders.towers import TextTower
from features.errors import ConfigError, listed

__all__ = ["adapted", "layers_trained", "require_adapters"]


def layers_trained(train: TrainConfig, layers: int) -> int:
    """How many of a transformer's layers are not frozen: all from the lowest one on that is trained.

    Raises:
        ConfigError: `layers_to_transform` names a layer that is not there.
    """
    if train.adapter is None:
        return layers if train.last is None else min(train.last, layers)
    named = train.adapter.get("layers_to_transform")
    chosen = [named] if isinstance(named, int) else list(named or range(layers))
    absent = [layer for layer in chosen if layer not in range(layers)]
    if absent:
        raise ConfigError(
            f"encoder.train: layers_to_transform names {listed(absent)}; the encoder has the layers 0 to {layers - 1}."
        )
    return layers - min(chosen)


@contextmanager
def adapted(tower: TextTower, train: TrainConfig) -> Iterator[None]:
    """Adapters in the tower's layers, new ones from torch's global generator, merged into the weights at the end.

    Nothing else of the transformer is trained then. Without an adapter in `train` nothing happens.

    Raises:
        ConfigError: peft knows no such adapter, or cannot put it into these layers or merge it.
    """
    if train.adapter is None:
        yield
        return
    tuner = _inject(tower, train.adapter)
    tower.kind.requires_grad_(requires_grad=False)
    try:
        yield
    finally:
        try:
            tuner.merge_and_unload()
        except (NotImplementedError, TypeError, ValueError, AttributeError) as error:
            raise ConfigError(f"encoder.train: this adapter cannot be merged into the weights: {error}") from error


def require_adapters(tower: TextTower, train: TrainConfig) -> None:
    """Try the adapters on a copy, so that a fault shows before anything is computed.

    Raises:
        ConfigError: See `adapted`.
    """
    if train.adapter is not None:
        frozen = {id(part): part for part in (*tower.shared, tower.config)}
        with adapted(copy.deepcopy(tower, frozen), train):
            pass


def _inject(tower: TextTower, adapter: dict[str, Any]) -> Any:  # noqa: ANN401 - peft has one class a method
    from peft import get_peft_model  # a second or more, for those who want it
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
    from peft.utils import PeftType

    method = str(adapter["peft_type"]).upper()
    if method not in PeftType.__members__ or PeftType[method] not in PEFT_TYPE_TO_CONFIG_MAPPING:
        raise ConfigError(f"encoder.train.peft.peft_type: peft has no method {method!r}.")
    kind = PEFT_TYPE_TO_CONFIG_MAPPING[PeftType[method]]
    keys = {name: value for name, value in adapter.items() if name != "peft_type"}
    field_names = {field.name for field in fields(kind)}
    unknown = sorted(keys.keys() - field_names)
    if unknown:
        raise ConfigError(f"encoder.train: {kind.__name__} of peft has no key {listed(unknown)}.")
    if "target_modules" in field_names and "feedforward_modules" not in field_names:
        keys = {"target_modules": list(tower.kind.linear)} | keys
    try:
        config = kind(**keys)
        if config.is_prompt_learning or config.is_adaption_prompt:
            raise ConfigError(f"encoder.train: {method} cannot be merged into the weights. Choose LORA, say.")
        return get_peft_model(_layers_by_name(tower), config).base_model
    except (TypeError, ValueError, KeyError, NotImplementedError) as error:
        raise ConfigError(f"encoder.train: peft refuses this adapter: {error}") from error


def _layers_by_name(tower: TextTower) -> nn.Module:
    """All layers under the names that they have in transformers, so that configs of peft mean what they say."""
    *path, last = tower.kind.layers_path.split(".")
    top = parent = nn.Module()
    top.config = tower.config
    for name in path:
        parent.add_module(name, nn.Module())
        parent = parent.get_submodule(name)
    parent.add_module(last, nn.ModuleList([*tower.lower, *tower.upper]))
    return top
