"""Checks of the timeline before anything is trained: requests and positives of each window."""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from features.candidates.catalog import behaviour_ranks
from features.candidates.union import histories
from features.errors import ConfigError, ContractError, listed
from features.log.event_log import EventLog, date_of
from features.requests.engaged import RequestSource
from features.requests.split import Span, Split
from features.tables.frames import PAIR
from pipelines.base.config import Config
from pipelines.training.chain import Chain
from pipelines.training.request_source import request_source

__all__ = ["Filled", "filled_windows", "refuse_empty_windows", "refuse_unretrieved", "refuse_unteachable"]

_AT_ONCE = 200  # requests whose candidates are looked at together


@dataclass(frozen=True, slots=True)
class Filled:
    """A window of the timeline with the numbers of its requests and positives.

    Attributes:
        name: How messages call it.
        keys: The configuration keys that set its days.
        spans: Its days; the blocks of the ranker's days are one window.
        needed: Whether nothing can be trained or judged without a positive in it.
        requests: Requests whose labels have closed.
        positives: How many of them have a positive.
    """

    name: str
    keys: str
    spans: Sequence[Span]
    needed: bool
    requests: int
    positives: int

    @property
    def days(self) -> str:
        """Its first and last day."""
        return f"{date_of(self.spans[0].start)} to {date_of(self.spans[-1].end - 1)}"

    @property
    def closes(self) -> bool:
        """Whether the labels of any of its days close in time."""
        return any(span.closed_end > span.start for span in self.spans)


def filled_windows(log: EventLog, config: Config, split: Split, *, continues: bool = False) -> list[Filled]:
    """Count requests and positives of each window of a timeline, in the order of time.

    Args:
        log: The event log.
        config: Requests and labels.
        split: How the log is cut.
        continues: Whether the training goes on from a version, whose rows are there already.

    Raises:
        ContractError: There are no logged requests where such are configured; see `request_source`.
    """
    source = request_source(log, config)
    planned = [
        ("warm-up", "timeline.min_history_days, ranker_days", [split.warm_up], False),
        ("training", "timeline.ranker_days", list(split.blocks), not continues),
        ("validation", "timeline.valid_days", [split.valid], True),
        ("test", "timeline.test_days", [split.test], True),
    ]
    return [
        Filled(name, keys, spans, needed, *_counted(source, spans)) for name, keys, spans, needed in planned if spans
    ]


def _counted(source: RequestSource, spans: Sequence[Span]) -> tuple[int, int]:
    """How many requests lie in spans, and how many of them have a positive."""
    requests = positives = 0
    for span in spans:
        in_span = source.between(span.start, max(span.closed_end, span.start))
        requests += in_span.height
        positives += source.truth(in_span)["request"].n_unique()
    return requests, positives


def refuse_unteachable(log: EventLog, config: Config, split: Split, *, continues: bool = False) -> None:
    """Stop where a window that is needed has no request with a positive; before anything is trained.

    Args:
        log: See `filled_windows`.
        config: See `filled_windows`.
        split: See `filled_windows`.
        continues: See `filled_windows`.

    Raises:
        ConfigError: The labels of none of a window's days close in time.
        ContractError: The log has no positive in a window, or no logged request; all such windows are named.
    """
    refuse_empty_windows(filled_windows(log, config, split, continues=continues), log, config)


def refuse_empty_windows(windows: Sequence[Filled], log: EventLog, config: Config) -> None:
    """The same for windows that are counted already.

    Args:
        windows: What lies in them.
        log: The event log.
        config: Requests and labels.

    Raises:
        ConfigError: See `refuse_unteachable`.
        ContractError: See `refuse_unteachable`.
    """
    faults = [_unclosed(window, config, log) for window in windows if window.needed and not window.closes]
    if faults:
        raise ConfigError("\n".join(faults))
    empty = [window for window in windows if window.needed and not window.positives]
    if empty:
        raise ContractError("\n".join([*(_empty(window) for window in empty), _remedy(log, config)]))


def refuse_unretrieved(chain: Chain, split: Split) -> None:
    """Stop where no positive is among the candidates that the rankers learn from or stop by; before the first block.

    Raises:
        ContractError: There is none; the windows are named.
    """
    windows = {"training": split.blocks, "validation": (split.valid,)}
    lacking = [name for name, spans in windows.items() if not any(_retrieved(chain, span) for span in spans)]
    if lacking:
        raise ContractError(
            f"candidates: no {' and no '.join(lacking)} request has a positive among its candidates, so that the "
            "rankers have nothing to learn or to stop on. Raise the quotas under candidates (without text: of "
            "bought_before, popular, co_visited and the like), and look at what takes items out: items.available_from "
            "and available_until, candidates.blocked and candidates.already_bought."
        )


def _retrieved(chain: Chain, span: Span) -> bool:
    """Whether a positive of a span is among the candidates of generators without text, or in a logged list."""
    requests = chain.request_source.between(span.start, span.closed_end)
    truth = chain.request_source.truth(requests)
    with_positive = requests.join(truth.select("request").unique(), on="request", how="semi", maintain_order="left")
    generators = chain.assembler.generators
    for start in range(0, with_positive.height, _AT_ONCE):
        some = with_positive.slice(start, _AT_ONCE)
        proposed = generators.propose(some, histories(chain.log, some, chain.config.candidates))
        retrieved = proposed.join(truth, on=PAIR, how="semi")
        if (
            retrieved
            if generators.logged_lists
            else retrieved.filter(pl.any_horizontal(pl.col(behaviour_ranks(retrieved.columns)).is_not_null()))
        ).height:
            return True
    return False


def _unclosed(window: Filled, config: Config, log: EventLog) -> str:
    return (
        f"timeline: the labels of no {window.name} request close in time: they take labels.horizon_days "
        f"({config.labels.horizon_days}) and {log.calendar.lag_days} days of calendar.ingestion_lag_hours, and the "
        f"window is of {window.days}. Lengthen {window.keys}, or shorten the horizon."
    )


def _empty(window: Filled) -> str:
    why = f"none of its {window.requests} requests has one" if window.requests else "it has no request at all"
    return f"events: no {window.name} request has a positive: of {window.days} ({window.keys}), {why}."


def _remedy(log: EventLog, config: Config) -> str:
    counting = log.label_events.days
    first, last = date_of(counting[0]), date_of(counting[-1])
    return (
        f"Events that count (labels.gains: {listed(sorted(config.labels.gains))}) lie on {len(counting)} days from "
        f"{first} to {last}. Place the windows there (timeline.test_days, valid_days, ranker_days, min_history_days), "
        "deliver the days that are missing, or name the types that count as the log writes them."
    )
