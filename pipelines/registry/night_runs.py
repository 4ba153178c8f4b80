"""Nights in MLflow: a run of the trainings' experiment for each night that went live or was blocked.

It is tagged `nightrank.kind: night`, and named by the attempt and what became of it (`nightrank.night`): a night that
is recorded twice has one run.
"""

from collections.abc import Mapping
from typing import Any

from mlflow.entities import Metric, RunTag

from pipelines.registry.registry import Registry
from pipelines.registry.tracking import Tracking
from pipelines.registry.tracking_errors import tracking_errors

__all__ = ["KIND", "write_night"]

KIND = "night"
"""Of the entries in `jobs/spool` that `write_night` writes."""
_KEY = "nightrank.night"


def write_night(registry: Registry, entry: Mapping[str, Any]) -> None:
    """Write a night to the tracking store, unless it is there; one that is there in part is completed.

    Args:
        registry: Of the store.
        entry: `key` (its name for ever), `name` (for people), `at` (when it came to its end, in ms since 1970),
            `metrics` and `tags`.

    Raises:
        ConfigError: The experiment was deleted.
        TryAgainError: The server does not answer.
    """
    tracking, client = Tracking(registry.config), registry.client
    experiment, key, at = tracking.experiment_id, str(entry["key"]), int(entry["at"])
    with tracking_errors(registry.config, f"the record of {entry['name']}"):
        runs = client.search_runs([experiment], f"tags.`{_KEY}` = '{key}'", max_results=1)
        run = next(iter(runs), None)
        if run is not None and run.info.status == "FINISHED":
            return
        if run is None:
            named = {"nightrank.kind": KIND, _KEY: key, "mlflow.source.name": "nightrank score"}
            run = client.create_run(experiment, start_time=at, tags=named, run_name=str(entry["name"]))
        metrics = [Metric(name, float(value), at, 0) for name, value in entry["metrics"].items()]
        tags = [RunTag(name, str(value)) for name, value in entry["tags"].items()]
        client.log_batch(run.info.run_id, metrics=metrics, tags=tags)
        client.set_terminated(run.info.run_id, "FINISHED", end_time=at)
