"""ListNet (Cao et al. 2007) over the ranker's features: how a network scores; `ranker.listnet_fit` trains it.

Softmaxed over a request, its scores are the shares of the request's gain that it expects of each item.
A row's score is the same to the last bit beside whatever rows, with any BLAS, on any machine: inputs, weights and what
passes from layer to layer are multiples of powers of 2, so coarse that float64 holds every sum of products exactly.
"""

# N rows, F features, M features that may be undefined, I = F + M inputs
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import polars as pl

from features.errors import IntegrityError
from ranker.groups import feature_blocks, feature_matrix

__all__ = ["INPUT_GRID", "Layer", "ListNet", "on_weight_grid", "squashed"]

Floats = npt.NDArray[np.float64]
Layer = tuple[Floats, Floats]
"""Weights (inputs, outputs) and biases (outputs,)."""

INPUT_GRID = 1024.0
"""Inputs, and values between layers, are multiples of 1 / 1024."""

_WEIGHT_GRID, _MOST_WEIGHT = 16_384.0, 8.0
_GRADIENT_GRID = 2.0**16
_FARTHEST = 6.0  # standard deviations of a feature that are told apart
_MOST_HIDDEN = 1024.0
_BLOCK_ROWS = 1024  # rows that pass the layers at a time, within the processor's cache
_STEPS = 16  # of the path from the mean row along which gradients are summed up
_ONE = np.float32(1).view(np.int32)


def squashed(values: npt.NDArray[np.float32]) -> Floats:
    """sign(x) log2(1 + |x|), linear between powers of 2: the bits of a float read as a number, hence exact anywhere.

    >>> squashed(np.array([0, 1, -3, 5], np.float32)).tolist()
    [0.0, 1.0, -2.0, 2.5]
    """
    magnitude = ((np.abs(values) + np.float32(1)).view(np.int32) - _ONE) * 2.0**-23
    signed: Floats = np.copysign(magnitude, values)
    return signed


def on_weight_grid(values: npt.ArrayLike) -> Floats:
    """The nearest weights that the network can have."""
    wide = np.ascontiguousarray(values, np.float64)
    near: Floats = np.rint(np.clip(wide, -_MOST_WEIGHT, _MOST_WEIGHT) * _WEIGHT_GRID) / _WEIGHT_GRID
    return near


