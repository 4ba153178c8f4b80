"""Shared by the tests: a random log and its leak check, the simulated shop's projects, the command line."""

import os

os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # before any native import: OpenMP must not spin beside others
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")  # nor OpenBLAS
os.environ.setdefault("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")  # its workers outlive a server that is killed

import hashlib
import json
import shutil
import signal
import string
import sys
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from hypothesis import settings
from leak_check import differences, moved_by_future, other_futures
from random_encoder import random_encoder
from random_log import random_tables

from features.log.event_log import EventLog, date_of
from features.requests.engaged import requests_between
from ranker.baselines import popularity

settings.register_profile("suite", deadline=None)  # a busy machine is no fault
settings.load_profile("suite")


@pytest.fixture(scope="session")
def shop():
    """`random_tables`: a small shop's tables from a seed."""
    return random_tables


@pytest.fixture(scope="session")
def leak_check():
    """`moved_by_future`: what sees past its as-of."""
    return moved_by_future


@pytest.fixture(scope="session")
def futures():
    """`other_futures`: the same past with other futures."""
    return other_futures


@pytest.fixture(scope="session")
def portion_differences():
    """`differences` of two portions, bit by bit."""
    return differences


@pytest.fixture(scope="session")
def encoder_folder():
    """`random_encoder`: writes a small encoder."""
    return random_encoder


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory):
    """Folder of a `random_encoder` whose tokenizer knows English letters only."""
    letters = string.ascii_lowercase + string.digits + string.punctuation
    words = "red blue green mug kettle coffee lamp stroller paint brush perfume poles charger made with for and gift"
    texts = [words, *(f"{one}{two}" for one in letters for two in letters)]
    return random_encoder(tmp_path_factory.mktemp("tiny-encoder"), texts, heads=2, positions=128, spread=0.02, seed=0)


@dataclass(frozen=True)
class Project:
    """A user's folder with `nightrank.yaml`, and what was made of it; never write into a shared one, `copy` it."""

    folder: Path
    dataset: Any
    inputs: Any = None
    trained: Any = None
    registered: Any = None

    @property
    def path(self) -> Path:
        return self.folder / "nightrank.yaml"

    @property
    def config(self) -> Any:
        from pipelines.base.config import load_config

        return load_config(self.path)

    @property
    def day(self) -> date:
        """The day after the log's last: tonight."""
        return NIGHT

    def copy(self, to: Path) -> "Project":
        return replace(self, folder=Path(shutil.copytree(self.folder, to)))

    def change(self, **keys: Any) -> None:
        """Change top-level keys of the configuration; mappings are merged."""
        head, _, _ = self.path.read_text(encoding="utf-8").partition("\n")
        told = yaml.safe_load(self.path.read_text(encoding="utf-8"))
        for key, value in keys.items():
            told[key] = {**told.get(key, {}), **value} if isinstance(value, dict) else value
        self.path.write_text(f"{head}\n{yaml.safe_dump(told, sort_keys=False)}", encoding="utf-8")


NIGHT = date(2024, 2, 25)
"""The simulated shop's projects know what lies before this day; there are three more days to be delivered."""
FILES = 5
"""Of their latest days, each in a file of its own; all before stand in one."""


@pytest.fixture(scope="session")
def tracking_databases(tmp_path_factory):
    """MLflow makes one database, by a second of migrations; what makes another one in this process copies it."""
    from mlflow import MlflowClient

    from pipelines.base.tracking_config import sqlite_uri
    from pipelines.registry import tracking_store

    template = tmp_path_factory.mktemp("tracking") / "mlflow.db"

    def copied(*, tracking_uri: str, registry_uri: str) -> None:
        assert tracking_uri == registry_uri
        if not template.exists():
            MlflowClient(tracking_uri=sqlite_uri(template), registry_uri=sqlite_uri(template))
        shutil.copyfile(template, tracking_store.sqlite_file(tracking_uri))

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(tracking_store, "MlflowClient", copied)
        yield


