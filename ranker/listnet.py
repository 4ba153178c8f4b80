"""ListNet (Cao et al. 2007) over the ranker's features: how a network scores; `ranker.listnet_fit` trains it.

Softmaxed over a request, its scores are the shares of the request's gain that it expects of each item.
Inputs are the same bits anywhere. Products and sums are plain float32, in the order of BLAS: the same rows give the
same bits on one machine; among other rows or on another machine scores differ by less than `TOLERANCE`.
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

__all__ = ["FARTHEST", "TOLERANCE", "Layer", "ListNet", "squashed"]

Floats = npt.NDArray[np.float32]
Layer = tuple[Floats, Floats]
"""Weights (inputs, outputs) and biases (outputs,)."""

FARTHEST = 6.0
"""Standard deviations at which an input is cut: none is farther from 0."""

TOLERANCE = 1e-6
"""By how much a score may differ among other rows or on another machine, over the scores' spread within requests."""

_BLOCK_ROWS = 256  # that pass the layers at a time: all they become stays in the processor's cache
_STEPS = 16  # of the path from the mean row along which gradients are summed up
_ONE = np.float32(1).view(np.int32)
_ROUNDED = "rate"  # an array that networks had whose sums were rounded


def squashed(values: Floats) -> Floats:
    """sign(x) log2(1 + |x|), linear between powers of 2: the bits of a float read as a number.

    >>> squashed(np.array([0, 1, -3, 5], np.float32)).tolist()
    [0.0, 1.0, -2.0, 2.5]
    """
    magnitude = np.abs(values)
    magnitude += np.float32(1)
    bits = magnitude.view(np.int32)
    bits -= _ONE
    signed: Floats = bits.astype(np.float32)
    signed *= np.float32(2.0**-23)
    return np.copysign(signed, values, out=signed)


