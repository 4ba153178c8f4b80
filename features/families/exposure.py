"""Click-through and conversion rate of items, and how often the item was shown to the user."""

import numpy as np

from features.families.pair import by_pair
from features.log.asof import DAY_MASK, AsOfIndex, Floats, Ints
from features.log.event_log import EventLog
from features.log.interactions import by_item
from features.signals.family import Columns, Family, Plan, Rows, Values, days_or_nan

__all__ = ["ItemExposure", "PairExposure"]

_PRIOR_EVENTS = 20.0  # events that everybody's rate weighs in an item's smoothed rate


class _Rate:
    """Share of an item's `whole` events that were followed by `part`, smoothed by everybody's share."""

    def __init__(self, log: EventLog, part: tuple[str, ...], whole: tuple[str, ...]) -> None:
        indexes = [by_item(some.of_kinds(kinds) for some in log.cells.parts()) for kinds in (part, whole)]
        self._part, self._whole = indexes
        self._parts, self._wholes = (AsOfIndex.of(of.stamps & DAY_MASK, np.diff(of.running)) for of in indexes)

    def of(self, item: Ints, day: Ints) -> Floats:
        """``(part + 20 p) / (whole + 20)``, p the rate of all items as of the day; NaN where nothing was."""
        nothing = np.zeros_like(day)
        parts, wholes = (index.total(nothing, day) for index in (self._parts, self._wholes))
        rate = np.where(wholes > 0, parts / np.maximum(wholes, 1), np.nan)
        part, whole = self._part.total(item, day), self._whole.total(item, day)
        return (part + _PRIOR_EVENTS * rate) / (whole + _PRIOR_EVENTS)


class ItemExposure(Family):
    """Smoothed click-through and conversion, where the log has impressions or clicks."""

    name = "exposure"
    keys = ("item",)
    reads = ("item", "kind", "day")

    def __init__(self, log: EventLog, plan: Plan) -> None:
        self._rates = {name: _Rate(log, part, whole) for name, part, whole, _ in _rates(plan)}

    @classmethod
    def columns_of(cls, plan: Plan) -> Columns:
        """See `Family`."""
        return {name: meaning for name, _, _, meaning in _rates(plan)}

    def compute(self, rows: Rows) -> Values:
        """See `Family`."""
        return {name: rate.of(rows.item, rows.as_of_day) for name, rate in self._rates.items()}


class PairExposure(Family):
    """How often and how lately the item was shown to the user."""

    name = "pair_exposure"
    keys = ("user", "item")
    reads = ("user", "item", "kind", "day")
    windows = (7, 28)

    def __init__(self, log: EventLog, plan: Plan) -> None:
        self._log = log
        self._kinds = plan.inventory.kinds_of(plan.config.roles.shown)

    @classmethod
    def columns_of(cls, plan: Plan) -> Columns:
        """See `Family`."""
        if not plan.inventory.kinds_of(plan.config.roles.shown):
            return {}
        return {
            **{f"pair_shown_{days}d": f"times the user was shown the item, last {days} days" for days in cls.windows},
            "pair_shown_all": "times the user was shown the item, ever",
            "pair_days_since_shown": "days since the user was shown the item last",
        }

    def compute(self, rows: Rows) -> Values:
        """See `Family`."""
        log = self._log.only(rows.users)
        past = log.shared(self._shown).at(rows.user * log.items.height + rows.item, rows.as_of_day)
        return {
            **{f"pair_shown_{days}d": past.total(days) for days in self.windows},
            "pair_shown_all": past.total(),
            "pair_days_since_shown": days_or_nan(past.days_since_last()),
        }

    def _shown(self, log: EventLog) -> AsOfIndex:
        return by_pair(log.cells.of_kinds(self._kinds), log.items.height)


def _rates(plan: Plan) -> list[tuple[str, tuple[str, ...], tuple[str, ...], str]]:
    """Name, part, whole and meaning of the rates that the log's event types allow."""
    roles, kinds_of = plan.config.roles, plan.inventory.kinds_of
    shown, clicked, bought = kinds_of(roles.shown), kinds_of(roles.clicked), kinds_of(roles.bought)
    rates = []
    if shown and clicked:
        rates.append(("item_click_rate", clicked, shown, "clicks over impressions, smoothed by everybody's rate"))
    if clicked and bought:
        rates.append(("item_conversion_rate", bought, clicked, "purchases over clicks, smoothed by everybody's rate"))
    return rates
