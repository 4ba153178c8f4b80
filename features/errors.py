"""The few kinds of error that a user of nightrank can meet, each with the exit code of its kind."""

from collections.abc import Iterable

__all__ = [
    "BlockedError",
    "ConfigError",
    "ContractError",
    "IntegrityError",
    "NightrankError",
    "NotFittedError",
    "TryAgainError",
    "listed",
]


class NightrankError(Exception):
    """Base of all errors that are raised on purpose; the command line ends with its `exit_code`."""

    exit_code = 1


class ConfigError(NightrankError):
    """The configuration or the command's arguments are wrong."""

    exit_code = 2


class ContractError(NightrankError):
    """Input data break a table's contract."""

    exit_code = 10


class BlockedError(NightrankError):
    """A promotion gate or an audit refused: nothing was changed, and what was live stays live."""

    exit_code = 11


class IntegrityError(NightrankError):
    """A file is not what its writer left: truncated, altered, or not allowed where it lies."""

    exit_code = 12


class NotFittedError(NightrankError):
    """Something fitted is asked for before `fit`."""


class TryAgainError(NightrankError):
    """The world outside refused for now (lock, disk, tracking server): the same command may succeed later."""

    exit_code = 75


def listed(names: Iterable[object], *, most: int = 5) -> str:
    """Write names for a message: at most `most` of them, then how many more there are.

    >>> listed(["a", "b"])
    "'a', 'b'"
    >>> listed(range(7), most=2)
    '0, 1 and 5 more'
    """
    shown = [repr(name) for name in names]
    more = len(shown) - most
    return ", ".join(shown[:most]) + (f" and {more} more" if more > 0 else "")
