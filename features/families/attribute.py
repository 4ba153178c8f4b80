"""The user and a value of the item's category or of any attribute; and attributes brought as they are."""

from collections.abc import Iterator
from typing import ClassVar

import numpy as np
import polars as pl

from features.families.attribute_values import NO_VALUE, item_codes
from features.families.item import Gaps
from features.families.pair import Shares, expected_gap
from features.log.asof import AsOfIndex, Counts, Floats, Ints, stamps_of
from features.log.event_log import EventLog
from features.log.inventory import UNKNOWN, slugs
from features.log.return_gaps import return_gaps
from features.signals.family import Columns, Family, Plan, Rows, Values, days_or_nan, mean_gap, ratio

__all__ = [
    "ItemAttributes",
    "ProfileAttributes",
    "UserCategory",
    "UserItemAttributes",
    "UserValue",
    "coded_attribute",
]


class UserValue(Family):
    """The user and all items of one value (a category, a brand).

    Args:
        log: The event log.
        plan: Smoothing.
        attribute: Column of the catalogue.
    """

    name = "user_value"
    reads: ClassVar[tuple[str, ...]] = ("user", "item", "gain", "day")
    windows = (7, 28, 90)

    def __init__(self, log: EventLog, plan: Plan, attribute: str = "category") -> None:
        self.keys = ("user", attribute)
        self._attribute, self._prefix = attribute, f"user_{_user_slugs(plan)[attribute]}"
        self._log = log
        self._codes = item_codes(log, attribute)
        self._width = int(self._codes.max(initial=0)) + 1
        self._gaps = Gaps(return_gaps(((user, value, day) for user, value, day, _ in self._valued(log)), self._width))
        of_values = AsOfIndex.adding((stamps_of(value, day), n) for _, value, day, n in self._valued(log))
        self._shares = Shares(of_values, plan.config.smoothing_events)

    @classmethod
    def meanings(cls, attribute: str, name: str) -> Columns:
        """Names and meanings of the columns of an attribute, which is called so in their names."""
        prefix, what = f"user_{name}", f"the item's {attribute}"
        return {
            **{f"{prefix}_events_{days}d": f"engagements with {what}, last {days} days" for days in cls.windows},
            f"{prefix}_events_all": f"engagements of the user with {what}, ever",
            f"{prefix}_days_since_last": f"days since the user engaged with {what} last",
            f"{prefix}_days_since_last_per_gap": f"days since the last time, in the user's mean gaps with {what}",
            f"{prefix}_due": "days since the last time over the expected gap: the user's own and one of the mean",
            f"{prefix}_share": f"share of the user's engagements that are with {what}",
            f"{prefix}_lift": f"log of the user's smoothed share with {what} over everybody's share",
        }

    def compute(self, rows: Rows) -> Values:
        """See `Family`; NaN throughout where the item has no value."""
        value, day = rows[self._attribute], rows.as_of_day
        events, users = self._log.only(rows.users).shared(self._of_users)
        past = events.at(rows.user * self._width + value, day)
        since, total = days_or_nan(past.days_since_last()), past.total()
        usual = rows.by((self._attribute,), lambda some: self._gaps.compute(some[self._attribute], some.as_of_day)[0])
        share, lift = self._shares.compute(rows, self._attribute, total, users)
        prefix = self._prefix
        values = {
            **{f"{prefix}_events_{days}d": past.total(days) for days in self.windows},
            f"{prefix}_events_all": total,
            f"{prefix}_days_since_last": since,
            f"{prefix}_days_since_last_per_gap": ratio(since, mean_gap(past)),
            f"{prefix}_due": ratio(since, expected_gap(past, usual)),
            f"{prefix}_share": share,
            f"{prefix}_lift": lift,
        }
        return {name: np.where(value == NO_VALUE, np.nan, column) for name, column in values.items()}

    def _valued(self, log: EventLog) -> Iterator[tuple[Ints, Ints, Ints, Counts]]:
        """User, value, day, and count of the engagements with items that have a value, by parts."""
        for part in log.interactions.parts():
            value = self._codes[part.item]
            valued = np.flatnonzero(value != NO_VALUE)
            user, day = (of[valued].astype(np.int64) for of in (part.user, part.day))
            yield user, value[valued], day, part.n[valued]

    def _of_users(self, log: EventLog) -> tuple[AsOfIndex, AsOfIndex]:
        """Engagements by user and value, and by user."""
        valued = list(self._valued(log))
        pairs = ((stamps_of(user * self._width + value, day), n) for user, value, day, n in valued)
        users = ((stamps_of(user, day), n) for user, _, day, n in valued)
        return AsOfIndex.adding(pairs), AsOfIndex.adding(users)


class UserCategory(UserValue):
    """The user and the item's category."""

    name = "user_category"
    keys = ("user", "category")
    reads = ("user", "item", "gain", "day", "items.category")
    columns = UserValue.meanings("category", "category")

    @classmethod
    def text_of(cls, plan: Plan) -> frozenset[str]:
        """See `Family`."""
        return frozenset(cls.columns_of(plan)) if "category" in plan.inventory.text else frozenset()


