"""Error texts of disks and libraries, made fit to print: one line, no credentials, no control characters."""

import errno
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote

from features.errors import ConfigError, NightrankError, TryAgainError

__all__ = ["disk_error", "errno_of", "passwords_of", "printable", "without_credentials", "words_of", "written"]

_USER_INFO = re.compile(
    r"([A-Za-z][\w+.-]*://)"
    r"((?:[^\s/?#]*)@|(?<!http://)(?<!https://)[^\s@/]*:[^\s@]*@"  # as it should be; a password that holds / ? or #,
    r"|[^\s@/]*:(?!\d+(?:[/?#]|$))[^\s@]*@)"  # which of a server must not look like a port and a path with an @
)
_SECRET = re.compile(
    r"(?i)([?&;](?:[\w.-]*(?:token|passw(?:or)?d|pwd|secret|signature|credential|api[_-]?key|access[_-]?key)[\w.-]*"
    r"|sig|pass|auth|key|odbc_connect))=[^&\s'\"]*"
)
_BEARER = re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9+/=._~-]{8,}")
_SQL = re.compile(r"\s*(?:\[SQL: .*|\(Background on this error at: .*)", re.DOTALL)
_OS_ERROR = re.compile(r"\(?os error (\d+)\)?")

_REMEDIES = {
    errno.ENOSPC: "Free the disk, then run it again.",
    errno.EDQUOT: "The account's quota is used up: free some of it, then run it again.",
    errno.EROFS: "It lies on a read-only file system: mount it writable, or write elsewhere (output).",
    errno.EACCES: "This account may not write there: change the permissions, or write elsewhere (output).",
    errno.EPERM: "This account may not write there: change the permissions, or write elsewhere (output).",
    errno.ENOTDIR: "A file stands where a folder should be: move it away, or write elsewhere (output).",
    errno.EEXIST: "A file stands where a folder should be: move it away, or write elsewhere (output).",
    errno.EISDIR: "A folder stands where a file should be: move it away, or write elsewhere (output).",
    errno.EMFILE: "Allow more open files (ulimit -n), then run it again.",
    errno.ENFILE: "Allow more open files (ulimit -n), then run it again.",
}
_NEVER = {
    errno.ENAMETOOLONG: "The file system allows no such long name: write to a shorter path (output).",
    errno.ELOOP: "Its links lead in a circle: mend them, or write elsewhere (output).",
    errno.EINVAL: "The file system allows no such name: write elsewhere (output).",
    errno.EILSEQ: "The file system allows no such name: write elsewhere (output).",
}


def without_credentials(text: str) -> str:
    """A text with users, passwords and secret parameters removed from its URIs.

    >>> without_credentials("postgresql://user:pass@host/db?sslmode=require")
    'postgresql://host/db?sslmode=require'
    >>> without_credentials("https://host/x?token=abc&page=2")
    'https://host/x?token=***&page=2'
    """
    return _BEARER.sub(r"\1 ***", _SECRET.sub(r"\1=***", _USER_INFO.sub(r"\1", text)))


def passwords_of(uri: str | None) -> tuple[str, ...]:
    """The passwords in a URI, as written and decoded, so that they can be hidden where they are quoted alone."""
    match = _USER_INFO.search(uri or "")
    _, _, password = match[2].removesuffix("@").partition(":") if match else ("", "", "")
    return tuple(dict.fromkeys((password, unquote(password)))) if password else ()


def printable(text: str, *, keep: str = "") -> str:
    r"""A text as a terminal may show it: control and formatting characters as their escapes.

    Args:
        text: Whatever comes from outside.
        keep: Characters that stay as they are (the line ends of our own messages).

    >>> print(printable("a\x1b[31mb"))
    a\x1b[31mb
    """
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() or letter in keep else repr(letter)[1:-1] for letter in text)


def words_of(error: BaseException, *, hidden: Sequence[str] = (), most: int = 300) -> str:
    """The message of a library's error on one line, without credentials and without SQL and its parameters.

    Args:
        error: What it raised.
        hidden: Passwords to replace by stars.
        most: Characters after which it is cut.
    """
    text = without_credentials(" ".join(_SQL.sub("", str(error)).split())) or type(error).__name__
    for password in hidden:
        text = text.replace(password, "***")
    return printable(text if len(text) <= most else text[: most - 3] + "...")


def errno_of(error: BaseException) -> int | None:
    """The operating system's number of an error, also where a library only writes it ("os error 28")."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    match = _OS_ERROR.search(str(error))
    return int(match[1]) if match else None


def disk_error(error: BaseException, path: Path | str | None = None, *, doing: str = "written") -> NightrankError:
    """Translate an error of the file system into one of ours, which says where, why and the remedy.

    Args:
        error: What was raised.
        path: What could not be written; None takes it from the error.
        doing: Participle of what failed, for the message.

    Returns:
        `TryAgainError`, and `ConfigError` for a path that can never be.
    """
    number = errno_of(error)
    target = path or getattr(error, "filename2", None) or getattr(error, "filename", None) or "a file"  # 2: copied to
    why = words_of(error) if number is None else os.strerror(number)
    if number in _NEVER:
        return ConfigError(f"{target} cannot be {doing} ({why}). {_NEVER[number]}")
    remedy = _REMEDIES.get(number or 0, "See what keeps it from that, then run it again.")
    return TryAgainError(f"{target} cannot be {doing} ({why}). {remedy}")


@contextmanager
def written(path: Path | str) -> Iterator[None]:
    """Context in which `path` is made, opened or locked; errors of the system are raised as `disk_error` says.

    Raises:
        TryAgainError: No space, no permission, a read-only file system.
        ConfigError: A path that can never be.
    """
    try:
        yield
    except NightrankError:
        raise
    except Exception as error:
        if isinstance(error, OSError) or errno_of(error) is not None:
            raise disk_error(error, path) from error
        raise
