"""Configuration of the ranker and of evaluation."""

from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from features.frozen import FrozenConfig, Owner

__all__ = ["EvaluationConfig", "NetworkConfig", "RankerConfig", "Report", "ValidationConfig"]

Report = Callable[[int, float], None]
"""Called during a training with the number of the tree or step, and its NDCG or loss."""


class NetworkConfig(FrozenConfig):
    """ListNet, a small neural network whose scores are mixed with those of the trees."""

    owner = Owner.TRAINING

    hidden: tuple[Annotated[int, Field(ge=1, le=4096)], ...] = Field(
        default=(128, 64), max_length=8, description="Width of each hidden layer, in units, from the input upwards."
    )
    epochs: int = Field(default=6, ge=1, le=1000, description="Number of passes over the training requests.")
    requests_per_batch: int = Field(default=64, ge=1, description="Requests in one training step.")
    learning_rate: float = Field(
        default=0.002,
        gt=0,
        le=1,
        description="Highest learning rate of AdamW; the rate rises to it and falls again once.",
    )
    weight_decay: float = Field(default=1e-4, ge=0, description="Weight decay of AdamW.")
    dropout: float = Field(
        default=0.1, ge=0, lt=1, description="Share of hidden units that are left out at random in each training step."
    )


class RankerConfig(FrozenConfig):
    """The ranker: LambdaMART (trees by LightGBM) with a small neural network beside it, or one of your own."""

    owner = Owner.TRAINING

    kind: str | None = Field(
        default=None,
        exclude_if=lambda kind: kind is None,
        description="Name of a ranker of your own, an entry point of an installed package in the group "
        "nightrank.rankers; null takes LambdaMART and the network beside it.",
    )
    objective: Literal["lambdarank", "rank_xendcg"] = Field(
        default="lambdarank",
        description="Objective of LightGBM: `lambdarank` (Burges 2010) or `rank_xendcg` (Bruch et al. 2020).",
    )
    gain: Literal["exponential", "linear"] = Field(
        default="exponential",
        description="Gain of a label in the objective and in the NDCG that stops training: `exponential` is 2^label - "
        "1, `linear` the label itself.",
    )
    num_leaves: int = Field(default=15, ge=2, le=4096, description="The most leaves of one tree.")
    learning_rate: float = Field(
        default=0.1, gt=0, le=1, description="Factor on what each new tree adds (shrinkage); smaller needs more trees."
    )
    max_trees: int = Field(
        default=200, ge=1, le=20_000, description="The most trees; early stopping usually ends sooner."
    )
    patience: int = Field(
        default=50, ge=1, description="Trees without a better validation NDCG after which training stops."
    )
    min_child_samples: int = Field(
        default=300, ge=1, description="The fewest rows that a leaf must hold; more makes simpler trees."
    )
    feature_fraction: float = Field(
        default=0.5, gt=0, le=1, description="Share of the features that each tree may use, drawn at random."
    )
    l2: float = Field(default=20.0, ge=0, description="L2 penalty on the values of leaves.")
    truncation: int | None = Field(
        default=None,
        ge=1,
        description="Ranks from the top whose pairs lambdarank learns from; null is twice the rank of the NDCG that "
        "stops training.",
    )
    ensemble: int = Field(
        default=1, ge=1, le=20, description="Rankers trained with different seeds, whose scores are averaged."
    )
    monotone: dict[str, Literal[-1, 1]] = Field(
        default_factory=dict,
        description="Features by name that may move the score one way only: 1 where more never lowers it, -1 where "
        "more never raises it.",
    )
    recency_half_life_days: float | None = Field(
        default=None,
        gt=0,
        description="Days after which a training request counts half as much; null weighs all alike.",
    )
    network: NetworkConfig | None = Field(
        default_factory=NetworkConfig,
        description="The neural network whose scores are mixed with the trees', in a share that validation chooses; "
        "null ranks by trees alone, as `monotone` does.",
    )
    max_requests: int = Field(
        default=8000,
        ge=1,
        description="Requests with a positive that the ranker trains on, from the latest block backwards and drawn by "
        "a hash of user and day; twice as many lists of new items come on top.",
    )

    @property
    def learns_network(self) -> bool:
        """Whether there is a network: it cannot be held to monotone constraints."""
        return self.network is not None and not self.monotone


class ValidationConfig(FrozenConfig):
    """What stops a training early, and what choices are made by."""

    owner = Owner.TRAINING

    max_requests: int = Field(
        default=4000,
        ge=1,
        description="The most requests of the validation window that are scored; of a larger window whole users are "
        "drawn by a hash of their ids.",
    )


class EvaluationConfig(FrozenConfig):
    """How rankings are judged: metrics, intervals and comparisons."""

    owner = Owner.EVALUATION

    cutoffs: tuple[PositiveInt, ...] = Field(
        default=(5, 10),
        min_length=1,
        description="Ranks at which metrics are cut (5 gives ndcg@5); the last one also stops training and decides "
        "promotion.",
    )
    max_requests: int = Field(
        default=10_000,
        ge=1,
        description="The most requests of a window that are judged; of a larger window whole users are drawn by a "
        "hash of their ids, the same for every system and version.",
    )
    resamples: int = Field(
        default=2000, ge=100, description="Bootstrap resamples of users from which intervals and p-values are made."
    )
    effect: float = Field(
        default=0.01,
        gt=0,
        description="Smallest difference of a metric that matters to you; a slice too small to detect it is shown but "
        "not judged.",
    )
