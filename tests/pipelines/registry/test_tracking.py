"""A run shows its curves while the training goes on, and keeps them when it is killed."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient

import pipelines.registry.tracking
from features.errors import ConfigError, TryAgainError
from pipelines.registry.tracking import Run, Tracking, tracking_uri

ROOT = Path(__file__).parents[3]


@pytest.fixture
def config(shop_project, tmp_path):
    return shop_project.config.model_copy(update={"output": str(tmp_path / "out")})


def seen(config, name="encoder.block_0.loss"):
    """Status of the only run, and a series of it, as somebody else sees them."""
    client = MlflowClient(tracking_uri(config))
    (run,) = client.search_runs([Tracking(config).experiment_id])
    history = client.get_metric_history(run.info.run_id, name)
    return run.info.status, [metric.value for metric in sorted(history, key=lambda metric: metric.step)]


def finish(run):
    run.record("train 2024-01-01", metrics={"ndcg": 0.5}, series={}, tags={"cutoff": "then"}, artefacts={})


def test_values_are_there_while_the_run_goes_on_each_once(config, monkeypatch):
    monkeypatch.setattr(pipelines.registry.tracking, "EVERY_SECONDS", 0.0)
    losses = [3.0]
    with Tracking(config).run() as run:
        run.series("encoder.block_0.loss", losses)
        assert seen(config) == ("RUNNING", [3.0])
        losses += [2.0, 1.0]
        run.series("encoder.block_0.loss", losses)
        run.series("encoder.block_0.loss", losses[:2])  # a block that is learned again
        run.series("encoder.block_0.loss", losses)
        assert seen(config) == ("RUNNING", [3.0, 2.0, 1.0])
        finish(run)
    assert seen(config) == ("FINISHED", [3.0, 2.0, 1.0])
    assert seen(config, "ndcg") == ("FINISHED", [0.5])
    data = MlflowClient(tracking_uri(config)).get_run(run.id).data
    assert data.params["ranker.max_trees"] == "20"
    assert (data.tags["mlflow.runName"], data.tags["cutoff"]) == ("train 2024-01-01", "then")


def test_values_between_two_writes_wait_and_none_is_lost_by_a_failure(config):
    def fail():
        with Tracking(config).run() as run:
            run.series("encoder.block_0.loss", [3.0])
            run.series("encoder.block_0.loss", [3.0, 2.0])
            assert seen(config) == ("RUNNING", [3.0])
            raise RuntimeError("no memory")

    with pytest.raises(RuntimeError, match="no memory"):
        fail()
    assert seen(config) == ("FAILED", [3.0, 2.0])


def of_tensorboard(config):
    """A copy of the configuration with `tracking.tensorboard`."""
    return config.model_copy(update={"tracking": config.tracking.model_copy(update={"tensorboard": True})})


def test_tensorboard_has_the_same_curves_as_mlflow(config):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    with Tracking(of_tensorboard(config)).run() as run:
        run.series("encoder.block_0.loss", [3.0])
        run.series("encoder.block_0.loss", [3.0, 2.0, 1.5])
        run.series("encoder.block_1.loss", [0.5])
    events = accumulator.EventAccumulator(str(Path(config.output) / "tensorboard" / run.id)).Reload()
    assert sorted(events.Tags()["scalars"]) == ["encoder.block_0.loss", "encoder.block_1.loss"]
    told = [(event.step, event.value) for event in events.Scalars("encoder.block_0.loss")]
    assert told == [(0, 3.0), (1, 2.0), (2, 1.5)]
    assert seen(config) == ("FINISHED", [value for _, value in told])


def test_no_event_file_is_written_unless_it_is_asked_for(config):
    with Tracking(config).run() as run:
        run.series("encoder.block_0.loss", [3.0])
    assert not (Path(config.output) / "tensorboard").exists()


def test_without_tensorboard_its_extra_is_named_before_a_run_is_opened(config, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)  # as if it could not be imported
    tracking = Tracking(of_tensorboard(config))
    with pytest.raises(ConfigError, match=r"nightrank\[tensorboard\]"), tracking.run():
        pass
    assert tracking.client.search_runs([tracking.experiment_id]) == []


class Switched:
    """A client whose server can be replaced."""

    def __init__(self, target):
        self.target = target

    def __getattr__(self, name):
        return getattr(self.target, name)


def test_a_server_that_goes_away_stops_no_training_and_is_told_at_its_end(config, monkeypatch, capfd):
    """Nobody listens on the discard port."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with Tracking(config).run() as run:
        client = Switched(MlflowClient("http://127.0.0.1:9"))
        away = Run(client, run.id, config)
        away.series("encoder.block_0.loss", [3.0])
        assert "does not answer" in capfd.readouterr().err
        away.series("encoder.block_0.loss", [3.0, 2.0])
        assert "does not answer" not in capfd.readouterr().err  # not asked at every step
        with pytest.raises(TryAgainError, match=r"tracking\.uri"):
            finish(away)
        client.target = MlflowClient(tracking_uri(config))
        away.end("FINISHED")
    assert seen(config) == ("FINISHED", [3.0, 2.0])


