"""When users came back to the same thing, as sums that are searchable as of any day."""

import numpy as np
import polars as pl

from features.asof import DAY_BITS, DAY_MASK, AsOfIndex, stamps_of, summed

__all__ = ["comebacks"]


def comebacks(events: pl.DataFrame, key: str) -> AsOfIndex:
    """Active days of a user with an item or value that follow another one, dated at the later.

    Args:
        events: user, day and the key; engagements, or days with any; in any order.
        key: Column of the item or value.

    Returns:
        Three series by key: days since the one before, how many there were, and how many of these were a user's first.
    """
    user, value, day = (events[name].cast(pl.Int64).to_numpy() for name in ("user", key, "day"))
    width = int(value.max(initial=0)) + 1
    stamps, _ = summed(stamps_of(user * width + value, day))
    pair, days = stamps >> DAY_BITS, stamps & DAY_MASK
    again = np.flatnonzero(pair[1:] == pair[:-1]) + 1
    of_pair, gap = pair[again], days[again] - days[again - 1]
    first = np.ones(len(again), np.int64)
    first[1:] = of_pair[1:] != of_pair[:-1]
    amounts = np.stack([gap, np.ones(len(again), np.int64), first], axis=1)
    return AsOfIndex.of(stamps_of(of_pair % width, days[again]), amounts)
