"""Load a language encoder and its tokenizer, or say why not. No remote code, no pickles, no missing weights."""

import hashlib
import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from tokenizers import Tokenizer
from transformers import AutoConfig, AutoModel, AutoTokenizer, PretrainedConfig
from transformers.utils import logging as transformers_logging

from features.errors import ConfigError, IntegrityError, listed

__all__ = ["Backbone", "arithmetic", "load_backbone", "load_tokenizer", "resolve"]

_FAMILIES = ("bert", "roberta", "xlm-roberta", "camembert", "electra")
_FROM_ZERO = ("bert", "electra")  # the others count positions from the padding's id on
_ARITHMETIC = ("model_type", "hidden_act", "num_attention_heads", "layer_norm_eps", "pad_token_id")
_UNUSED = ("pooler.", "lm_head.", "cls.")  # weights of heads that mean pooling does not read


@dataclass(frozen=True, slots=True)
class Backbone:
    """A pretrained encoder.

    Attributes:
        model: The transformer, in eval mode, float32.
        tokenizer: Its tokenizer, without padding or truncation; special tokens in a text are ordinary text.
        pad_id: Token id of padding.
        max_tokens: Longest text the model has positions for, a multiple of 8.
        digest: sha256 of its weights, arithmetic and tokenizer.
    """

    model: torch.nn.Module
    tokenizer: Tokenizer
    pad_id: int
    max_tokens: int
    digest: str


def resolve(model: str) -> str:
    """The folder of a `package:NAME/FOLDER` (found without importing the package), else the name as it is.

    Raises:
        ConfigError: The package is not installed, or carries no such folder.
    """
    if not model.startswith("package:"):
        return model
    name, _, inner = model.removeprefix("package:").partition("/")
    spec = importlib.util.find_spec(name) if name.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(
            f"encoder.model: the package {name!r} is not installed. Install nightrank with the extra `demo`, or name "
            "a local folder or a Hugging Face id."
        )
    folder = Path(spec.submodule_search_locations[0]) / inner
    if Path(inner).is_absolute() or ".." in Path(inner).parts or not (folder / "config.json").is_file():
        raise ConfigError(f"encoder.model: the package {name!r} carries no model in {inner!r}.")
    return str(folder)


def load_tokenizer(model: str) -> tuple[Tokenizer, int]:
    """The fast tokenizer of a model and its padding id.

    Raises:
        ConfigError: There is none.
    """
    folder = resolve(model)
    try:
        wrapped = AutoTokenizer.from_pretrained(folder, use_fast=True, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ConfigError(_not_found(model)) from error
    backend = getattr(wrapped, "backend_tokenizer", None)
    if backend is None or wrapped.pad_token_id is None:
        raise ConfigError(f"encoder.model: {model!r} has no fast tokenizer with a padding token.")
    tokenizer = Tokenizer.from_str(backend.to_str())
    tokenizer.no_padding()
    tokenizer.no_truncation()
    tokenizer.encode_special_tokens = True
    return tokenizer, int(wrapped.pad_token_id)


def load_backbone(model: str) -> Backbone:
    """Load weights (safetensors only) and tokenizer.

    Raises:
        ConfigError: Nothing there, or a kind of model that the text tower cannot split.
        IntegrityError: Weights are missing or have another shape: they would be random.
    """
    folder = resolve(model)
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    tokenizer, pad_id = load_tokenizer(model)
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        _check_kind(config, model, folder)
        loaded, found = AutoModel.from_pretrained(
            folder,
            config=config,
            trust_remote_code=False,
            use_safetensors=True,
            dtype=torch.float32,
            ignore_mismatched_sizes=True,  # they are refused below, by name
            output_loading_info=True,
        )
    except SafetensorError as error:
        raise IntegrityError(
            f"encoder.model: the weights of {model!r} are truncated. Fetch the model again."
        ) from error
    except (OSError, ValueError) as error:
        raise ConfigError(_not_found(model)) from error
    wrong = sorted(key for key in found["missing_keys"] if not key.startswith(_UNUSED))
    wrong += sorted(str(key) for key, *_ in found["mismatched_keys"])
    if wrong:
        raise IntegrityError(
            f"encoder.model: {model!r} lacks weights of the shape that its config asks for ({listed(wrong)}); they "
            "would be random. Fetch the model again, or name the folder it was saved to."
        )
    if tokenizer.get_vocab_size() > config.vocab_size:
        raise IntegrityError(
            f"encoder.model: the tokenizer of {model!r} has {tokenizer.get_vocab_size()} tokens and the model "
            f"{config.vocab_size}: it is another model's tokenizer."
        )
    first = 0 if config.model_type in _FROM_ZERO else config.pad_token_id + 1
    positions = (config.max_position_embeddings - first) // 8 * 8  # texts are padded to multiples of 8
    return Backbone(loaded.eval(), tokenizer, pad_id, positions, _digest(loaded, config, tokenizer))


def _check_kind(config: PretrainedConfig, model: str, folder: str) -> None:
    """Refuse what the text tower would read wrong."""
    if config.model_type not in _FAMILIES:
        raise ConfigError(
            f"encoder.model: {model!r} is of type {config.model_type!r}; supported: {listed(_FAMILIES, most=9)}."
        )
    if getattr(config, "embedding_size", config.hidden_size) != config.hidden_size:
        raise ConfigError(f"encoder.model: {model!r} has embeddings of another width than its layers: name another.")
    if (Path(folder) / "adapter_config.json").is_file():
        raise ConfigError(f"encoder.model: {model!r} is an adapter. Merge it into its base and name that folder.")


def arithmetic(config: PretrainedConfig) -> str:
    """What the shapes of the weights do not tell about how they are used."""
    return json.dumps({name: getattr(config, name) for name in _ARITHMETIC})


def _digest(model: torch.nn.Module, config: PretrainedConfig, tokenizer: Tokenizer) -> str:
    """sha256 over names, shapes and bytes of all weights, the model's arithmetic, and the tokenizer."""
    digest = hashlib.sha256(tokenizer.to_str().encode())
    digest.update(arithmetic(config).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _not_found(model: str) -> str:
    return (
        f"encoder.model: no encoder in safetensors at {model!r}. Name a folder with config.json, model.safetensors and "
        "tokenizer.json, a Hugging Face id, or package:NAME/FOLDER of an installed package."
    )
