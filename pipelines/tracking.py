"""MLflow: one run a training, and the registry of versions."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# NOTE: before MLflow is imported: no look-up of a telemetry host, and minutes of retries become seconds.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

import logging

from mlflow import MlflowClient
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException

from features.errors import TryAgainError
from pipelines.config import Config

__all__ = ["Tracking", "tracking_uri"]

_PARAMETERS_AT_ONCE = 100  # MLflow's own limit


def tracking_uri(config: Config) -> str:
    """The configured server, or SQLite under the output folder."""
    return config.tracking.uri or f"sqlite:///{Path(config.output) / 'mlflow.db'}"


class Tracking:
    """A client of the configured tracking server.

    Args:
        config: Server and experiment.

    Raises:
        TryAgainError: The server does not answer.
    """

    def __init__(self, config: Config) -> None:
        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.WARNING)
        Path(config.output).mkdir(parents=True, exist_ok=True)
        uri = tracking_uri(config)
        try:
            self.client = MlflowClient(tracking_uri=uri, registry_uri=uri)
            self.experiment_id = self._experiment(config)
        except MlflowException as error:
            raise _unreachable(error) from error

    def _experiment(self, config: Config) -> str:
        name = config.tracking.experiment
        known = self.client.get_experiment_by_name(name)
        if known is not None:
            return str(known.experiment_id)
        local = None if config.tracking.uri else (Path(config.output) / "mlartifacts").as_uri()
        return str(self.client.create_experiment(name, artifact_location=local))

    def record(
        self,
        name: str,
        *,
        parameters: Mapping[str, Any],
        metrics: Mapping[str, float],
        series: Mapping[str, list[float]],
        tags: Mapping[str, str],
        artefacts: Mapping[str, Path],
    ) -> str:
        """Write one finished run.

        Args:
            name: The run's name.
            parameters: Nested; keys are joined by dots.
            metrics: By MLflow's rules for names (no `@`).
            series: Metrics with one value a step or epoch.
            tags: Short texts.
            artefacts: Folder in the run: local file or folder.

        Returns:
            The run's id.

        Raises:
            TryAgainError: The server does not answer.
        """
        try:
            run_id = self.client.create_run(self.experiment_id, run_name=name, tags=dict(tags)).info.run_id
            try:
                self._fill(run_id, parameters, metrics, series, artefacts)
            except BaseException:
                self.client.set_terminated(run_id, status="FAILED")
                raise
            self.client.set_terminated(run_id)
        except MlflowException as error:
            raise _unreachable(error) from error
        return str(run_id)

    def _fill(
        self,
        run_id: str,
        parameters: Mapping[str, Any],
        metrics: Mapping[str, float],
        series: Mapping[str, list[float]],
        artefacts: Mapping[str, Path],
    ) -> None:
        from mlflow.entities import Param

        flat = [Param(key, str(value)[:6000]) for key, value in _flat(parameters)]
        for start in range(0, len(flat), _PARAMETERS_AT_ONCE):
            self.client.log_batch(run_id, params=flat[start : start + _PARAMETERS_AT_ONCE])
        values = [Metric(key, value, 0, 0) for key, value in metrics.items()]
        values += [Metric(key, value, 0, step) for key, steps in series.items() for step, value in enumerate(steps)]
        for start in range(0, len(values), 1000):
            self.client.log_batch(run_id, metrics=values[start : start + 1000])
        for inner, path in artefacts.items():
            if path.is_dir():
                self.client.log_artifacts(run_id, str(path), inner)
            else:
                self.client.log_artifact(run_id, str(path), inner or None)


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = []
    for key, value in values.items():
        pairs += _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else [(f"{prefix}{key}", value)]
    return pairs


def _unreachable(error: MlflowException) -> TryAgainError:
    return TryAgainError(
        f"the tracking server refused or does not answer ({error.error_code}). Check tracking.uri, then run it again."
    )
