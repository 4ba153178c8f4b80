"""What a signal is: a model of behaviour that is fitted on what came before a day, and read by generators and families.

The docstring of `features.signals` says how to add one.
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
        name: Its name in profiles.
        refresh_days: Days from one fit to the next.
        most_bytes: Bytes of fits that the cache keeps for the class; the latest fit is kept in any case.
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

        Logs that end on other days (`EventLog.before`) share fits: an event may count by its day alone.

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
