"""A version behind MLflow's pyfunc: the same lists as the night, at any batch size."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import Request, urlopen

import mlflow.pyfunc
import pandas as pd
import polars as pl
import pytest
import yaml
from free_port import free_port

from features.errors import BlockedError, ConfigError, ContractError, IntegrityError
from pipelines.registry.bundle import load_bundle
from pipelines.registry.bundle_files import verify_files
from pipelines.registry.mlmodel import LOADER
from pipelines.registry.registry import Registry
from pipelines.registry.tracking import tracking_uri
from pipelines.stores.publish import published

CHAMPION = "models:/nightrank@champion"


@pytest.fixture(scope="module")
def project(trained_project, tmp_path_factory):
    return trained_project.copy(tmp_path_factory.mktemp("served") / "project")


@pytest.fixture(scope="module")
def night(project):
    """What the night published: all rows, and the fallback list."""
    command = [sys.executable, "-c", "from pipelines.cli.app import main; main()", "score", "--date", str(project.day)]
    subprocess.run([*command, "--config", str(project.path)], check=True, capture_output=True, env=environment())
    live = published(project.folder / "out" / "rankings")
    return live.rankings(), live.fallback()


def environment(**more):
    """The environment of a process that imports these packages."""
    root = Path(__file__).parents[3]
    return os.environ | {"PYTHONPATH": str(root), **more}


@pytest.fixture(scope="module")
def model(project):
    """The champion, loaded as a user of MLflow loads it."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("NIGHTRANK_CONFIG", str(project.path))
        patched.setenv("MLFLOW_TRACKING_URI", tracking_uri(project.config))
        mlflow.set_tracking_uri(tracking_uri(project.config))
        try:
            yield mlflow.pyfunc.load_model(CHAMPION)
        finally:
            mlflow.set_tracking_uri(None)


def predicted(model, users, size):
    """The lists of users, asked for in batches."""
    starts = range(0, len(users), size)
    batches = (pd.DataFrame({"user_id": users[start : start + size]}) for start in starts)
    return pl.concat(pl.from_pandas(model.predict(batch)) for batch in batches)


@pytest.mark.parametrize("size", [pytest.param(1, marks=pytest.mark.slow), 7, 1000])
def test_the_lists_are_those_of_the_night_at_every_batch_size(project, model, night, size):
    rows, _ = night
    users = rows["user_id"].unique(maintain_order=True).to_list()
    assert len(users) > 40
    got = predicted(model, users, size)
    assert got["user_id"].unique(maintain_order=True).to_list() == users
    top = (pl.col("rank") <= 10, ["user_id", "rank", "item_id"])
    assert got.filter(top[0]).select(top[1]).equals(rows.filter(top[0]).select(top[1]), null_equal=False)
    tolerance = load_bundle(project.registered.bundle).ranker.tolerance
    assert (got["score"] - rows["score"]).abs().max() <= tolerance
    assert not got["fallback"].any()


def test_a_user_that_nobody_knows_gets_the_list_of_the_fallback(model, night):
    rows, fallback = night
    user = rows["user_id"][0]
    got = predicted(model, ["nobody", user, "nobody"], 3)
    assert got["user_id"].unique(maintain_order=True).to_list() == ["nobody", user]
    strangers = got.filter(user_id="nobody")
    assert strangers.height == 2 * fallback.height
    assert strangers["fallback"].all()
    assert (
        strangers.head(fallback.height)
        .select("rank", "item_id", "score")
        .equals(fallback.select("rank", "item_id", "score"), null_equal=False)
    )
    assert predicted(model, ["nobody"], 1).select("rank", "item_id").equals(fallback.select("rank", "item_id"))


def test_a_row_says_how_long_its_list_is(model, night):
    rows, _ = night
    users = rows["user_id"].unique(maintain_order=True).to_list()[:3]
    got = pl.from_pandas(model.predict(pd.DataFrame({"user_id": users, "k": [1, 3, 25]})))
    assert got.group_by("user_id", maintain_order=True).len()["len"].to_list() == [1, 3, 25]
    whole = rows.filter(pl.col("user_id").is_in(users), pl.col("rank") <= 1)
    assert got.filter(rank=1)["item_id"].to_list() == whole["item_id"].to_list()


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"user": ["a"]}, "there is no column user_id"),
        ({"user_id": ["a", None]}, "user_id is missing in 1 of 2 rows"),
        ({"user_id": ["a"], "k": [0]}, "k is 0. It must be a whole number from 1 to 1,000"),
        ({"user_id": ["a"], "k": [1001]}, "k is 1001"),
        ({"user_id": ["a"], "k": ["ten"]}, "k is 'ten'"),
    ],
)
def test_an_input_that_is_none_is_refused(model, columns, message):
    with pytest.raises(ContractError, match=message):
        model._model_impl.predict(pd.DataFrame(columns))


