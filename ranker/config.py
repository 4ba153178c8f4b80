"""What the ranker can be told."""

from pydantic import Field, PositiveInt

from features.config import FrozenConfig

__all__ = ["EvaluationConfig", "RankerConfig"]


class RankerConfig(FrozenConfig):
    """LambdaMART."""

    num_leaves: int = Field(default=15, ge=2, le=4096, description="Leaves of a tree.")
    learning_rate: float = Field(default=0.05, gt=0, le=1, description="Shrinkage of each tree.")
    max_trees: int = Field(default=400, ge=1, le=20_000, description="Trees at most; early stopping ends sooner.")
    patience: int = Field(default=100, ge=1, description="Trees without a better validation NDCG before it stops.")
    min_child_samples: int = Field(default=300, ge=1, description="Rows a leaf must hold.")
    feature_fraction: float = Field(default=0.5, gt=0, le=1, description="Share of features tried for a tree.")
    l2: float = Field(default=20.0, ge=0, description="L2 penalty on leaf values.")
    truncation: int = Field(default=20, ge=1, description="Ranks from the top that make the gradient's pairs.")
    max_requests: int = Field(
        default=8000, ge=1, description="Most recent requests with a positive that the ranker trains on."
    )


class EvaluationConfig(FrozenConfig):
    """How rankings are judged."""

    cutoffs: tuple[PositiveInt, ...] = Field(
        default=(5, 10), min_length=1, description="Ranks at which metrics are cut."
    )
    resamples: int = Field(default=2000, ge=100, description="Bootstrap resamples, clustered by user.")
