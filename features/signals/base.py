"""What a signal is: a model of behaviour that is fitted on what came before a day, and read by generators and families.

To add one, subclass `Signal` as a frozen dataclass whose fields are its settings, and ask `features.signals.cache` for
its fit. A signal that scores items (or other users) for users subclasses `UserSignal`, and its rows are kept as well.
"""

from abc import ABC, abstractmethod
from typing import ClassVar, Generic, TypeVar

from scipy import sparse

from features.log.asof import Ints
from features.log.event_log import EventLog

__all__ = ["Fitted", "Signal", "UserSignal"]

Fitted = TypeVar("Fitted")


class Signal(ABC, Generic[Fitted]):
    """A model of behaviour. Two signals that are equal share their fits.

    Attributes:
        name: How profiles call it.
        refresh_days: Days from one fit to the next.
        most_bytes: Of the fits that are kept of all signals of the class; the latest is kept in any case.
    """

    name: ClassVar[str]
    refresh_days: int = 1
    most_bytes: ClassVar[int] = 1 << 27

    def fit_day(self, log: EventLog, day: int) -> int:  # noqa: ARG002 - one signature
        """The day of the fit that answers as of a day: that of the last refresh at or before it."""
        return day // self.refresh_days * self.refresh_days

    @abstractmethod
    def fit(self, log: EventLog, fit_day: int) -> Fitted:
        """Fit on what happened before a day.

        Logs that end on other days (`EventLog.before`) share fits: events may be looked at by their day alone.

        Returns:
            An array, a series, a sparse matrix, or a tuple of them.
        """


class UserSignal(Signal[Fitted]):
    """A signal that has a sparse row of scores for each user as of a day."""

    @abstractmethod
    def scores(self, fitted: Fitted, log: EventLog, user: Ints, day: int) -> sparse.csr_matrix:
        """The rows of some users; a row does not depend on the others.

        Args:
            fitted: The fit of `fit_day(log, day)`.
            log: The event log.
            user: (N,) codes, ascending, each once.
            day: What happened before it counts.

        Returns:
            CSR, one row a user, indices in no order; a user without history has none.
        """
