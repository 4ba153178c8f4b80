"""When users came back to the same thing, as sums that are searchable as of any day."""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from features.log.asof import DAY_BITS, DAY_MASK, AsOfIndex, Ints, stamps_of, summed

__all__ = ["return_gaps"]


def return_gaps(parts: Iterable[tuple[Ints, Ints, npt.NDArray[np.integer]]], width: int) -> AsOfIndex:
    """Active days of a user with an item or value that follow another one, dated at the later.

    Args:
        parts: User, item or value, and day of engagements, or of days with any, in any order: all of a user in one
            part.
        width: Above all items or values.

    Returns:
        Three series by item or value: days since the one before, how many there were, and how many of these were a
        user's first.
    """
    return AsOfIndex.adding(_of_part(user * width + value, day, width) for user, value, day in parts)


def _of_part(pair: Ints, day: npt.NDArray[np.integer], width: int) -> tuple[Ints, Ints]:
    stamps, _ = summed(stamps_of(pair, day))
    pair, days = stamps >> DAY_BITS, stamps & DAY_MASK
    again = np.flatnonzero(pair[1:] == pair[:-1]) + 1
    of_pair, gap = pair[again], days[again] - days[again - 1]
    first = np.ones(len(again), np.int64)
    first[1:] = of_pair[1:] != of_pair[:-1]
    amounts = np.stack([gap, np.ones(len(again), np.int64), first], axis=1)
    return stamps_of(of_pair % width, days[again]), amounts
