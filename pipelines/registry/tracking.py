"""MLflow: the client of the tracking server, and one run per training."""

import errno
import fcntl
import logging
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from shlex import quote
from types import MappingProxyType
from typing import IO, TYPE_CHECKING
from urllib.parse import urlsplit

from mlflow import MlflowClient
from mlflow.entities import DatasetInput, Experiment, Metric, Param
from mlflow.exceptions import MlflowException

from features.errors import ConfigError, NightrankError, TryAgainError
from pipelines.base.config import Config, flat
from pipelines.base.outside import disk_error, without_credentials, written
from pipelines.base.progress import say
from pipelines.base.tracking_config import sqlite_uri
from pipelines.base.usage import Stages, measured
from pipelines.registry import tracking_store
from pipelines.registry.tracking_errors import tracking_errors

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

__all__ = ["EVERY_SECONDS", "Run", "Tracking", "local_artefacts", "probe", "tracking_uri"]

_PARAMETERS_AT_ONCE, _METRICS_AT_ONCE = 100, 1000  # MLflow's own limits
_TRAINING_TAGS = {
    "nightrank.kind": "training",
    "mlflow.source.name": "nightrank train",
    "mlflow.source.type": "LOCAL",
}
EVERY_SECONDS = 5.0
"""Seconds between two writes of a run's series."""
_AGAIN_SECONDS = 600.0  # a server that does not answer takes its time for that


def tracking_uri(config: Config) -> str:
    """The configured server, or SQLite under the output folder."""
    return config.tracking.uri or sqlite_uri(Path(config.output) / "mlflow.db")


def local_artefacts(config: Config) -> Path | None:
    """Folder of the runs' artefacts; None where a server keeps them."""
    if _is_server(tracking_uri(config)):
        return None
    return Path(config.output) / tracking_store.ARTEFACTS


def probe(config: Config) -> None:
    """Check that the server or database answers and the experiment is usable; nothing is made.

    Raises:
        ConfigError: A person must change something: address, credentials, driver, schema, a deleted experiment.
        TryAgainError: The server does not answer, the database is locked, or it cannot be made where it should be.
    """
    uri = tracking_uri(config)
    file = tracking_store.sqlite_file(uri)
    _quiet()
    with tracking_errors(config):
        if file is not None and not tracking_store.is_made(file):
            _may_be_made(file)
            return
        _active(_connected(uri, config), config)


