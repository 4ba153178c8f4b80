"""Exponential decay of past events in fixed-point integers, whose sums do not depend on their order."""

from functools import lru_cache

import numpy as np
import polars as pl

from features.log.asof import DAY_BITS, Ints

__all__ = ["FIXED", "decay_weights", "decayed"]

FIXED = 1 << 16
"""One, in the fixed-point weights of past events."""

_DAYS = 1 << DAY_BITS  # ages that weights are tabled for: all that there are


def decayed(age_days: pl.Expr, half_life_days: float) -> pl.Expr:
    """Fixed-point weight 2^16 * 2^(-(age - 1) / half-life) as an integer, at least 1."""
    return (pl.lit(2.0).pow(-(age_days - 1) / half_life_days) * FIXED).round().cast(pl.Int64).clip(lower_bound=1)


@lru_cache(maxsize=8)
def decay_weights(half_life_days: float) -> Ints:
    """`decayed` by age in days (1: the day before)."""
    age = pl.DataFrame({"age": np.arange(_DAYS)})
    return age.select(decayed(pl.col("age"), half_life_days)).to_series().to_numpy()
