"""Days of a log that are far from all its others: a clock that was never set, a year mistyped, a date for "none".

One event of 2099 would move the end of a log, and with it every window that is counted back from there. What is far
depends on the number of events a day alone, so that the events and the cells folded from them agree about it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import numpy.typing as npt

__all__ = ["NO_FAR_DAYS", "FarDays", "far_days"]

Ints = npt.NDArray[np.int64]
_Ends = Callable[[int, int, int, float], bool]
"""ends(gap, longest gap within, days within, busiest day beyond over a usual day) says whether a gap ends the log."""

_ERA_DAYS = 5 * 365  # so long a gap needs no thin day beyond it
_ERA_SHARE = 0.05  # of all events, the most that may lie beyond such a gap, at each end
_GAP_DAYS = 7  # a shorter gap than this separates nothing
_GAP_RATIO = 2  # of the gap to the longest one among the days within
_GAP_SHARE = 0.01  # of all events, the most that may lie beyond such a gap, at each end
_THIN_SHARE = 0.1  # of the events of a usual day, the most on any day beyond such a gap


@dataclass(frozen=True, slots=True)
class FarDays:
    """The days of a log that are far from all others.

    Attributes:
        counts: Day and number of its events, by day.
        first_day: First day of the log without them.
        last_day: Last day of the log without them.
    """

    counts: tuple[tuple[int, int], ...] = ()
    first_day: int = 0
    last_day: int = 0

    @property
    def events(self) -> int:
        """How many events lie on them."""
        return sum(count for _, count in self.counts)

    def dates(self, *, most: int = 5) -> list[str]:
        """The days as dates, the latest first; at most so many."""
        days = sorted((day for day, _ in self.counts), reverse=True)
        return [str(date(1970, 1, 1) + timedelta(days=day)) for day in days[:most]]


NO_FAR_DAYS = FarDays()
"""None."""


def far_days(days: Ints, counts: Ints) -> FarDays:
    """Find the days that are far from all others.

    The days at an end of the log are far where they lie beyond a gap (of days without any event) such as there is none
    within the log, in one of two ways:

    - The gap is of five years or more, and longer than the log itself without them; at most a twentieth of the events
      (or a single one) lie beyond.
    - The gap is of a week or more, and more than twice as long as any within the log; at most one event in a hundred
      lies beyond, and on no day more than a tenth of a usual day (the median) has.

    So a shop that was closed for weeks is whole: the day on which it opens again is a usual one, or the log is too
    sparse to say. Where half of the log or more would be far, nothing is.

    Args:
        days: (D,) days that have events, ascending, each once.
        counts: (D,) events of each, at least 1.
    """
    if len(days) < 2:  # noqa: PLR2004 - one day is far from no other
        return NO_FAR_DAYS
    total = int(counts.sum())
    era = _within(days, counts, min(max(int(_ERA_SHARE * total), 1), (total - 1) // 2), _ends_era)
    days_left, counts_left = days[era], counts[era]
    near = _within(days_left, counts_left, int(_GAP_SHARE * total), _ends_gap)
    first, last = int(days_left[near][0]), int(days_left[near][-1])
    is_far = (days < first) | (days > last)
    if not is_far.any():
        return NO_FAR_DAYS
    return FarDays(tuple(zip(days[is_far].tolist(), counts[is_far].tolist(), strict=True)), first, last)


def _within(days: Ints, counts: Ints, most: int, ends: _Ends) -> slice:
    """The days that are left when those beyond the first gap that ends the log are gone, at both ends.

    Args:
        days: See `far_days`.
        counts: See `far_days`.
        most: Events that may lie beyond, at each end.
        ends: Whether a gap is the log's end.
    """
    seen = np.cumsum(counts)
    low = int(np.searchsorted(seen, most, side="right"))  # the first day that cannot be far
    high = len(days) - 1 - int(np.searchsorted(np.cumsum(counts[::-1]), most, side="right"))
    if high < low:
        return slice(0, len(days))
    usual = float(np.median(counts[low : high + 1]))
    inner = int(np.diff(days[low : high + 1]).max(initial=0))
    last = _walk(days[low:], counts[low:], high - low, inner, usual, ends) + low
    backwards = _walk(-days[: high + 1][::-1], counts[: high + 1][::-1], high - low, inner, usual, ends)
    return slice(high - backwards, last + 1)


def _walk(days: Ints, counts: Ints, start: int, inner: int, usual: float, ends: _Ends) -> int:
    """Place of the last day before the first gap after `start` that is the log's end."""
    busiest = np.maximum.accumulate(counts[::-1])[::-1]  # from each day on
    longest = inner
    for number in range(start, len(days) - 1):
        gap = int(days[number + 1] - days[number])
        if ends(gap, longest, int(days[number] - days[0]), busiest[number + 1] / usual):
            return number
        longest = max(longest, gap)
    return len(days) - 1


def _ends_era(gap: int, longest: int, span: int, busiest: float) -> bool:  # noqa: ARG001 - one signature
    """See `far_days`: the first way."""
    return gap >= _ERA_DAYS and gap > span


def _ends_gap(gap: int, longest: int, span: int, busiest: float) -> bool:  # noqa: ARG001 - one signature
    """See `far_days`: the second way."""
    return gap >= _GAP_DAYS and gap > _GAP_RATIO * longest and busiest <= _THIN_SHARE
