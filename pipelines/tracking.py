"""MLflow: one run a training, and the registry of versions."""

import fcntl
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

# NOTE: before MLflow is imported: no look-up of a telemetry host, and minutes of retries become seconds.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

import logging

from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException

from features.errors import ConfigError, TryAgainError
from pipelines.config import Config, flat
from pipelines.progress import say

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

__all__ = ["Run", "Tracking", "probe", "tracking_uri"]

_PARAMETERS_AT_ONCE, _METRICS_AT_ONCE = 100, 1000  # MLflow's own limits
_EVERY_SECONDS = 5.0
_AGAIN_SECONDS = 600.0  # a server that does not answer takes its time for that


def tracking_uri(config: Config) -> str:
    """The configured server, or SQLite under the output folder."""
    return config.tracking.uri or f"sqlite:///{Path(config.output) / 'mlflow.db'}"


class Tracking:
    """A client of the configured tracking server.

    Args:
        config: Server and experiment.

    Raises:
        TryAgainError: The server does not answer, or the output folder cannot be made.
    """

    def __init__(self, config: Config) -> None:
        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.WARNING)
        try:
            Path(config.output).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise TryAgainError(
                f"{config.output} cannot be made ({error.strerror}). Make room for it, or name another (output)."
            ) from error
        uri = tracking_uri(config)
        self._config = config
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

    def log(self, run_id: str, metrics: Mapping[str, float]) -> None:
        """Add metrics, by MLflow's rules for names, to a run that is there; what had a value gets another.

        Raises:
            TryAgainError: The server does not answer.
        """
        now = int(time.time() * 1000)
        told = [Metric(key, value, now, 0) for key, value in metrics.items()]
        try:
            for start in range(0, len(told), _METRICS_AT_ONCE):
                self.client.log_batch(run_id, metrics=told[start : start + _METRICS_AT_ONCE])
        except MlflowException as error:
            raise _unreachable(error) from error

    @contextmanager
    def run(self) -> Iterator["Run"]:
        """A run with the configuration, open while its training goes on; it is marked as failed where that fails.

        A process that is killed leaves it as running, with what was written until then. The next training of the same
        configuration in the same output folder (the tag `job_key`) marks it as killed.

        Raises:
            ConfigError: `tracking.tensorboard` is set, and TensorBoard is not installed.
            TryAgainError: The server does not answer, or such a training is under way.
        """
        job = f"train-{self._config.digest()[:16]}"
        with self._alone(job) as lock, self._open_run(job, lock) as run:
            yield run

    @contextmanager
    def _alone(self, job: str) -> Iterator[IO[str]]:
        """The lock of a job, held; in the file stands the run of the process that held it last."""
        path = Path(self._config.output) / "jobs" / f"{job}.lock"
        try:
            path.parent.mkdir(exist_ok=True)
            file = path.open("a+", encoding="utf-8")
        except OSError as error:
            raise TryAgainError(
                f"{path} cannot be written ({error.strerror}). Free the disk, then run it again."
            ) from error
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise TryAgainError(
                    f"a training of this configuration is under way: it holds {path}. Run it again when that is done, "
                    "or write elsewhere (output)."
                ) from error
            yield file

    def _mark_killed(self, run_id: str) -> None:
        """Mark a run that nobody goes on with, if it is still called running."""
        try:
            if self.client.get_run(run_id).info.status == "RUNNING":
                self.client.set_terminated(run_id, "KILLED")
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise

    @contextmanager
    def _open_run(self, job: str, lock: IO[str]) -> Iterator["Run"]:
        curves = _summary_writer() if self._config.tracking.tensorboard else None
        try:
            lock.seek(0)
            left = lock.read()
            if left:
                self._mark_killed(left)
            made = self.client.create_run(self.experiment_id, run_name="train", tags={"job_key": job})
            run_id = str(made.info.run_id)
            folder = Path(self._config.output) / "tensorboard" / run_id
            run = Run(self.client, run_id, None if curves is None else curves(str(folder), flush_secs=_EVERY_SECONDS))
            lock.truncate(0)
            lock.write(run.id)
            lock.flush()
            told = [Param(key, str(value)[:6000]) for key, value in flat(self._config.portable()).items()]
            for start in range(0, len(told), _PARAMETERS_AT_ONCE):
                self.client.log_batch(run.id, params=told[start : start + _PARAMETERS_AT_ONCE])
        except MlflowException as error:
            raise _unreachable(error) from error
        try:
            yield run
        except BaseException:
            run.end("FAILED")
            raise
        run.end("FINISHED")