@dataclass(frozen=True, slots=True, eq=False)
class ListNet:
    """A trained network, or several whose scores are averaged.

    A feature becomes `squashed`, less its mean and over its standard deviation in training, cut at `FARTHEST`; one that
    was undefined somewhere in training is two inputs: 0 where it is undefined, and whether it is. Layers but the last
    end in max(0, x).

    Attributes:
        features: Ordered names of the columns it reads.
        mean_F: Of each feature, squashed.
        scale_F: One over its standard deviation; 0 for a feature that never differs.
        undefined_M: Positions of the features that may be undefined, ascending.
        members: Layers of each network.
    """

    features: tuple[str, ...]
    mean_F: Floats
    scale_F: Floats
    undefined_M: npt.NDArray[np.int64]
    members: tuple[tuple[Layer, ...], ...]

    def inputs(self, values: Floats) -> Floats:
        """(N, F + M) what the first layer gets of each row of `ranker.groups.feature_matrix`."""
        width = len(self.features)
        made = np.empty((len(values), width + len(self.undefined_M)), np.float32)
        near = squashed(values)
        near -= self.mean_F
        near *= self.scale_F
        np.clip(near, np.float32(-FARTHEST), np.float32(FARTHEST), out=near)
        undefined = np.isnan(values)
        np.multiply(near, ~undefined, out=made[:, :width])
        made[:, width:] = undefined.take(self.undefined_M, axis=1)
        return made

    def predict(self, table: pl.DataFrame) -> npt.NDArray[np.float64]:
        """(N,) scores, higher is better, one a row; columns are found by name.

        Raises:
            ContractError: A feature is missing, no number, or infinite.
        """
        scores = np.empty(table.height)
        for rows, block in feature_blocks(table, self.features):
            scores[rows] = self.score(block)
        return scores

    def score(self, values: Floats) -> npt.NDArray[np.float64]:
        """The same of `ranker.groups.feature_matrix`: (N,) scores."""
        scores = np.zeros(len(values))
        for rows, inputs in self._passes(values):
            for member in self.members:
                *_, score = _passed(inputs, member)
                scores[rows] += score[: rows.stop - rows.start, 0]
        return scores / len(self.members)

    def contributions(self, table: pl.DataFrame) -> npt.NDArray[np.float64]:
        """(N, F) what each feature adds to each row's score over that of the mean row, where nothing is undefined.

        Integrated gradients (Sundararajan et al. 2017), in 16 steps from the mean row: they add up to the difference
        of the two scores, but for what 16 steps leave.

        Raises:
            ContractError: A feature is missing, no number, or infinite.
        """
        contribution_NF = np.zeros((table.height, len(self.features)))
        for rows, inputs in self._passes(feature_matrix(table, self.features)):
            slope = sum(_gradient(inputs, member) for member in self.members)
            part = (inputs * slope)[: rows.stop - rows.start] / (_STEPS * len(self.members))
            contribution_NF[rows] = part[:, : len(self.features)]
            contribution_NF[rows, self.undefined_M] += part[:, len(self.features) :]
        return contribution_NF

    def to_arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        """Everything but the names of the features, by name."""
        arrays: dict[str, npt.NDArray[np.generic]] = {
            "mean": self.mean_F,
            "scale": self.scale_F,
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
            IntegrityError: The arrays are no network of these features, or one that rounded what it summed.
        """
        rest = dict(arrays)
        if _ROUNDED in rest:
            raise IntegrityError(
                "the ranker's network is of an earlier nightrank and would score otherwise here. Train a version "
                "anew: nightrank train."
            )
        try:
            mean, scale, undefined = (rest.pop(name) for name in ("mean", "scale", "undefined"))
            members: list[tuple[Layer, ...]] = []
            while rest:
                layers: list[Layer] = []
                while f"{len(members)}.{len(layers)}.weight" in rest:
                    weight, bias = (rest.pop(f"{len(members)}.{len(layers)}.{part}") for part in ("weight", "bias"))
                    layers.append((weight.astype(np.float32), bias.astype(np.float32)))
                _check_shapes(layers, len(features) + len(undefined))
                members.append(tuple(layers))
            _check_sizes(members, {len(mean), len(scale), len(features)})
        except (KeyError, ValueError, IndexError) as error:
            raise IntegrityError(
                f"the ranker's network is none of its {len(features)} features ({error}). Fetch the bundle again."
            ) from error
        return cls(
            features,
            mean.astype(np.float32),
            scale.astype(np.float32),
            undefined.astype(np.int64),
            tuple(members),
        )

    def _passes(self, values: Floats) -> Iterator[tuple[slice, Floats]]:
        """Which rows they are, and inputs of `_BLOCK_ROWS` rows, the last block's filled up with others.

        With one number of rows in every product, few BLAS make a row's bits depend on where it stands.
        """
        for start in range(0, len(values), _BLOCK_ROWS):
            block = values[start : start + _BLOCK_ROWS]
            rows = slice(start, start + len(block))
            if len(block) < _BLOCK_ROWS:
                block = np.concatenate([block, np.zeros((_BLOCK_ROWS - len(block), block.shape[1]), np.float32)])
            yield rows, self.inputs(block)


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


def _passed(inputs: Floats, layers: tuple[Layer, ...]) -> Iterator[npt.NDArray[np.floating]]:
    """What each layer gives, the score last: its own sum is in double precision, since float32 ends at 1e-7 of it."""
    values = inputs
    for weight, bias in layers[:-1]:
        values = values @ weight
        values += bias
        np.maximum(values, 0, out=values)
        yield values
    weight, bias = layers[-1]
    yield values.astype(np.float64) @ weight + bias


def _gradient(inputs: Floats, layers: tuple[Layer, ...]) -> Floats:
    """(N, I) gradients of the score, summed over the steps of the path from the mean row."""
    total = np.zeros_like(inputs)
    for step in range(_STEPS):
        *hidden, _ = _passed(inputs * ((step + 0.5) / _STEPS), layers)
        slope = np.broadcast_to(layers[-1][0].T, (len(inputs), len(layers[-1][0])))
        for values, (weight, _) in zip(reversed(hidden), reversed(layers[:-1]), strict=True):
            slope = np.multiply(slope, values > 0) @ weight.T
        total += slope
    return total
