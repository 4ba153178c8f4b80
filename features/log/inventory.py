"""What a log offers to features: decided once, at training, and kept with the version.

A log without prices has no price columns, rather than columns of nothing. So that a version reads at night what it
learned from, the bundle keeps the inventory of its training, and a night that lacks part of it is refused.
"""

import re
from collections.abc import Iterable, Sequence
from itertools import count

import polars as pl

from features.config import FeaturesConfig
from features.errors import ContractError, listed, require_columns
from features.frozen import FrozenConfig
from features.log.event_log import EventLog

__all__ = ["UNKNOWN", "FeatureInventory", "slug", "slugs"]

UNKNOWN = 0
"""Code of a value that the frozen vocabulary does not hold; its own codes start at 1, and a null is NaN."""

_OPTIONAL = {"items": ("category", "price"), "events": ("value", "text", "query"), "offers": ("offer",)}


class FeatureInventory(FrozenConfig):
    """What the log of a training had.

    Attributes:
        kinds: Event types, sorted.
        counted: Those that get counts of their own: all, but the only one that counts as success.
        inputs: Optional columns that hold anything, such as `items.price` or `events.query`.
        text: Text fields of the catalogue.
        vocabularies: Values of each attribute or context column that is text, most frequent first; code 1 is the
            first.
        offers: Kinds of offers, sorted.
    """

    kinds: tuple[str, ...]
    counted: tuple[str, ...]
    inputs: tuple[str, ...]
    text: tuple[str, ...]
    vocabularies: dict[str, tuple[str, ...]]
    offers: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, log: EventLog, config: FeaturesConfig, *, text: Sequence[str] = (), context: Sequence[str] = ()
    ) -> "FeatureInventory":
        """The inventory of a log, of the columns that the configuration names.

        Args:
            log: The log of the training.
            config: Attributes, vectors, sentiment.
            text: Text fields of the catalogue.
            context: Columns of events that describe a request.

        Raises:
            ConfigError: A configured column is not there; the nearest is named.
        """
        _require_configured(log, config, context)
        kinds = tuple(sorted(log.kinds))
        engaged = [kind for kind in kinds if log.gains.get(kind, 0) > 0]
        counted = kinds if len(engaged) > 1 else tuple(kind for kind in kinds if kind not in set(engaged))
        return cls(
            kinds=kinds,
            counted=counted,
            inputs=tuple(_inputs(log, config, context)),
            text=tuple(text),
            vocabularies=_vocabularies(log, config, context),
            offers=() if log.offers is None else tuple(log.offers["offer"].unique().sort()),
        )

    def has(self, reads: Iterable[str]) -> bool:
        """Whether every optional input among `reads` is there."""
        return all(name in self.inputs for name in reads if "." in name)

    def kinds_of(self, role: tuple[str, ...]) -> tuple[str, ...]:
        """The event types of a role that occur."""
        return tuple(kind for kind in role if kind in self.kinds)

    def gone(self, log: EventLog) -> tuple[str, ...]:
        """The event types that occur no longer in a later log."""
        present = set(log.kinds)
        return tuple(kind for kind in self.kinds if kind not in present)

    def require(self, log: EventLog, inputs: Iterable[str]) -> None:
        """Check that a later log has what this inventory has.

        An event type that occurs no longer is no fault: its counts go down to 0 by themselves, see `gone`.

        Args:
            log: The log.
            inputs: Which of `inputs` the version's columns are made of; see `registry.inputs_read`.

        Raises:
            ContractError: It lacks something that the version's columns are made of; all of it is named.
        """
        faults = []
        for name in inputs:
            table, column = name.split(".", 1)
            if not _holds(log, table, column):
                is_there = table == "events" or _tables(log)[table].width
                absent = f"there is no table of {table} (data.{table})"
                faults.append(f"{table} has nothing in {column!r}" if is_there else absent)
        faults += [f"items has no text field {name!r}" for name in self.text if name not in log.items.columns]
        if faults:
            raise ContractError(
                f"features: this version reads what the log lacks: {listed(faults)}. Deliver it as before (and name it "
                "under features), or train a version on the log as it is now."
            )


