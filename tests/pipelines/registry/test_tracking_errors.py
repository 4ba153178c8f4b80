"""What MLflow and the libraries under it raise: the right code, their words, no credential."""

import http.server
import socket
import sqlite3
import threading
import time
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest
import sqlalchemy.exc
from mlflow.exceptions import MlflowException

import pipelines.registry.tracking_store
from features.errors import ConfigError, IntegrityError, TryAgainError
from pipelines.registry.tracking import Tracking, probe
from pipelines.registry.tracking_errors import tracking_errors


@pytest.fixture
def config(shop_project, tmp_path):
    return shop_project.config.model_copy(update={"output": str(tmp_path / "out")})


def at(config, uri):
    return config.model_copy(update={"tracking": config.tracking.model_copy(update={"uri": uri})})


@contextmanager
def server(status: int, body: bytes = b"{}", wait: float = 0.0):
    """A real HTTP server that answers every request alike; gives its address with a user and a password in it."""

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            time.sleep(wait)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer) as answering:
        thread = threading.Thread(target=answering.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://alice:s3cret@127.0.0.1:{answering.server_port}"
        finally:
            answering.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("status", "body", "kind", "says"),
    [
        (401, b"who are you", ConfigError, "refused this account.*MLFLOW_TRACKING_PASSWORD"),
        (403, b'{"error_code": "PERMISSION_DENIED", "message": "not yours"}', ConfigError, "not yours"),
        (404, b"<html>nothing here</html>", ConfigError, "no MLflow server answers there"),
        (200, b"<html>a shop</html>", ConfigError, "no MLflow server answers there"),
        (500, b'{"error_code": "INTERNAL_ERROR", "message": "its disk"}', TryAgainError, "does not answer"),
        (503, b"busy", TryAgainError, "does not answer"),
    ],
)
def test_a_server_that_refuses(status, body, kind, says, config, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with server(status, body) as uri:
        for ask in (probe, Tracking):
            with pytest.raises(kind, match=says) as raised:
                ask(at(config, uri))
            told = str(raised.value)
            assert "s3cret" not in told
            assert "alice" not in told
            assert "\n" not in told


def test_fault_70_a_server_that_hangs_is_left_within_seconds(config, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    start = time.monotonic()
    with server(200, wait=3.0) as uri, pytest.raises(TryAgainError, match="does not answer"):
        probe(at(config, uri))
    assert time.monotonic() - start < 10


@pytest.mark.parametrize(
    ("uri", "kind", "says"),
    [
        ("postgresql+nosuch://u:s3cret@h/db", ConfigError, "driver of its database"),
        ("mysql+pymysql://u:s3cret@h/db", ConfigError, 'pip install "pymysql"'),
        ("gopher://u:s3cret@h/db", ConfigError, "no MLflow server answers there"),
        ("http://127.0.0.1:9", TryAgainError, "does not answer"),
        ("http://u:s3cret@127.0.0.1:port", ConfigError, "no MLflow server answers there"),
        ("databricks", ConfigError, "credentials of Databricks"),
        ("databricks-uc", ConfigError, "Unity Catalog"),
    ],
)
def test_fault_79_addresses_that_cannot_be_and_servers_that_are_not_there(uri, kind, says, config, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(kind, match=says) as raised:
        probe(at(config, uri))
    assert "s3cret" not in str(raised.value)
    assert not Path(config.output).exists()


def test_fault_79_a_database_that_does_not_answer_is_left_within_seconds(config, monkeypatch):
    """Fault 79: MLflow itself takes 102 s. The driver is not installed here; nobody listens on the discard port."""
    monkeypatch.setattr(
        pipelines.registry.tracking_store, "create_engine", lambda _: sqlalchemy.create_engine("sqlite://")
    )
    start = time.monotonic()
    with pytest.raises(TryAgainError, match="does not answer"):
        probe(at(config, "postgresql://u:s3cret@127.0.0.1:9/db"))
    assert time.monotonic() - start < 10


def test_fault_79_a_postgresql_that_hangs_is_left_within_seconds(config):
    """It accepts connections, as the system does for a process that is stopped, and never answers."""
    driver = next((name for name in ("psycopg", "psycopg2") if find_spec(name)), None)
    if driver is None:
        pytest.skip("neither psycopg nor psycopg2 is installed: nothing was tested on PostgreSQL")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        uri = f"postgresql+{driver}://u:s3cret@127.0.0.1:{silent.getsockname()[1]}/db"
        start = time.monotonic()
        with pytest.raises(TryAgainError, match="it does not answer") as raised:
            probe(at(config, uri))
        assert time.monotonic() - start < 10
    assert "s3cret" not in str(raised.value)


@pytest.mark.parametrize(
    ("error", "kind", "says"),
    [
        (
            sqlalchemy.exc.OperationalError("q", {}, sqlite3.OperationalError("database is locked")),
            TryAgainError,
            "hold",
        ),
        (sqlite3.OperationalError("attempt to write a readonly database"), TryAgainError, "writable"),
        (sqlite3.OperationalError("database or disk is full"), TryAgainError, "Free some"),
        (sqlite3.DatabaseError("file is not a database"), IntegrityError, "backup"),
        (sqlite3.OperationalError("table experiments already exists"), ConfigError, "half made"),
        (Exception('FATAL: password authentication failed for user "u"'), ConfigError, "user or the password"),
        (Exception('FATAL: database "runs" does not exist'), ConfigError, "no such database"),
        (MlflowException("Can't locate revision identified by '1'"), ConfigError, "mlflow db upgrade sqlite:///"),
        (MlflowException("what is that", error_code=1000), ConfigError, "keys of `tracking`"),
        (MlflowException("some fault of its own"), TryAgainError, "some fault of its own"),
        (ModuleNotFoundError("No module named 'boto3'", name="boto3"), ConfigError, 'pip install "boto3"'),
        (PermissionError(13, "Permission denied", "/x/artifacts"), TryAgainError, "/x/artifacts"),
    ],
)
def test_words_of_libraries_decide_what_helps(error, kind, says, config):
    with pytest.raises(kind, match=says), tracking_errors(config):
        raise error


def test_faults_of_our_own_and_errors_of_ours_pass(config):
    with pytest.raises(KeyError), tracking_errors(config):
        raise KeyError("ours")
    with pytest.raises(IntegrityError, match="ours"), tracking_errors(config):
        raise IntegrityError("ours")
