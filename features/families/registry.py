"""The registry of feature families, and the columns that a plan makes of them.

No column enters a training table but through a family of the register, or through a declared `ColumnGroup`.
"""

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from features.candidates.catalog import behaviour_ranks, generators_of
from features.config import RENAMED_FAMILIES, CandidatesConfig, FeaturesConfig
from features.errors import ConfigError, listed
from features.families.attribute import ItemAttributes, ProfileAttributes, UserCategory, UserItemAttributes
from features.families.attribute_values import item_codes
from features.families.comments import ItemComments
from features.families.ease import HistoryEase
from features.families.exposure import ItemExposure, PairExposure
from features.families.item import ItemPopularity
from features.families.lexical import TextPhrases, TextWords
from features.families.offers import ItemOffers
from features.families.pair import PairHistory
from features.families.query import QueryMatch
from features.families.request import RequestList
from features.families.request_time import RequestContext, RequestTime
from features.families.similar_users import SimilarUsers
from features.families.titles import ItemTitle
from features.families.user import UserActivity
from features.families.value import EventValue
from features.families.vectors import VectorMatch
from features.log.engagements import KEPT_BY_DAY, SUMMED_BY_DAY
from features.log.event_log import EventLog
from features.signals.family import Family, Plan, Rows

__all__ = [
    "FAMILIES",
    "FeatureSet",
    "answered",
    "chosen",
    "column_names",
    "events_read",
    "inputs_read",
    "reads_of_every_event",
    "register",
    "short_windows",
]

FAMILIES: dict[str, type[Family]] = {}
"""Every family by its name."""

_ROW_KEYS = ("request", "user", "item")


def register(family: type[Family]) -> type[Family]:
    """Add a family to the registry, so that `features.families` may name it. Usable as a decorator.

    Raises:
        ConfigError: Another family has its name, or had it once.
    """
    if family.name in RENAMED_FAMILIES:
        raise ConfigError(
            f"{family.name!r} is what the feature family {RENAMED_FAMILIES[family.name]!r} was called; call yours "
            "otherwise."
        )
    if FAMILIES.setdefault(family.name, family) is not family:
        raise ConfigError(f"a feature family called {family.name!r} is registered already; call yours otherwise.")
    return family


for _family in (
    UserActivity,
    ItemPopularity,
    ItemExposure,
    ItemOffers,
    PairHistory,
    PairExposure,
    SimilarUsers,
    HistoryEase,
    EventValue,
    UserCategory,
    UserItemAttributes,
    ItemAttributes,
    ProfileAttributes,
    RequestList,
    RequestTime,
    RequestContext,
    ItemComments,
    ItemTitle,
    TextWords,
    TextPhrases,
    QueryMatch,
    VectorMatch,
):
    register(_family)


def chosen(config: FeaturesConfig) -> tuple[type[Family], ...]:
    """The families that are on, in the order of their columns.

    Raises:
        ConfigError: A name is unknown (the nearest is suggested), stands twice, or one that is needed is missing.
    """
    faults = []
    for name in config.families:
        if name not in FAMILIES:
            near = difflib.get_close_matches(name, FAMILIES, n=1, cutoff=0.5)
            hint = f"Did you mean {near[0]!r}?" if near else f"There are {listed(FAMILIES, most=50)}."
            faults.append(f"features.families: no family is called {name!r}. {hint}")
    if len(set(config.families)) < len(config.families):
        faults.append("features.families: a name stands twice.")
    if PairHistory.name not in config.families:
        faults.append(
            f"features.families: {PairHistory.name!r} must be on, since training tells new items from repeats by it."
        )
    reserved = set(_ROW_KEYS) & set(config.attributes.items)
    if reserved:
        faults.append(f"features.attributes.items: {listed(sorted(reserved))} cannot be an attribute; rename it.")
    if faults:
        raise ConfigError("\n".join(faults))
    return tuple(FAMILIES[name] for name in config.families)