OPEN = """
import sys, time
from pathlib import Path
from pipelines.base.config import load_config
from pipelines.registry.tracking import Tracking

with Tracking(load_config(Path(sys.argv[1]))).run() as run:
    run.series("encoder.block_0.loss", [3.0])
    print(run.id, flush=True)
    time.sleep(600)
"""


def test_what_a_killed_training_left_running_is_marked_by_the_next_of_its_configuration(shop_project, tmp_path):
    project = shop_project.copy(tmp_path / "project")
    config = project.config
    client = Tracking(config).client

    def status(run_id):
        return client.get_run(run_id).info.status

    command = [sys.executable, "-c", OPEN, str(project.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[3]) as process:
        assert process.stdout is not None
        left = process.stdout.readline().strip()
        with (
            pytest.raises(TryAgainError, match="a training of this configuration is under way"),
            Tracking(config).run(),
        ):
            pass
        process.kill()
    assert process.returncode == -signal.SIGKILL
    with Tracking(config.model_copy(update={"seed": 1})).run():  # another job
        assert status(left) == "RUNNING"
    with Tracking(config).run() as run:
        assert (status(left), status(run.id)) == ("KILLED", "RUNNING")
        assert client.get_run(run.id).data.tags["job_key"] == client.get_run(left).data.tags["job_key"]
    with Tracking(config).run():
        assert status(run.id) == "FINISHED"


def test_a_run_that_is_gone_from_the_server_keeps_no_training_from_its_start(config):
    with Tracking(config).run() as run:
        pass
    (lock,) = (Path(config.output) / "jobs").iterdir()
    assert lock.read_text() == run.id
    lock.write_text("0" * 32)
    with Tracking(config).run() as again:
        assert lock.read_text() == again.id


KILLED = """
import os, signal, sys
from pathlib import Path
import pipelines.registry.tracking
from pipelines.inputs.check import read_inputs
from pipelines.base.config import load_config
from pipelines.registry.tracking import Tracking
from pipelines.training.train import train

def watch(name, values):
    run.series(name, values)
    if len(values) == 12:  # the last step of the first block
        os.kill(os.getpid(), signal.SIGKILL)

pipelines.registry.tracking.EVERY_SECONDS = 0.0
config = load_config(Path(sys.argv[1]))
with Tracking(config).run() as run:
    train(read_inputs(config).log, config, watch)
"""


@pytest.mark.slow
def test_a_training_that_is_killed_shows_its_curve(shop_project, tmp_path):
    project = shop_project.copy(tmp_path / "project")
    command = [sys.executable, "-c", KILLED, str(project.path)]
    root = Path(__file__).parents[3]
    ended = subprocess.run(command, check=False, capture_output=True, cwd=root)
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()[-2000:]
    status, losses = seen(project.config)
    assert status == "RUNNING"
    assert len(losses) == 12


def test_telemetry_is_off_before_the_first_module_of_the_room_imports_mlflow():
    code = """
import os, sys
os.environ.pop("MLFLOW_DISABLE_TELEMETRY", None)
import pipelines.registry.tracking
from mlflow.telemetry.client import get_telemetry_client
sys.exit(get_telemetry_client() is not None)
"""
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=300, check=False).returncode == 0


def test_an_account_without_a_home_folder_can_use_mlflow():
    code = """
import os, pwd
from pathlib import Path
os.environ.pop("HOME", None)
def nobody(uid):
    raise KeyError(uid)
pwd.getpwuid = nobody
import pipelines.registry.tracking
assert "HOME" not in os.environ
"""
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=300, check=False, capture_output=True)
    assert ended.returncode == 0, ended.stderr
