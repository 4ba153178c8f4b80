"""MLflow's database: made whole, once, and followed by its artefacts."""

import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from mlflow import MlflowClient

from pipelines.base.tracking_config import sqlite_uri
from pipelines.registry import tracking_store

ROOT = Path(__file__).resolve().parents[3]
FIRST = """
import sys
from pathlib import Path
from pipelines.registry.tracking_store import make
make(Path(sys.argv[1]))
"""


def test_fault_75_three_first_commands_make_one_database(tmp_path, monkeypatch):
    path, made = tmp_path / "out" / "mlflow.db", []

    def client(**uris):
        made.append(uris)
        return MlflowClient(**uris)

    monkeypatch.setattr(tracking_store, "MlflowClient", client)
    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(tracking_store.make, [path] * 3)) == [None] * 3
    assert len(made) == 1
    assert sorted(file.name for file in path.parent.iterdir()) == ["mlflow.db", "mlflow.db.lock"]
    assert tracking_store.is_made(path)


@pytest.mark.slow
def test_fault_75_three_first_processes_make_one_database(tmp_path):
    path = tmp_path / "out" / "mlflow.db"
    jobs = [
        subprocess.Popen([sys.executable, "-c", FIRST, str(path)], cwd=ROOT, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    ended = [(job.communicate()[1], job.returncode) for job in jobs]
    assert [code for _, code in ended] == [0, 0, 0]
    assert not [told for told, _ in ended if "Traceback" in told]
    assert sorted(file.name for file in path.parent.iterdir()) == ["mlflow.db", "mlflow.db.lock"]
    assert tracking_store.is_made(path)
    uri = sqlite_uri(path)
    assert MlflowClient(tracking_uri=uri, registry_uri=uri).get_experiment("0").name == "Default"


def test_fault_75_a_making_that_is_killed_leaves_nothing_half_made(tmp_path, monkeypatch):
    path = tmp_path / "mlflow.db"

    def killed(tracking_uri, **_):
        with closing(sqlite3.connect(tracking_uri.removeprefix("sqlite:///"))) as opened:
            opened.execute("create table experiments (x)")
        raise KeyboardInterrupt

    monkeypatch.setattr(tracking_store, "MlflowClient", killed)
    with pytest.raises(KeyboardInterrupt):
        tracking_store.make(path)
    assert not path.exists()


def test_artefacts_follow_a_database_that_was_moved(tmp_path):
    path = tmp_path / "mlflow.db"
    with closing(sqlite3.connect(path)) as opened, opened:
        opened.execute("create table experiments (artifact_location)")
        opened.execute("create table runs (artifact_uri)")
        opened.execute("create table model_versions (storage_location)")
        opened.executemany(
            "insert into runs values (?)",
            [
                ("file:///old/out/mlartifacts/1/artifacts",),
                ("file:///old/out/mlartifacts2/1/artifacts",),
                ("s3://bucket/1/artifacts",),
            ],
        )
        opened.execute("insert into experiments values ('file:///old/out/mlartifacts')")
        opened.execute("insert into model_versions values (null)")

    def rows(table):
        with closing(sqlite3.connect(path)) as opened:
            return [value for (value,) in opened.execute(f"select * from {table}")]

    here = tmp_path / "a b" / "mlartifacts"
    for told in ("s3://bucket", "file:///elsewhere/runs", here.as_uri()):  # somebody's own place, or there already
        tracking_store.follow(path, told, here)
    assert rows("experiments") == ["file:///old/out/mlartifacts"]
    tracking_store.follow(path, "file:///old/out/mlartifacts", here)
    assert rows("experiments") == [here.as_uri()]
    assert rows("runs") == [
        f"{here.as_uri()}/1/artifacts",
        "file:///old/out/mlartifacts2/1/artifacts",
        "s3://bucket/1/artifacts",
    ]
    assert rows("model_versions") == [None]
