"""How the days of a log are cut for training and evaluation."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Self

from features.config import LabelsConfig, TimelineConfig
from features.errors import ConfigError
from features.timeline import EventLog, date_of

__all__ = ["Span", "Split"]


@dataclass(frozen=True, slots=True)
class Span:
    """Days ``start <= day < end`` of requests.

    Attributes:
        start: First day.
        end: Day after the last.
        closed_end: Day after the last request whose labels have closed, and are known, when `end` opens.
    """

    start: int
    end: int
    closed_end: int


@dataclass(frozen=True, slots=True)
class Split:
    """Warm-up | block 1 .. K | validation | test.

    Attributes:
        warm_up: What the first encoder trains on.
        blocks: What the ranker trains on; block k is scored by the encoder that ended at its start.
        valid: Early stopping and choices.
        test: The report.
    """

    warm_up: Span
    blocks: tuple[Span, ...]
    valid: Span
    test: Span

    @classmethod
    def of(cls, log: EventLog, timeline: TimelineConfig, labels: LabelsConfig) -> Self:
        """Cut the log, counted back from its last day.

        Raises:
            ConfigError: The log is too short; the message says by how much.
        """
        delay = labels.horizon_days - 1 + log.calendar.lag_days

        def span(start: int, end: int) -> Span:
            return Span(start, end, end - delay)

        end = log.last_day + 1
        test_start = end - timeline.test_days
        valid_start = test_start - timeline.valid_days
        ranker_start = valid_start - timeline.ranker_days
        warm_start = log.first_day + timeline.min_history_days
        if warm_start >= ranker_start:
            needed = end - ranker_start + timeline.min_history_days + 1
            raise ConfigError(
                f"the log spans {end - log.first_day} days ({date_of(log.first_day)} to {date_of(end - 1)}) "
                f"and the timeline needs {needed}. Shorten timeline.ranker_days ({timeline.ranker_days}), "
                f"valid_days ({timeline.valid_days}), test_days ({timeline.test_days}) or min_history_days "
                f"({timeline.min_history_days}), or give a longer log."
            )
        days, blocks = timeline.ranker_days, timeline.blocks
        edges = [ranker_start + days * block // blocks for block in range(blocks + 1)]
        # NOTE: test labels need not be known by the morning after, only complete.
        test = Span(test_start, end, end - (labels.horizon_days - 1))
        return cls(
            warm_up=span(warm_start, ranker_start),
            blocks=tuple(span(start, stop) for start, stop in pairwise(edges)),
            valid=span(valid_start, test_start),
            test=test,
        )
