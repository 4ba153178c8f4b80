"""What a position does to clicks: estimated, and left out of the measure that chooses a ranker's size.

LightGBM's lambdarank learns what each position adds to a score while it learns the trees. NDCG over logged clicks would
stop it after a few of them, since whoever imitates the old order pleases those clicks best; so clicks are weighed by
how seldom their place is looked at (Joachims, Swaminathan and Schnabel 2017, "Unbiased learning-to-rank with biased
feedback").
"""

import numpy as np
import numpy.typing as npt

__all__ = ["MOST_WEIGHT", "clicks_weighed", "discounted_gain", "examination"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

MOST_WEIGHT = 20.0
"""What a click at the least examined place counts for, at most: a few lucky ones shall not decide."""

_BINS, _ROUNDS = 20, 200


def examination(score: Floats, position: Ints, clicked: npt.NDArray[np.bool_]) -> Floats:
    """How often each position is looked at, the most examined one 1.

    Position-based model (Richardson, Dominowska and Ragno 2007): the chance of a click is what the position gives times
    what items of such a score give, both fit by maximum likelihood in turns, over scores in twenty bins of equal size.
    Positions must differ among items of like score, or nothing tells the two apart.

    Args:
        score: (rows,) of a ranker that does not know positions.
        position: (rows,) from 0 on.
        clicked: (rows,).

    Returns:
        (positions,) from 0 to 1; 1 for a position without rows.
    """
    edges = np.quantile(score, np.linspace(0, 1, _BINS + 1)[1:-1])
    cell = position * _BINS + np.searchsorted(edges, score, side="right")
    shape = (int(position.max(initial=0)) + 1, _BINS)
    shown, clicks = (np.bincount(cell, weight, shape[0] * _BINS).reshape(shape) for weight in (None, clicked))
    examined, wanted = np.ones(shape[0]), np.ones(_BINS)
    for _ in range(_ROUNDS):
        wanted = _ratio(clicks.sum(0), examined @ shown)
        examined = _ratio(clicks.sum(1), shown @ wanted)
    held = shown.sum(1) > 0
    return np.where(held, examined / examined[held].max(initial=1e-300), 1.0)


def clicks_weighed(gain: Floats, position: Ints, examined: Floats) -> Floats:
    """(rows,) gain of each row over how often its place is looked at, at most `MOST_WEIGHT` times."""
    return gain * np.minimum(1 / np.maximum(examined[position], 1 / MOST_WEIGHT), MOST_WEIGHT)


def discounted_gain(score: Floats, weighed: Floats, request: Ints, k: int) -> float:
    """Sum over all requests of weighed gain / log2(rank + 1) over ranks up to k; ties in the order of the rows.

    Args:
        score: (rows,) higher is better.
        weighed: (rows,) `clicks_weighed`.
        request: (rows,) from 0 on, ascending.
        k: Rank at which it is cut.
    """
    order = np.lexsort((-score, request))
    first = np.searchsorted(request, request)
    rank = np.arange(len(score)) - first + 1
    return float((weighed[order] * np.where(rank <= k, 1 / np.log2(rank + 1), 0)).sum())


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0)
