"""Versions: verifiable bundles, MLflow's runs and registry, aliases and the journal of promotions.

All calls of MLflow are made here, inside `tracking_errors`. Whether a version may go live is decided by the gates
(`pipelines.verbs.gates`).
"""

import os
from importlib import import_module
from pathlib import Path
from tempfile import gettempdir

# NOTE: before any module here imports MLflow: no look-up of a telemetry host, minutes of retries become seconds, and
# nothing is printed on stdout, where the result of a command stands alone.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
os.environ.setdefault("PGCONNECT_TIMEOUT", "5")  # a PostgreSQL that hangs is left, as one that is not there
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # stdout is the result's

try:
    Path.home()
except RuntimeError:  # a user id without an account, as in containers; MLflow asks for a home when it is imported
    os.environ["HOME"] = gettempdir()
    import_module("mlflow.environment_variables")
    del os.environ["HOME"]
