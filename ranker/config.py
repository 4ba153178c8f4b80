"""Configuration of the ranker and of evaluation."""

from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from features.config import FrozenConfig, Owner

__all__ = ["EvaluationConfig", "NetworkConfig", "RankerConfig", "Report", "ValidationConfig"]

Report = Callable[[int, float], None]
"""Called during a training with the number of the tree or step, and its NDCG or loss."""


class NetworkConfig(FrozenConfig):
    """ListNet, the network whose scores are averaged with the trees'."""

    owner = Owner.TRAINING

    hidden: tuple[Annotated[int, Field(ge=1, le=4096)], ...] = Field(
        default=(128, 64), max_length=8, description="Width of each hidden layer."
    )
    epochs: int = Field(default=6, ge=1, le=1000, description="Times that each training request is seen.")
    requests_per_batch: int = Field(default=64, ge=1, description="Requests of a step.")
    learning_rate: float = Field(
        default=0.002, gt=0, le=1, description="Highest rate of AdamW; it rises and falls once."
    )
    weight_decay: float = Field(default=1e-4, ge=0, description="Of AdamW.")
    dropout: float = Field(default=0.1, ge=0, lt=1, description="Share of hidden values that training leaves out.")


class RankerConfig(FrozenConfig):
    """LambdaMART and the network beside it, or another ranker."""

    owner = Owner.TRAINING

    kind: str | None = Field(
        default=None,
        exclude_if=lambda kind: kind is None,
        description="A ranker that an installed package brings, by the name of its entry point in the group "
        "nightrank.rankers; null: LambdaMART, and the network beside it.",
    )
    objective: Literal["lambdarank", "rank_xendcg"] = Field(
        default="lambdarank", description="LightGBM's objective (Burges 2010; Bruch et al. 2020)."
    )
    gain: Literal["exponential", "linear"] = Field(
        default="exponential", description="Gain of a label in the objective and in the NDCG that stops it."
    )
    num_leaves: int = Field(default=15, ge=2, le=4096, description="Leaves of a tree.")
    learning_rate: float = Field(default=0.1, gt=0, le=1, description="Shrinkage of each tree.")
    max_trees: int = Field(default=200, ge=1, le=20_000, description="Trees at most; early stopping ends sooner.")
    patience: int = Field(default=50, ge=1, description="Trees without a better validation NDCG before it stops.")
    min_child_samples: int = Field(default=300, ge=1, description="Rows a leaf must hold.")
    feature_fraction: float = Field(default=0.5, gt=0, le=1, description="Share of features tried for a tree.")
    l2: float = Field(default=20.0, ge=0, description="L2 penalty on leaf values.")
    truncation: int | None = Field(
        default=None,
        ge=1,
        description="Ranks from the top that make lambdarank's pairs; null: twice the rank whose NDCG stops it.",
    )
    ensemble: int = Field(default=1, ge=1, le=20, description="Rankers whose scores are averaged, a seed each.")
    monotone: dict[str, Literal[-1, 1]] = Field(
        default_factory=dict, description="Features by name: 1 where more never lowers a score, -1 never raises it."
    )
    recency_half_life_days: float | None = Field(
        default=None, gt=0, description="Days in which a request's weight in training halves; null: all alike."
    )
    network: NetworkConfig | None = Field(
        default_factory=NetworkConfig,
        description="Beside the trees; null for trees alone. With monotone there is none.",
    )
    max_requests: int = Field(
        default=8000,
        ge=1,
        description="Requests with a positive that the ranker trains on, and twice as many lists of new items: of the "
        "latest block all, or so many by a hash of user and day, then of the block before it.",
    )

    @property
    def learns_network(self) -> bool:
        """Whether there is a network: it cannot be held to monotone constraints."""
        return self.network is not None and not self.monotone


class ValidationConfig(FrozenConfig):
    """Validation: how many requests stop a training and choose among settings."""

    owner = Owner.TRAINING

    max_requests: int = Field(
        default=4000,
        ge=1,
        description="Requests of the validation window that suffice: of a larger one whole users are drawn, by a hash "
        "of their ids, until there are so many.",
    )


class EvaluationConfig(FrozenConfig):
    """How rankings are judged."""

    owner = Owner.EVALUATION

    cutoffs: tuple[PositiveInt, ...] = Field(
        default=(5, 10), min_length=1, description="Ranks at which metrics are cut; the last one also stops a training."
    )
    max_requests: int = Field(
        default=10_000,
        ge=1,
        description="Requests of a window that suffice to judge it: of a larger one whole users are drawn, by a hash "
        "of their ids, until there are so many; the same ones for every system and version.",
    )
    resamples: int = Field(default=2000, ge=100, description="Bootstrap resamples, clustered by user.")
    effect: float = Field(
        default=0.01,
        gt=0,
        description="Least difference of a metric that matters; a slice too small to detect it is shown, not judged.",
    )
