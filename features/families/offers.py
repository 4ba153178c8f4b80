"""Offers of an item on the day and lately: engagements mean less for an item that sold by its offer."""

import numpy as np
import polars as pl

from features.log.asof import AsOfIndex, Floats, Ints, stamps_of
from features.log.decay import FIXED
from features.log.event_log import EventLog
from features.log.inventory import slugs
from features.signals.family import Columns, Family, Plan, Rows, Values

__all__ = ["ItemOffers"]

_LATELY_DAYS = 28


class _Reach:
    """The summed reach of an item's offers on any day; offers that begin later do not count."""

    def __init__(self, offers: pl.DataFrame) -> None:
        item, first, last = (offers[name].cast(pl.Int64).to_numpy() for name in ("item", "first_day", "last_day"))
        reach = np.rint(offers["reach"].to_numpy() * FIXED).astype(np.int64)
        day, change = np.concatenate([first, last + 1]), np.concatenate([reach, -reach])
        stamps = stamps_of(np.concatenate([item, item]), day)
        self._changes = AsOfIndex.of(stamps, np.stack([change, change * day], axis=1)) if len(stamps) else None

    def on(self, item: Ints, day: Ints) -> Floats:
        """On a day."""
        return self._until(item, day)[:, 0] / FIXED

    def lately(self, item: Ints, day: Ints) -> Floats:
        """Of a day among the 28 before one, on average."""
        sums = [self._summed(item, last) for last in (day - 1, day - 1 - _LATELY_DAYS)]
        return (sums[0] - sums[1]) / (FIXED * _LATELY_DAYS)

    def _summed(self, item: Ints, day: Ints) -> Ints:
        """Over all days up to one: a change of n on day d has counted ``n * (day - d + 1)``."""
        until = self._until(item, day)
        summed: Ints = until[:, 0] * (day + 1) - until[:, 1]
        return summed

    def _until(self, item: Ints, day: Ints) -> Ints:
        if self._changes is None:
            return np.zeros((len(item), 2), np.int64)
        return self._changes.total(item, day + 1)


class ItemOffers(Family):
    """Offers of the item, where there is a table of them (`data.offers`): two columns a kind."""

    name = "offers"
    keys = ("item",)
    reads = ("offers.offer",)
    null_policy = "0 without an offer"
    windows = (_LATELY_DAYS,)

    def __init__(self, log: EventLog, plan: Plan) -> None:
        assert log.offers is not None  # or else the plan would name no kind
        self._reach = {
            name: _Reach(log.offers.filter(pl.col("offer") == kind))
            for kind, name in slugs(plan.inventory.offers).items()
        }

    @classmethod
    def columns_of(cls, plan: Plan) -> Columns:
        """See `Family`."""
        meanings = (
            "summed reach of the item's offers of the kind {!r} that hold on the day",
            f"summed reach of its offers of the kind {{!r}}, on average over the {_LATELY_DAYS} days before",
        )
        named = slugs(plan.inventory.offers) if plan.inventory.has(cls.reads) else {}
        return {
            name: meaning.format(kind)
            for kind, of in named.items()
            for name, meaning in zip(_names(of), meanings, strict=True)
        }

    def compute(self, rows: Rows) -> Values:
        """See `Family`."""
        values: dict[str, Floats] = {}
        for name, reach in self._reach.items():
            now, lately = _names(name)
            values |= {now: reach.on(rows.item, rows.as_of_day), lately: reach.lately(rows.item, rows.as_of_day)}
        return values


def _names(kind: str) -> tuple[str, str]:
    return f"item_offer_now_{kind}", f"item_offer_{_LATELY_DAYS}d_{kind}"