@pytest.fixture(scope="session")
def shop_project(tmp_path_factory, tiny_encoder, tracking_databases):  # noqa: ARG001 - for what it sets up
    """The simulated shop, small, as its owner would bring it; nothing trained yet."""
    from features.shop.simulator import ShopConfig
    from pipelines.verbs.datasets import simulated
    from pipelines.verbs.project import write_dataset

    shop = ShopConfig(users=60, items=120, days=58, requests_per_user_per_day=0.6, list_length=8)
    project = Project(tmp_path_factory.mktemp("shop") / "project", simulated(shop))
    write_dataset(project.dataset, project.folder, until=NIGHT, partitioned=True)
    _delivered_together(sorted((project.folder / "events").iterdir())[:-FILES])
    project.change(
        encoder={
            "model": str(tiny_encoder),
            "max_tokens": 16,
            "train": {"last": 1},
            "precision": "fp32",
            "steps": 2,
            "head_steps": 10,
            "requests_per_batch": 16,
        },
        ranker={
            "max_trees": 20,
            "min_child_samples": 20,
            "num_leaves": 7,
            "network": {"hidden": [8], "epochs": 1},
        },
        candidates={"popular": 30, "co_visited": 20, "text_neighbours": 20},
        evaluation={"resamples": 200},
        promotion={"min_lift_over_baseline": -1.0, "max_loss_to_champion": 1.0},
        night={"top": 10, "shard_users": 20},
    )
    return project


def _delivered_together(folders: list[Path]) -> None:
    """Put the events of some folders into the first: each file of a log takes a command longer."""
    first, *others = [folder / "events.parquet" for folder in folders]
    pl.concat(pl.read_parquet(path, hive_partitioning=False) for path in (first, *others)).write_parquet(first)
    for path in others:
        shutil.rmtree(path.parent)


@pytest.fixture(scope="session")
def trained_project(tmp_path_factory, shop_project):
    """The shop with one version: trained, registered, champion."""
    from pipelines.inputs.check import read_inputs
    from pipelines.inputs.read import read_events
    from pipelines.registry.register import register
    from pipelines.registry.registry import CHALLENGER, Registry
    from pipelines.registry.tracking import Tracking
    from pipelines.training.train import train
    from pipelines.verbs.promote import promote

    project = shop_project.copy(tmp_path_factory.mktemp("trained") / "project")
    config = project.config
    inputs = read_inputs(config)
    read_events(config)  # leaves the folded log that a training leaves, so that commands on copies fold nothing again
    with Tracking(config).run() as run:
        trained = train(inputs.log, config, run.series)
        registered = register(trained, inputs, config, run)
    promote(inputs.log, config, Registry(config), CHALLENGER)
    return replace(project, inputs=inputs, trained=trained, registered=registered)


@pytest.fixture
def project(trained_project, tmp_path):
    """The shop with its champion, in a folder that a test may change."""
    return trained_project.copy(tmp_path / "project")


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def facts(self) -> dict[str, Any]:
        """The one line of JSON on stdout."""
        (line,) = self.out.splitlines()
        facts = json.loads(line)
        assert isinstance(facts, dict)
        return facts


@pytest.fixture
def command(capfd, monkeypatch, tracking_databases):  # noqa: ARG001 - for what it sets up
    """Run the command line in this process: ``command(project, "check", "--allow-empty")``."""
    from pipelines.cli import app as cli

    def run(project: Project | None, *arguments: str) -> Ended:
        config = () if project is None else ("--config", str(project.path))
        monkeypatch.setattr(sys, "argv", ["nightrank", *arguments, *config])
        capfd.readouterr()
        before = signal.getsignal(signal.SIGTERM)
        try:
            with pytest.raises(SystemExit) as ended:
                cli.main()
        finally:
            signal.signal(signal.SIGTERM, before)
        told = capfd.readouterr()
        return Ended(int(ended.value.code or 0), told.out, told.err)

    return run


@pytest.fixture(scope="session")
def popularity_by_ids():
    """The baseline's lists as another system would bring them: user_id, item_id, score, day."""

    def lists(log: EventLog, first_day: int, end_day: int) -> pl.DataFrame:
        requests = requests_between(log, first_day, end_day)
        days = {day: date_of(day) for day in requests["as_of_day"].unique()}
        return (
            popularity(log, requests)
            .join(requests, on="request", maintain_order="left")
            .join(log.items.select("item", "item_id"), on="item", maintain_order="left")
            .join(log.user_ids.to_frame("user_id").with_row_index("user"), on="user", maintain_order="left")
            .select("user_id", "item_id", "score", day=pl.col("as_of_day").replace_strict(days, return_dtype=pl.Date))
        )

    return lists


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    """sha256 and time of every file below a folder."""
    return {
        str(path.relative_to(folder)): (hashlib.sha256(path.read_bytes()).digest(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="session")
def snapshot():
    """`contents`: to see that nothing was touched."""
    return contents


@pytest.fixture
def night(project, command):
    """Score a day of `project`; tonight, if no other is named."""

    def run(*arguments, when=project.day):
        return command(project, "score", "--date", str(when), *arguments)

    return run
