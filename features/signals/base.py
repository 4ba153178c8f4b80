"""What a signal is: a model of behaviour that is fitted on what came before a day, and read by generators and families.

To add one, subclass `Signal` as a frozen dataclass whose fields are its settings, and ask `features.signals.cache` for
its fit. A signal that scores items (or other users) for users subclasses `UserSignal`, and its rows are kept as well.
"""

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from scipy import sparse

from features.asof import Ints
from features.timeline import EventLog

__all__ = ["Fitted", "Signal", "Sized", "UserSignal"]


class Sized(Protocol):
    """What says how many bytes it takes."""

    @property
    def nbytes(self) -> int:
        """Bytes of all its arrays."""
        ...


Fitted = TypeVar("Fitted", bound="Sized | sparse.csr_matrix | tuple[Any, ...]")


class Signal(ABC, Generic[Fitted]):
    """A model of behaviour. Two signals that are equal share their fits.

    Attributes:
        name: How profiles call it.
        most_bytes: Of the fits that are kept of all signals of the class; the latest is kept in any case.
    """

    name: ClassVar[str]
    most_bytes: ClassVar[int] = 1 << 27

    def fit_day(self, log: EventLog, day: int) -> int:  # noqa: ARG002 - one signature
        """The day before which events count in the fit that answers as of a day: the day itself, or an earlier one."""
        return day

    @abstractmethod
    def fit(self, log: EventLog, fit_day: int) -> Fitted:
        """Fit on what happened before a day.

        Logs that end on other days (`EventLog.before`) share fits: events may be looked at by their day alone.

        Returns:
            Arrays, sparse matrices, a tuple of these, or what has `nbytes`.
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
