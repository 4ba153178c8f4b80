"""Promoters in processes of their own, on each kind of store: two at once, and killed at random."""

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

import pytest
import small_registry
from free_port import free_port
from small_registry import add_versions, config_of, one_history

from pipelines.registry.champion import Champion
from pipelines.registry.registry import CHALLENGER, Registry

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[3]
KILLS = int(os.environ.get("NIGHTRANK_KILLS", "5"))
ROUNDS = {kind: int(os.environ.get("NIGHTRANK_ROUNDS", "10")) for kind in ("sqlite", "postgresql", "server")}


class Promoter:
    """`small_registry` as a process that answers line by line."""

    def __init__(self, output, uri):
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        self.process = subprocess.Popen(
            [sys.executable, small_registry.__file__, str(output), uri],
            env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def say(self, line):
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def answer(self):
        return self.process.stdout.readline().strip()

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


def ended(process):
    """Wait for the end of a process that we started, with all that it started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    process.wait(60)


@contextmanager
def server(folder):
    """An MLflow server over HTTP on SQLite; gives its address."""
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    stores = ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", str(folder / "kept")]
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen([*command, *stores], stdout=log, stderr=log, start_new_session=True, cwd=folder)
    try:
        for _ in range(300):
            with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                break
            time.sleep(1)
        yield f"http://127.0.0.1:{port}"
    finally:
        ended(process)


@contextmanager
def postgresql():
    """Debian's PostgreSQL with an empty database, in a folder that is removed; gives its URI."""
    debian = [str(folder) for folder in Path("/usr/lib/postgresql").glob("*/bin")]  # which Debian leaves out of PATH
    path = os.pathsep.join([os.environ.get("PATH", ""), *debian])
    initdb, postgres = shutil.which("initdb", path=path), shutil.which("postgres", path=path)
    if initdb is None or postgres is None:
        pytest.skip("PostgreSQL's initdb and postgres are not installed: nothing was tested on it")
    driver = next((name for name in ("psycopg", "psycopg2") if find_spec(name)), None)
    if driver is None:
        pytest.skip("neither psycopg nor psycopg2 is installed: nothing was tested on PostgreSQL")
    folder, port = Path(tempfile.mkdtemp(prefix="nightrank-postgresql-")), free_port()
    user = {"user": "postgres"} if os.getuid() == 0 else {}
    if user:
        shutil.chown(folder, "postgres")
    common = {"cwd": folder, "stdout": subprocess.DEVNULL, **user}
    subprocess.run([initdb, "-D", folder / "data", "-A", "trust", "-U", "ann", "-N"], check=True, **common)
    options = ["-p", str(port), "-k", str(folder), "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]
    with (folder.with_suffix(".log")).open("w") as log:
        process = subprocess.Popen(
            [postgres, "-D", folder / "data", *options], stderr=log, start_new_session=True, **common
        )
    try:
        for _ in range(120):
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            time.sleep(0.5)
        time.sleep(2)
        yield f"postgresql+{driver}://ann@127.0.0.1:{port}/postgres"
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)
        shutil.rmtree(folder, ignore_errors=True)
        folder.with_suffix(".log").unlink()


@contextmanager
def store(kind, four_versions, tmp_path):
    """A registry with four versions on a store of a kind."""
    output = tmp_path / "out"
    if kind == "sqlite":
        shutil.copytree(four_versions, output)
        yield Registry(config_of(output, f"sqlite:///{output}/mlflow.db"))
        return
    with postgresql() if kind == "postgresql" else server(tmp_path) as uri:
        registry = Registry(config_of(output, uri))
        add_versions(registry, 4)
        yield registry


@pytest.mark.parametrize("kind", ROUNDS)
def test_fault_73_of_two_machines_that_promote_at_once_one_wins(kind, four_versions, tmp_path):
    """As many rounds as winners, and one history, by two folders on one store; NIGHTRANK_ROUNDS says how many."""
    with store(kind, four_versions, tmp_path) as registry:
        other = tmp_path / "other"
        shutil.copytree(tmp_path / "out" / "bundles", other / "bundles")
        promoters = [Promoter(folder, registry.config.tracking.uri) for folder in (tmp_path / "out", other)]
        try:
            assert [promoter.answer() for promoter in promoters] == ["ready", "ready"]
            for each in range(1, ROUNDS[kind] + 1):
                for line in ("settle", "decide"):
                    for promoter in promoters:
                        promoter.say(line)
                    answers = sorted(promoter.answer() for promoter in promoters)
                    assert line == "decide" or answers == ["settled", "settled"], answers
                refused, won = answers
                assert won == f"won {each}", answers
                assert refused.startswith("75 somebody else"), answers
        finally:
            for promoter in promoters:
                promoter.kill()
        assert len(one_history(registry)) == ROUNDS[kind]


@pytest.mark.parametrize("kind", ["sqlite", "postgresql", "server"])
def test_faults_71_and_72_killed_at_random_the_next_command_finds_one_champion_and_one_history(
    kind, four_versions, tmp_path
):
    """Processes that promote, roll back and register; NIGHTRANK_KILLS says how many are killed."""
    with store(kind, four_versions, tmp_path) as registry:
        drawn, decided, completed = random.Random(0), 0, 0
        following = Promoter(tmp_path / "out", registry.config.tracking.uri)
        for kill in range(KILLS):
            promoter = following
            assert promoter.answer() == "ready"
            if kill + 1 < KILLS:
                following = Promoter(tmp_path / "out", registry.config.tracking.uri)
            promoter.say("loop")
            start = time.monotonic()
            assert promoter.answer().startswith("decided")
            time.sleep(drawn.uniform(0.0, 2.0) * (time.monotonic() - start))
            promoter.kill()
            standing = Champion(registry).settle()
            completed += standing.completed is not None
            decided = len(one_history(registry))
            assert all(version.digest for version in registry.versions())
            assert registry.find(CHALLENGER) is None or registry.bundle_folder(registry.version(CHALLENGER)).is_dir()
        assert decided >= KILLS
        assert completed >= KILLS // 20


FIRST = """
import sys
from small_registry import config_of
from pipelines.registry.registry import Registry
print(Registry(config_of(sys.argv[1], sys.argv[2])).versions())
"""


def test_fault_75_four_first_commands_make_one_database_on_postgresql(tmp_path):
    path = os.pathsep.join([str(ROOT), str(Path(small_registry.__file__).parent), os.environ.get("PYTHONPATH", "")])
    with postgresql() as uri:
        jobs = [
            subprocess.Popen(
                [sys.executable, "-c", FIRST, str(tmp_path / str(each)), uri],
                env=os.environ | {"PYTHONPATH": path},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for each in range(4)
        ]
        assert [(*job.communicate(), job.returncode) for job in jobs] == [("[]\n", "", 0)] * 4