@dataclass(frozen=True, slots=True, eq=False)
class ListNet:
    """A trained network, or several whose scores are averaged.

    A feature becomes `squashed`, less its mean and over its standard deviation in training, cut at 6 and rounded; one
    that was undefined somewhere in training is two inputs: 0 where it is undefined, and whether it is. Layers but the
    last end in max(0, x).

    Attributes:
        features: Ordered names of the columns it reads.
        mean_F: Of each feature, squashed.
        rate_F: `INPUT_GRID` over its standard deviation; 0 for a feature that never differs.
        undefined_M: Positions of the features that may be undefined, ascending.
        members: Layers of each network.
    """

    features: tuple[str, ...]
    mean_F: Floats
    rate_F: Floats
    undefined_M: npt.NDArray[np.int64]
    members: tuple[tuple[Layer, ...], ...]

    def inputs(self, values: npt.NDArray[np.float32]) -> Floats:
        """(N, F + M) what the first layer gets of each row of `ranker.groups.feature_matrix`."""
        near = squashed(values)
        near -= self.mean_F
        near *= self.rate_F
        np.rint(near, out=near)
        np.maximum(near, -_FARTHEST * INPUT_GRID, out=near)
        np.minimum(near, _FARTHEST * INPUT_GRID, out=near)
        near /= INPUT_GRID
        undefined = np.isnan(values)
        near[undefined] = 0
        return np.concatenate([near, undefined[:, self.undefined_M]], axis=1)

    def predict(self, table: pl.DataFrame) -> Floats:
        """(N,) scores, higher is better, one a row; columns are found by name.

        Raises:
            ContractError: A feature is missing, no number, or infinite.
        """
        scores = np.empty(table.height)
        for rows, block in feature_blocks(table, self.features):
            scores[rows] = self.score(block)
        return scores

    def score(self, values: npt.NDArray[np.float32]) -> Floats:
        """The same of `ranker.groups.feature_matrix`: (N,) scores."""
        scores = np.zeros(len(values))
        for rows, inputs in self._passes(values):
            for member in self.members:
                *_, score = _passed(inputs, member)
                scores[rows] += score[:, 0]
        return scores / len(self.members)

    def contributions(self, table: pl.DataFrame) -> Floats:
        """(N, F) what each feature adds to each row's score over that of the mean row, where nothing is undefined.

        Integrated gradients (Sundararajan et al. 2017), in 16 steps from the mean row: they add up to the difference
        of the two scores, but for what 16 steps leave.

        Raises:
            ContractError: A feature is missing, no number, or infinite.
        """
        found = np.zeros((table.height, len(self.features)))
        for rows, inputs in self._passes(feature_matrix(table, self.features)):
            part = inputs * (sum(_gradient(inputs, member) for member in self.members) / (_STEPS * len(self.members)))
            found[rows] = part[:, : len(self.features)]
            found[rows, self.undefined_M] += part[:, len(self.features) :]
        return found

    def to_arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        """Everything but the names of the features, by name."""
        arrays: dict[str, npt.NDArray[np.generic]] = {
            "mean": self.mean_F,
            "rate": self.rate_F,
            "undefined": self.undefined_M,
        }
        for number, member in enumerate(self.members):
            for depth, (weight, bias) in enumerate(member):
                arrays |= {f"{number}.{depth}.weight": weight, f"{number}.{depth}.bias": bias}
        return arrays

    @classmethod
    def from_arrays(cls, arrays: dict[str, npt.NDArray[np.generic]], features: tuple[str, ...]) -> Self:
        """A network from what `to_arrays` gave.

        Raises:
            IntegrityError: The arrays are no network of these features.
        """
        rest = dict(arrays)
        try:
            mean, rate, undefined = (rest.pop(name) for name in ("mean", "rate", "undefined"))
            members: list[tuple[Layer, ...]] = []
            while rest:
                layers: list[Layer] = []
                while f"{len(members)}.{len(layers)}.weight" in rest:
                    weight, bias = (rest.pop(f"{len(members)}.{len(layers)}.{part}") for part in ("weight", "bias"))
                    layers.append((weight.astype(np.float64), bias.astype(np.float64)))
                _check_shapes(layers, len(features) + len(undefined))
                members.append(tuple(layers))
            _check_sizes(members, {len(mean), len(rate), len(features)})
        except (KeyError, ValueError, IndexError) as error:
            raise IntegrityError(
                f"the ranker's network is none of its {len(features)} features ({error}). Fetch the bundle again."
            ) from error
        return cls(
            features,
            mean.astype(np.float64),
            rate.astype(np.float64),
            undefined.astype(np.int64),
            tuple(members),
        )

    def _passes(self, values: npt.NDArray[np.float32]) -> Iterator[tuple[slice, Floats]]:
        for start in range(0, len(values), _BLOCK_ROWS):
            rows = slice(start, min(start + _BLOCK_ROWS, len(values)))
            yield rows, self.inputs(values[rows])


def _check_sizes(members: list[tuple[Layer, ...]], sizes: set[int]) -> None:
    if not members:
        raise ValueError("it has no layers")
    if len(sizes) > 1:
        raise ValueError("it is of other features")


def _check_shapes(layers: list[Layer], width: int) -> None:
    for weight, bias in layers:
        if weight.shape != (width, len(bias)):
            raise ValueError(f"a layer of {weight.shape} after {width} values")
        width = len(bias)
    if not layers or width != 1:
        raise ValueError("no layer gives the score")


def _passed(inputs: Floats, layers: tuple[Layer, ...]) -> Iterator[Floats]:
    """What each layer gives, the score last."""
    values = inputs
    for weight, bias in layers[:-1]:
        values = values @ weight
        values += bias
        np.maximum(values, 0, out=values)
        np.minimum(values, _MOST_HIDDEN, out=values)
        values *= INPUT_GRID
        np.rint(values, out=values)
        values /= INPUT_GRID
        yield values
    weight, bias = layers[-1]
    yield values @ weight + bias


def _gradient(inputs: Floats, layers: tuple[Layer, ...]) -> Floats:
    """(N, I) gradients of the score, summed over the steps of the path from the mean row."""
    total = np.zeros_like(inputs)
    for step in range(_STEPS):
        *hidden, _ = _passed(inputs * ((step + 0.5) / _STEPS), layers)
        slope = np.broadcast_to(layers[-1][0].T, (len(inputs), len(layers[-1][0])))
        for values, (weight, _) in zip(reversed(hidden), reversed(layers[:-1]), strict=True):
            passing = np.where(values > 0, slope, 0)
            slope = np.rint(passing @ weight.T * _GRADIENT_GRID) / _GRADIENT_GRID
        total += slope
    return total