def test_the_bundle_says_what_goes_in_and_comes_out_and_has_no_code(project, model):
    signature = model.metadata.signature
    assert [(column.name, column.required) for column in signature.inputs] == [("user_id", True), ("k", False)]
    assert signature.outputs.input_names() == ["user_id", "rank", "item_id", "score", "fallback"]
    folder = project.registered.bundle
    content = yaml.safe_load((folder / "MLmodel").read_text(encoding="utf-8"))
    assert content["flavors"].keys() == {"python_function"}
    assert {path.suffix for path in folder.rglob("*") if path.is_file()} <= {
        *("", ".json", ".yaml", ".parquet", ".safetensors", ".txt"),
    }


def test_what_mlflow_writes_beside_a_model_keeps_no_night_from_its_bundle(project, model, tmp_path):
    assert model.metadata.flavors["python_function"]["loader_module"] == LOADER
    elsewhere = project.copy(tmp_path / "project")
    shutil.rmtree(elsewhere.folder / "out" / "bundles")
    registry = Registry(elsewhere.config)
    folder = registry.bundle_folder(registry.version("champion"))
    (folder / "registered_model_meta").write_text("model_name: nightrank\n", encoding="utf-8")
    verify_files(folder)
    (folder / "MLmodel").write_text("flavors: {python_function: {loader_module: another}}\n", encoding="utf-8")
    with pytest.raises(IntegrityError, match="MLmodel was altered"):
        verify_files(folder)


def load(project, **keys):
    return mlflow.pyfunc.load_model(str(project.registered.bundle), model_config={"config": str(project.path), **keys})


def test_a_day_that_the_version_has_seen_is_refused(project):
    with pytest.raises(BlockedError, match="has seen events or labels of 2024-01-20"):
        load(project, date="2024-01-20")
    with pytest.raises(ConfigError, match=r"'tomorrow' is no date. Write NIGHTRANK_DATE"):
        load(project, date="tomorrow")


def test_a_configuration_that_is_not_there_is_named(project, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NIGHTRANK_CONFIG", raising=False)
    with pytest.raises(ConfigError, match=r"no configuration file 'nightrank.yaml'. Name it by NIGHTRANK_CONFIG"):
        mlflow.pyfunc.load_model(str(project.registered.bundle))


@pytest.mark.slow
def test_mlflow_serves_and_predicts_the_same_lists(project, night, tmp_path):
    """By MLflow's own commands: a server over HTTP, and a file of users."""
    rows, _ = night
    users = rows["user_id"].unique(maintain_order=True).to_list()
    wanted = rows.filter(pl.col("rank") <= 10).select("user_id", "rank", "item_id").rows()
    shim = tmp_path / "bin" / "uvicorn"  # which MLflow calls by its name
    shim.parent.mkdir()
    shim.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m uvicorn "$@"\n', encoding="utf-8")
    shim.chmod(0o755)
    env = environment(MLFLOW_TRACKING_URI=tracking_uri(project.config), NIGHTRANK_CONFIG=str(project.path))
    env["PATH"] = f"{shim.parent}:{env['PATH']}"
    address, models = f"http://127.0.0.1:{free_port()}", [sys.executable, "-m", "mlflow", "models"]
    command = [*models, "serve", "-m", CHAMPION, "--env-manager", "local", "-p", address.rpartition(":")[2]]
    log = (tmp_path / "serve.log").open("wb")
    with log, subprocess.Popen(command, env=env, cwd=tmp_path, stdout=log, stderr=log) as server:
        try:
            until = time.monotonic() + 240
            while not answers(f"{address}/ping"):
                assert server.poll() is None, (tmp_path / "serve.log").read_text()
                assert time.monotonic() < until, (tmp_path / "serve.log").read_text()
                time.sleep(0.5)
            for size in (1, 7, 1000):
                got = []
                for start in range(0, len(users), size):
                    split = {"columns": ["user_id"], "data": [[user] for user in users[start : start + size]]}
                    got += invoke(f"{address}/invocations", {"dataframe_split": split})
                assert [(row["user_id"], row["rank"], row["item_id"]) for row in got if row["rank"] <= 10] == wanted
        finally:
            server.terminate()
    (tmp_path / "users.csv").write_text("user_id\n" + "\n".join(users), encoding="utf-8")
    command = [*models, "predict", "-m", CHAMPION, "--env-manager", "local", "-t", "csv"]
    subprocess.run([*command, "-i", "users.csv", "-o", "out.json"], check=True, env=env, cwd=tmp_path)
    got = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))["predictions"]
    assert [(row["user_id"], row["rank"], row["item_id"]) for row in got if row["rank"] <= 10] == wanted


def answers(url):
    try:
        with urlopen(url, timeout=5) as reply:
            return reply.status == 200
    except OSError:
        return False


def invoke(url, body):
    request = Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urlopen(request, timeout=60) as reply:
        return json.loads(reply.read())["predictions"]
