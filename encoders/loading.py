"""Load a language encoder and its tokenizer, or say why not. No remote code, no pickles, no missing weights."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import Unigram
from transformers import AutoConfig, AutoModel, AutoTokenizer, PretrainedConfig
from transformers.utils import logging as transformers_logging
from transformers.utils.peft_utils import find_adapter_config_file

from encoders.architecture import KINDS, arithmetic
from encoders.config import Pooling
from encoders.folders import (
    in_words,
    lowercases,
    no_encoder,
    pooling_of,
    refuse_incomplete,
    refuse_modules,
    resolve,
)
from features.errors import ConfigError, IntegrityError, NightrankError, listed

__all__ = ["Backbone", "load_backbone", "load_tokenizer"]

_UNUSED = ("pooler.", "lm_head.", "cls.")  # weights of heads that pooling does not read
_FLOATS = ("F64", "F32", "F16", "BF16")
_STEP = 8  # texts are padded to multiples of it


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


def load_tokenizer(model: str) -> tuple[Tokenizer, int]:
    """The fast tokenizer of a model and its padding id.

    Raises:
        ConfigError: There is none, or the model is not whole, brings code of its own, or asks for what is not applied.
        IntegrityError: It is an adapter, no model.
        TryAgainError: See `encoders.folders.resolve`.
    """
    return _tokenizer(model, _acceptable(model))


def _acceptable(model: str) -> str:
    """The model's folder, after all was looked at that can be seen without its weights."""
    folder = resolve(model)
    with _reading(model, "config"):
        _refuse_adapter(model, folder)
        refuse_modules(model, folder)
        refuse_incomplete(model, folder)
        _refuse_code(model, folder)
    return folder


def _tokenizer(model: str, folder: str) -> tuple[Tokenizer, int]:
    with _reading(model, "tokenizer"):
        wrapped = AutoTokenizer.from_pretrained(folder, use_fast=True, trust_remote_code=False)
        backend = getattr(wrapped, "backend_tokenizer", None)
        if backend is None or wrapped.pad_token_id is None:
            raise ConfigError(f"encoder.model: {model!r} has no fast tokenizer with a padding token.")
        tokenizer = Tokenizer.from_str(backend.to_str())
    tokenizer.no_padding()
    tokenizer.no_truncation()
    tokenizer.encode_special_tokens = True
    _make_names_ordinary(tokenizer)
    if lowercases(model, folder):
        _lower(tokenizer)
    return tokenizer, int(wrapped.pad_token_id)


@contextmanager
def _reading(model: str, what: str) -> Iterator[None]:
    """What transformers and its kin raise as one of our errors, in their words; their logs stay silent.

    NOTE: what a file of somebody else's leads to in them has no common type (KeyError, TypeError, plain Exception).
    """
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        yield
    except (NightrankError, MemoryError):
        raise
    except SafetensorError as error:
        raise IntegrityError(
            f"encoder.model: the weights of {model!r} are truncated or no safetensors ({in_words(error)}). Fetch "
            "the model again."
        ) from error
    except Exception as error:
        reason = f"its {what} cannot be read ({type(error).__name__}: {in_words(error)})"
        raise ConfigError(no_encoder(model, reason)) from error
    finally:
        transformers_logging.set_verbosity(verbosity)


def _lower(tokenizer: Tokenizer) -> None:
    """Texts in lower case before all else, unless the tokenizer does that by itself."""
    own = tokenizer.normalizer
    if not getattr(own, "lowercase", False):
        tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), *([] if own is None else [own])])


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
    folder = _acceptable(model)
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    tokenizer, pad_id = _tokenizer(model, folder)
    with _reading(model, "config or weights"):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        _check_kind(config, model)
        _check_tokenizer(tokenizer, pad_id, config, model)
        pooling = pooling_of(model, folder) if pooling == "auto" else pooling
        _refuse_quantised(config, model, folder)
        loaded, loading_info = AutoModel.from_pretrained(
            folder,
            config=config,
            trust_remote_code=False,
            use_safetensors=True,
            dtype=torch.float32,
            ignore_mismatched_sizes=True,  # they are refused below, by name
            output_loading_info=True,
        )
    _check_weights(loaded, loading_info, model)
    return Backbone(loaded.eval(), tokenizer, pad_id, _positions(config), _digest(loaded, config, tokenizer), pooling)


