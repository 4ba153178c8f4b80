"""What a run and a version say about themselves in MLflow: name, description, tags, input tables, what they took."""

import json
import math
import subprocess
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import polars as pl
from mlflow.entities import Dataset, DatasetInput, InputTag

from pipelines.base.config import Config
from pipelines.base.report import page, systems_table
from pipelines.base.usage import Stages
from pipelines.evaluation.evaluate import FULL, Evaluation
from pipelines.inputs.check import Inputs
from pipelines.training.train import Trained

__all__ = [
    "dataset_inputs",
    "description",
    "evaluation_page",
    "metric_name",
    "run_name",
    "run_tags",
    "usage_metrics",
    "version_tags",
]

_BASELINE = "personal frequency"
_DIGEST_LENGTH = 32  # MLflow's column takes 36 characters; the whole fingerprint is a tag
_GIT_SECONDS = 5.0


def metric_name(*parts: str) -> str:
    """A metric's or tag's name by MLflow's rules: `ndcg@10` is logged as `ndcg_at_10`."""
    text = ".".join(parts).replace("@", "_at_")
    return "".join(letter if letter.isalnum() or letter in "._-/" else "_" for letter in text)


def run_name(trained: Trained) -> str:
    """What a training's run is called: which version it went on from, if any, and where its knowledge ends."""
    what = "train" if trained.continues is None else f"continue {trained.continues.name}"
    return f"{what} on events before {trained.cutoff():%Y-%m-%d}"


def description(trained: Trained, evaluation: Evaluation, inputs: Inputs, config: Config) -> str:
    """A version in a few sentences for whoever looks at it in MLflow."""
    metric, (first, last) = f"ndcg@{config.evaluation.cutoffs[-1]}", evaluation.as_json()["window"]
    start = "Trained" if trained.continues is None else f"Continues {trained.continues.name}: trained"
    rows = ", ".join(f"{table.n_good:,} {name}" for name, table in inputs.tables.items())
    ndcg = _figure(evaluation.judged.row(FULL, "all", metric), "mean", "")
    lift = _figure(evaluation.judged.pair(FULL, _BASELINE, "all", metric), "difference", "+")
    return (
        f"{start} on events before {trained.cutoff():%Y-%m-%d %H:%M} UTC ({rows}). "
        f"On {evaluation.n_requests:,} requests of {first} to {last}: {metric} {ndcg}; {lift} over {_BASELINE}. "
        f"Made by nightrank {version('nightrank')}. Input: user_id, and k if you want another length of the lists; "
        "output: user_id, rank, item_id, score."
    )


def _figure(row: Mapping[str, Any], key: str, sign: str) -> str:
    """A figure with its 95 % interval, where it has one."""
    figure = f"{row[key]:{sign}.4f}"
    has_interval = row["low"] is not None and math.isfinite(row["low"])
    return f"{figure} [{row['low']:{sign}.4f}, {row['high']:{sign}.4f}]" if has_interval else figure


def version_tags(trained: Trained, evaluation: Evaluation, inputs: Inputs, config: Config) -> dict[str, str]:
    """Tags of a version and of its run: cut-off, data, figures of the test window, who made it."""
    facts, metric = evaluation.as_json(), f"ndcg@{config.evaluation.cutoffs[-1]}"
    lift = evaluation.judged.pair(FULL, _BASELINE, "all", metric)
    commit = _git_commit(Path.cwd())
    return {
        "cutoff": trained.cutoff().isoformat(),
        "window": " to ".join(facts["window"]),
        metric_name(metric): f"{evaluation.judged.row(FULL, 'all', metric)['mean']:.6f}",
        metric_name(f"lift over {_BASELINE}", metric): f"{lift['difference']:.6f}",
        "nightrank.version": version("nightrank"),
        **({} if commit is None else {"git.commit": commit}),
        **({} if trained.continues is None else {"continues": trained.continues.name}),
        **{f"data.{name}": fingerprint for name, fingerprint in inputs.fingerprints.items()},
    }


def run_tags(tags: Mapping[str, str], words: str) -> dict[str, str]:
    """What a run has under MLflow's own names beside its version's tags: its description, and the commit."""
    commit = {"mlflow.source.git.commit": tags["git.commit"]} if "git.commit" in tags else {}
    return {"mlflow.note.content": words, **commit}


def _git_commit(folder: Path) -> str | None:
    """The commit of the repository that a folder lies in; None where there is none, or no git."""
    try:
        asked = subprocess.run(
            ["git", "rev-parse", "HEAD"],  # noqa: S607 - whichever git the user has
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=_GIT_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return asked.stdout.strip() or None


def dataset_inputs(inputs: Inputs, config: Config) -> list[DatasetInput]:
    """The tables of a training as MLflow's inputs of a run: fingerprint, file name, rows and columns of each."""
    return [
        DatasetInput(_dataset(name, inputs, config), [InputTag("mlflow.data.context", "training")])
        for name in inputs.fingerprints
    ]


def _dataset(name: str, inputs: Inputs, config: Config) -> Dataset:
    table = inputs.tables.get(name)
    schema = profile = None
    if table is not None:
        columns = [
            {"type": _mlflow_type(dtype), "name": key, "required": True} for key, dtype in table.good.schema.items()
        ]
        schema = json.dumps({"mlflow_colspec": [column for column in columns if column["type"]]})
        profile = json.dumps({"num_rows": table.n_rows, "num_good_rows": table.n_good})
    source = json.dumps({"uri": config.portable()["data"][name]["path"]})
    return Dataset(name, inputs.fingerprints[name][:_DIGEST_LENGTH], "local", source, schema=schema, profile=profile)


def _mlflow_type(dtype: pl.DataType) -> str | None:
    """MLflow's name of a column's type; None for what it has no name for, such as lists."""
    if dtype.is_integer():
        return "long"
    if dtype.is_float() or dtype.is_decimal():
        return "double"
    if dtype.is_temporal():
        return "datetime"
    return {pl.Boolean: "boolean", pl.String: "string", pl.Categorical: "string", pl.Enum: "string"}.get(type(dtype))


def usage_metrics(stages: Stages) -> dict[str, float]:
    """What a run took, whole and by stage; MLflow shows `system/` on a page of its own."""
    named = {"": stages.total()} | {f"/{metric_name(name)}": usage for name, usage in stages.by_name.items()}
    return {
        f"system/{what}{suffix}": getattr(usage, what)
        for suffix, usage in named.items()
        for what in ("wall_seconds", "processor_seconds", "peak_memory_mb")
    }


def evaluation_page(evaluation: Evaluation, config: Config) -> bytes:
    """The tables of an evaluation as a page that MLflow shows among the artefacts."""
    return page(*systems_table(evaluation.as_json(), k=config.evaluation.cutoffs[-1]))
