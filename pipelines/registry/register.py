"""The end of a training: evaluate it, write its bundle, record the run, register the version."""

import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import polars as pl

from features.errors import NightrankError
from pipelines.base.config import Config
from pipelines.base.progress import task
from pipelines.evaluation.evaluate import Evaluation, candidate_recall, judge_trained
from pipelines.evaluation.external import External
from pipelines.evaluation.plots import recall_plot
from pipelines.inputs.check import Inputs
from pipelines.registry.bundle import write_bundle
from pipelines.registry.card import (
    dataset_inputs,
    description,
    evaluation_page,
    metric_name,
    run_name,
    run_tags,
    usage_metrics,
    version_tags,
)
from pipelines.registry.entry import Entry, enter
from pipelines.registry.registry import CHALLENGER, CHAMPION, PREVIOUS, Registry, Version
from pipelines.registry.tracking import Run, Tracking
from pipelines.stores.rows import sweep_rows
from pipelines.stores.storage import atomic_writer, read_json, write_json, write_parquet
from pipelines.training.block_training import block_series
from pipelines.training.train import VALID_NDCG, Trained

__all__ = ["Registered", "metrics_of", "record_ablations", "register", "series_of"]


@dataclass(frozen=True, slots=True)
class Registered:
    """A registered training.

    Attributes:
        version: The new version.
        evaluation: Its test window, judged.
        bundle: Folder of its bundle.
    """

    version: Version
    evaluation: Evaluation
    bundle: Path


def register(
    trained: Trained,
    inputs: Inputs,
    config: Config,
    run: Run | None = None,
    *,
    external: External = MappingProxyType({}),
) -> Registered:
    """Evaluate, bundle, record and register. The version becomes `challenger`; nothing goes live.

    Args:
        trained: Result of the training.
        inputs: The tables it was trained on.
        config: Everything configured.
        run: The run that watched the training; None opens one.
        external: Scores of other systems, judged beside it on the test window.
    """
    if run is None:
        with Tracking(config).run() as own:
            return register(trained, inputs, config, own, external=external)
    labelled, evaluation = judge_trained(trained, config, external)
    recall = candidate_recall(trained, config)
    plot = recall_plot(recall, cut=config.candidates.max_per_request)
    with task("Keeping and registering the version", 2) as advance:
        bundle = write_bundle(
            Path(config.output) / "bundles",
            trained=trained,
            config=config,
            evaluation=evaluation.as_json(),
            golden_rows=labelled.rows,
            fingerprints=dict(inputs.fingerprints),
        )
        advance(1)
        folder = _evaluation_folder(evaluation, config, bundle.name, recall, plot)
        tags = version_tags(trained, evaluation, inputs, config)
        words = description(trained, evaluation, inputs, config)
        entry = Entry(
            run=run.id,
            name=run_name(trained),
            metrics={**metrics_of(evaluation), **usage_metrics(run.stages)},
            series=series_of(trained),
            tags={**tags, **run_tags(tags, words)},
            version_tags=tags,
            description=words,
            datasets=dataset_inputs(inputs, config),
        )
        entry.write(folder)
        version = enter(bundle, config, run)
        _sweep(Registry(config), config)
        advance(1)
    return Registered(version, evaluation, bundle)


def _sweep(registry: Registry, config: Config) -> None:
    """Remove the rows of versions without an alias; where a manifest cannot be read, none."""
    named = (registry.find(alias) for alias in (CHAMPION, CHALLENGER, PREVIOUS))
    folders = [Path(config.output) / "bundles" / version.digest[:32] for version in named if version is not None]
    with suppress(NightrankError):
        manifests = [read_json(folder / "manifest.json", what="bundle") for folder in folders]
        sweep_rows([manifest["training"]["rows"] for manifest in manifests if "training" in manifest], config)


def record_ablations(evaluation: Evaluation, version: Version, config: Config) -> None:
    """Write a version's ablations to its training run.

    Args:
        evaluation: The version judged on its own window, with and without parts.
        version: The version.
        config: The tracking server.

    Raises:
        TryAgainError: The server does not answer.
    """
    named = [metric_name(system) for system in evaluation.ablated.values()]
    metrics = {key: value for key, value in metrics_of(evaluation).items() if any(name in key for name in named)}
    Tracking(config).log(version.run_id, metrics)


def metrics_of(evaluation: Evaluation) -> Mapping[str, float]:
    """Every figure of an evaluation by the name under which it is tracked."""
    table = evaluation.judged.table.filter(pl.col("mean").is_finite())
    metrics = {
        metric_name(row["system"], row["slice"], row["metric"]): row["mean"] for row in table.iter_rows(named=True)
    }
    pairs = evaluation.judged.pairs.filter(pl.col("low").is_finite())
    metrics |= {
        metric_name("lift", row["system"], "over", row["against"], row["slice"], row["metric"]): row["difference"]
        for row in pairs.iter_rows(named=True)
    }
    metrics |= {
        metric_name(system, "all", name): value
        for system, means in evaluation.beyond.items()
        for name, value in means.items()
        if math.isfinite(value)
    }
    recall = evaluation.judged.ceiling.drop_nulls().rows()
    return metrics | {metric_name("candidate_recall", slice_name): value for slice_name, value in recall}


def series_of(trained: Trained) -> Mapping[str, list[float]]:
    """Losses and checks of a training by the names under which they are tracked."""
    series = {VALID_NDCG: trained.valid_ndcg}
    for block, training in enumerate(trained.block_trainings):
        series |= block_series(block, training)
    return series


def _evaluation_folder(evaluation: Evaluation, config: Config, name: str, recall: pl.DataFrame, plot: bytes) -> Path:
    """Write the tables behind every figure, a page of them, and the plot; they hold request numbers and no ids."""
    folder = Path(config.output) / "evaluations" / name
    write_json(evaluation.as_json(), folder / "evaluation.json")
    write_json({"candidates": recall.to_dicts()}, folder / "recall.json")
    for file_name, content in (("recall.png", plot), ("evaluation.html", evaluation_page(evaluation, config))):
        with atomic_writer(folder / file_name) as file:
            file.write(content)
    write_parquet(evaluation.judged.per_request.drop("user"), folder / "per_request.parquet")
    return folder
