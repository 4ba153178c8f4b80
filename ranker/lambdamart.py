"""LambdaMART (Burges 2010) by LightGBM, stopped early by nightrank's own NDCG."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import lightgbm as lgb
import numpy as np
import numpy.typing as npt
import polars as pl

from features.errors import ContractError, IntegrityError
from ranker.config import RankerConfig
from ranker.groups import MAX_LABEL, feature_matrix, feature_table, group_sizes, label_vector
from ranker.metrics import ndcg_at

__all__ = ["LambdaMart"]

Report = Callable[[int, float], None]

_BLOCK_ROWS = 200_000  # rows scored at a time: memory stays flat


@dataclass(frozen=True, slots=True)
class LambdaMart:
    """A fitted ranker.

    Attributes:
        booster: LightGBM's model, cut at its best tree.
        features: Ordered names of the columns it reads.
        best_ndcg: Validation NDCG at the stopping rank, over requests that have a positive.
    """

    booster: lgb.Booster
    features: tuple[str, ...]
    best_ndcg: float = float("nan")

    @classmethod
    def fit(
        cls,
        train: pl.DataFrame,
        valid: pl.DataFrame,
        *,
        features: tuple[str, ...],
        config: RankerConfig,
        seed: int,
        stop_at: int = 10,
        report: Report | None = None,
    ) -> Self:
        """Train on `train`, stop by NDCG on `valid`.

        Args:
            train: request, label and the features; rows of a request together.
            valid: The same, of later requests.
            features: Ordered names of the columns to learn from.
            config: Size and speed of the model.
            seed: Seed of LightGBM's samplers.
            stop_at: Rank of the NDCG that stops the training.
            report: Told the number of trees and the validation NDCG after each tree.

        Raises:
            ContractError: A table breaks what LightGBM needs, or no validation request has a positive.
        """
        train = _with_positives(train, "training", remedy="timeline.ranker_days")
        valid = _with_positives(valid, "validation", remedy="timeline.valid_days")
        params = _params(config, seed)
        fitted = _dataset(train, features, params)
        held_out = _dataset(valid, features, params, reference=fitted)
        best: dict[str, dict[str, list[float]]] = {}
        booster = lgb.train(
            params,
            fitted,
            num_boost_round=config.max_trees,
            valid_sets=[held_out],
            valid_names=["valid"],
            feval=_stopping_metric(stop_at),
            callbacks=[
                lgb.early_stopping(config.patience, first_metric_only=True, verbose=False),
                lgb.record_evaluation(best),
                *([_reporting(report)] if report is not None else []),
            ],
        )
        kept = booster.model_to_string(num_iteration=booster.best_iteration)
        return cls(lgb.Booster(model_str=kept), features, max(best["valid"][f"ndcg@{stop_at}"]))

    @classmethod
    def from_text(cls, text: str, features: tuple[str, ...]) -> Self:
        """A ranker from its model text, whose hash the caller has checked.

        Raises:
            IntegrityError: The text is no LightGBM model, or of other features than the manifest names.
        """
        if not text.startswith("tree\n") or not text.rstrip().endswith("pandas_categorical:null"):
            raise IntegrityError("booster.txt is no complete LightGBM model text. Fetch the bundle again.")
        booster = lgb.Booster(model_str=text)
        if tuple(booster.feature_name()) != features:
            raise IntegrityError("booster.txt was trained on other features than features.json names.")
        return cls(booster, features)

    def to_text(self) -> str:
        """LightGBM's own text format."""
        return str(self.booster.model_to_string())

    def predict(self, table: pl.DataFrame) -> npt.NDArray[np.float64]:
        """Scores, higher is better, one a row; columns are found by name.

        Raises:
            ContractError: A feature is missing, no number, or infinite.
        """
        scores = np.empty(table.height, np.float64)
        for start in range(0, table.height, _BLOCK_ROWS):
            block = feature_matrix(table.slice(start, _BLOCK_ROWS), self.features)
            scores[start : start + len(block)] = self.booster.predict(block)
        return scores

    def gains(self) -> pl.DataFrame:
        """Total split gain of each feature, largest first: feature, gain."""
        gain = self.booster.feature_importance(importance_type="gain")
        return pl.DataFrame({"feature": self.features, "gain": gain}).sort("gain", descending=True)


def _with_positives(table: pl.DataFrame, what: str, *, remedy: str) -> pl.DataFrame:
    """The requests that teach, or tell when to stop: those that have a positive."""
    label_vector(table["label"])  # NOTE: first, since the filter would drop wrong labels unsaid
    teaches = table.select((pl.col("label").max() > 0).over("request")).to_series()
    kept = table if teaches.all() else table.filter(teaches)
    if kept.is_empty():
        raise ContractError(
            f"ranker: no {what} request has a positive among its candidates, so there is nothing to learn "
            f"or to stop on. Lengthen {remedy}, or raise the quotas under candidates."
        )
    return kept


def _params(config: RankerConfig, seed: int) -> dict[str, Any]:
    return {
        "objective": "lambdarank",
        "metric": "None",
        "num_leaves": config.num_leaves,
        "learning_rate": config.learning_rate,
        "min_child_samples": config.min_child_samples,
        "feature_fraction": config.feature_fraction,
        "lambda_l2": config.l2,
        "lambdarank_truncation_level": config.truncation,
        "label_gain": [2**label - 1 for label in range(MAX_LABEL + 1)],
        "deterministic": True,
        "force_row_wise": True,
        "seed": seed,
        "verbosity": -1,
    }


def _dataset(
    table: pl.DataFrame,
    features: tuple[str, ...],
    params: dict[str, Any],
    reference: lgb.Dataset | None = None,
) -> lgb.Dataset:
    return lgb.Dataset(
        feature_table(table, features).to_arrow(),  # read where it lies: a matrix would be a second copy
        label=label_vector(table["label"]),
        group=group_sizes(table["request"]),
        feature_name=list(features),
        params=params,
        reference=reference,
    )


def _reporting(report: Report) -> Callable[[Any], None]:
    def callback(environment: Any) -> None:  # noqa: ANN401 - LightGBM's environment type is private
        report(environment.iteration + 1, environment.evaluation_result_list[0][2])

    return callback


def _stopping_metric(stop_at: int) -> Any:  # noqa: ANN401 - LightGBM's own callback type is private
    def metric(scores: npt.NDArray[np.float64], data: lgb.Dataset) -> tuple[str, float, bool]:
        labels, group = np.asarray(data.get_label()), np.asarray(data.get_group())
        return f"ndcg@{stop_at}", float(np.nanmean(ndcg_at(scores, labels, group, stop_at))), True

    return metric
