"""Load a language encoder and its tokenizer, or say why not. No remote code, no pickles, no missing weights."""

import hashlib
import importlib.util
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from tokenizers import Regex, Tokenizer, pre_tokenizers
from tokenizers.models import Unigram
from transformers import AutoConfig, AutoModel, AutoTokenizer, PretrainedConfig
from transformers.utils import logging as transformers_logging
from transformers.utils.hub import cached_file
from transformers.utils.peft_utils import find_adapter_config_file

from encoders.architecture import KINDS, arithmetic
from encoders.config import EncoderConfig, Pooling
from features.errors import ConfigError, IntegrityError, listed

__all__ = ["Backbone", "load_backbone", "load_tokenizer", "refuse_unloadable", "resolve"]

_UNUSED = ("pooler.", "lm_head.", "cls.")  # weights of heads that pooling does not read
_POOLING_FILE = "1_Pooling/config.json"  # where sentence-transformers keeps it
_POOLINGS = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}


@dataclass(frozen=True, slots=True)
class Backbone:
    """A pretrained encoder.

    Attributes:
        model: The transformer, in eval mode, float32.
        tokenizer: Its tokenizer, without padding or truncation; special tokens in a text are ordinary text.
        pad_id: Token id of padding.
        max_tokens: Longest text the model has positions for, a multiple of 8.
        digest: sha256 of its weights, arithmetic and tokenizer.
        pooling: What becomes of its hidden states: their mean, or the first token's.
    """

    model: torch.nn.Module
    tokenizer: Tokenizer
    pad_id: int
    max_tokens: int
    digest: str
    pooling: Pooling = "mean"

    @property
    def layers(self) -> int:
        """Number of its layers."""
        model: Any = self.model
        return int(model.config.num_hidden_layers)


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
        ConfigError: There is none, or the model brings code of its own.
        IntegrityError: It is an adapter, no model.
    """
    folder = resolve(model)
    try:
        _refuse_adapter(model, folder)
        _refuse_code(model, folder)
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
    _make_names_ordinary(tokenizer)
    return tokenizer, int(wrapped.pad_token_id)


def _make_names_ordinary(tokenizer: Tokenizer) -> None:
    """A Unigram vocabulary (XLM-RoBERTa's) holds the names of special tokens as pieces of text: cut them in two."""
    names = [token.content for token in tokenizer.get_added_tokens_decoder().values() if token.special]
    inside = "|".join(f"(?<={re.escape(name[0])})(?={re.escape(name[1:])})" for name in sorted(names) if name[1:])
    if isinstance(tokenizer.model, Unigram) and inside:
        cut = pre_tokenizers.Split(Regex(inside), "isolated")
        before = [tokenizer.pre_tokenizer] if tokenizer.pre_tokenizer is not None else []
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*before, cut])


def load_backbone(model: str, pooling: Pooling | Literal["auto"] = "auto") -> Backbone:
    """Load weights (safetensors only) and tokenizer.

    Args:
        model: See `EncoderConfig.model`.
        pooling: `auto` is what a folder of sentence-transformers says, else the mean.

    Raises:
        ConfigError: Nothing there, code of its own, or a kind of model that the text tower cannot split.
        IntegrityError: Weights are missing or have another shape (they would be random), or the config asks for less
            than there is; an adapter; another model's tokenizer.
    """
    folder = resolve(model)
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    tokenizer, pad_id = load_tokenizer(model)
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        _check_kind(config, model)
        loaded, found = AutoModel.from_pretrained(
            folder,
            config=config,
            trust_remote_code=False,
            use_safetensors=True,
            dtype=torch.float32,
            ignore_mismatched_sizes=True,  # they are refused below, by name
            output_loading_info=True,
        )
        pooling = _pooling_of(model, folder) if pooling == "auto" else pooling
    except SafetensorError as error:
        raise IntegrityError(
            f"encoder.model: the weights of {model!r} are truncated. Fetch the model again."
        ) from error
    except (OSError, ValueError) as error:
        raise ConfigError(_not_found(model)) from error
    _check_weights(loaded, found, model)
    _check_tokenizer(tokenizer, pad_id, config, model)
    first = KINDS[config.model_type].first_position(config)
    positions = (config.max_position_embeddings - first) // 8 * 8  # texts are padded to multiples of 8
    return Backbone(loaded.eval(), tokenizer, pad_id, positions, _digest(loaded, config, tokenizer), pooling)


