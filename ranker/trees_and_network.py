"""The default ranker: LambdaMART and ListNet; a score is a weighted mean of theirs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import polars as pl
from safetensors import SafetensorError
from safetensors.numpy import load, save

from features.errors import IntegrityError, listed
from ranker.config import RankerConfig
from ranker.groups import feature_blocks, group_sizes, label_vector, with_a_positive
from ranker.lambdamart import LambdaMart
from ranker.listnet import TOLERANCE, ListNet
from ranker.metrics import Gain, ndcg_at
from ranker.ranker import FitSupport

__all__ = ["SHARES", "TreesAndNetwork"]

SHARES = (0.0, 0.25, 0.5, 0.75)
"""Of the network in a score: what validation chooses among."""

_TREES, _NETWORK = "booster.txt", "network.safetensors"
_SHARE, _SPREADS = "share", "spreads"
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class TreesAndNetwork:
    """Trees, and a network over the same features.

    Attributes:
        forest: LambdaMART.
        network: ListNet over the same features; None leaves the score to the forest.
        share: Of the network in a score.
        spreads: Standard deviations of the forest's and the network's scores within validation requests; each one's
            scores are divided by its own.
    """

    forest: LambdaMart
    network: ListNet | None = None
    share: float = 0.0
    spreads: tuple[float, float] = (1.0, 1.0)

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
        support: FitSupport = FitSupport(),  # noqa: B008 - it is frozen
    ) -> Self:
        """Train both, each as its own `fit` says, and choose the network's share; see `ranker.ranker.Ranker.fit`.

        Raises:
            ContractError: A table breaks what LightGBM needs, or no validation request has a positive.
        """
        with support.progress("", config.max_trees, "trees", f"ndcg@{stop_at} {{:.4f}}") as report:
            forest = LambdaMart.fit(
                train,
                support.pick(valid, with_a_positive),
                features=features,
                config=config,
                seed=seed,
                stop_at=stop_at,
                report=report,
            )
        network = None
        if config.learns_network:
            from ranker.listnet_fit import fit_listnet, steps_of  # torch, for those who train one

            with support.progress("'s network", steps_of(config, train), "steps", "loss {:.3f}") as report:
                network = fit_listnet(
                    train, features=features, config=config, seed=seed, report=report, allocate=support.allocate
                )
        ranker = cls.of(forest, network, valid, gain=config.gain, stop_at=stop_at)
        support.tell(trees=forest.trees, network_share=ranker.share)
        return ranker

    @classmethod
    def of(
        cls, forest: LambdaMart, network: ListNet | None, valid: pl.DataFrame, *, gain: Gain, stop_at: int = 10
    ) -> Self:
        """The two together, in the share of `SHARES` that ranks validation requests best; none where none is better.

        Args:
            forest: LambdaMART.
            network: ListNet, or None.
            valid: request, label and the features; rows of a request together. Neither was trained on them.
            gain: Of a label in the NDCG.
            stop_at: Rank where it is cut.
        """
        if network is None:
            return cls(forest)
        labels, sizes = label_vector(valid["label"]), group_sizes(valid["request"])
        scores = forest.predict(valid), network.predict(valid)
        spreads = _spread(scores[0], sizes), _spread(scores[1], sizes)
        if not all(spreads):
            return cls(forest)
        parts = scores[0] / spreads[0], scores[1] / spreads[1]
        ndcgs = [
            float(np.nanmean(ndcg_at((1 - share) * parts[0] + share * parts[1], labels, sizes, stop_at, gain)))
            for share in SHARES
        ]
        share = SHARES[int(np.argmax(ndcgs))]
        return cls(forest, network, share, spreads) if share else cls(forest)

    @property
    def features(self) -> tuple[str, ...]:
        """Ordered names of the columns it reads."""
        return self.forest.features

    @property
    def tolerance(self) -> float:
        """By how much a score may differ on another machine: trees alone give the same bits.

        With a network scores are in units of their spread, as `TOLERANCE` is.
        """
        return 0.0 if self.network is None else TOLERANCE

    def predict(self, table: pl.DataFrame) -> Floats:
        """Scores, higher is better, one a row; columns are found by name.

        Raises:
            ContractError: A feature is missing, no number, or infinite.
        """
        if self.network is None:
            return self.forest.predict(table)
        of_forest, of_network = self._weights
        scores = np.empty(table.height)
        for rows, block in feature_blocks(table, self.features):
            scores[rows] = self.forest.score(block) * of_forest + self.network.score(block) * of_network
        return scores

    def contributions(self, table: pl.DataFrame) -> Floats:
        """What each feature adds to each row's score: (rows, features), by `LambdaMart` and `ListNet.contributions`.

        Raises:
            ContractError: As `predict`.
        """
        contribution_NF = self.forest.contributions(table)
        if self.network is None:
            return contribution_NF
        of_forest, of_network = self._weights
        return contribution_NF * of_forest + self.network.contributions(table) * of_network

    @property
    def _weights(self) -> tuple[float, float]:
        return (1 - self.share) / self.spreads[0], self.share / self.spreads[1]

    def files(self) -> dict[str, bytes]:
        """What it is kept as: LightGBM's own text format, and the network with its share as safetensors."""
        arrays = {} if self.network is None else self.network.to_arrays()
        arrays |= {_SHARE: np.array(self.share), _SPREADS: np.array(self.spreads)}
        return {_TREES: self.forest.to_text().encode(), _NETWORK: save(arrays)}

    @classmethod
    def read(cls, files: Mapping[str, bytes], features: tuple[str, ...]) -> Self:
        """A ranker from what `files` gave, whose hashes the caller has checked.

        Raises:
            IntegrityError: They are no ranker of these features.
        """
        if files.keys() != {_TREES, _NETWORK}:
            raise IntegrityError(f"the ranker's files are {listed(sorted(files))}, not {_TREES} and {_NETWORK}.")
        trees = LambdaMart.from_text(files[_TREES].decode(), features)
        try:
            arrays = load(files[_NETWORK])
            share, (first, second) = float(arrays.pop(_SHARE)), arrays.pop(_SPREADS).tolist()
        except (SafetensorError, KeyError, ValueError, TypeError) as error:
            raise IntegrityError(f"the ranker's network cannot be read ({error}). Fetch the bundle again.") from error
        if not arrays:
            return cls(trees)
        return cls(trees, ListNet.from_arrays(arrays, features), share, (first, second))


def _spread(scores: Floats, sizes: npt.NDArray[np.int32]) -> float:
    """Standard deviation of scores within requests."""
    starts = np.cumsum(sizes) - sizes
    centred = scores - np.repeat(np.add.reduceat(scores, starts) / sizes, sizes)
    return float(np.sqrt((centred**2).mean()))
