"""The fitted interest model: both towers, the tokenizer and the backend, with one digest over all of it."""

import copy
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor
from transformers import AutoConfig, AutoModel

from encoders.adapters import layers_trained, require_adapters
from encoders.architecture import arithmetic
from encoders.config import Backend, EncoderConfig, ItemEmbeddingsConfig, Pooling
from encoders.embed import Progress, Reader, bf16_is_native, embed_pooled, hidden_bytes, pool_all, read_lower
from encoders.gpu import GpuTower, gpu_name, require_gpu
from encoders.hidden import HiddenStates
from encoders.items import ItemEmbeddings
from encoders.loading import Backbone, load_backbone
from encoders.tokenize import TokenisedTexts, tokenise
from encoders.towers import TextTower, UserTower
from features.errors import ConfigError, IntegrityError, listed, require_columns

__all__ = ["LEAST_AGREEMENT", "InterestModel", "Which"]

Which = Literal["tuned", "zero_shot"]

LEAST_AGREEMENT = 0.9995
"""Cosine to torch's float32 below which vectors of another precision or backend are not used."""

_MEASURED = 256  # texts
_WEIGHTS, _TOKENIZER, _CONFIG = "model.safetensors", "tokenizer.json", "config.json"


@dataclass(slots=True)
class InterestModel:
    """The interest model: turns item texts and histories into scores.

    Attributes:
        tuned: The text tower in training.
        zero_shot: The tower as it came, sharing the frozen layers with `tuned`.
        user_tower: Histories to scores.
        tokenizer: Without padding.
        pad_id: Padding's id.
        max_tokens: Tokens of a text that are read.
        bf16: Whether matrix products run in bfloat16.
        base_digest: Digest of the encoder it started from.
        passage_prefix: Put before an item's text.
        query_prefix: Put before a request's query.
        event_types: Those that the user tower distinguishes, by code from 1 on.
        item_embeddings: Residuals of items; None where texts alone are read.
        backend: What runs the text tower where texts become vectors; `use_backend` changes it.
        gpu: Name of the device that does, None for the processor.
    """

    tuned: TextTower
    zero_shot: TextTower
    user_tower: UserTower
    tokenizer: Tokenizer
    pad_id: int
    max_tokens: int
    bf16: bool
    base_digest: str
    passage_prefix: str = ""
    query_prefix: str = ""
    event_types: tuple[str, ...] = ()
    item_embeddings: ItemEmbeddings | None = None
    backend: Backend = "torch"
    gpu: str | None = None
    _readers: dict[str, Reader] = field(default_factory=dict, init=False, repr=False)

    @property
    def queries(self) -> bool:
        """Whether it reads the queries of requests."""
        return self.user_tower.query_gate is not None

    @classmethod
    def start(cls, config: EncoderConfig, *, event_types: Sequence[str] = (), queries: bool = False) -> "InterestModel":
        """From a pretrained encoder, nothing tuned yet.

        Args:
            config: The encoder, and what is trained of it.
            event_types: Those of histories that the user tower is to distinguish.
            queries: Whether it is to read the queries of requests.

        Raises:
            ConfigError: The encoder is not there, `encoder.train` asks for what it does not have, or
                `encoder.precision` or `encoder.backend` for what this machine does not have.
            IntegrityError: Its weights are not complete.
        """
        if config.precision == "fp16" and not torch.cuda.is_available():
            raise ConfigError(
                "encoder.precision is fp16, which trains on a CUDA device alone, and there is none here. "
                "Set it to auto (bf16 where the processor has it, else fp32)."
            )
        if config.backend == "cuda":
            require_gpu("encoder.backend is cuda", "set it to torch")
        backbone = load_backbone(config.model, config.pooling)
        tower = TextTower(
            backbone, layers_trained(config.train, backbone.layers), train_embeddings=config.train.full is not None
        )
        require_adapters(tower, config.train)
        on_gpu = config.backend == "cuda"
        model = cls._of(
            backbone,
            tower,
            max_tokens=min(config.max_tokens, backbone.max_tokens),
            bf16=bf16_is_native(on_gpu=on_gpu) if config.precision == "auto" else config.precision == "bf16",
            passage_prefix=config.passage_prefix,
            query_prefix=config.query_prefix,
            event_types=tuple(event_types),
            queries=queries,
        )
        model.use_backend(config.backend)
        return model

    @classmethod
    def _of(
        cls,
        backbone: Backbone,
        tuned: TextTower,
        *,
        event_types: tuple[str, ...],
        queries: bool,
        **settings: Any,  # noqa: ANN401 - its own fields
    ) -> "InterestModel":
        """Around a tower that nothing was trained of yet."""
        shared = {id(part): part for part in (*tuned.eval().shared, tuned.config)}
        zero_shot = copy.deepcopy(tuned, shared).requires_grad_(requires_grad=False)
        return cls(
            tuned=tuned,
            zero_shot=zero_shot,
            user_tower=UserTower(tuned.width, event_types=len(event_types), queries=queries).eval(),
            tokenizer=backbone.tokenizer,
            pad_id=backbone.pad_id,
            base_digest=backbone.digest,
            event_types=event_types,
            **settings,
        )

    def digest(self, which: Which, *, queries: bool = False) -> str:
        """sha256 over all that decides an item's vector: weights, their use, pooling, tokenizer, prefix, backend.

        Args:
            which: The tower.
            queries: A query's vector is meant, which has a prefix of its own.
        """
        digest = hashlib.sha256(self.tokenizer.to_str().encode())
        tower = self._tower(which)
        digest.update(f"{self.max_tokens} {self.bf16} {arithmetic(tower.config)}".encode())
        digest.update(json.dumps([tower.pooling, self._prefix(queries=queries)]).encode())
        if self.backend != "torch":
            digest.update(f"{self.backend}{self.gpu or ''}".encode())
        for name, tensor in sorted(tower.state_dict().items()):
            digest.update(f"{name}{tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def embed_items(self, config: ItemEmbeddingsConfig, items: pl.DataFrame, engaged: npt.NDArray[np.bool_]) -> None:
        """Give items vectors of their own, so that items of one text can differ.

        Args:
            config: By what.
            items: The catalogue.
            engaged: (items,) with which of them users engaged in the training: others have no residual by id.

        Raises:
            ConfigError: The catalogue lacks an attribute.
        """
        require_columns(config.attributes, items.columns, key="encoder.item_embeddings.attributes", table="items")
        met = {"item_id": items.filter(pl.Series(engaged))["item_id"]}
        values = {name: met.get(name, items[name]).drop_nulls().cast(pl.String) for name in config.columns}
        vocabularies = {name: series.unique().sort().to_list() for name, series in values.items()}
        self.item_embeddings = ItemEmbeddings(self.tuned.width, vocabularies, dropout=config.dropout).eval()

    def item_vectors(self, vectors: npt.NDArray[np.int16], items: pl.DataFrame) -> npt.NDArray[np.int16]:
        """Vectors of items on the grid, by code, from those of their texts under the tuned tower."""
        return vectors if self.item_embeddings is None else self.item_embeddings.apply_to(vectors, items)

    def interest_digest(self) -> str:
        """sha256 over all that decides the tuned vector of an item, residuals too."""
        digest = self.digest("tuned")
        if self.item_embeddings is None:
            return digest
        whole = hashlib.sha256(f"{digest}{json.dumps(self.item_embeddings.vocabularies)}".encode())
        for table in self.item_embeddings.tables:
            whole.update(table.detach().cpu().numpy().tobytes())
        return whole.hexdigest()

    def tokenise(self, texts: Sequence[str | None], *, queries: bool = False) -> TokenisedTexts:
        """Token ids of items' texts, or of queries, each with its prefix."""
        sizes = {"max_tokens": self.max_tokens, "pad_id": self.pad_id}
        return tokenise(texts, self.tokenizer, **sizes, prefix=self._prefix(queries=queries))

    def use_backend(self, backend: Backend) -> None:
        """Choose the backend that makes vectors; it must be available."""
        self.backend = backend
        self.gpu = gpu_name() if backend == "cuda" else None

    def reader(self, which: Which) -> Reader | None:
        """The backend's copy of a tower, kept until the other tower is needed or weights change; None for torch."""
        if self.backend == "torch":
            return None
        digest = self.digest(which)
        if digest not in self._readers:
            self._readers.clear()
            self._readers[digest] = GpuTower(self._tower(which), bf16=self.bf16)
        return self._readers[digest]

    def agreement(self, texts: TokenisedTexts) -> float:
        """Least cosine between its pooled vectors and those of torch in float32, over `sample` of the texts."""
        some = self.sample(texts)
        measured, exact = self.pool("zero_shot", some), pool_all(self.zero_shot, some, bf16=False)
        return float(torch.cosine_similarity(measured, exact).min())

    def batch_independent(self, texts: TokenisedTexts) -> bool:
        """Whether pooled vectors are the same to the bit in other batches and in another order, over `sample`.

        The longest texts come first, under a tower made ready anew: what was run before must not matter either.
        """
        some = self.sample(texts)
        whole = self.pool("zero_shot", some)
        self._readers.clear()
        backwards = np.argsort(some.lengths, kind="stable")[::-1].copy()
        parts = (backwards[:1], backwards[1::7], backwards[::3], backwards)
        return all(torch.equal(self.pool("zero_shot", some.take(part)), whole[part]) for part in parts)

    @staticmethod
    def sample(texts: TokenisedTexts) -> TokenisedTexts:
        """At most 256 texts, evenly from among all."""
        return texts.take(np.unique(np.linspace(0, len(texts.ids) - 1, _MEASURED).astype(np.int64)))

    def hidden_bytes(self, texts: TokenisedTexts) -> int:
        """What `read_lower` keeps of texts."""
        return hidden_bytes(self.tuned, texts, bf16=self.bf16)

    def read_lower(
        self, texts: TokenisedTexts, progress: Progress | None = None, *, file: IO[bytes] | None = None
    ) -> HiddenStates:
        """Output of the layers that both towers share, or token ids; see `encoders.embed.read_lower`."""
        return read_lower(self.tuned, texts, bf16=self.bf16, reader=self.reader("tuned"), file=file, progress=progress)

    def pool(
        self,
        which: Which,
        texts: TokenisedTexts,
        *,
        lower: Sequence[Tensor] | None = None,
        progress: Progress | None = None,
    ) -> Tensor:
        """Pooled output of a tower's transformer: (texts, width) float32."""
        tower, reader = self._tower(which), self.reader(which)
        return pool_all(tower, texts, bf16=self.bf16, reader=reader, lower=lower, progress=progress)

    def project(self, which: Which, pooled: Tensor) -> npt.NDArray[np.int16]:
        """Vectors of pooled texts on the grid: (texts, width) int16."""
        return embed_pooled(self._tower(which), pooled)

    def embed(self, which: Which, texts: TokenisedTexts, *, progress: Progress | None = None) -> npt.NDArray[np.int16]:
        """Vectors of texts on the grid: (texts, width) int16."""
        return self.project(which, self.pool(which, texts, progress=progress))

    def _prefix(self, *, queries: bool) -> str:
        return self.query_prefix if queries else self.passage_prefix

    def _tower(self, which: Which) -> TextTower:
        return self.tuned if which == "tuned" else self.zero_shot

    def weights(self) -> dict[str, Tensor]:
        """A copy of what training changes, for `restore`."""
        trained = ("tuned.", "user.", "items.")
        return {name: tensor.clone() for name, tensor in self._tensors().items() if name.startswith(trained)}

    def restore(self, weights: Mapping[str, Tensor]) -> None:
        """Go back to what `weights` gave."""
        own = self._tensors()
        for name, tensor in weights.items():
            own[name].copy_(tensor)

    def save(self, folder: Path) -> None:
        """Write weights (safetensors), tokenizer and config into an existing folder."""
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in self._tensors().items()}
        save_file(tensors, folder / _WEIGHTS)
        (folder / _TOKENIZER).write_text(self.tokenizer.to_str(), encoding="utf-8")
        embedded = self.item_embeddings
        about = {
            "transformer": self.tuned.config.to_dict(),
            "train_layers": len(self.tuned.upper),
            "train_embeddings": self.tuned.train_embeddings,
            "pooling": self.tuned.pooling,
            "passage_prefix": self.passage_prefix,
            "query_prefix": self.query_prefix,
            "queries": self.queries,
            "event_types": self.event_types,
            "items": None if embedded is None else [embedded.dropout, list(embedded.vocabularies.items())],
            "pad_id": self.pad_id,
            "max_tokens": self.max_tokens,
            "bf16": self.bf16,
            "backend": self.backend,
            "gpu": self.gpu,
            "base_digest": self.base_digest,
        }
        (folder / _CONFIG).write_text(json.dumps(about, indent=2, sort_keys=True, default=str), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "InterestModel":
        """Read what `save` wrote.

        Raises:
            ConfigError: Its backend is not here or no more, or another GPU is: vectors would be others.
            IntegrityError: A file is missing or altered, or a weight is missing, unknown or of another shape.
        """
        try:
            tensors = load_file(folder / _WEIGHTS)
            tokenizer = Tokenizer.from_file(str(folder / _TOKENIZER))
            model = cls._empty(json.loads((folder / _CONFIG).read_text(encoding="utf-8")), tokenizer)
        except ConfigError as error:
            raise ConfigError(f"{folder}: {error}") from error
        except Exception as error:  # tokenizers raises bare Exception, an altered config whatever it leads to
            raise IntegrityError(
                f"{folder}: the encoder's files are missing or altered, or another version wrote them."
            ) from error
        own = model._tensors()  # noqa: SLF001 - a model of this class
        wrong = sorted(own.keys() ^ tensors.keys())
        wrong += sorted(name for name in own.keys() & tensors.keys() if _form(own[name]) != _form(tensors[name]))
        if wrong:
            raise IntegrityError(f"{folder}: weights missing, unknown or of another shape: {listed(wrong)}.")
        for name, tensor in own.items():
            tensor.copy_(tensors[name])
        if model.backend == "cuda":
            what, remedy = f"{folder}: its vectors are made by a GPU", "use a version with encoder.backend torch"
            require_gpu(what, remedy, named=model.gpu)
        return model

    @classmethod
    def _empty(cls, about: dict[str, Any], tokenizer: Tokenizer) -> "InterestModel":
        """A model of the saved shapes, whose weights are still to be filled in."""
        tokenizer.encode_special_tokens = True
        kind = about["transformer"].pop("model_type")
        architecture = AutoConfig.for_model(kind, **about["transformer"])
        empty: Any = AutoModel.from_config(architecture)  # type: ignore[no-untyped-call]
        if about["pooling"] not in get_args(Pooling):
            raise ValueError(about["pooling"])
        if about.get("backend") == "openvino":
            raise ConfigError(
                "its vectors are made by OpenVINO, which this nightrank does not run. Make the version anew with "
                "encoder.backend: torch: nightrank train."
            )
        if about.get("backend", "torch") not in get_args(Backend):
            raise ValueError(about["backend"])
        backbone = Backbone(
            empty, tokenizer, about["pad_id"], about["max_tokens"], about["base_digest"], about["pooling"]
        )
        tower = TextTower(backbone, about["train_layers"], train_embeddings=about["train_embeddings"])
        kept = ("max_tokens", "bf16", "passage_prefix")
        settings = {name: about[name] for name in kept}
        since = {
            "query_prefix": "",
            "queries": False,
            "event_types": (),
            "backend": "torch",
            "gpu": None,
        }  # what earlier versions did not have
        settings |= {name: about.get(name, default) for name, default in since.items()}
        model = cls._of(backbone, tower, **settings | {"event_types": tuple(settings["event_types"])})
        if (items := about.get("items")) is not None:
            dropout, vocabularies = items
            model.item_embeddings = ItemEmbeddings(tower.width, dict(vocabularies), dropout=dropout).eval()
        return model

    def _tensors(self) -> dict[str, Tensor]:
        """All weights by name, those that the towers share once; views, not copies."""
        shared = ("lower.",) if self.tuned.train_embeddings else ("embeddings.", "lower.")
        zero_shot = {name: own for name, own in self.zero_shot.state_dict().items() if not name.startswith(shared)}
        parts = {"tuned": self.tuned.state_dict(), "zero_shot": zero_shot, "user": self.user_tower.state_dict()}
        if self.item_embeddings is not None:
            parts["items"] = self.item_embeddings.state_dict()
        return {f"{part}.{name}": tensor for part, tensors in parts.items() for name, tensor in tensors.items()}


def _form(tensor: Tensor) -> tuple[torch.Size, torch.dtype]:
    return tensor.shape, tensor.dtype
