"""Values of an item's attribute as integer codes, for counting by them."""

import numpy as np
import polars as pl

from features.log.asof import Ints
from features.log.event_log import EventLog

__all__ = ["NO_VALUE", "item_codes", "value_codes"]

NO_VALUE = 0
"""Code of a null; what is counted by value is NaN there."""


def value_codes(values: pl.Series) -> Ints:
    """Codes 1.. of values in ascending order, `NO_VALUE` for nulls; they hold for this table only."""
    return values.rank("dense").fill_null(NO_VALUE).cast(pl.Int64).to_numpy()


def item_codes(log: EventLog, name: str) -> Ints:
    """`value_codes` of a column of the catalogue, by item code, and `NO_VALUE` for an empty catalogue."""
    if name not in log.items.columns:
        return np.zeros(log.items.height, np.int64)
    return value_codes(log.items[name])