def slug(kind: str) -> str:
    """An event type as part of a column's name.

    >>> slug("Add to cart")
    'add_to_cart'
    """
    return re.sub(r"\W+", "_", kind.lower())


def slugs(kinds: Iterable[str], *, taken: Iterable[str] = ()) -> dict[str, str]:
    """Each of some kinds (event types, attributes, ...) as part of a column's name, no two of them alike.

    Of kinds that are spelled alike the first has the plain name, and the others are numbered.

    Args:
        kinds: The kinds, in an order that does not change.
        taken: Names that are in use already.

    >>> slugs(["View", "view", "Add to cart"])
    {'View': 'view', 'view': 'view_2', 'Add to cart': 'add_to_cart'}
    """
    used, named = set(taken), dict[str, str]()
    for kind in dict.fromkeys(kinds):
        plain = slug(kind)
        numbered = (plain if number == 1 else f"{plain}_{number}" for number in count(1))
        named[kind] = next(name for name in numbered if name not in used)
        used.add(named[kind])
    return named


def _tables(log: EventLog) -> dict[str, pl.DataFrame]:
    users = pl.DataFrame() if log.users is None else log.users
    offers = pl.DataFrame() if log.offers is None else log.offers
    return {"items": log.items, "users": users, "offers": offers}


def _columns(log: EventLog, table: str) -> Sequence[str]:
    if table == "events":
        return () if log.raw is None else log.raw.further
    return _tables(log)[table].columns


def _values(log: EventLog, table: str, column: str) -> pl.Series:
    """What stands in a column, without nulls."""
    return log.raw_events.values(column) if table == "events" else _tables(log)[table][column].drop_nulls()


def _require_configured(log: EventLog, config: FeaturesConfig, context: Sequence[str]) -> None:
    for table, key, configured in (
        ("items", "features.attributes.items", config.attributes.items),
        ("users", "features.attributes.users", config.attributes.users),
        ("items", "features.vectors", config.vectors),
        ("events", "features.sentiment", config.sentiment_columns),
        ("events", "requests.context", context),
    ):
        require_columns(configured, _columns(log, table), key=key, table=table)


def _inputs(log: EventLog, config: FeaturesConfig, context: Sequence[str]) -> list[str]:
    """Optional and configured columns that hold anything."""
    wanted = {
        "items": (*_OPTIONAL["items"], *config.attributes.items, *config.vectors),
        "events": (*_OPTIONAL["events"], *config.sentiment_columns, *context),
        "users": config.attributes.users,
        "offers": _OPTIONAL["offers"],
    }
    return [
        f"{table}.{name}"
        for table, names in wanted.items()
        for name in dict.fromkeys(names)
        if _holds(log, table, name)
    ]


def _holds(log: EventLog, table: str, column: str) -> bool:
    """Whether a table has anything in a column; values of events that do not count are nothing."""
    if (table, column) == ("events", "value"):
        return log.has_values
    if table == "events":
        return log.raw is not None and log.raw.has(column)
    frame = _tables(log)[table]
    return column in frame.columns and not frame[column].is_null().all()


def _vocabularies(log: EventLog, config: FeaturesConfig, context: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The most frequent values of each attribute and context column that is text, ties by name."""
    vocabularies = {}
    coded = {"items": config.attributes.items, "users": config.attributes.users, "events": context}
    for table, names in coded.items():
        for name in names:
            values = _values(log, table, name)
            if values.dtype == pl.String:
                counts = values.value_counts().sort(["count", name], descending=[True, False])
                vocabularies[f"{table}.{name}"] = tuple(counts[name].head(config.max_vocabulary))
    return vocabularies
