"""Configuration of MLflow: the accepted forms of its URI, and the part of it that is stored."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Self
from urllib.parse import quote, unquote

from pydantic import Field, field_validator

from features.frozen import FrozenConfig, Owner
from pipelines.base.outside import without_credentials

__all__ = ["TrackingConfig", "sqlite_uri"]

_SERVER = re.compile(
    r"""(?xi)
    databricks(-uc)?(://\S*)? | (uc|arn):\S+
    | sqlite(\+\w+)?:///(?!:memory:|[?])\S.*
    | (?!sqlite[+:]|file:)[a-z][\w+.-]*:// \S+
    """
)
_SQLITE = re.compile(r"(sqlite(?:\+\w+)?:///)([^?]+)(.*)")


class TrackingConfig(FrozenConfig):
    """MLflow: where runs are recorded and versions are registered."""

    owner = Owner.TONIGHT

    uri: str | None = Field(
        default=None,
        description="Tracking and registry server: http(s)://HOST:PORT, sqlite:///FILE (a relative file is meant from "
        "the configuration file), another database, or databricks; null keeps a SQLite file under `output`. A user "
        "and password in it are used and never written; MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD work "
        "as well.",
    )
    experiment: str = Field(
        default="nightrank", min_length=1, description="Name of the MLflow experiment that runs are recorded in."
    )
    model_name: str = Field(
        default="nightrank", pattern=r"^[A-Za-z0-9_.-]+$", description="Name of the registered model in MLflow."
    )
    tensorboard: bool = Field(
        default=False,
        description="Whether the curves of a training are also written under `output`/tensorboard; needs the extra "
        "tensorboard.",
    )

    @field_validator("uri")
    @classmethod
    def _is_a_server(cls, uri: str | None) -> str | None:
        """Refuse a value that is no URI; the message does not repeat it, since it may hold a password."""
        if uri is None or not uri.strip():
            return None
        if _SERVER.fullmatch(uri):
            return uri
        if uri.startswith("sqlite:"):
            msg = (
                "names no database file. Write sqlite:///FILE or sqlite:////ABSOLUTE/FILE; one in memory keeps nothing"
            )
        elif re.match(r"[\w.-]+:\d+(/|$)", uri):
            msg = "has no scheme. Write http://HOST:PORT for a tracking server"
        elif uri.startswith("file:") or "://" not in uri:
            msg = (
                "names a folder, which MLflow no longer keeps runs in. Leave it out for SQLite under `output`, or "
                "write sqlite:///FILE; `mlflow migrate-filestore` brings over what such a folder holds"
            )
        else:
            msg = "is no URI. Write http://HOST:PORT, sqlite:///FILE or null"
        raise ValueError(msg)

    def anchored(self, at: Callable[[str], str]) -> Self:
        """The same with a relative database file resolved by `at`."""
        match = _SQLITE.fullmatch(self.uri or "")
        if match is None or unquote(match[2]).startswith("/"):
            return self
        database = sqlite_uri(Path(at(unquote(match[2])))).removeprefix("sqlite:///")
        return self.model_copy(update={"uri": f"{match[1]}{database}{match[3]}"})

    @property
    def portable_uri(self) -> str | None:
        """The URI without credentials, and without the folders of a database file."""
        match = _SQLITE.fullmatch(self.uri or "")
        if match is not None:
            return f"{match[1]}{Path(unquote(match[2])).name}"
        return None if self.uri is None else without_credentials(self.uri)


def sqlite_uri(path: Path) -> str:
    """The URI of a SQLite database, whatever characters the path holds.

    SQLAlchemy decodes the path and ends it at a `?`; MLflow makes the folder of the undecoded one. So where the two
    differ the slashes are encoded too, and there is no folder to make.
    """
    text = str(path)
    return f"sqlite:///{quote(text, safe='') if set(text) & set('%?') else text}"
