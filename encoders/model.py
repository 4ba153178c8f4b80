"""The fitted interest model: both towers, the tokenizer and the backend, with one digest over all of it."""

import copy
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor
from transformers import AutoConfig, AutoModel

from encoders.config import EncoderConfig
from encoders.embed import Progress, bf16_is_native, embed_pooled, pool_all, read_lower
from encoders.loading import Backbone, load_backbone
from encoders.tokenize import TokenisedTexts, tokenise
from encoders.towers import TextTower, UserTower
from features.errors import IntegrityError, listed

__all__ = ["InterestModel", "Which"]

Which = Literal["tuned", "zero_shot"]

_WEIGHTS, _TOKENIZER, _CONFIG = "model.safetensors", "tokenizer.json", "config.json"


@dataclass(slots=True)
class InterestModel:
    """What turns item texts and histories into interest.

    Attributes:
        tuned: The text tower in training.
        zero_shot: The tower as it came, sharing the frozen layers with `tuned`.
        user_tower: Histories to scores.
        tokenizer: Without padding.
        pad_id: Padding's id.
        max_tokens: Tokens of a text that are read.
        bf16: Whether matrix products run in bfloat16.
        base_digest: Digest of the encoder it started from.
    """

    tuned: TextTower
    zero_shot: TextTower
    user_tower: UserTower
    tokenizer: Tokenizer
    pad_id: int
    max_tokens: int
    bf16: bool
    base_digest: str

    @classmethod
    def start(cls, config: EncoderConfig) -> "InterestModel":
        """From a pretrained encoder, nothing tuned yet.

        Raises:
            ConfigError: The encoder is not there.
            IntegrityError: Its weights are not complete.
        """
        backbone = load_backbone(config.model)
        max_tokens = min(config.max_tokens, backbone.max_tokens)
        bf16 = bf16_is_native() if config.precision == "auto" else config.precision == "bf16"
        return cls._of(backbone, config.train_layers, max_tokens=max_tokens, bf16=bf16)

    @classmethod
    def _of(cls, backbone: Backbone, train_layers: int, *, max_tokens: int, bf16: bool) -> "InterestModel":
        tuned = TextTower(backbone, train_layers).eval()
        shared = {id(module): module for module in (tuned.embeddings, tuned.lower, tuned.config)}
        zero_shot = copy.deepcopy(tuned, shared).requires_grad_(requires_grad=False)
        return cls(
            tuned,
            zero_shot,
            UserTower(tuned.width).eval(),
            backbone.tokenizer,
            backbone.pad_id,
            max_tokens,
            bf16,
            backbone.digest,
        )

    def digest(self, which: Which) -> str:
        """sha256 over all that decides a vector: weights, tokenizer, length, backend."""
        digest = hashlib.sha256(self.tokenizer.to_str().encode())
        digest.update(f"{self.max_tokens} {self.bf16}".encode())
        tower = self._tower(which)
        for name, tensor in sorted(tower.state_dict().items()):
            digest.update(f"{name}{tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def tokenise(self, texts: Sequence[str | None]) -> TokenisedTexts:
        """Token ids of texts."""
        return tokenise(texts, self.tokenizer, max_tokens=self.max_tokens, pad_id=self.pad_id)

    def read_lower(self, texts: TokenisedTexts, progress: Progress | None = None) -> list[Tensor]:
        """Hidden states of the frozen layers that both towers share."""
        return read_lower(self.tuned, texts, bf16=self.bf16, progress=progress)

    def pool(
        self,
        which: Which,
        texts: TokenisedTexts,
        *,
        lower: Sequence[Tensor] | None = None,
        progress: Progress | None = None,
    ) -> Tensor:
        """What a tower's transformer makes of texts: (texts, width) float32."""
        return pool_all(self._tower(which), texts, bf16=self.bf16, lower=lower, progress=progress)

    def project(self, which: Which, pooled: Tensor) -> npt.NDArray[np.int16]:
        """Vectors of pooled texts on the grid: (texts, width) int16."""
        return embed_pooled(self._tower(which), pooled)

    def embed(self, which: Which, texts: TokenisedTexts, *, progress: Progress | None = None) -> npt.NDArray[np.int16]:
        """Vectors of texts on the grid: (texts, width) int16."""
        return self.project(which, self.pool(which, texts, progress=progress))

    def _tower(self, which: Which) -> TextTower:
        return self.tuned if which == "tuned" else self.zero_shot

    def save(self, folder: Path) -> None:
        """Write weights (safetensors), tokenizer and config into an existing folder."""
        shared = ("embeddings.", "lower.")
        tensors = {f"tuned.{name}": tensor for name, tensor in self.tuned.state_dict().items()}
        tensors |= {
            f"zero_shot.{name}": tensor
            for name, tensor in self.zero_shot.state_dict().items()
            if not name.startswith(shared)
        }
        tensors |= {f"user.{name}": tensor for name, tensor in self.user_tower.state_dict().items()}
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, folder / _WEIGHTS)
        (folder / _TOKENIZER).write_text(self.tokenizer.to_str(), encoding="utf-8")
        about = {
            "transformer": self.tuned.config.to_dict(),
            "train_layers": len(self.tuned.upper),
            "pad_id": self.pad_id,
            "max_tokens": self.max_tokens,
            "bf16": self.bf16,
            "base_digest": self.base_digest,
        }
        (folder / _CONFIG).write_text(json.dumps(about, indent=2, sort_keys=True, default=str), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "InterestModel":
        """Read what `save` wrote.

        Raises:
            IntegrityError: A file is missing or altered, or a weight is missing or unknown.
        """
        try:
            about = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
            tensors = load_file(folder / _WEIGHTS)
            tokenizer = Tokenizer.from_file(str(folder / _TOKENIZER))
        except (OSError, ValueError, SafetensorError) as error:
            raise IntegrityError(f"{folder}: the encoder's files are missing or altered.") from error
        except Exception as error:  # tokenizers raises bare Exception
            raise IntegrityError(f"{folder}: {_TOKENIZER} is no tokenizer.") from error
        tokenizer.encode_special_tokens = True
        kind = about["transformer"].pop("model_type")
        architecture = AutoConfig.for_model(kind, **about["transformer"])
        empty: Any = AutoModel.from_config(architecture)  # type: ignore[no-untyped-call]
        backbone = Backbone(empty, tokenizer, about["pad_id"], about["max_tokens"], about["base_digest"])
        model = cls._of(backbone, about["train_layers"], max_tokens=about["max_tokens"], bf16=about["bf16"])
        _fill(model.zero_shot, tensors, "zero_shot.", folder, partial=True)
        _fill(model.tuned, tensors, "tuned.", folder)
        _fill(model.user_tower, tensors, "user.", folder)
        return model


def _fill(
    module: torch.nn.Module, tensors: dict[str, Tensor], prefix: str, folder: Path, *, partial: bool = False
) -> None:
    """Load weights by name; none may be missing, none unknown."""
    own = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    try:
        found = module.load_state_dict(own, strict=False)
    except RuntimeError as error:
        raise IntegrityError(f"{folder}: weights of {prefix}* have another shape than the config says.") from error
    missing = [name for name in found.missing_keys if not (partial and name.startswith(("embeddings.", "lower.")))]
    if missing or found.unexpected_keys:
        raise IntegrityError(
            f"{folder}: weights of {prefix}* missing: {listed(missing) or 'none'}; unknown: "
            f"{listed(found.unexpected_keys) or 'none'}."
        )
