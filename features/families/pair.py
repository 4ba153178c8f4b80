"""What the user did with the candidate item: counts, recency, whether it is due again, its share and lift."""

import numpy as np

from features.families.item import Gaps
from features.log.asof import DAY_MASK, AsOfIndex, Floats, Ints, KeysAsOf, stamps_of
from features.log.event_log import EventLog
from features.log.interactions import Interactions
from features.signals.family import Family, Plan, Rows, Values, days_or_nan, mean_gap, ratio

__all__ = ["PairHistory", "Shares", "by_pair", "expected_gap"]


def by_pair(done: Interactions, n_items: int) -> AsOfIndex:
    """Events by user and item: by ``user * n_items + item``."""
    return AsOfIndex.of(stamps_of(done.pairs(n_items), done.day), done.n)


def expected_gap(past: KeysAsOf, prior_days: Floats) -> Floats:
    """Days until the next time that are to be expected: the mean of the pair's own gaps and one of the prior's.

    Args:
        past: Engagements of the pair before the day.
        prior_days: Mean gap of the item or value over all users, NaN for none (then there is no own gap either).

    Returns:
        NaN where there is no gap at all.
    """
    own = np.maximum(past.active_days() - 1, 0)
    span = past.days_since_first() - past.days_since_last()
    expected: Floats = (span + prior_days) / (own + 1)
    return expected


class Shares:
    """How much more a user wants a value than everybody does.

    The lift is ``log((n + mu p) / ((N + mu) p))``: n of the user's N events are with the value, p is the value's
    share of all events as of the day, and the user's own share is smoothed by mu events of the prior (Dirichlet
    smoothing, Zhai & Lafferty 2001). Written as ``log((n / p + mu) / (N + mu))`` it is defined for p = 0 too, as
    nobody, the user included, has been seen with the value.

    Args:
        values: Events that count, by value.
        mu: Weight of the prior, in events.
    """

    def __init__(self, values: AsOfIndex, mu: float) -> None:
        self._values = values
        self._all = AsOfIndex.of(values.stamps & DAY_MASK, np.diff(values.running))
        self._mu = mu

    def compute(self, rows: Rows, value: str, events: Ints, users: AsOfIndex) -> tuple[Floats, Floats]:
        """Share of the user's events that are with the value, and the lift.

        Args:
            rows: Who, when, and the value.
            value: Its name among the rows' columns.
            events: Events of each row's user with its value.
            users: All events that count, by user.
        """
        of_user = rows.by(("user",), lambda some: users.total(some.user, some.as_of_day))
        inverse = rows.by((value,), lambda some: self._inverse_share(some[value], some.as_of_day))
        return ratio(events, of_user), np.log((events * inverse + self._mu) / (of_user + self._mu))

    def _inverse_share(self, value: Ints, day: Ints) -> Floats:
        """1 / p; n is 0 where nobody was seen with the value."""
        everything = self._all.total(np.zeros_like(day), day)
        return everything / np.maximum(self._values.total(value, day), 1)


class PairHistory(Family):
    """Counts, recency, due-ness, share and lift of the pair of user and item."""

    name = "pair"
    keys = ("user", "item")
    reads = ("user", "item", "gain", "day")
    windows = (7, 28, 90)
    columns = {
        **{f"pair_events_{days}d": f"engagements of the user with the item, last {days} days" for days in windows},
        "pair_events_all": "engagements of the user with the item, ever",
        "pair_active_days": "days on which the user engaged with the item",
        "pair_days_since_last": "days since the user engaged with the item last",
        "pair_days_since_first": "days since the user engaged with the item first",
        "pair_share_of_active_days": "share of the user's active days with the item",
        "pair_days_since_last_per_gap": "days since the last time, in the user's own mean gaps with the item",
        "pair_due": "days since the last time over the expected gap: the user's own gaps and one of the item's mean",
        "pair_share": "share of the user's engagements that are with the item",
        "pair_lift": "log of the user's smoothed share with the item over everybody's share",
    }

    def __init__(self, log: EventLog, plan: Plan) -> None:
        self._log = log
        self._gaps = Gaps(log.item_return_gaps)
        self._shares = Shares(log.item_index, plan.config.smoothing_events)

    def compute(self, rows: Rows) -> Values:
        """See `Family`."""
        log = self._log.only(rows.users)
        past = log.shared(_by_pair).at(rows.user * log.items.height + rows.item, rows.as_of_day)
        total, active = past.total(), past.active_days()
        since = days_or_nan(past.days_since_last())
        users = log.user_index
        user_days = rows.by(("user",), lambda some: users.active_days(some.user, some.as_of_day))
        item_gap = rows.by(("item",), lambda some: self._gaps.compute(some.item, some.as_of_day)[0])
        share, lift = self._shares.compute(rows, "item", total, users)
        return {
            **{f"pair_events_{days}d": past.total(days) for days in self.windows},
            "pair_events_all": total,
            "pair_active_days": active,
            "pair_days_since_last": since,
            "pair_days_since_first": days_or_nan(past.days_since_first()),
            "pair_share_of_active_days": ratio(active, user_days),
            "pair_days_since_last_per_gap": ratio(since, mean_gap(past)),
            "pair_due": ratio(since, expected_gap(past, item_gap)),
            "pair_share": share,
            "pair_lift": lift,
        }


def _by_pair(log: EventLog) -> AsOfIndex:
    return by_pair(log.interactions, log.items.height)