def refuse_unloadable(config: EncoderConfig) -> None:
    """Refuse the encoder that training would refuse, with its errors, by starting it as training does.

    No random number is drawn, and nothing is kept. It takes as long as reading the weights, a second or less for small
    encoders.

    Raises:
        ConfigError: See `encoders.model.InterestModel.start`.
        IntegrityError: Likewise.
    """
    from encoders.model import InterestModel  # stands on this module

    with torch.random.fork_rng(devices=[]):
        InterestModel.start(config)


def _refuse_adapter(model: str, folder: str) -> None:
    """An adapter names its base but not its base's weights: on others it would load all the same, and be wrong."""
    path = find_adapter_config_file(folder)
    if path is not None:
        base = json.loads(Path(path).read_text(encoding="utf-8")).get("base_model_name_or_path")
        raise IntegrityError(
            f"encoder.model: {model!r} is an adapter on {base!r}, and nothing tells whether the base at hand is the "
            "one it was trained on. Merge it into its base (peft's merge_and_unload) and name the folder of that."
        )


def _refuse_code(model: str, folder: str) -> None:
    """What a config's `auto_map` names would have to be executed to read the model as it is meant."""
    told, _ = PretrainedConfig.get_config_dict(folder)
    if told.get("auto_map"):
        raise ConfigError(
            f"encoder.model: {model!r} brings code of its own (auto_map in config.json), and no code of a model is "
            f"ever executed. Name a model of a supported type: {listed(KINDS, most=9)}."
        )


def _check_kind(config: PretrainedConfig, model: str) -> None:
    """Refuse what the text tower would read wrong."""
    if config.model_type not in KINDS:
        raise ConfigError(
            f"encoder.model: {model!r} is of type {config.model_type!r}; supported: {listed(KINDS, most=9)}."
        )
    if getattr(config, "embedding_size", config.hidden_size) != config.hidden_size:
        raise ConfigError(f"encoder.model: {model!r} has embeddings of another width than its layers: name another.")


def _check_weights(loaded: torch.nn.Module, found: Mapping[str, Any], model: str) -> None:
    """Refuse an encoder that is not whole, or less than what its file holds; heads may be there or not."""
    wrong = sorted(key for key in found["missing_keys"] if not key.startswith(_UNUSED))
    wrong += sorted(str(key) for key, *_ in found["mismatched_keys"])
    if wrong:
        raise IntegrityError(
            f"encoder.model: {model!r} lacks weights of the shape that its config asks for ({listed(wrong)}); they "
            "would be random. Fetch the model again, or name the folder it was saved to."
        )
    prefix = f"{getattr(loaded, 'base_model_prefix', '')}."
    parts = tuple(f"{name}." for name, _ in loaded.named_children() if f"{name}." not in _UNUSED)
    unknown = sorted(key for key in found["unexpected_keys"] if key.removeprefix(prefix).startswith(parts))
    if unknown:
        raise IntegrityError(
            f"encoder.model: the weights of {model!r} hold what its config does not ask for ({listed(unknown)}): the "
            "config is another model's. Fetch the model again."
        )


def _check_tokenizer(tokenizer: Tokenizer, pad_id: int, config: PretrainedConfig, model: str) -> None:
    """Refuse a tokenizer whose ids mean something else to the model."""
    told = None
    if tokenizer.get_vocab_size() > config.vocab_size:
        told = f"has {tokenizer.get_vocab_size()} tokens and the model {config.vocab_size}"
    elif KINDS[config.model_type].first_position(config) not in {0, pad_id + 1}:
        # NOTE: Elsewhere padding is masked and its id tells nothing: a BERT may read by XLM-RoBERTa's tokenizer.
        told = f"pads with token {pad_id} and the model with {config.pad_token_id}"
    if told is not None:
        raise IntegrityError(
            f"encoder.model: the tokenizer of {model!r} {told}: it is another model's tokenizer. Fetch the model again."
        )


def _pooling_of(model: str, folder: str) -> Pooling:
    """How a folder of sentence-transformers pools (in either form that it has been written); others: the mean."""
    path = cached_file(
        folder,
        _POOLING_FILE,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    if path is None:
        return "mean"
    told = json.loads(Path(path).read_text(encoding="utf-8"))
    old = [key for key, on in told.items() if key.startswith("pooling_mode_") and on is True]
    mode = told.get("pooling_mode", [_POOLINGS.get(key, key) for key in old])
    if mode in ("mean", ["mean"]):
        return "mean"
    if mode in ("cls", ["cls"]):
        return "cls"
    raise ConfigError(
        f"encoder.pooling: {model!r} asks for {mode!r} in {_POOLING_FILE}; supported are mean and cls. Set "
        "encoder.pooling to one of them, or name another model."
    )


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
