"""Features of any number of rows over a log that is held one part of the users at a time.

What is known of a user, or of a user with an item, lies whole in the part that holds the user. What is known of
everybody is the sum over all parts: it is held in `AsOfIndex`, and these add up. So every part is seen twice: once for
what it adds to the sums, once for its rows.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from features.asof import AsOfIndex
from features.config import FeaturesConfig
from features.errors import ConfigError, listed
from features.families.base import Family, Plan, Rows
from features.families.item import ItemPopularity
from features.families.pair import PairHistory
from features.families.registry import answered, chosen
from features.families.user import UserActivity
from features.timeline import EventLog

__all__ = ["PARTED", "PartedFeatures", "added", "parted"]

PARTED: Mapping[type[Family], tuple[str, ...]] = {
    UserActivity: (),
    ItemPopularity: ("_counts", "_first_users", "_gaps", "_price", "_returns"),
    PairHistory: ("_gaps", "_shares"),
}
"""Families that parts of the users can be asked about, and their attributes that sum up what all users did.

A family without a user key consists of these alone.
"""

Sums = dict[type[Family], dict[str, Any]]


def parted(config: FeaturesConfig) -> tuple[type[Family], ...]:
    """The families that are on.

    Raises:
        ConfigError: One is unknown, or needs the whole log at once.
    """
    families = chosen(config)
    others = [family.name for family in families if family not in PARTED]
    if others:
        raise ConfigError(
            f"features.families: {listed(others, most=50)} cannot be computed in parts of the users; only "
            f"{listed([family.name for family in PARTED])} can. Leave the others out here: a training computes them."
        )
    return families


class PartedFeatures:
    """Families over parts of the users, equal to the bit to the same families over the whole log.

    Args:
        plan: Which families, in the order of their columns, and what the whole log has.

    Raises:
        ConfigError: See `parted`.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._families = parted(plan.config)
        self._sums: Sums = {}
        self.columns = tuple(name for family in self._families for name in family.columns_of(plan))

    def part(self, log: EventLog) -> Sums:
        """What a part adds to the sums; parts may be made side by side.

        Args:
            log: The part: all events of its users, under the codes that all parts share.
        """
        built = {family: vars(family(log, self._plan)) for family in self._families if PARTED[family]}
        return {family: {name: state[name] for name in PARTED[family]} for family, state in built.items()}

    def absorb(self, part: Sums) -> None:
        """Add what `part` made; every part once, in any order, before any `compute`."""
        self._sums = added(self._sums, part) if self._sums else part

    def compute(self, log: EventLog, rows: pl.DataFrame) -> pl.DataFrame:
        """Features of rows of the part's users.

        Args:
            log: The part, as it was absorbed; users that no row asks about may be left out.
            rows: user, item, as_of_day; any order.

        Returns:
            One Float32 column a name of `columns`, one row a row of `rows`; NaN where a value is not defined.
        """
        asked = Rows({name: rows[name].cast(pl.Int64).to_numpy() for name in ("user", "item", "as_of_day")})
        found = answered([self._member(family, log) for family in self._families], asked)
        return pl.DataFrame({name: found[name] for name in self.columns})

    def _member(self, family: type[Family], log: EventLog) -> Family:
        """The family over the part, with the sums over all parts in their places."""
        member = family(log, self._plan) if "user" in family.keys else object.__new__(family)
        for name, state in self._sums.get(family, {}).items():
            setattr(member, name, state)
        return member


def added(one: Any, other: Any, *, known: dict[tuple[int, int], Any] | None = None) -> Any:  # noqa: ANN401 - state of any form
    """State over the events of two logs that share no user: indexes add up, and all else is alike in both.

    Args:
        one: Of the one.
        other: Of the other.
        known: What was added already, by the ids of both: an index that several families share is added once.

    Raises:
        TypeError: It holds something else, which does not add up.
    """
    known = {} if known is None else known
    if (id(one), id(other)) not in known:
        known[id(one), id(other)] = _added(one, other, known)
    return known[id(one), id(other)]


def _added(one: Any, other: Any, known: dict[tuple[int, int], Any]) -> Any:  # noqa: ANN401 - state of any form
    if type(one) is type(other):
        if isinstance(one, AsOfIndex):
            return one.plus(other)
        if isinstance(one, dict) and one.keys() == other.keys():
            return {name: added(state, other[name], known=known) for name, state in one.items()}
        if isinstance(one, list) and len(one) == len(other):
            return [added(*pair, known=known) for pair in zip(one, other, strict=True)]
        if isinstance(one, np.ndarray) and np.array_equal(one, other, equal_nan=one.dtype.kind == "f"):
            return one
        if isinstance(one, str | int | float | tuple | None) and one == other:
            return one
        if hasattr(one, "__dict__"):
            both = object.__new__(type(one))
            vars(both).update(added(vars(one), vars(other), known=known))
            return both
    msg = f"{one!r} and {other!r} are state of two parts of a log, and do not add up."
    raise TypeError(msg)
