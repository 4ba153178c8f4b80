"""What a generator is: it proposes items, each with a score, for requests as of their day.

Its rank and score become features, and its recall a row of the table of recall. The docstring of `features.candidates`
says how to add one.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy import sparse

from features.config import CandidatesConfig
from features.log.asof import Ints
from features.log.event_log import EventLog
from features.signals.cache import AsOfCache
from features.signals.queries import Queries
from features.signals.top_k import NO_SCORES, leaders, top_k

__all__ = ["Generator", "GeneratorInputs", "best_of_users", "recent_items"]


@dataclass(frozen=True, slots=True)
class GeneratorInputs:
    """What generators are made from.

    Attributes:
        log: The event log.
        config: Quotas and windows.
        text_vectors: (items, width) int16 on the grid of `features.tables.text.GRID` in the order of item codes, or
            None for no text.
        queries: How the log's queries are read, or None for no queries.
    """

    log: EventLog
    config: CandidatesConfig
    text_vectors: npt.NDArray[np.int16] | None = None
    queries: Queries | None = None

    @property
    def cache(self) -> AsOfCache:
        """Fits of the log's signals."""
        return AsOfCache(self.log)


class Generator(ABC):
    """One way to propose items.

    Attributes:
        name: Key of its quota in `CandidatesConfig`, or in its `extra`; and the stem of its two columns.
        meaning: One line for people.
        is_text: Whether it reads texts: its columns are kept from the behaviour-only ranker.
        reads: Columns of single events that it needs, as in `features.signals.family.Family`.
    """

    name: ClassVar[str]
    meaning: ClassVar[str]
    is_text: ClassVar[bool] = False
    reads: ClassVar[tuple[str, ...]] = ()

    def __init__(self, inputs: GeneratorInputs) -> None:
        self.inputs = inputs

    @classmethod
    def quota(cls, config: CandidatesConfig) -> int:
        """The most items it proposes a request."""
        return int(config.extra[cls.name] if cls.name in config.extra else getattr(config, cls.name))

    @property
    def most(self) -> int:
        """Its quota."""
        return self.quota(self.inputs.config)

    @abstractmethod
    def propose(self, requests: pl.DataFrame, history: pl.DataFrame) -> pl.DataFrame:
        """Its items for each request, at most its quota.

        Args:
            requests: `Requests`; of logged requests also query.
            history: `HistoryItems` of these requests.

        Returns:
            `features.tables.frames.Ranked`, with scores above 0.
        """


def recent_items(history: pl.DataFrame, most: int) -> pl.DataFrame:
    """The latest items of each request's history."""
    return history.filter(pl.int_range(pl.len()).over("request") < most)


def best_of_users(requests: pl.DataFrame, scores: Callable[[Ints, int], sparse.csr_matrix], most: int) -> pl.DataFrame:
    """The `most` best items of each request, by what `scores` gives users (ascending codes) as of a day."""
    parts = [NO_SCORES]
    for (day,), some in requests.sort("as_of_day", "request").group_by("as_of_day", maintain_order=True):
        user, row = np.unique(some["user"].cast(pl.Int64).to_numpy(), return_inverse=True)
        parts.append(leaders(scores(user, int(day))[row], most, requests=some["request"].to_numpy()))
    return top_k(pl.concat(parts), most)
