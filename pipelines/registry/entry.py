"""A finished training enters MLflow from what it left on disk: at its end, or later if the server was away then."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Self

from mlflow.entities import Dataset, DatasetInput, InputTag

from features.errors import ConfigError, IntegrityError, TryAgainError
from pipelines.base.config import Config
from pipelines.registry.bundle_files import verify_files
from pipelines.registry.registry import Registry, Version
from pipelines.registry.tracking import Run, Tracking
from pipelines.stores.storage import alone, read_json, sha256_of, write_json

__all__ = ["Entry", "enter", "register_later"]

_ENTRY = "entry.json"
_TRAINING = InputTag("mlflow.data.context", "training")
_SECONDS = 900.0


@dataclass(frozen=True, slots=True)
class Entry:
    """What a finished training's run and version are to say.

    Attributes:
        run: Id of the run that watched the training.
        name: What the run is called.
        metrics: Of the run.
        series: Of the run, whole.
        tags: Of the run.
        version_tags: Of the version.
        description: Of the version.
        datasets: The tables that it was trained on.
    """

    run: str
    name: str
    metrics: Mapping[str, float]
    series: Mapping[str, Sequence[float]]
    tags: Mapping[str, str]
    version_tags: Mapping[str, str]
    description: str
    datasets: Sequence[DatasetInput]

    def write(self, folder: Path) -> None:
        """Keep it beside the evaluation."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        values |= {
            "metrics": {key: _kept(value) for key, value in self.metrics.items()},
            "series": {key: [_kept(value) for value in series] for key, series in self.series.items()},
            "tags": dict(self.tags),
            "version_tags": dict(self.version_tags),
            "datasets": [dict(each.dataset) for each in self.datasets],
        }
        write_json(values, folder / _ENTRY)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """What was kept beside an evaluation.

        Raises:
            IntegrityError: It is something else.
        """
        values = read_json(folder / _ENTRY, what="evaluation")
        try:
            values |= {
                "metrics": {key: float(value) for key, value in values["metrics"].items()},
                "series": {key: [float(value) for value in series] for key, series in values["series"].items()},
                "datasets": [DatasetInput(Dataset(**each), [_TRAINING]) for each in values["datasets"]],
            }
            return cls(**values)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise IntegrityError(f"{folder / _ENTRY} is not what a training wrote. Train again.") from error


def _kept(value: float) -> float | str:
    """A figure as JSON keeps it: `float` reads both."""
    return value if math.isfinite(value) else str(value)


def enter(bundle: Path, config: Config, run: Run) -> Version:
    """Write a training's results to its run, and register its bundle as a version.

    Raises:
        TryAgainError: The server does not answer; the message names the command that goes on from here.
    """
    folder, digest = _evaluation(bundle.name, config), sha256_of(bundle / "manifest.json")
    entry = Entry.read(folder)
    try:
        run.record(
            entry.name,
            metrics=entry.metrics,
            series={key: list(values) for key, values in entry.series.items()},
            tags={**entry.tags, "bundle_digest": digest},
            artefacts={"bundle": bundle, "evaluation": folder},
            datasets=entry.datasets,
        )
        return Registry(config).register(run.id, digest, description=entry.description, tags=entry.version_tags)
    except TryAgainError as error:
        raise TryAgainError(
            "the training is finished and on disk, and is not registered yet. Do not train again: `nightrank register "
            f"{bundle}` registers it when the server answers. {error}"
        ) from error


def _evaluation(name: str, config: Config) -> Path:
    return Path(config.output) / "evaluations" / name


def register_later(bundle: Path, config: Config) -> tuple[Version, bool]:
    """Register a finished training from its bundle and its evaluation on disk.

    Returns:
        The version, and whether it is new; a bundle that is registered already keeps its version.

    Raises:
        IntegrityError: The bundle is not as it was written.
        ConfigError: Its evaluation is not under the output folder.
        TryAgainError: The server does not answer.
    """
    verify_files(bundle)
    digest = sha256_of(bundle / "manifest.json")
    folder = _evaluation(digest[:32], config)
    lock = Path(config.output) / "jobs" / f"register-{digest[:32]}.lock"
    with alone(lock, seconds=_SECONDS, doing=f"registering {bundle}"):
        registry = Registry(config)
        versions = registry.versions()
        existing = next((version for version in versions if version.digest == digest), None)
        if existing is not None:
            if existing == versions[0] and not existing.aliases:  # the server went away before the alias was set
                registry.challenge(existing.number)
            return registry.version(existing.number), False
        if not (folder / _ENTRY).is_file():
            raise ConfigError(
                f"{folder / _ENTRY} is missing, which the training wrote. Run this with the output folder that it was "
                "trained into (output)."
            )
        entry = Entry.read(folder)
        with Tracking(config).reopened(entry.run, series=entry.series) as run:
            return enter(bundle, config, run), True
