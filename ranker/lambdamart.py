"""LambdaMART (Burges 2010) by LightGBM, stopped early by nightrank's own NDCG."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import lightgbm as lgb
import numpy as np
import numpy.typing as npt
import polars as pl

from features.errors import IntegrityError
from ranker.config import RankerConfig, Report
from ranker.groups import (
    feature_blocks,
    feature_matrix,
    feature_table,
    group_sizes,
    label_vector,
    recency_weight,
    with_positives,
)
from ranker.metrics import Gain, gain_of, ndcg_at

__all__ = ["LambdaMart"]

_TREES = re.compile(r"^Tree=.*\n((?:\w+=.*\n)+)", re.MULTILINE)  # the lines that describe each tree
_MEMBERS = re.compile(r"^(?=tree$)", re.MULTILINE)  # where each model's text begins


@dataclass(frozen=True, slots=True)
class LambdaMart:
    """A fitted ranker.

    Attributes:
        boosters: LightGBM's models, each cut at its best tree; the score is the mean of theirs.
        features: Ordered names of the columns it reads.
        best_ndcg: Validation NDCG at the stopping rank, over requests that have a positive; the mean of the models'.
    """

    boosters: tuple[lgb.Booster, ...]
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
        """Train on `train`, and stop by NDCG on `valid`.

        Args:
            train: request, label and the features; rows of a request together. Where the configuration weighs by
                recency, `DAY`.
            valid: The same, of later requests.
            features: Ordered names of the columns to learn from.
            config: Size and speed of the model.
            seed: Seed of LightGBM's samplers.
            stop_at: Rank of the NDCG that stops the training.
            report: Called after each tree with the number of trees and the validation NDCG.

        Raises:
            ContractError: A table breaks what LightGBM needs, or no validation request has a positive.
        """
        train = with_positives(train, "training", remedy="timeline.ranker_days")
        valid = with_positives(valid, "validation", remedy="timeline.valid_days")
        params = _params(config, features, seed, stop_at)
        fitted = _dataset(train, features, params, weight=recency_weight(train, config.recency_half_life_days))
        validation = _dataset(valid, features, params, reference=fitted)
        stopping = [lgb.early_stopping(config.patience, first_metric_only=True, verbose=False)]
        boosters, reached = [], []
        for member in range(config.ensemble):
            judged: dict[str, dict[str, list[float]]] = {}
            booster = lgb.train(
                params | ({"feature_fraction_seed": seed + member} if member else {}),
                fitted,
                num_boost_round=config.max_trees,
                valid_sets=[validation],
                valid_names=["valid"],
                feval=_stopping_metric(stop_at, config.gain),
                callbacks=[
                    *stopping,
                    lgb.record_evaluation(judged),
                    *([_reporting(report)] if report is not None else []),
                ],
            )
            kept = booster.best_iteration
            boosters.append(lgb.Booster(model_str=booster.model_to_string(num_iteration=kept)))
            reached.append(judged["valid"][f"ndcg@{stop_at}"][kept - 1])
        return cls(tuple(boosters), features, float(np.mean(reached)))

    @classmethod
    def from_text(cls, text: str, features: tuple[str, ...]) -> Self:
        """A ranker from what `to_text` gave, whose hash the caller has checked.

        Raises:
            IntegrityError: The text is no LightGBM model, a tree of it is none, or it is of other features than the
                manifest names.
        """
        models = [part for part in _MEMBERS.split(text) if part]
        if not models or not all(part.rstrip().endswith("pandas_categorical:null") for part in models):
            raise IntegrityError("booster.txt is no complete LightGBM model text. Fetch the bundle again.")
        for number, tree in enumerate(_TREES.findall(text)):
            if not _is_tree(tree, len(features)):
                raise IntegrityError(f"booster.txt: what it calls tree {number} is no tree. Fetch the bundle again.")
        try:
            boosters = tuple(lgb.Booster(model_str=part) for part in models)
        except lgb.basic.LightGBMError as error:
            raise IntegrityError(f"booster.txt: LightGBM refuses it ({error}). Fetch the bundle again.") from error
        if any(tuple(booster.feature_name()) != features for booster in boosters):
            raise IntegrityError("booster.txt was trained on other features than features.json names.")
        return cls(boosters, features)

    def to_text(self) -> str:
        """LightGBM's own text format, one model after the other."""
        return "".join(str(booster.model_to_string()) for booster in self.boosters)

    @property
    def trees(self) -> int:
        """Trees of all models."""
        return sum(booster.num_trees() for booster in self.boosters)

    def predict(self, table: pl.DataFrame) -> npt.NDArray[np.float64]:
        """Scores, higher is better, one a row; columns are found by name.

        Raises:
            ContractError: A feature is missing, no number, or infinite.
        """
        scores = np.empty(table.height, np.float64)
        for rows, block in feature_blocks(table, self.features):
            scores[rows] = self.score(block)
        return scores

    def score(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """The same of `ranker.groups.feature_matrix`: (rows,) scores."""
        total = np.asarray(self.boosters[0].predict(values))
        for booster in self.boosters[1:]:
            total = total + np.asarray(booster.predict(values))
        mean: npt.NDArray[np.float64] = total / len(self.boosters)
        return mean

    def contributions(self, table: pl.DataFrame) -> npt.NDArray[np.float64]:
        """What each feature adds to each row's score (TreeSHAP): (rows, features), the mean of the models'.

        Raises:
            ContractError: As `predict`.
        """
        matrix = feature_matrix(table, self.features)
        if not len(matrix):
            return np.empty((0, len(self.features)))
        parts = [np.asarray(booster.predict(matrix, pred_contrib=True))[:, :-1] for booster in self.boosters]
        mean: npt.NDArray[np.float64] = np.sum(parts, 0) / len(parts)
        return mean

    def gains(self) -> pl.DataFrame:
        """Total split gain of each feature over all models, largest first: feature, gain."""
        gain = np.sum([booster.feature_importance(importance_type="gain") for booster in self.boosters], 0)
        return pl.DataFrame({"feature": self.features, "gain": gain}).sort("gain", descending=True)


def _is_tree(text: str, n_features: int) -> bool:
    """Whether LightGBM's description of a tree is one: LightGBM itself follows its nodes unchecked, for ever or astray.

    Nodes have a number above their parent's, and leaves are negative: every node but the root is a child once.
    """
    lines = dict(line.split("=", 1) for line in text.splitlines())
    try:
        leaves = int(lines["num_leaves"])
        if leaves == 1:
            return True
        left, right, split = (
            [int(number) for number in lines[name].split()] for name in ("left_child", "right_child", "split_feature")
        )
        lengths = {len(lines[name].split()) for name in ("threshold", "decision_type")} | {len(left), len(right)}
        lengths.add(len(lines["leaf_value"].split()) - 1)
    except (KeyError, ValueError):
        return False
    return (
        lengths == {leaves - 1} == {len(split)}
        and sorted(left + right) == [*range(-leaves, 0), *range(1, leaves - 1)]
        and all(not 0 <= child <= node for node in range(leaves - 1) for child in (left[node], right[node]))
        and all(0 <= feature < n_features for feature in split)
    )


def _params(config: RankerConfig, features: tuple[str, ...], seed: int, stop_at: int) -> dict[str, Any]:
    params: dict[str, Any] = {
        "objective": config.objective,
        "metric": "None",
        "num_leaves": config.num_leaves,
        "learning_rate": config.learning_rate,
        "min_child_samples": config.min_child_samples,
        "feature_fraction": config.feature_fraction,
        "lambda_l2": config.l2,
        "lambdarank_truncation_level": config.truncation or 2 * stop_at,
        "label_gain": gain_of(config.gain).astype(int).tolist(),
        "deterministic": True,
        "force_col_wise": True,
        "seed": seed,
        "verbosity": -1,
    }
    if config.monotone:
        params["monotone_constraints"] = [config.monotone.get(name, 0) for name in features]
    return params


def _dataset(
    table: pl.DataFrame,
    features: tuple[str, ...],
    params: dict[str, Any],
    *,
    reference: lgb.Dataset | None = None,
    weight: npt.NDArray[np.float32] | None = None,
) -> lgb.Dataset:
    return lgb.Dataset(
        feature_table(table, features).to_arrow(),  # read where it lies: a matrix would be a second copy
        label=label_vector(table["label"]),
        group=group_sizes(table["request"]),
        weight=weight,
        feature_name=list(features),
        params=params,
        reference=reference,
    )


def _reporting(report: Report) -> Callable[[Any], None]:
    def callback(environment: Any) -> None:  # noqa: ANN401 - LightGBM's environment type is private
        report(environment.iteration + 1, environment.evaluation_result_list[0][2])

    return callback


def _stopping_metric(stop_at: int, gain: Gain) -> Any:  # noqa: ANN401 - LightGBM's own callback type is private
    def metric(scores: npt.NDArray[np.float64], data: lgb.Dataset) -> tuple[str, float, bool]:
        labels, group = np.asarray(data.get_label()), np.asarray(data.get_group())
        return f"ndcg@{stop_at}", float(np.nanmean(ndcg_at(scores, labels, group, stop_at, gain))), True

    return metric
