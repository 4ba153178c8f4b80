"""The supported kinds of transformer: where their layers are, and what a layer takes besides hidden states."""

# T texts, L tokens, D width
import json
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig
from transformers.masking_utils import create_bidirectional_mask, create_bidirectional_sliding_window_mask

__all__ = ["KINDS", "Bert", "ModernBert", "Roberta", "arithmetic"]


class Bert(nn.Module):
    """BERT, MiniLM, E5, BGE, ELECTRA: learned positions, one mask for all layers, each layer ends normalised.

    Args:
        model: The transformer, whose parts are taken and not copied.
    """

    layers_path: ClassVar[str] = "encoder.layer"
    """Path of the list of layers in transformers' model, which adapters are configured by."""
    linear: ClassVar[tuple[str, ...]] = ("query", "key", "value", "dense")
    """Names of a layer's matrices."""
    used: ClassVar[tuple[str, ...]] = ("hidden_act", "num_attention_heads", "layer_norm_eps", "pad_token_id")
    """Keys of the config that decide how weights are used and that their shapes do not show."""

    def __init__(self, model: Any) -> None:  # noqa: ANN401 - transformers' classes have no common type of these parts
        super().__init__()
        self.config = model.config

    @staticmethod
    def layers(model: Any) -> list[nn.Module]:  # noqa: ANN401
        """The transformer's layers, the lowest first."""
        return list(model.encoder.layer)

    @staticmethod
    def first_position(config: PretrainedConfig) -> int:  # noqa: ARG004 - others count from elsewhere
        """Number of a text's first position."""
        return 0

    def layer_context(self, hidden_TLD: Tensor, mask_TL: Tensor) -> Any:  # noqa: ANN401 - each kind's own
        """The attention mask of all layers; a batch without padding takes the same path as one with it."""
        return create_bidirectional_mask(**_masked(self.config, hidden_TLD, mask_TL))

    def step(self, layer: nn.Module, hidden_TLD: Tensor, context: Any) -> Tensor:  # noqa: ANN401
        """Hidden states after one layer."""
        after_TLD: Tensor = layer(hidden_TLD, context)
        return after_TLD

    def finish(self, hidden_TLD: Tensor) -> Tensor:
        """The hidden states as they are pooled: those of the last layer."""
        return hidden_TLD


class Roberta(Bert):
    """RoBERTa, XLM-RoBERTa, CamemBERT, multilingual E5: as BERT, positions counted from the padding's id on."""

    @staticmethod
    def first_position(config: PretrainedConfig) -> int:
        """The one after the padding's id."""
        return int(config.pad_token_id) + 1


class ModernBert(Bert):
    """ModernBERT: rotary positions, layers that look at all tokens or at a window, normalised after the last."""

    layers_path: ClassVar[str] = "model.layers"
    linear: ClassVar[tuple[str, ...]] = ("Wqkv", "Wi", "Wo")
    used: ClassVar[tuple[str, ...]] = (
        "hidden_activation",
        "num_attention_heads",
        "norm_eps",
        "pad_token_id",
        "layer_types",
        "local_attention",
        "rope_parameters",
    )

    def __init__(self, model: Any) -> None:  # noqa: ANN401
        super().__init__(model)
        self.norm = model.final_norm
        self.rotary = model.rotary_emb

    @staticmethod
    def layers(model: Any) -> list[nn.Module]:  # noqa: ANN401
        """The transformer's layers, the lowest first."""
        return list(model.layers)

    def layer_context(self, hidden_TLD: Tensor, mask_TL: Tensor) -> Any:  # noqa: ANN401
        """Mask and rotation by type of layer; rotations are float32 whatever the precision of the hidden states."""
        mask_inputs = _masked(self.config, hidden_TLD, mask_TL)
        masks = {
            "full_attention": create_bidirectional_mask(**mask_inputs),
            "sliding_attention": create_bidirectional_sliding_window_mask(**mask_inputs),
        }
        position_1L = torch.arange(hidden_TLD.shape[1], device=hidden_TLD.device).unsqueeze(0)
        wide = torch.empty(0, device=hidden_TLD.device)
        return {kind: (masks[kind], self.rotary(wide, position_1L, kind)) for kind in set(self.config.layer_types)}

    def step(self, layer: nn.Module, hidden_TLD: Tensor, context: Any) -> Tensor:  # noqa: ANN401
        """Hidden states after one layer."""
        mask, rotation = context[layer.attention_type]
        after_TLD: Tensor = layer(hidden_TLD, attention_mask=mask, position_embeddings=rotation)
        return after_TLD

    def finish(self, hidden_TLD: Tensor) -> Tensor:
        """The hidden states as they are pooled: normalised once more."""
        normalised_TLD: Tensor = self.norm(hidden_TLD)
        return normalised_TLD


KINDS: dict[str, type[Bert]] = {
    "bert": Bert,
    "electra": Bert,
    "roberta": Roberta,
    "xlm-roberta": Roberta,
    "camembert": Roberta,
    "modernbert": ModernBert,
}
"""By `model_type` of a config."""


def arithmetic(config: PretrainedConfig) -> str:
    """JSON of the config's keys that decide how weights are used; part of an encoder's digest."""
    return json.dumps({name: getattr(config, name) for name in ("model_type", *KINDS[config.model_type].used)})


def _masked(config: PretrainedConfig, hidden_TLD: Tensor, mask_TL: Tensor) -> dict[str, Any]:
    return {
        "config": config,
        "inputs_embeds": hidden_TLD,
        "attention_mask": mask_TL,
        "allow_is_bidirectional_skip": False,
    }
