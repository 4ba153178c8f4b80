"""What a training leaves in MLflow: a run and a version that say what they are."""

import json
import subprocess
from importlib.metadata import version as installed

import pytest
from mlflow import MlflowClient

from pipelines.registry.card import metric_name, version_tags
from pipelines.registry.tracking import tracking_uri


@pytest.fixture(scope="module")
def client(trained_project):
    return MlflowClient(tracking_uri(trained_project.config))


@pytest.fixture(scope="module")
def registered(trained_project, client):
    """The version as MLflow has it."""
    return client.get_model_version("nightrank", trained_project.registered.version.number)


@pytest.fixture(scope="module")
def run(trained_project, client):
    return client.get_run(trained_project.registered.version.run_id)


def test_the_run_names_its_tables_by_fingerprint_and_file_and_no_folder(trained_project, run):
    inputs = trained_project.inputs
    datasets = {entry.dataset.name: entry for entry in run.inputs.dataset_inputs}
    assert datasets.keys() == inputs.fingerprints.keys() == {"items", "events", "users"}
    for name, entry in datasets.items():
        assert inputs.fingerprints[name].startswith(entry.dataset.digest)
        assert len(entry.dataset.digest) == 32  # a column of 36 characters in PostgreSQL
        assert run.data.tags[f"data.{name}"] == inputs.fingerprints[name]
        assert [(tag.key, tag.value) for tag in entry.tags] == [("mlflow.data.context", "training")]
    assert json.loads(datasets["items"].dataset.source) == {"uri": "items.parquet"}
    assert json.loads(datasets["events"].dataset.source) == {"uri": "events"}
    assert json.loads(datasets["items"].dataset.profile) == {"num_rows": 120, "num_good_rows": 120}
    columns = {
        column["name"]: column["type"] for column in json.loads(datasets["events"].dataset.schema)["mlflow_colspec"]
    }
    assert columns["timestamp"] == "datetime"
    assert columns["event"] == "string"


def test_the_run_has_a_name_what_it_took_and_a_page_of_figures(trained_project, client, run):
    cutoff = trained_project.trained.cutoff()
    assert run.data.tags["nightrank.kind"] == "training"
    assert run.info.run_name == f"train on events before {cutoff:%Y-%m-%d}"
    taken = {key: value for key, value in run.data.metrics.items() if key.startswith("system/")}
    assert taken["system/wall_seconds"] >= taken["system/wall_seconds/Fine-tuning__block_1"] > 0
    assert taken["system/processor_seconds"] >= taken["system/processor_seconds/Training_the_full_ranker"] > 0
    assert 100 < taken["system/peak_memory_mb"] < 20_000
    evaluation = trained_project.registered.evaluation.judged
    slices = evaluation.table.filter(system="full system", metric="ndcg@10")["slice"].to_list()
    assert len(slices) > 1
    for name in slices:
        mean = evaluation.row("full system", name, "ndcg@10")["mean"]
        assert run.data.metrics[metric_name("full system", name, "ndcg@10")] == pytest.approx(mean, nan_ok=True)
    assert {"evaluation/evaluation.html", "evaluation/evaluation.json", "evaluation/recall.png"} <= {
        each.path for each in client.list_artifacts(run.info.run_id, "evaluation")
    }
    folder = trained_project.folder / "out" / "evaluations" / trained_project.registered.bundle.name
    page = (folder / "evaluation.html").read_text(encoding="utf-8")
    mean = evaluation.row("full system", "all", "ndcg@10")["mean"]
    assert f"{mean:.4f}" in page


def test_the_version_says_what_it_is(trained_project, registered, run):
    evaluation = trained_project.registered.evaluation
    cutoff = trained_project.trained.cutoff()
    mean = evaluation.judged.row("full system", "all", "ndcg@10")["mean"]
    first, last = evaluation.as_json()["window"]
    assert f"Trained on events before {cutoff:%Y-%m-%d %H:%M} UTC (120 items, " in registered.description
    assert f"requests of {first} to {last}: ndcg@10 {mean:.4f} [" in registered.description
    assert run.data.tags["mlflow.note.content"] == registered.description
    tags = registered.tags
    assert tags["cutoff"] == cutoff.isoformat()
    assert tags["nightrank.version"] == installed("nightrank")
    assert float(tags["ndcg_at_10"]) == pytest.approx(mean, abs=1e-6)
    assert tags["bundle_digest"] == trained_project.registered.version.digest
    for path in (trained_project.folder, trained_project.config.encoder.model):
        assert str(path) not in json.dumps(dict(tags)) + json.dumps(dict(run.data.tags))


def test_the_commit_is_that_of_the_folder_it_was_trained_in(trained_project, tmp_path, monkeypatch):
    def commit():
        given = trained_project.trained, trained_project.registered.evaluation, trained_project.inputs
        return version_tags(*given, trained_project.config).get("git.commit")

    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert commit() is None
    subprocess.run(
        "git init -q && git -c user.name=a -c user.email=a@b commit -q --allow-empty -m a", shell=True, check=True
    )
    made = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    assert commit() == made
    monkeypatch.setenv("PATH", str(tmp_path))  # no git
    assert commit() is None