class FeatureSet:
    """The families of a plan over one log.

    Args:
        log: The event log; rows may have any as-of day; no value depends on that day or a later one.
        plan: What is on, and what the log of the training had.

    Attributes:
        plan: The plan.
        columns: Family of each column, in order.
        text: Columns that are made of a text.

    Raises:
        ConfigError: A family is unknown, or two columns have one name.
    """

    def __init__(self, log: EventLog, plan: Plan) -> None:
        self.plan = plan
        families = [family for family in chosen(plan.config) if family.columns_of(plan)]
        self.columns: Mapping[str, type[Family]] = _named(families, plan)
        self.text = frozenset[str]().union(*(family.text_of(plan) for family in families))
        self._members = [member for family in families for member in family.members(log, plan)]
        keys = {key for member in self._members for key in member.keys}
        self._codes = {key: item_codes(log, key) for key in sorted(keys - set(_ROW_KEYS))}

    def compute(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Features of some rows.

        Args:
            rows: user, item, as_of_day, and for families keyed by request also request and the source columns, in
                online mode also requested_at, query and the context columns; any order, a request's rows complete.

        Returns:
            One Float32 column a name of `columns`, one row a row of `rows`; NaN where a value is not defined.

        Raises:
            ConfigError: Online mode, and the requests carry no time.
        """
        made = answered(self._members, self._rows(rows))
        return pl.DataFrame({name: made[name] for name in self.columns})

    def _rows(self, rows: pl.DataFrame) -> Rows:
        of_requests = any("request" in member.keys for member in self._members)
        names = [name for name in (*_ROW_KEYS, "as_of_day") if name != "request" or of_requests]
        columns = {name: rows[name].cast(pl.Int64).to_numpy() for name in names}
        columns |= {name: codes[columns["item"]] for name, codes in self._codes.items()}
        if not of_requests:
            return Rows(columns)
        sources = np.stack([rows[name].is_not_null().to_numpy() for name in behaviour_ranks(rows.columns)], axis=1)
        return Rows(columns, sources, self._request_context(rows) if self.plan.online else None)

    def _request_context(self, rows: pl.DataFrame) -> pl.DataFrame:
        """requested_at, query and context of each row's request."""
        if "requested_at" not in rows.columns:
            raise ConfigError(
                "requests.mode: online reads the time, query and context of each request, and these requests have "
                "none: only logged ones do (requests.source: logged). Train a version with requests.mode: batch."
            )
        return rows.select("requested_at", "query", *self.plan.requests.context_columns)


def column_names(plan: Plan) -> tuple[str, ...]:
    """The columns that a plan makes, in order; no data are read.

    Raises:
        ConfigError: A family is unknown, or two columns have one name.
    """
    return tuple(_named([family for family in chosen(plan.config) if family.columns_of(plan)], plan))


def answered(members: Iterable[Family], rows: Rows) -> dict[str, npt.NDArray[np.float32]]:
    """The columns of all families for rows: each computes them once for each distinct (keys, as-of day)."""
    made: dict[str, npt.NDArray[np.float32]] = {}
    for member in members:
        if {"user", "item"} <= set(member.keys):  # rows of a request differ in them anyway
            made |= _singles(member.compute(rows))
            continue
        distinct, position = rows.distinct(member.keys)
        made |= {name: column[position] for name, column in _singles(member.compute(distinct)).items()}
    return made


def events_read(plan: Plan, candidates: CandidatesConfig | None = None) -> tuple[str, ...]:
    """Columns of single events (a text, a timestamp, ...) that are read and that daily counts lack.

    Args:
        plan: Which families.
        candidates: Which generators; None for families alone.
    """
    folded = {*KEPT_BY_DAY, *SUMMED_BY_DAY}
    return tuple(sorted(name for name in _read_of_events(plan, candidates) if name not in folded))


def reads_of_every_event(config: FeaturesConfig) -> tuple[str, ...]:
    """Columns of every event that families read and that daily counts lack, such as a timestamp.

    Families that read an optional column of events do not count: their rows are kept anyway.
    """
    folded = {*KEPT_BY_DAY, *SUMMED_BY_DAY}
    whole = [family.reads for family in chosen(config) if not any(name.startswith("events.") for name in family.reads)]
    return tuple(sorted({name for reads in whole for name in reads if "." not in name} - folded))


def inputs_read(plan: Plan, candidates: CandidatesConfig | None = None) -> tuple[str, ...]:
    """Inputs of the inventory that columns are made of: those of items and users, and what is read of other tables."""
    read = {f"events.{name}" for name in _read_of_events(plan, candidates)}
    read |= {name for family in chosen(plan.config) for name in family.reads}
    return tuple(name for name in plan.inventory.inputs if name.startswith(("items.", "users.")) or name in read)


def _read_of_events(plan: Plan, candidates: CandidatesConfig | None) -> set[str]:
    reads = [family.reads for family in chosen(plan.config) if family.columns_of(plan)]
    if candidates is not None:
        reads += [
            made.reads
            for made in generators_of(candidates)
            if made.quota(candidates) and plan.inventory.has(made.reads)
        ]
    named = {name.removeprefix("events.") for some in reads for name in some}
    named |= set(plan.config.sentiment_columns)
    return {name for name in named if "." not in name}


def short_windows(plan: Plan, first_event_day: int, first_as_of_day: int) -> tuple[int, ...]:
    """Windows, in days, that begin before the first event where the first as-of day looks back by them."""
    windows = {days for family in chosen(plan.config) if family.columns_of(plan) for days in family.windows}
    return tuple(sorted(days for days in windows if first_as_of_day - days < first_event_day))


def _singles(values: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[np.float32]]:
    return {name: column.astype(np.float32) for name, column in values.items()}


def _named(families: Iterable[type[Family]], plan: Plan) -> dict[str, type[Family]]:
    named: dict[str, type[Family]] = {}
    for family in families:
        for name in family.columns_of(plan):
            if name in named:
                raise ConfigError(
                    f"features: the families {named[name].name!r} and {family.name!r} both have a column {name!r}."
                )
            named[name] = family
    return named
