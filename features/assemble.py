"""The rows a ranker sees: requests, their candidates, and every feature that needs no encoder.

One function serves training, evaluation and the night. It works through the requests in portions, and a
request's rows do not depend on the portion it stands in.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from features.behaviour import BehaviourFeatures
from features.candidates import SOURCES, CandidateGenerators, histories
from features.config import CandidatesConfig
from features.cut import CandidateCut
from features.timeline import EventLog

__all__ = ["FEATURES", "Assembler", "Portion"]

_SOURCE_COLUMNS = tuple(f"{source}_{part}" for source in SOURCES for part in ("rank", "score"))

FEATURES: tuple[str, ...] = (*BehaviourFeatures.columns, *_SOURCE_COLUMNS)
"""Every feature that needs no encoder, in the order of the feature manifest."""


@dataclass(frozen=True, slots=True)
class Portion:
    """Some requests, complete.

    Attributes:
        requests: request, user, as_of_day.
        history: `histories` of the requests.
        rows: Sorted by (request, item): request, user, item, as_of_day, then `FEATURES` (Float32, NaN
            undefined).
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
            the grid of `features.candidates.GRID`; None switches text neighbours off.
        supplied: `features.supplied.supplied_candidates` of this log, or None.
        cut: What candidates are cut by; None cuts by the best rank over the generators.
    """

    def __init__(
        self,
        log: EventLog,
        config: CandidatesConfig,
        text_vectors: npt.NDArray[np.int16] | None,
        *,
        supplied: pl.DataFrame | None = None,
        cut: CandidateCut | None = None,
    ) -> None:
        self.log = log
        self._config = config
        self.generators = CandidateGenerators(log, config, text_vectors, supplied, cut)
        self._behaviour = BehaviourFeatures(log)

    def portions(self, requests: pl.DataFrame, *, size: int = 1000) -> Iterator[Portion]:
        """All requests in order, `size` at a time."""
        for start in range(0, requests.height, size):
            yield self.portion(requests.slice(start, size))

    def portion(self, requests: pl.DataFrame) -> Portion:
        """Candidates and features of some requests (request, user, as_of_day)."""
        history = histories(self.log, requests, self._config)
        proposed = self.generators.propose(requests, history)
        rows = proposed.join(requests, on="request", maintain_order="left")
        keys = rows.select("request", "user", "item", "as_of_day")
        sources = rows.select(pl.col(_SOURCE_COLUMNS).cast(pl.Float32).fill_null(float("nan")))
        return Portion(requests, history, pl.concat([keys, self._behaviour.compute(keys), sources], how="horizontal"))
