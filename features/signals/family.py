"""What a feature family is: a small class that names its columns and computes them from before an as-of day.

A family computes its columns once for each distinct (keys, as-of day) of the rows, however many candidates share them;
`features.families.registry` finds the distinct ones and spreads the results. See `Family` for how to write one.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self, TypeVar

import numpy as np
import numpy.typing as npt
import polars as pl

from features.config import FeaturesConfig, RequestsConfig
from features.log.asof import NEVER, AsOfIndex, Floats, Ints, KeysAsOf
from features.log.event_log import EventLog
from features.log.inventory import FeatureInventory

__all__ = [
    "AsOfIndex",
    "ColumnGroup",
    "Columns",
    "Family",
    "Floats",
    "Ints",
    "Plan",
    "Rows",
    "Values",
    "days_or_nan",
    "mean_gap",
    "ratio",
    "tally",
]

Columns = Mapping[str, str]
"""Meaning, in one line, of each column, in order."""
Values = Mapping[str, npt.NDArray[np.number[Any]]]
"""One array a column, one value a row."""

Answer = TypeVar("Answer", Ints, Floats)
_DENSE = 32  # size of a lookup table per row up to which it is cheaper than sorting


@dataclass(frozen=True, slots=True)
class Plan:
    """What columns are made of: what the user configured, and what the log had when the version was trained."""

    config: FeaturesConfig
    inventory: FeatureInventory
    requests: RequestsConfig = field(default_factory=RequestsConfig)

    @property
    def online(self) -> bool:
        """Whether requests are ranked at request time, so that their clock, query and context can be features."""
        return self.requests.mode == "online"


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of candidates that a family computes its columns for, as codes of the log.

    Attributes:
        columns: One integer array a name, one value a row: as_of_day, and the family's keys.
        sources: (rows, generators) which generators that read no text proposed the row; only for families
            keyed by request.
        request_context: requested_at, query and the context columns of each row's request; None in batch mode, where
            they are not available. Only for families keyed by request.
    """

    columns: Mapping[str, Ints]
    sources: npt.NDArray[np.bool_] | None = None
    request_context: pl.DataFrame | None = None
    _distinct: "dict[tuple[str, ...], tuple[Rows, Ints]]" = field(default_factory=dict, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.as_of_day)

    def __getitem__(self, name: str) -> Ints:
        return self.columns[name]

    @property
    def user(self) -> Ints:
        """User codes."""
        return self.columns["user"]

    @property
    def users(self) -> Ints:
        """Distinct user codes of the rows, ascending: what `EventLog.only` takes."""
        return np.unique(self.distinct(("user",))[0].user)

    @property
    def item(self) -> Ints:
        """Item codes."""
        return self.columns["item"]

    @property
    def as_of_day(self) -> Ints:
        """Day numbers; only what lies before them may be used."""
        return self.columns["as_of_day"]

    def take(self, positions: Ints) -> "Rows":
        """Some of the rows."""
        sources = None if self.sources is None else self.sources[positions]
        request_context = None if self.request_context is None else self.request_context[positions]
        return Rows({name: column[positions] for name, column in self.columns.items()}, sources, request_context)

    def by(self, keys: tuple[str, ...], answer: "Callable[[Rows], Answer]") -> "Answer":
        """The values of a function that is called with the distinct (keys, as_of_day) alone, spread over all rows."""
        distinct, position = self.distinct(keys)
        return answer(distinct)[position]

    def distinct(self, keys: tuple[str, ...]) -> tuple["Rows", Ints]:
        """The distinct (keys, as_of_day), ascending, and the position of each row among them."""
        if keys not in self._distinct:
            self._distinct[keys] = self._distinct_rows(keys)
        return self._distinct[keys]

    def _distinct_rows(self, keys: tuple[str, ...]) -> tuple["Rows", Ints]:
        # NOTE: one key's days side by side, as they lie in an `AsOfIndex`: searches in order are several times faster.
        code, count = np.zeros(len(self), np.int64), 1
        for key in (*keys, "as_of_day"):
            inner, width = _codes(self.columns[key])
            code, count = _numbered(code * width + inner, count * width)
        first = np.empty(count, np.int64)
        first[code[::-1]] = np.arange(len(code))[::-1]
        named = {name: self.columns[name][first] for name in (*keys, "as_of_day")}
        request_context = (
            self.request_context[first] if self.request_context is not None and "request" in keys else None
        )
        return Rows(named, request_context=request_context), code


