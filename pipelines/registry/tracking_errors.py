"""Translates the errors of MLflow and of the libraries under it into ours; every call of MLflow runs inside.

The library's own message follows ours, without credentials. Exit code 2 means that a person must change something, and
75 that it may work later.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shlex import quote

import requests
import sqlalchemy.exc
from mlflow.exceptions import MlflowException

from features.errors import ConfigError, IntegrityError, NightrankError, TryAgainError
from pipelines.base.config import Config
from pipelines.base.outside import disk_error, passwords_of, without_credentials, words_of
from pipelines.base.tracking_config import sqlite_uri

__all__ = ["tracking_errors"]

_Kind = type[NightrankError]

_CAUSES: tuple[tuple[str, _Kind, str], ...] = (
    (
        r"mlflow db upgrade|out-of-date database schema|can't locate revision",
        ConfigError,
        (
            "the database was written by another version of MLflow. Back it up, then `mlflow db upgrade {uri}`; or "
            "install the MLflow that wrote it"
        ),
    ),
    (
        r"(database|table)[\w ]* is locked|lock wait timeout|could not obtain lock|deadlock",
        TryAgainError,
        "another program holds the database. Run it again when it is done",
    ),
    (
        r"readonly database|read-only (transaction|file system|mode)",
        TryAgainError,
        "the database cannot be written. Make its file and its folder writable, or write elsewhere (output)",
    ),
    (r"database or disk is full|no space left", TryAgainError, "the disk is full. Free some of it, then run it again"),
    (
        r"unable to open database file",
        TryAgainError,
        "the database file cannot be opened. See to its folder and the permissions, then run it again",
    ),
    (
        r"file is not a database|image is malformed|not a database",
        IntegrityError,
        "the database was damaged. Bring it back from a backup",
    ),
    (
        (
            r"table \S+ already exists|no such (table|column)|duplicate column|relation \S+ does not exist"
            r"|(table|column) \S+ doesn't exist|unknown column"
        ),
        ConfigError,
        "the database is not one that MLflow made, or was left half made. Move it away, or bring back a backup",
    ),
    (
        (
            r"password authentication failed|access denied for user|no pg_hba|login failed|role \S+ does not exist"
            r"|no password supplied"
        ),
        ConfigError,
        "the database refused the user or the password. Check both in tracking.uri",
    ),
    (
        r"database \S+ does not exist|unknown database|cannot open database",
        ConfigError,
        "there is no such database. Check its name in tracking.uri",
    ),
    (r"certificate verify failed|CERTIFICATE_VERIFY|wrong version number", ConfigError, "check the certificate"),
    (
        r"databricks (credential|auth|sdk)|unity catalog",
        ConfigError,
        "check tracking.uri and the credentials of Databricks",
    ),
    (r"unable to locate credentials|no ?credentials|default credentials", ConfigError, "give the credentials"),
    (
        r"error code 40[13]\b|unauthorized|unauthenticated|not authenticated|forbidden|permission.denied",
        ConfigError,
        "it refused this account. Check MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD (or _TOKEN)",
    ),
    (
        (
            r"error code (404|405)\b|endpoint.not.found|invalid url|valid json|expecting value"
            r"|could not parse sqlalchemy url"
            r"|unsupported uri|no host supplied|invalid literal for int|not a valid port"
        ),
        ConfigError,
        "no MLflow server answers there. Check tracking.uri",
    ),
    (
        (
            r"error code (408|425|429|5\d\d)\b|timed? ?out|connection refused|name resolution|failed to resolve"
            r"|unreachable|reset by|not established|could not connect|can't connect|max retries|server closed"
            r"|lost connection|gone away"
        ),
        TryAgainError,
        "it does not answer. Check tracking.uri, then run it again",
    ),
)
_DRIVERS = {"psycopg2": "psycopg2-binary", "psycopg": "psycopg[binary]", "MySQLdb": "mysqlclient"}
_CHANGE = {
    "BAD_REQUEST",
    "CUSTOMER_UNAUTHORIZED",
    "ENDPOINT_NOT_FOUND",
    "FEATURE_DISABLED",
    "INVALID_PARAMETER_VALUE",
    "INVALID_STATE",
    "NOT_IMPLEMENTED",
    "PERMISSION_DENIED",
    "RESOURCE_DOES_NOT_EXIST",
    "UNAUTHENTICATED",
}
_WRONG = (
    sqlalchemy.exc.ArgumentError,
    sqlalchemy.exc.ProgrammingError,
    sqlalchemy.exc.DataError,
    sqlalchemy.exc.IntegrityError,
    requests.exceptions.InvalidURL,
    requests.exceptions.MissingSchema,
    ValueError,
)
_BUGS = (ArithmeticError, AssertionError, AttributeError, LookupError, NameError, RuntimeError, TypeError)


@contextmanager
def tracking_errors(config: Config, doing: str = "MLflow") -> Iterator[None]:
    """Translates what MLflow, its databases, servers and artefact stores raise.

    Args:
        config: Names the server.
        doing: What was being done, as the message begins.

    Raises:
        ConfigError: A person must change something: address, credentials, driver, schema.
        TryAgainError: It may work later: a server that is away, a lock.
        IntegrityError: A database that was damaged.
    """
    try:
        yield
    except NightrankError:
        raise
    except Exception as error:
        if type(error).__module__ == "builtins" and isinstance(error, _BUGS):
            raise  # ours
        raise _translated(error, config, doing) from error


def _translated(error: Exception, config: Config, doing: str) -> NightrankError:
    message = words_of(error, hidden=passwords_of(config.tracking.uri))
    if isinstance(error, ImportError) or "can't load plugin" in message.lower():
        return ConfigError(f"tracking.uri needs a library that is not installed: {_install(error)} ({message})")
    if isinstance(error, OSError) and error.filename is not None:
        return disk_error(error)
    where = "" if config.tracking.uri is None else f" ({without_credentials(config.tracking.uri)})"
    uri = without_credentials(config.tracking.uri or sqlite_uri(Path(config.output) / "mlflow.db"))
    chain = " ".join(str(part) for part in _chain(error))
    for pattern, kind, remedy in _CAUSES:
        if re.search(pattern, chain, re.IGNORECASE):
            return kind(f"{doing}{where}: {remedy.format(uri=quote(uri))}. It says: {message}")
    wrong = getattr(error, "error_code", None) in _CHANGE or isinstance(error, _WRONG)
    if wrong and not (isinstance(error, MlflowException) and isinstance(error.__cause__, OSError)):
        return ConfigError(f"{doing}{where} refused. Check the keys of `tracking`. It says: {message}")
    return TryAgainError(f"{doing}{where} failed. Check tracking.uri, then run it again. It says: {message}")


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what it was raised from."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _install(error: Exception) -> str:
    """How to install the library that an import or a database's dialect lacks."""
    missing = (error.name or "").split(".")[0] if isinstance(error, ImportError) else ""
    if not missing:
        return "install the driver of its database, or check how its scheme is written"
    return f'pip install "{_DRIVERS.get(missing, missing)}"'
