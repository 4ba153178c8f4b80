"""The few kinds of error that a user of nightrank can meet, each with the exit code of its kind."""

import difflib
from collections.abc import Iterable, Sequence

__all__ = [
    "BlockedError",
    "ConfigError",
    "ContractError",
    "IntegrityError",
    "NightrankError",
    "OutdatedError",
    "TryAgainError",
    "listed",
    "require_columns",
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


class OutdatedError(IntegrityError):
    """A file is as an earlier nightrank wrote it, and this one does not read it any more: it must be made anew."""


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


def require_columns(configured: Iterable[str], present: Sequence[str], *, key: str, table: str) -> None:
    """Check that a table has the columns that the configuration names.

    Args:
        configured: Column names as the configuration has them.
        present: Columns of the table; none where there is no such table.
        key: Where the names are configured.
        table: How messages call the table.

    Raises:
        ConfigError: Names each column that is not there, with the nearest one that is.
    """
    faults = []
    for name in configured:
        if name not in present:
            near = difflib.get_close_matches(name, present, n=1, cutoff=0.4)
            has = f"the table has {listed(present, most=20)}." if present else f"name that table under data.{table}."
            hint = f"did you mean {near[0]!r}?" if near else has
            faults.append(f"{key}: {name!r} is no column of {table}; {hint}")
    if faults:
        raise ConfigError("\n".join(faults))