class Tracking:
    """A client of the configured tracking server, which answered once when it was made.

    Args:
        config: Server and experiment.

    Raises:
        ConfigError: A person must change something: address, credentials, driver, schema.
        TryAgainError: The server does not answer, or the output folder cannot be made.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        uri = tracking_uri(config)
        _quiet()
        with written(config.output):
            Path(config.output).mkdir(parents=True, exist_ok=True)
        with tracking_errors(config):
            if (file := tracking_store.sqlite_file(uri)) is not None:
                tracking_store.make(file)
            self.client = _connected(uri, config)

    @cached_property
    def experiment_id(self) -> str:
        """The experiment that trainings write to, made if there is none.

        Raises:
            ConfigError: It was deleted.
            TryAgainError: The server does not answer.
        """
        folder = local_artefacts(self._config)
        with tracking_errors(self._config):
            experiment = _active(self.client, self._config)
            if experiment is None:
                return self._make_experiment(folder)
            if folder is not None and self._config.tracking.uri is None:
                database = Path(self._config.output) / "mlflow.db"
                tracking_store.follow(database, str(experiment.artifact_location), folder)
        return str(experiment.experiment_id)

    def _make_experiment(self, artefacts: Path | None) -> str:
        name, location = self._config.tracking.experiment, None if artefacts is None else artefacts.as_uri()
        try:
            return str(self.client.create_experiment(name, artifact_location=location))
        except MlflowException as error:
            if error.error_code == "RESOURCE_ALREADY_EXISTS" and (existing := _active(self.client, self._config)):
                return str(existing.experiment_id)  # another command made it meanwhile
            raise

    def log(self, run_id: str, metrics: Mapping[str, float]) -> None:
        """Add metrics to an existing run; a metric that had a value gets another one.

        Raises:
            TryAgainError: The server does not answer.
        """
        now = int(time.time() * 1000)
        points = [Metric(key, value, now, 0) for key, value in metrics.items()]
        with tracking_errors(self._config):
            for start in range(0, len(points), _METRICS_AT_ONCE):
                self.client.log_batch(run_id, metrics=points[start : start + _METRICS_AT_ONCE])

    @contextmanager
    def run(self) -> Iterator["Run"]:
        """Context of a run that is open while its training goes on; it is marked as failed if that fails.

        A process that is killed leaves it as running, with what was written until then. The next training of the same
        configuration in the same output folder (the tag `job_key`) marks it as killed.

        Raises:
            ConfigError: `tracking.tensorboard` is set, and TensorBoard is not installed.
            TryAgainError: The server does not answer, or such a training is under way.
        """
        job = f"train-{self._config.digest()[:16]}"
        with measured() as stages, self._alone(job) as lock, self._open_run(job, lock) as run:
            run.stages = stages
            yield run

    @contextmanager
    def reopened(self, run_id: str, *, series: Iterable[str]) -> Iterator["Run"]:
        """Context of the run of a finished training whose results were not written; another one if it is gone.

        Args:
            run_id: The run.
            series: Names of its series, of which some values may be written already.

        Raises:
            TryAgainError: The server does not answer.
        """
        passed: dict[str, int] = {}
        with tracking_errors(self._config):
            try:
                self.client.update_run(run_id, status="RUNNING")
                passed = {name: len(self.client.get_metric_history(run_id, name)) for name in series}
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
                run_id = str(self.client.create_run(self.experiment_id, run_name="train").info.run_id)
        run = Run(self.client, run_id, self._config, passed=passed)
        try:
            yield run
        except BaseException:
            run.end("FAILED")
            raise
        run.end("FINISHED")

    @contextmanager
    def _alone(self, job: str) -> Iterator[IO[str]]:
        """The locked file of a job; it names the run of the process that locked it before."""
        path = Path(self._config.output) / "jobs" / f"{job}.lock"
        with written(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("a+", encoding="utf-8")
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
        """Mark an abandoned run as killed, if its status is still running."""
        try:
            if self.client.get_run(run_id).info.status == "RUNNING":
                self.client.set_terminated(run_id, "KILLED")
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise

    @contextmanager
    def _open_run(self, job: str, lock: IO[str]) -> Iterator["Run"]:
        curves = _summary_writer() if self._config.tracking.tensorboard else None
        lock.seek(0)
        left = lock.read()
        with tracking_errors(self._config):
            if left:
                self._mark_killed(left)
            tags = {"job_key": job, **_TRAINING_TAGS}
            made = self.client.create_run(self.experiment_id, run_name="train", tags=tags)
        run_id = str(made.info.run_id)
        folder = Path(self._config.output) / "tensorboard" / run_id
        with written(folder):
            writer = None if curves is None else curves(str(folder), flush_secs=EVERY_SECONDS)
        run = Run(self.client, run_id, self._config, writer)
        with written(lock.name):
            lock.truncate(0)
            lock.write(run.id)
            lock.flush()
        params = [Param(key, str(value)[:6000]) for key, value in flat(self._config.portable()).items()]
        with tracking_errors(self._config):
            for start in range(0, len(params), _PARAMETERS_AT_ONCE):
                self.client.log_batch(run.id, params=params[start : start + _PARAMETERS_AT_ONCE])
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
        config: Names the server.
        curves: TensorBoard's writer, which gets all series too; None for none.
        passed: Values of each series that it has already.

    Attributes:
        stages: What the training took until now.
    """

    def __init__(
        self,
        client: MlflowClient,
        run_id: str,
        config: Config,
        curves: "SummaryWriter | None" = None,
        *,
        passed: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        self.id = run_id
        self.stages = Stages()
        self._client = client
        self._config = config
        self._curves = curves
        self._passed = dict(passed)
        self._waiting: list[Metric] = []
        self._due = 0.0

    def series(self, name: str, values: Sequence[float]) -> None:
        """Add the values of a series that came since the last call.

        They are written every few seconds. A server that does not answer stops no training: the values wait.

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
        except NightrankError as error:
            self._due = time.monotonic() + _AGAIN_SECONDS
            say("the tracking server does not answer", error=str(error), again_in_seconds=_AGAIN_SECONDS)

    def record(
        self,
        name: str,
        *,
        metrics: Mapping[str, float],
        series: Mapping[str, list[float]],
        tags: Mapping[str, str],
        artefacts: Mapping[str, Path],
        datasets: Sequence[DatasetInput] = (),
    ) -> None:
        """Write the results of a finished training.

        Args:
            name: The run's name.
            metrics: By MLflow's rules for names (no `@`).
            series: Metrics with one value a step or epoch, whole.
            tags: Short texts.
            artefacts: Folder in the run: local file or folder.
            datasets: The tables that it was trained on.

        Raises:
            TryAgainError: The server does not answer.
        """
        now = int(time.time() * 1000)
        self._waiting += [Metric(key, value, now, 0) for key, value in metrics.items()]
        for key, values in series.items():
            self.series(key, values)
        self._write()
        with tracking_errors(self._config):
            self._client.update_run(self.id, name=name)
            self._client.log_inputs(self.id, list(datasets))
            for key, value in tags.items():
                self._client.set_tag(self.id, key, value)
            for inner, path in artefacts.items():
                if path.is_dir():
                    self._client.log_artifacts(self.id, str(path), inner)
                else:
                    self._client.log_artifact(self.id, str(path), inner or None)

    def end(self, status: str) -> None:
        """Write the waiting values and the status.

        Raises:
            TryAgainError: The run was finished, but the server does not answer.
        """
        if self._curves is not None:
            self._curves.close()
        try:
            self._write()
            with tracking_errors(self._config):
                self._client.set_terminated(self.id, status=status)
        except NightrankError:
            if status == "FINISHED":  # else the training's own error is reported
                raise

    def _write(self) -> None:
        with tracking_errors(self._config):
            for start in range(0, len(self._waiting), _METRICS_AT_ONCE):
                self._client.log_batch(self.id, metrics=self._waiting[start : start + _METRICS_AT_ONCE])
        self._waiting.clear()
        self._due = time.monotonic() + EVERY_SECONDS


def _summary_writer() -> "type[SummaryWriter]":
    """The class that writes TensorBoard's event files.

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


def _connected(uri: str, config: Config) -> MlflowClient:
    """A client, after its server or database answered once."""
    if not _is_server(uri):
        tracking_store.knock(uri)
        with tracking_store.making(uri):
            return MlflowClient(tracking_uri=uri, registry_uri=uri)
    with _briefly():
        client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        client.get_experiment_by_name(config.tracking.experiment)
    return client


def _quiet() -> None:
    """Silence MLflow's own log, which writes tracebacks of errors that we report in a sentence."""
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in ("mlflow.store.db.utils", "mlflow.utils.databricks_utils"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def _is_server(uri: str) -> bool:
    """Whether a URI names a tracking server, which stores artefacts itself, rather than a database."""
    return urlsplit(uri).scheme.partition("+")[0] not in {"sqlite", "postgresql", "mysql", "mssql"}


@contextmanager
def _briefly() -> Iterator[None]:
    """Context with half the usual timeout, unless MLFLOW_HTTP_REQUEST_TIMEOUT was set."""
    patience = os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"]
    os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] = "5" if patience == "10" else patience
    try:
        yield
    finally:
        os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] = patience


def _active(client: MlflowClient, config: Config) -> Experiment | None:
    """The configured experiment, None if there is none.

    Raises:
        ConfigError: It was deleted.
    """
    name = config.tracking.experiment
    experiment = client.get_experiment_by_name(name)
    if experiment is not None and experiment.lifecycle_stage != "active":
        raise ConfigError(
            f"the experiment {name!r} was deleted in MLflow. Restore it with `mlflow experiments restore -x "
            f"{experiment.experiment_id}` under MLFLOW_TRACKING_URI="
            f"{quote(without_credentials(tracking_uri(config)))}, or name another (tracking.experiment)."
        )
    return experiment


def _may_be_made(file: Path) -> None:
    """Check that a file could be made, without making it.

    Raises:
        TryAgainError: Its folder, or the nearest one that is there, cannot be written.
    """
    nearest = next(folder for folder in file.absolute().parents if folder.exists())
    if not nearest.is_dir():
        raise disk_error(NotADirectoryError(errno.ENOTDIR, ""), nearest)
    if not os.access(nearest, os.W_OK | os.X_OK):
        fixed = os.statvfs(nearest).f_flag & os.ST_RDONLY
        raise disk_error(OSError(errno.EROFS if fixed else errno.EACCES, ""), nearest)
