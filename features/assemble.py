"""The rows a ranker sees: requests, their candidates, and every feature that needs no encoder.

One function serves training, evaluation and the night. It works through the requests in portions, and a
request's rows do not depend on the portion it stands in.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import polars as pl

from features.candidates.catalog import ByQuery
from features.candidates.cut import CandidateCut
from features.candidates.union import CandidateGenerators, histories
from features.config import CandidatesConfig, FeaturesConfig
from features.families.registry import FeatureSet
from features.families.request import source_group
from features.log.event_log import EventLog
from features.log.inventory import FeatureInventory
from features.signals.family import Plan
from features.signals.queries import Queries
from features.tables.frames import PAIR, CandidateRows, LoggedLists, ShownRows

__all__ = ["KEYS", "POSITION", "Assembler", "Portion"]

KEYS = tuple(CandidateRows.column_names())
"""What names a row; the rest are features, but for a `POSITION`."""

POSITION = ShownRows.position.name
"""Where a logged request showed the item: for evaluation, never a feature."""

_LISTS = (LoggedLists.shown.name, LoggedLists.positions.name)


@dataclass(frozen=True, slots=True)
class Portion:
    """Some requests, complete.

    Attributes:
        requests: `Requests`, or `LoggedLists`.
        history: `HistoryItems` of the requests.
        rows: `CandidateRows`, of logged requests `ShownRows`; then the assembler's `features`.
    """

    requests: pl.DataFrame
    history: pl.DataFrame
    rows: pl.DataFrame


class Assembler:
    """Makes candidates and features for requests over one log.

    Args:
        log: The event log.
        config: Candidate quotas and windows.
        text_vectors: (items, width) int16 text vectors in the order of item codes, on
            the grid of `features.tables.text.GRID`; None switches text neighbours off.
        plan: Which features, made of what; None takes the default ones that the log allows.
        cut: What candidates are cut by; None cuts by the best rank over the generators.
        event_types: Event types that histories name; all others share one code.
        at_once: Requests of a portion; fewer take less memory.

    Attributes:
        features: Every feature that needs no encoder, in the order of the feature manifest.
        text_features: Those of them that are made of a text.
        sources: Rank and score of each candidate generator: the last of the features.
    """

    def __init__(
        self,
        log: EventLog,
        config: CandidatesConfig,
        text_vectors: npt.NDArray[np.int16] | None,
        plan: Plan | None = None,
        *,
        cut: CandidateCut | None = None,
        event_types: Sequence[str] = (),
        at_once: int = 1000,
    ) -> None:
        default = FeaturesConfig()
        self.log = log
        self.plan = plan or Plan(default, FeatureInventory.of(log, default))
        self._config = config
        self._event_types = event_types
        self.at_once = at_once
        self.generators = CandidateGenerators(log, config, text_vectors, cut, self._queries())
        self.families = FeatureSet(log, self.plan)
        self.sources = source_group(config)
        # NOTE: one thread for all portions: each new one may get a part of the memory of its own, which stays taken.
        self._ahead = ThreadPoolExecutor(max_workers=1, thread_name_prefix="portions")
        self.features = (*self.families.columns, *self.sources.columns)
        self.text_features = self.families.text | self.sources.text

    def portions(
        self,
        requests: pl.DataFrame,
        *,
        size: int | None = None,
        features: bool = True,
        holding: pl.DataFrame | None = None,
    ) -> Iterator[Portion]:
        """All requests in order, `size` at a time (by default `at_once`); their rows with features or as mere keys.

        While a portion is used, the next one is made in a thread of its own: do not use this assembler otherwise, or
        change its cut, until the last portion is out.
        """
        size = size or self.at_once
        make = partial(self.portion, holding=holding) if features else self.candidates
        parts = [requests.slice(start, size) for start in range(0, requests.height, size)]
        if len(parts) < 2:  # noqa: PLR2004 - nothing to make ahead
            yield from map(make, parts)
            return
        coming = self._ahead.submit(make, parts[0])
        try:
            for part in parts[1:]:
                made = coming.result()
                coming = self._ahead.submit(make, part)
                yield made
            yield coming.result()
        finally:
            wait([coming])  # an abandoned iteration ends its work before another one begins

    def portion(self, requests: pl.DataFrame, holding: pl.DataFrame | None = None) -> Portion:
        """Candidates and features of some requests, complete.

        Args:
            requests: `Requests`, or `LoggedLists`.
            holding: `Pairs`: only requests with one of these among their candidates get rows. None: all do.

        Raises:
            ConfigError: The plan is for online mode, and the requests carry no time.
        """
        history, rows = self._proposed(requests)
        if holding is not None:
            kept = rows.join(holding, on=PAIR, how="semi")["request"].unique()
            rows = rows.filter(pl.col("request").is_in(kept.implode()))
        sources = rows.select(pl.col(*self.sources.columns).cast(pl.Float32).fill_null(float("nan")))
        made = [_placed(rows.select(KEYS), requests), self.families.compute(rows), sources]
        return Portion(requests, history, pl.concat(made, how="horizontal"))

    def candidates(self, requests: pl.DataFrame) -> Portion:
        """The same requests with the keys of their rows alone, for callers that read no feature."""
        history, rows = self._proposed(requests)
        return Portion(requests, history, rows.select(KEYS))

    def _proposed(self, requests: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Histories of requests, and their candidates joined with the columns of the request."""
        history = histories(self.log, requests, self._config, self._event_types)
        proposed = self.generators.propose(requests, history)
        return history, proposed.join(requests.drop(_LISTS, strict=False), on="request", maintain_order="left")

    def _queries(self) -> Queries | None:
        """The signal of search queries, where `by_query` is on and the log has queries; else None."""
        inventory = self.plan.inventory
        if not (ByQuery.quota(self._config) and inventory.text and inventory.has(ByQuery.reads)):
            return None
        return Queries(inventory.text, self.plan.config.max_words, self.plan.online)


def _placed(keys: pl.DataFrame, requests: pl.DataFrame) -> pl.DataFrame:
    """The keys of rows, of logged requests with `POSITION`."""
    if LoggedLists.shown.name not in requests.columns:
        return keys
    shown_positions = requests.select("request", item="shown", position="positions").explode("item", POSITION)
    return keys.join(shown_positions, on=PAIR, how="left", maintain_order="left")
