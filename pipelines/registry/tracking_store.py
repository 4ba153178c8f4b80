"""MLflow's database: created once, probed for an answer, and pointed to its artefacts after a move."""

import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit
from uuid import uuid4

import mlflow.store.db.utils
from mlflow import MlflowClient
from sqlalchemy import NullPool, create_engine, inspect, make_url, text

from pipelines.base.outside import written
from pipelines.base.tracking_config import sqlite_uri
from pipelines.stores.storage import alone

__all__ = ["ARTEFACTS", "follow", "is_made", "knock", "make", "making", "move_artefacts", "sqlite_file"]

ARTEFACTS = "mlartifacts"
"""Folder of `output` with the artefacts of runs, where no server keeps them."""

_LOCKED_SECONDS = 10.0
_MAKING_SECONDS = 180.0
_KNOCK_SECONDS = 5.0
_LOCK_KEY = 7_263_548_129
_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}


def sqlite_file(uri: str) -> Path | None:
    """The file of a SQLite database; None for everything else."""
    if not uri.startswith("sqlite"):
        return None
    path = make_url(uri).database
    return None if not path or path.startswith("file:") else Path(path)


def is_made(path: Path) -> bool:
    """Whether a file is a database that MLflow made. It waits for a program that holds it for itself.

    Raises:
        sqlite3.Error: It is held for long, or is no database.
    """
    if not path.is_file() or not path.stat().st_size:
        return False
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=_LOCKED_SECONDS)) as opened:
        (count,) = opened.execute("select count(*) from sqlite_master where name = 'alembic_version'").fetchone()
        return bool(count)


def make(path: Path) -> None:
    """Create a missing database completely or not at all, by one command while others wait.

    Raises:
        TryAgainError: The folder cannot be written, or another command does not come to an end with it.
    """
    with written(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
    if is_made(path):
        return
    with alone(path.with_name(f"{path.name}.lock"), seconds=_MAKING_SECONDS, doing=f"making {path}"):
        if path.exists() and path.stat().st_size:
            return  # made meanwhile; or left half made, which MLflow reports
        aside = path.with_name(f".{uuid4().hex}.tmp")
        uri = sqlite_uri(aside)
        try:
            MlflowClient(tracking_uri=uri, registry_uri=uri)
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)


def knock(uri: str) -> None:
    """Find out within seconds whether a database's machine answers; MLflow itself takes minutes.

    Raises:
        ImportError: The database's driver is not installed.
        OSError: Nobody answers there.
    """
    create_engine(uri).dispose()
    # NOTE: MLflow tries ten times to connect, which takes 102 s, also where the password is wrong.
    mlflow.store.db.utils.MAX_RETRY_COUNT = 2
    parts = urlsplit(uri)
    default = _PORTS.get(parts.scheme.partition("+")[0])
    if default is not None and parts.hostname:
        socket.create_connection((parts.hostname, parts.port or default), timeout=_KNOCK_SECONDS).close()


@contextmanager
def making(uri: str) -> Iterator[None]:
    """Context in which one command alone makes the tables of a PostgreSQL database that has none, while others wait.

    Raises:
        sqlalchemy.exc.OperationalError: It cannot be opened, or another command does not come to an end with it.
    """
    if urlsplit(uri).scheme.partition("+")[0] != "postgresql":
        yield
        return
    engine = create_engine(uri, poolclass=NullPool)
    if inspect(engine).has_table("alembic_version"):
        yield
        return
    with engine.connect() as connection:
        connection.execute(text(f"set lock_timeout = '{_MAKING_SECONDS:.0f}s'"))
        connection.execute(text(f"select pg_advisory_lock({_LOCK_KEY})"))  # until the connection is closed
        connection.commit()
        yield


def move_artefacts(path: Path, folder: Path) -> None:
    """Rewrite the artefact paths of all experiments of a database, after its output folder was copied.

    Args:
        path: The SQLite database.
        folder: Where the artefacts lie now.

    Raises:
        sqlite3.Error: The database cannot be read or written.
    """
    with closing(sqlite3.connect(path, timeout=_LOCKED_SECONDS)) as opened:
        recorded = opened.execute("select distinct artifact_location from experiments").fetchall()
    for (location,) in recorded:
        follow(path, str(location), folder)


def follow(path: Path, recorded: str, folder: Path) -> None:
    """Rewrite the artefact paths of a database after its output folder was moved or copied.

    Args:
        path: The SQLite database under `output`.
        recorded: Artefact location that the experiment records.
        folder: Where they lie now.

    Raises:
        sqlite3.Error: The database cannot be written.
    """
    parts, now = urlsplit(recorded), folder.as_uri()
    if parts.scheme not in ("", "file") or Path(unquote(parts.path)).name != folder.name or recorded == now:
        return
    with closing(sqlite3.connect(path, timeout=_LOCKED_SECONDS)) as opened, opened:
        for table, column in (
            ("experiments", "artifact_location"),
            ("runs", "artifact_uri"),
            ("model_versions", "storage_location"),
        ):
            opened.execute(
                f"update {table} set {column} = ? || substr({column}, ?) "  # noqa: S608 - names of ours
                f"where {column} = ? or substr({column}, 1, ?) = ?",
                (now, len(recorded) + 1, recorded, len(recorded) + 1, f"{recorded}/"),
            )