def _positions(config: PretrainedConfig) -> int:
    """Longest text that the model has positions for, a multiple of 8."""
    first = KINDS[config.model_type].first_position(config)
    return int(config.max_position_embeddings - first) // _STEP * _STEP


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
    config, _ = PretrainedConfig.get_config_dict(folder)
    if config.get("auto_map"):
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
    if getattr(config, "is_decoder", False):
        raise ConfigError(
            f"encoder.model: {model!r} is a decoder (is_decoder in config.json), whose tokens see those before them "
            "alone, and is not read so here: name an encoder."
        )
    if _positions(config) < _STEP:
        raise ConfigError(
            f"encoder.model: {model!r} has positions for {config.max_position_embeddings} tokens; at least {_STEP} are "
            "needed: name another."
        )


def _refuse_quantised(config: PretrainedConfig, model: str, folder: str) -> None:
    """Numbers of a byte or less stand for weights by scales that nothing here applies."""
    odd = set()
    for path in sorted(Path(folder).glob("*.safetensors")):
        with safe_open(path, "pt") as weights:
            kinds = {name: weights.get_slice(name).get_dtype() for name in weights.keys()}  # noqa: SIM118 - no mapping
        odd |= {kind for name, kind in kinds.items() if name.endswith("weight") and kind not in _FLOATS}
    if odd or getattr(config, "quantization_config", None):
        raise ConfigError(
            f"encoder.model: the weights of {model!r} are quantised ({listed(sorted(odd)) or 'quantization_config'}), "
            "and are read as float alone. Name the model that it was made of."
        )


def _check_weights(loaded: torch.nn.Module, loading_info: Mapping[str, Any], model: str) -> None:
    """Refuse an encoder that is not whole, or less than what its file holds; heads may be there or not."""
    wrong = sorted(key for key in loading_info["missing_keys"] if not key.startswith(_UNUSED))
    wrong += sorted(str(key) for key, *_ in loading_info["mismatched_keys"])
    if wrong:
        raise IntegrityError(
            f"encoder.model: {model!r} lacks weights of the shape that its config asks for ({listed(wrong)}); they "
            "would be random. Fetch the model again, or name the folder it was saved to."
        )
    undefined = sorted(name for name, own in loaded.state_dict().items() if not own.isfinite().all())
    if undefined:
        raise IntegrityError(
            f"encoder.model: weights of {model!r} are NaN or infinite ({listed(undefined)}). Fetch the model again, or "
            "name one whose training did not diverge."
        )
    prefix = f"{getattr(loaded, 'base_model_prefix', '')}."
    parts = tuple(f"{name}." for name, _ in loaded.named_children() if f"{name}." not in _UNUSED)
    unknown = sorted(key for key in loading_info["unexpected_keys"] if key.removeprefix(prefix).startswith(parts))
    if unknown:
        raise IntegrityError(
            f"encoder.model: the weights of {model!r} hold what its config does not ask for ({listed(unknown)}): the "
            "config is another model's. Fetch the model again."
        )


def _check_tokenizer(tokenizer: Tokenizer, pad_id: int, config: PretrainedConfig, model: str) -> None:
    """Refuse a tokenizer whose ids mean something else to the model, or that knows no word."""
    vocabulary = tokenizer.get_vocab()
    needed = max(vocabulary.values(), default=-1) + 1
    fault = None
    if vocabulary.keys() <= {token.content for token in tokenizer.get_added_tokens_decoder().values()}:
        raise ConfigError(no_encoder(model, "its tokenizer knows no word: the file of its vocabulary is not there"))
    if needed > config.vocab_size:
        fault = f"has {needed} tokens and the model {config.vocab_size}"
    elif KINDS[config.model_type].first_position(config) not in {0, pad_id + 1}:
        # NOTE: Elsewhere padding is masked and its id tells nothing: a BERT may read by XLM-RoBERTa's tokenizer.
        fault = f"pads with token {pad_id} and the model with {config.pad_token_id}"
    if fault is not None:
        raise IntegrityError(
            f"encoder.model: the tokenizer of {model!r} {fault}: it is another model's tokenizer, or tokens were "
            "added for which the model has no embeddings (resize_token_embeddings makes them). Fetch the model again."
        )


def _digest(model: torch.nn.Module, config: PretrainedConfig, tokenizer: Tokenizer) -> str:
    """sha256 over names, shapes and bytes of all weights, the model's arithmetic, and the tokenizer."""
    digest = hashlib.sha256(tokenizer.to_str().encode())
    digest.update(arithmetic(config).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
