"""How far click probabilities can be believed, and what a threshold on them finds.

Conventions:
- Rows are judged, not requests: a probability claims something of its own row. A positive is an outcome of 1.
- Row order never matters, to the bit.
- Log loss: the mean of -(y ln p + (1 - y) ln(1 - p)) in nats (Good, JRSS B 1952), p held at least 1e-15 off 0 and 1.
- Brier score: the mean of (p - y)^2 (Brier, 1950).
- ECE: sum over bins of n_bin / n |mean y - mean p| over bins of equal width, each closed above, the first below too
  (Naeini, Cooper & Hauskrecht, AAAI 2015).
- At a threshold t, rows with p >= t are called positive. Precision TP / (TP + FP), recall TP / (TP + FN), F1 their
  harmonic mean 2 TP / (2 TP + FP + FN) (van Rijsbergen, 1979); each NaN where its denominator is 0.
"""

# N rows
from dataclasses import dataclass
from itertools import pairwise
from math import fsum
from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from features.errors import ContractError
from ranker.ties import Floats

__all__ = ["AtThreshold", "Calibration", "at_threshold", "calibration"]

_LEAST: Final = 1e-15


@dataclass(frozen=True, slots=True)
class Calibration:
    """How far probabilities are from what happened; `n` rows, `rate` of them positive."""

    log_loss: float
    brier: float
    ece: float
    n: int
    rate: float


@dataclass(frozen=True, slots=True)
class AtThreshold:
    """What is found by calling positive what is at or above a threshold."""

    precision: float
    recall: float
    f1: float


def calibration(probabilities: ArrayLike, outcomes: ArrayLike, *, bins: int = 10) -> Calibration:
    """Hold probabilities against outcomes.

    Args:
        probabilities: (N,) from 0 to 1, one row or more.
        outcomes: (N,) 0 or 1.
        bins: Bins of equal width for ECE, 1 or more.

    Raises:
        ContractError: Naming all faults: lengths differ, no rows, values out of range.

    >>> found = calibration([0.2, 0.2, 0.6, 0.6], [0, 1, 1, 1], bins=5)
    >>> round(found.ece, 3), round(found.brier, 3)
    (0.35, 0.25)
    """
    p, y = _checked(probabilities, outcomes, [] if bins >= 1 else [f"bins is {bins}: give 1 or more"])
    order = np.lexsort((y, p))
    p, y = p[order], y[order]
    inside = np.clip(p, _LEAST, 1 - _LEAST)
    loss = -np.where(y == 1, np.log(inside), np.log1p(-inside))
    edges = np.searchsorted(p, np.arange(bins + 1) / bins, side="right")
    edges[0] = 0
    gaps = (abs(fsum((y - p)[start:end])) for start, end in pairwise(edges))
    n = len(p)
    return Calibration(
        log_loss=fsum(loss) / n, brier=fsum((p - y) ** 2) / n, ece=fsum(gaps) / n, n=n, rate=float(y.sum() / n)
    )


def at_threshold(probabilities: ArrayLike, outcomes: ArrayLike, threshold: float) -> AtThreshold:
    """Precision, recall and F1 of calling positive what is at or above a threshold.

    Args:
        probabilities: (N,) from 0 to 1, one row or more.
        outcomes: (N,) 0 or 1.
        threshold: From 0 to 1.

    Raises:
        ContractError: As `calibration`.

    >>> at_threshold([0.9, 0.5, 0.5, 0.1], [1, 0, 1, 1], 0.5)
    AtThreshold(precision=0.6666666666666666, recall=0.6666666666666666, f1=0.6666666666666666)
    """
    wrong = [] if 0 <= threshold <= 1 else [f"threshold is {threshold}: give a probability from 0 to 1"]
    p, y = _checked(probabilities, outcomes, wrong)
    called = p >= threshold
    right, n_called, positives = int(y[called].sum()), int(called.sum()), int(y.sum())
    return AtThreshold(
        precision=right / n_called if n_called else np.nan,
        recall=right / positives if positives else np.nan,
        f1=2 * right / (n_called + positives) if n_called + positives else np.nan,
    )


def _checked(probabilities: ArrayLike, outcomes: ArrayLike, faults: list[str]) -> tuple[Floats, Floats]:
    """Both as (N,) arrays, in contract."""
    p, y = np.asarray(probabilities, dtype=np.float64), np.asarray(outcomes, dtype=np.float64)
    if p.ndim != 1 or p.shape != y.shape or not p.size:
        faults = [
            *faults,
            f"probabilities have shape {p.shape}, outcomes {y.shape}: give one of each a row, for one or more",
        ]
    if bad := np.count_nonzero(~((p >= 0) & (p <= 1))):
        faults = [*faults, f"{bad} of {p.size} probabilities are not within 0 to 1: give probabilities, not scores"]
    if bad := np.count_nonzero(~np.isin(y, (0, 1))):
        faults = [*faults, f"{bad} of {y.size} outcomes are neither 0 nor 1: say 1 where it was clicked"]
    if faults:
        raise ContractError("\n- ".join(["calibration: the input cannot be judged.", *faults]))
    return p, y
