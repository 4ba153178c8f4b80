"""A timeline that fits a log: windows long enough to hold requests, and short enough to leave days to learn from."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from features.calendar import date_of
from features.errors import ContractError
from features.log.far_days import FarDays, far_days

__all__ = ["Fitted", "fitted_timeline"]

Ints = npt.NDArray[np.int64]
Within = Callable[[int, int], int]
"""within(start, end) counts the requests from a day of the log on and before another, both counted from its first."""

_TEST_DAYS = (28, 56, 90, 180, 365)
_ENOUGH = 1000  # requests of a test window that tell systems apart
_LONG_DAYS = 56  # a longer test window goes with four times as many days of the ranker, not three
_LEAST_DAYS = 5
_USED = 0.9  # of the log's days, the most that windows of a sparse log may take


@dataclass(frozen=True, slots=True)
class Fitted:
    """A timeline, and what lies in it.

    Attributes:
        keys: The keys of `timeline`.
        windows: By window: first day, last day, and number of requests.
        first_day: First day of the log, but for days far from all others.
        last_day: Its last day.
        far: Those days.
        why: Why these lengths.
    """

    keys: Mapping[str, int]
    windows: Mapping[str, tuple[str, str, int]]
    first_day: int
    last_day: int
    far: FarDays
    why: str


def fitted_timeline(event_days: Ints, event_counts: Ints, requests: Mapping[int, int]) -> Fitted:
    """Fit a timeline.

    Args:
        event_days: (D,) days that have events, ascending, each once.
        event_counts: (D,) how many each has.
        requests: Day: how many requests with a positive it has.

    Raises:
        ContractError: The log is too short, or a window has no request; says what there is.
    """
    far = far_days(event_days, event_counts)
    first, last = (far.first_day, far.last_day) if far.counts else (int(event_days[0]), int(event_days[-1]))
    span = last - first + 1
    if span < _LEAST_DAYS:
        raise ContractError(
            f"init: the log spans {span} days ({date_of(first)} to {date_of(last)}), and a timeline needs "
            f"{_LEAST_DAYS}: history, training, validation and test. Give a longer log."
        )
    cumulated = np.zeros(span + 1, np.int64)
    for day, count in requests.items():
        if first <= day <= last:
            cumulated[day - first + 1] += count
    counts = np.cumsum(cumulated)

    def within(start: int, end: int) -> int:
        return int(counts[end] - counts[start])

    usual = [days for days in _TEST_DAYS if sum(_lengths(days).values()) < span]
    fits = [days for days in usual if days == _TEST_DAYS[0] or sum(_lengths(days).values()) < _USED * span]
    enough = [days for days in fits if within(span - days, span) >= _ENOUGH]
    if not fits:
        why = f"too short for the usual windows, which need 155 days; these are parts of its {span} days"
        keys = _of_short(span)
    elif enough:
        keys = _lengths(enough[0])
        why = (
            f"the shortest test window with {_ENOUGH:,} requests" if enough[0] != _TEST_DAYS[0] else "the usual windows"
        )
    else:
        keys = _lengths(max(fits, key=lambda days: (within(span - days, span), -days)))
        why = f"no test window that fits has {_ENOUGH:,} requests, so that results will be uncertain"
    windows = _windows(keys, first, span, within)
    empty = [name for name, (_, _, count) in windows.items() if not count and name != "warm-up"]
    if empty:
        raise ContractError(
            f"init: no request lies in the {' and the '.join(empty)} window of any timeline that fits: the log spans "
            f"{span} days ({date_of(first)} to {date_of(last)}), and events that count lie on {len(requests)} of them. "
            "Give a longer or a fuller log."
        )
    return Fitted({**keys, "blocks": _blocks(keys)}, windows, first, last, far, why)


def _lengths(test_days: int) -> dict[str, int]:
    return {
        "test_days": test_days,
        "valid_days": test_days // 2,
        "ranker_days": test_days * (4 if test_days > _LONG_DAYS else 3),
        "min_history_days": 28 if test_days == _TEST_DAYS[0] else test_days,
    }


def _of_short(span: int) -> dict[str, int]:
    """Eighths: one each for test, validation and history, four for the ranker, and one for the encoder."""
    part = max(span // 8, 1)
    ranker = min(4 * part, span - 3 * part - 1)
    return {"test_days": part, "valid_days": part, "ranker_days": ranker, "min_history_days": part}


def _blocks(keys: Mapping[str, int]) -> int:
    if keys["ranker_days"] >= 360:  # noqa: PLR2004
        return 3
    return min(2, keys["ranker_days"])


def _windows(keys: Mapping[str, int], first: int, span: int, within: Within) -> dict[str, tuple[str, str, int]]:
    test = span - keys["test_days"]
    valid = test - keys["valid_days"]
    ranker = valid - keys["ranker_days"]
    edges = {
        "warm-up": (keys["min_history_days"], ranker),
        "training": (ranker, valid),
        "validation": (valid, test),
        "test": (test, span),
    }
    return {
        name: (str(date_of(first + start)), str(date_of(first + end - 1)), within(start, end))
        for name, (start, end) in edges.items()
    }
