"""Statistics of feature columns, and their drift (PSI) against earlier statistics."""

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import polars as pl

from features.frozen import FrozenConfig
from features.signals.family import Floats

__all__ = ["ColumnStatistics", "column_statistics", "drifts", "psi", "psi_of_shares", "statistics_of"]

_BINS = 10
_LEAST_SHARE = 1e-4  # a bin that nothing fell into counts as this share, so that the logarithm is defined


class ColumnStatistics(FrozenConfig):
    """One column over some rows.

    Attributes:
        rows: Rows looked at.
        null_share: Share of them that are undefined (NaN).
        mean: Of the defined ones, as `std`, `least` and `largest`; None if there are none.
        std: Standard deviation (of the population).
        least: Smallest.
        largest: Largest.
        edges: Distinct deciles: the borders of the bins that drift is measured in.
        shares: Share of the rows in each bin (at or below an edge, above the one before), the undefined last.
    """

    rows: int
    null_share: float
    mean: float | None
    std: float | None
    least: float | None
    largest: float | None
    edges: tuple[float, ...]
    shares: tuple[float, ...]


def statistics_of(rows: pl.DataFrame) -> dict[str, ColumnStatistics]:
    """Statistics of every column of a table of numbers."""
    return {name: column_statistics(rows[name].cast(pl.Float64).to_numpy()) for name in rows.columns}


def column_statistics(values: Floats, *, edges: npt.ArrayLike | None = None) -> ColumnStatistics:
    """Statistics of one column; NaN is undefined.

    Args:
        values: (N,) the column.
        edges: Borders of the bins, ascending, instead of its own deciles: those that shares are compared in.
    """
    defined = values[~np.isnan(values)]
    edges = _deciles(defined) if edges is None else np.asarray(edges, np.float64)
    summary = (defined.mean(), defined.std(), defined.min(), defined.max()) if len(defined) else (None,) * 4
    mean, std, least, largest = (None if value is None else float(value) for value in summary)
    return ColumnStatistics(
        rows=len(values),
        null_share=float(1 - len(defined) / len(values)) if len(values) else math.nan,
        mean=mean,
        std=std,
        least=least,
        largest=largest,
        edges=tuple(edges.tolist()),
        shares=tuple(_shares(values, edges).tolist()),
    )


def _deciles(defined: Floats) -> Floats:
    if not len(defined):
        return np.empty(0)
    return np.unique(np.quantile(defined, np.arange(1, _BINS) / _BINS, method="inverted_cdf"))


def psi(values: Floats, reference: ColumnStatistics) -> float:
    """`psi_of_shares` in the bins of the reference's deciles, and one of undefined values."""
    return psi_of_shares(_shares(values, np.array(reference.edges)), reference.shares)


def psi_of_shares(now: npt.ArrayLike, then: npt.ArrayLike) -> float:
    """Population stability index: ``sum over bins of (a - r) ln(a / r)``, a and r the shares now and then.

    Empty bins count as 0.0001. By the usual rule of thumb nothing moved below 0.1, and much did above 0.25
    (Siddiqi 2006).

    >>> round(psi_of_shares([0.5, 0.5], [0.25, 0.75]), 4)  # 0.25 ln 2 + 0.25 ln 1.5
    0.2747
    """
    a, r = (np.maximum(np.asarray(shares, np.float64), _LEAST_SHARE) for shares in (now, then))
    return float(((a - r) * np.log(a / r)).sum())


def drifts(rows: pl.DataFrame, reference: Mapping[str, ColumnStatistics]) -> dict[str, float]:
    """`psi` of each column that the reference has too."""
    shared = [name for name in rows.columns if name in reference]
    return {name: psi(rows[name].cast(pl.Float64).to_numpy(), reference[name]) for name in shared}


def _shares(values: Floats, edges: npt.NDArray[np.float64]) -> Floats:
    """Share of each bin, then of the undefined."""
    defined = values[~np.isnan(values)]
    counts = np.bincount(np.searchsorted(edges, defined, side="left"), minlength=len(edges) + 1)
    return np.append(counts, len(values) - len(defined)) / max(len(values), 1)