class Run:
    """One run of a training.

    Args:
        client: Of the tracking server.
        run_id: The run's id.
        curves: Is told of all series too.
    """

    def __init__(self, client: MlflowClient, run_id: str, curves: "SummaryWriter | None" = None) -> None:
        self.id = run_id
        self._client = client
        self._curves = curves
        self._passed: dict[str, int] = {}
        self._waiting: list[Metric] = []
        self._due = 0.0

    def series(self, name: str, values: Sequence[float]) -> None:
        """Take up a series as far as it goes: the values that came since it was last given.

        They are written every few seconds. A server that does not answer stops no training: they wait.

        Args:
            name: By MLflow's rules for names (no `@`).
            values: One a step, from the first on.
        """
        now = int(time.time() * 1000)
        passed = self._passed.get(name, 0)
        for step in range(passed, len(values)):
            self._waiting.append(Metric(name, values[step], now, step))
            if self._curves is not None:
                self._curves.add_scalar(name, values[step], step)
        self._passed[name] = max(passed, len(values))
        if time.monotonic() < self._due or not self._waiting:
            return
        try:
            self._write()
        except MlflowException as error:
            self._due = time.monotonic() + _AGAIN_SECONDS
            say("the tracking server does not answer", error=error.error_code, again_in_seconds=_AGAIN_SECONDS)

    def record(
        self,
        name: str,
        *,
        metrics: Mapping[str, float],
        series: Mapping[str, list[float]],
        tags: Mapping[str, str],
        artefacts: Mapping[str, Path],
    ) -> None:
        """Write what a finished training came to.

        Args:
            name: The run's name.
            metrics: By MLflow's rules for names (no `@`).
            series: Metrics with one value a step or epoch, whole.
            tags: Short texts.
            artefacts: Folder in the run: local file or folder.

        Raises:
            TryAgainError: The server does not answer.
        """
        now = int(time.time() * 1000)
        self._waiting += [Metric(key, value, now, 0) for key, value in metrics.items()]
        for key, values in series.items():
            self.series(key, values)
        try:
            self._write()
            self._client.update_run(self.id, name=name)
            for key, value in tags.items():
                self._client.set_tag(self.id, key, value)
            for inner, path in artefacts.items():
                if path.is_dir():
                    self._client.log_artifacts(self.id, str(path), inner)
                else:
                    self._client.log_artifact(self.id, str(path), inner or None)
        except MlflowException as error:
            raise _unreachable(error) from error

    def end(self, status: str) -> None:
        """Write what waits, and the status.

        Raises:
            TryAgainError: The run was finished, but the server does not answer.
        """
        if self._curves is not None:
            self._curves.close()
        try:
            self._write()
            self._client.set_terminated(self.id, status=status)
        except MlflowException as error:
            if status == "FINISHED":  # else what failed is told
                raise _unreachable(error) from error

    def _write(self) -> None:
        for start in range(0, len(self._waiting), _METRICS_AT_ONCE):
            self._client.log_batch(self.id, metrics=self._waiting[start : start + _METRICS_AT_ONCE])
        self._waiting.clear()
        self._due = time.monotonic() + _EVERY_SECONDS


def probe(config: Config) -> None:
    """Ask the tracking server for anything; make neither a folder, nor a database, nor an experiment.

    Raises:
        TryAgainError: It does not answer.
    """
    uri = tracking_uri(config)
    try:
        MlflowClient(tracking_uri=uri, registry_uri=uri).search_experiments(max_results=1)
    except MlflowException as error:
        raise _unreachable(error) from error


def _summary_writer() -> "type[SummaryWriter]":
    """What writes TensorBoard's event files.

    Raises:
        ConfigError: It is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ConfigError(
            "tracking.tensorboard: TensorBoard is not installed. Install the extra nightrank[tensorboard], or set it "
            "to false."
        ) from error
    return SummaryWriter


def _unreachable(error: MlflowException) -> TryAgainError:
    return TryAgainError(
        f"the tracking server refused or does not answer ({error.error_code}). Check tracking.uri, then run it again."
    )
