"""How the days of a log are cut for training and evaluation."""

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Self

from features.config import LabelsConfig, TimelineConfig
from features.errors import ConfigError
from features.log.event_log import EventLog, date_of

__all__ = ["Span", "Split"]


@dataclass(frozen=True, slots=True)
class Span:
    """Days ``start <= day < end`` of requests.

    Attributes:
        start: First day.
        end: Day after the last.
        closed_end: Day after the last request whose labels have closed and come in when `end` opens.
    """

    start: int
    end: int
    closed_end: int


@dataclass(frozen=True, slots=True)
class Split:
    """Warm-up | block 1 .. K | validation | test.

    Attributes:
        warm_up: What the encoder learns first.
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
        delay = _delay_days(log, labels)

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
        # NOTE: test labels need not have come in by the morning after, only be complete.
        test = Span(test_start, end, end - (labels.horizon_days - 1))
        return cls(
            warm_up=span(warm_start, ranker_start),
            blocks=_blocks(ranker_start, valid_start, timeline.blocks, delay),
            valid=span(valid_start, test_start),
            test=test,
        )

    @staticmethod
    def valid_before(day: int, log: EventLog, timeline: TimelineConfig, labels: LabelsConfig) -> Span:
        """The validation of a split whose test starts on a day."""
        return Span(day - timeline.valid_days, day, day - _delay_days(log, labels))

    def after(self, day: int) -> Self:
        """The same validation and test, for an encoder that has learned from all days before `day`.

        The days from then on are cut into blocks about as long as those of this split: the first of them is its
        `warm_up`, the others, if any, its `blocks`.

        Raises:
            ConfigError: No day's labels have closed between `day` and validation.
        """
        start, end, delay = day, self.valid.start, self.valid.end - self.valid.closed_end
        if end - delay <= start:
            raise ConfigError(
                f"nothing new to learn: all before {date_of(start)} is learned, and validation starts on "
                f"{date_of(end)}. Wait for later events, or shorten timeline.test_days or valid_days."
            )
        days = self.blocks[-1].end - self.blocks[0].start
        first, *others = _blocks(start, end, max((end - start) * len(self.blocks) // days, 1), delay)
        return replace(self, warm_up=first, blocks=tuple(others))


def _delay_days(log: EventLog, labels: LabelsConfig) -> int:
    """Days after a request's own until its labels have closed and come in."""
    return labels.horizon_days - 1 + log.calendar.lag_days


def _blocks(start: int, end: int, count: int, delay: int) -> tuple[Span, ...]:
    """Days cut into `count` parts as long as each other, to a day."""
    edges = [start + (end - start) * block // count for block in range(count + 1)]
    return tuple(Span(first, stop, stop - delay) for first, stop in pairwise(edges))