def _codes(values: Ints) -> tuple[Ints, int]:
    """Values less their smallest, and how many numbers that spans."""
    if not len(values):
        return values, 1
    low = int(values.min())
    return values - low, int(values.max()) - low + 1


def _numbered(codes: Ints, span: int) -> tuple[Ints, int]:
    """Position of each code among the distinct ones, ascending, and how many there are."""
    if span > _DENSE * len(codes) + 1:
        distinct, positions = np.unique(codes, return_inverse=True)
        return positions.astype(np.int64), len(distinct)
    there = np.zeros(span, np.int32)
    there[codes] = 1
    positions = np.cumsum(there, dtype=np.int32)
    return positions[codes].astype(np.int64) - 1, int(positions[-1]) if span else 0


@dataclass(frozen=True, slots=True)
class ColumnGroup:
    """Columns of the training table that no family makes: ranks of candidate sources, interest scores.

    Attributes:
        name: How the group is called in manifests.
        columns: Their meanings.
        text: Those of them that are made of a text.
    """

    name: str
    columns: Columns
    text: frozenset[str]


class Family(ABC):
    """Some features that belong together.

    Write one by naming its class variables and two methods, then hand it to `registry.register`:
    `__init__` builds its indexes (usually some `AsOfIndex`), `compute` looks rows up in them. Only events with
    ``day < as_of_day`` may move a value, and sums run over integers or in one fixed order.

    Attributes:
        name: How the family is called in configuration, manifests and explanations.
        keys: What its values depend on besides as_of_day: any of request, user, item, category and the item
            attributes that the configuration names.
        reads: Columns of the log that it needs, `items.price` for one of the catalogue, `events.text` for an optional
            one of events. Beside user, item, gain, kind and day, `EventLog.events` has only what stands here.
        windows: Days that its windows look back, if it has any.
        columns: Meaning of each column, in order; see `columns_of` where they depend on the log.
        is_text: Whether it reads texts or contents; the behaviour-only ranker then leaves it out. See `text_of`.
        null_policy: What stands where a value is not defined.
    """

    name: ClassVar[str]
    keys: tuple[str, ...]
    reads: ClassVar[tuple[str, ...]] = ()
    windows: ClassVar[tuple[int, ...]] = ()
    columns: ClassVar[Columns] = {}
    is_text: ClassVar[bool] = False
    null_policy: ClassVar[str] = "NaN where undefined"

    @abstractmethod
    def __init__(self, log: EventLog, plan: Plan) -> None: ...

    @classmethod
    def columns_of(cls, plan: Plan) -> Columns:
        """The columns it has under a plan; none where the log lacks what the family needs."""
        return cls.columns if plan.inventory.has(cls.reads) else {}

    @classmethod
    def text_of(cls, plan: Plan) -> frozenset[str]:
        """Those of its columns that are made of a text: all of a text family, and counts by a text field."""
        return frozenset(cls.columns_of(plan)) if cls.is_text else frozenset()

    @classmethod
    def members(cls, log: EventLog, plan: Plan) -> "tuple[Self, ...]":
        """The family's instances: one, unless it repeats for each attribute, say."""
        return (cls(log, plan),)

    @abstractmethod
    def compute(self, rows: Rows) -> Values:
        """The values of its columns for rows that are distinct in (keys, as_of_day)."""


def days_or_nan(days: Ints) -> Floats:
    """Days, NaN for `NEVER`."""
    return np.where(days == NEVER, np.nan, days)


def ratio(part: Ints | Floats, whole: Ints | Floats) -> Floats:
    """`part / whole`, NaN where the whole is 0 or undefined."""
    defined = whole > 0
    return np.where(defined, part / np.where(defined, whole, 1), np.nan)


def mean_gap(past: KeysAsOf) -> Floats:
    """Mean days between two active days of a key, NaN with fewer than two."""
    span = past.days_since_first() - past.days_since_last()
    return ratio(span, np.maximum(past.active_days() - 1, 0))


def tally(codes: Ints, weights: Ints | Floats, span: int) -> tuple[Ints, npt.NDArray[np.number[Any]]]:
    """The distinct codes below `span`, ascending, and the sum of weights above 0 of each."""
    if span > _DENSE * len(codes) + 1:
        cells, position = np.unique(codes, return_inverse=True)
        return cells, np.bincount(position, weights.astype(np.float64), len(cells))
    sums = np.bincount(codes, weights.astype(np.float64), span)
    cells = np.flatnonzero(sums)
    return cells, sums[cells]
