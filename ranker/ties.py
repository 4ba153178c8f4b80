"""Ranked lists and their ties: what every metric by expectation is computed from."""

# R requests, N rows of all lists, P positives, T tie groups that hold a positive
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

__all__ = ["Floats", "Ints", "Lists", "TieGroups", "lists_of", "sorted_lists", "summed", "tie_groups"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Lists:
    """The lists of R requests, each a stretch of one flat array."""

    scores: Floats  # (N,) ascending within each list
    start: Ints  # (R,)
    length: Ints  # (R,)


@dataclass(frozen=True, slots=True)
class TieGroups:
    """The groups of equal score that hold a positive, by request, then by rank.

    No metric needs the others: all that they do to a positive is to stand above it, which `above` counts.
    """

    n_requests: int
    request: Ints  # (T,) index of the request
    above: Ints  # (T,) rows of the list with a higher score
    size: Ints  # (T,) rows with this score
    positives: Ints  # (T,) of them, positives
    gain: Floats  # (T,) their summed gain
    positives_above: Ints  # (T,) positives with a higher score

    def span(self, k: int) -> tuple[Ints, Ints]:
        """(T,) rank before the group's first place, and of its last place, neither beyond k."""
        return np.minimum(self.above, k), np.minimum(self.above + self.size, k)

    def total(self, values: Ints | Floats) -> Floats:
        """(R,) sum of (T,) values within each request."""
        return summed(self.request, values, self.n_requests)


def sorted_lists(scores: Floats, length: Ints, wanted: NDArray[np.bool_]) -> Lists:
    """Sort the scores within each wanted list; the others stay as they are.

    Lists of like length (within a factor of two) are sorted together as the rows of a padded matrix: many
    times faster than one sort by (request, score).
    """
    ordered = scores.copy()
    magnitude = np.where(wanted, np.frexp(length)[1], 0)
    for level in np.unique(magnitude[magnitude > 0]):
        chosen = magnitude == level
        lengths = length[chosen]
        rows = np.repeat(chosen, length)
        if lengths.min() == lengths.max():  # nothing to pad
            ordered[rows] = np.sort(scores[rows].reshape(len(lengths), -1), axis=1).ravel()
            continue
        inside = np.arange(lengths.max()) < lengths[:, None]
        block = np.full(inside.shape, np.inf)
        block[inside] = scores[rows]
        block.sort(axis=1)
        ordered[rows] = block[inside]
    return Lists(ordered, np.cumsum(length) - length, length)


def lists_of(rankings: pl.DataFrame, requests: pl.DataFrame, wanted: NDArray[np.bool_]) -> Lists:
    """The sorted lists of the wanted of R `requests` (`request_id`, `request`); the others are left empty."""
    scores, runs = rankings["score"], rankings["request_id"].rle().struct.unnest()
    if runs["value"].n_unique() < runs.height:
        grouped = rankings.group_by("request_id").agg("score")
        scores = grouped["score"].explode()
        runs = grouped.select(pl.col("score").list.len().alias("len"), pl.col("request_id").alias("value"))
    runs = runs.join(requests, left_on="value", right_on="request_id", how="left", maintain_order="left")
    request = runs["request"].cast(pl.Int64).fill_null(-1).to_numpy()
    chosen = request >= 0
    chosen[chosen] = wanted[request[chosen]]

    lists = sorted_lists(scores.cast(pl.Float64).to_numpy(), runs["len"].cast(pl.Int64).to_numpy(), chosen)
    start, length = np.zeros((2, requests.height), dtype=np.int64)
    start[request[chosen]], length[request[chosen]] = lists.start[chosen], lists.length[chosen]
    return Lists(lists.scores, start, length)


def tie_groups(lists: Lists, request: Ints, score: Floats, gain: Floats) -> TieGroups:
    """Find the tie groups of the retrieved positives, each given by its request's index, score and gain."""
    start, length = lists.start[request], lists.length[request]
    below = _bisect(lists.scores, score, start, length, tied_too=False)
    not_above = _bisect(lists.scores, score, start, length, tied_too=True)
    above, size = length - not_above, not_above - below
    place = request * length.max(initial=0) + above
    _, first, group, positives = np.unique(place, return_index=True, return_inverse=True, return_counts=True)
    request = request[first]
    before = np.cumsum(positives) - positives
    return TieGroups(
        n_requests=len(lists.start),
        request=request,
        above=above[first],
        size=size[first],
        positives=positives,
        gain=summed(group, gain, len(first)),
        positives_above=before - before[np.searchsorted(request, request)],
    )


def _bisect(ordered: Floats, value: Floats, start: Ints, length: Ints, *, tied_too: bool) -> Ints:
    """Count the rows in each value's own stretch that are below it, or `tied_too` not above it."""
    low, high = start.copy(), start + length
    for _ in range(int(length.max(initial=0)).bit_length()):
        middle = (low + high) // 2
        here = ordered[np.minimum(middle, len(ordered) - 1)]
        right = (low < high) & ((here <= value) if tied_too else (here < value))
        low, high = np.where(right, middle + 1, low), np.where(right, high, middle)
    return low - start


def summed(index: Ints, weights: Ints | Floats, size: int) -> Floats:
    """(size,) sum of the weights at each index."""
    return np.bincount(index, weights=weights, minlength=size).astype(np.float64, copy=False)