class UserItemAttributes(UserValue):
    """The user and each attribute that `features.attributes.items` names."""

    name = "user_item_attribute"
    keys = ("user", "an attribute")

    @classmethod
    def columns_of(cls, plan: Plan) -> Columns:
        """See `Family`."""
        return {
            column: meaning
            for name, of in _user_slugs(plan).items()
            if name in _present("items", plan)
            for column, meaning in cls.meanings(name, of).items()
        }

    @classmethod
    def text_of(cls, plan: Plan) -> frozenset[str]:
        """See `Family`."""
        texts = (name for name in _present("items", plan) if name in plan.inventory.text)
        return frozenset(column for name in texts for column in cls.meanings(name, _user_slugs(plan)[name]))

    @classmethod
    def members(cls, log: EventLog, plan: Plan) -> "tuple[UserItemAttributes, ...]":
        """See `Family`: one for each attribute."""
        return tuple(cls(log, plan, name) for name in _present("items", plan))


class _Attributes(Family):
    """Attributes of a table as they are: a number itself, a text as its code in the frozen vocabulary."""

    table: ClassVar[str]
    prefix: ClassVar[str]

    def __init__(self, log: EventLog, plan: Plan) -> None:
        rows = log.users if self.table == "users" else log.items
        assert rows is not None  # or else the plan would name no attribute of theirs
        self._columns = {
            column: coded_attribute(rows[name], plan.inventory.vocabularies.get(f"{self.table}.{name}"))
            for name, column in self._names(plan).items()
        }

    @classmethod
    def columns_of(cls, plan: Plan) -> Columns:
        """See `Family`."""
        what = "user" if cls.table == "users" else "item"
        return {
            column: (
                f"{name} of the {what}, "
                + (
                    "code of its value, 0 unknown"
                    if f"{cls.table}.{name}" in plan.inventory.vocabularies
                    else "as it is"
                )
            )
            for name, column in cls._names(plan).items()
        }

    @classmethod
    def _names(cls, plan: Plan) -> dict[str, str]:
        """The column of each attribute that holds anything."""
        named = slugs(getattr(plan.config.attributes, cls.table))
        return {name: f"{cls.prefix}_{named[name]}" for name in _present(cls.table, plan)}

    def compute(self, rows: Rows) -> Values:
        """See `Family`."""
        codes = rows[self.keys[0]]
        return {name: _at(column, codes) for name, column in self._columns.items()}


class ItemAttributes(_Attributes):
    """The columns of items that `features.attributes.items` names, as they are."""

    name = "item_attribute"
    prefix = "item_attribute"
    table = "items"
    keys = ("item",)

    @classmethod
    def text_of(cls, plan: Plan) -> frozenset[str]:
        """See `Family`."""
        return frozenset(column for name, column in cls._names(plan).items() if name in plan.inventory.text)


class ProfileAttributes(_Attributes):
    """The columns of users that `features.attributes.users` names, as they are."""

    name = "profile_attribute"
    prefix = "own_attribute"  # NOTE: boosters and kept rows carry the columns' names
    table = "users"
    keys = ("user",)


def coded_attribute(values: pl.Series, vocabulary: tuple[str, ...] | None) -> Floats:
    """An attribute as numbers.

    Args:
        values: Numbers, or texts where there is a vocabulary.
        vocabulary: Its values, code 1 first.

    Returns:
        Numbers as they are; a text's code, `UNKNOWN` for one that the vocabulary lacks; NaN for null.
    """
    if vocabulary is None:
        numbers = values.cast(pl.Float64)
    else:
        codes = pl.DataFrame({"value": vocabulary}, schema={"value": pl.String}).with_row_index("code", offset=1)
        coded = pl.DataFrame({"value": values.cast(pl.String)}).join(
            codes, on="value", how="left", maintain_order="left"
        )
        numbers = coded.select(
            pl.when(pl.col("value").is_not_null()).then(pl.col("code").fill_null(UNKNOWN)).cast(pl.Float64)
        ).to_series()
    return numbers.fill_null(np.nan).to_numpy()


def _at(column: Floats, code: np.ndarray) -> Floats:
    """NaN for a code beyond the table: nobody, as the list for unknown users asks."""
    inside = code < len(column)
    return np.where(inside, column[np.where(inside, code, 0)], np.nan)


def _user_slugs(plan: Plan) -> dict[str, str]:
    """What attributes of items are called in the columns of `UserValue`; the category stands there by its own name."""
    return slugs(plan.config.attributes.items, taken=("category",)) | {"category": "category"}


def _present(table: str, plan: Plan) -> tuple[str, ...]:
    return tuple(name for name in getattr(plan.config.attributes, table) if plan.inventory.has([f"{table}.{name}"]))
