"""Values of events as integers that add up: how many events have a value, and the sum of the values' logarithms."""

import numpy as np
import polars as pl

from features.log.asof import Ints

__all__ = ["LOG_VALUE_GRID", "pack_values", "unpack_values"]

LOG_VALUE_GRID = 1 << 10
"""Logarithms are rounded to whole multiples of 1/1024, so that the order of a sum does not matter."""

_BITS = (
    42  # no logarithm of a float64 reaches 2**20 / LOG_VALUE_GRID: sums of 2**21 events, as many as are counted, fit
)


def pack_values(value: pl.Expr) -> pl.Expr:
    """One integer an event: 1, and log(1 + value) on the grid; 0 where there is no value. Their sums are sums of both.

    Args:
        value: Float64; null, NaN and infinite are none, below 0 counts as 0.
    """
    logarithm = (value.clip(lower_bound=0.0).log1p() * LOG_VALUE_GRID).round().cast(pl.Int64, strict=False)
    return pl.when(value.is_finite()).then((1 << _BITS) + logarithm).otherwise(0)


def unpack_values(packed: Ints) -> Ints:
    """(N, 2): the summed logarithms in multiples of 1/`LOG_VALUE_GRID`, and the events that have one."""
    return np.stack([packed & ((1 << _BITS) - 1), packed >> _BITS], axis=1)
