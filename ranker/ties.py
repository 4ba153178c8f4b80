"""Ranked lists and their ties: what every metric by expectation is computed from."""

# R requests, N rows of all lists, P positives, T tie groups that hold a positive
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

__all__ = ["Floats", "Ints", "Lists", "TieGroups", "matches_within", "sorted_lists", "summed", "tie_groups"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Values = NDArray[Any]
_BLOCK_CELLS: Final = 1 << 18  # compared at a time: they stay in the processor's cache


@dataclass(frozen=True, slots=True)
class Lists:
    """The lists of R requests, each a stretch of one flat array."""

    scores: Values  # (N,) ascending within each list
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
        """(T,) rank before the group's first row, and rank of its last row, neither beyond k."""
        return np.minimum(self.above, k), np.minimum(self.above + self.size, k)

    def total(self, values: Ints | Floats) -> Floats:
        """(R,) sum of (T,) values within each request."""
        return summed(self.request, values, self.n_requests)


def sorted_lists(values: Values, start: Ints, length: Ints, wanted: NDArray[np.bool_] | None = None) -> Lists:
    """Sort the numbers within each wanted list (all of them, if None is given); the others are left out of the answer.

    Lists of like length are sorted together as the rows of a padded matrix: many times faster than one sort by
    (request, value).

    Args:
        values: (N,) floats or integers, none of them NaN.
        start: (R,) row at which each list begins.
        length: (R,) rows of each.
        wanted: (R,) whether it is sorted.
    """
    last = np.inf if values.dtype.kind == "f" else np.iinfo(values.dtype).max
    begin, parts, filled = np.zeros(len(start), np.int64), [values[:0]], 0
    for chosen, stretches in _of_like_length(values, start, length if wanted is None else np.where(wanted, length, 0)):
        lengths = length[chosen]
        block = stretches[start[chosen]]
        inside = np.arange(lengths.max()) < lengths[:, None] if lengths.min() < lengths.max() else None
        if inside is not None:
            block[~inside] = last
        block.sort(axis=1)
        parts.append(block.ravel() if inside is None else block[inside])
        begin[chosen] = filled + np.cumsum(lengths) - lengths
        filled += len(parts[-1])
    return Lists(np.concatenate(parts), begin, length)


def matches_within(values: Values, wanted: Values, start: Ints, length: Ints) -> tuple[Ints, Ints]:
    """Find each of P numbers in a list of its own: who was found, and in which row, once for every row that has it.

    Args:
        values: (N,) numbers of all lists.
        wanted: (P,) numbers to find.
        start: (P,) row at which each one's list begins.
        length: (P,) rows of that list.
    """
    who, row = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for chosen, stretches in _of_like_length(values, start, length):
        width = stretches.shape[1]
        for block in np.array_split(chosen, -(-len(chosen) * width // _BLOCK_CELLS)):
            one, position = np.divmod(np.flatnonzero(stretches[start[block]] == wanted[block, None]), width)
            inside = position < length[block[one]]
            who.append(block[one[inside]])
            row.append(start[who[-1]] + position[inside])
    return np.concatenate(who), np.concatenate(row)


def _of_like_length(values: Values, start: Ints, length: Ints) -> Iterator[tuple[Ints, Values]]:
    """Indices of lists that are not empty and within a factor of two of each other's length, and their common shape.

    That is a view (rows, longest): the values from each row on, zeros beyond the last.
    """
    magnitude = np.frexp(length)[1]
    for level in np.flatnonzero(np.bincount(magnitude)[1:]) + 1:
        chosen = np.flatnonzero(magnitude == level)
        width = length[chosen].max()
        beyond = max(start[chosen].max() + width - len(values), 0)
        padded = np.concatenate([values, np.zeros(beyond, values.dtype)]) if beyond else values
        yield chosen, sliding_window_view(padded, width)


def tie_groups(lists: Lists, request: Ints, score: Values, gain: Floats) -> TieGroups:
    """Find the tie groups of the retrieved positives, each given by its request's index, score and gain."""
    start, length = lists.start[request], lists.length[request]
    below = _bisect(lists.scores, score, start, length, tied_too=False)
    not_above = below + 1
    tied = np.flatnonzero(not_above < length)
    tied = tied[lists.scores[(start + not_above)[tied]] == score[tied]]
    not_above[tied] = _bisect(lists.scores, score[tied], start[tied], length[tied], tied_too=True)
    above, size = length - not_above, not_above - below
    group_key = request * length.max(initial=0) + above
    _, first, group, positives = np.unique(group_key, return_index=True, return_inverse=True, return_counts=True)
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


def _bisect(ordered: Values, value: Values, start: Ints, length: Ints, *, tied_too: bool) -> Ints:
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
