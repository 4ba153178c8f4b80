"""`kill -9` at random moments of a night and of a prune that run at once: nothing corrupted, doubled or wrongly live.

NIGHTRANK_KILLS sets how many.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pipelines.stores.journal import journal_of
from pipelines.stores.publish import Attempt, attempts_on_disk, published
from pipelines.stores.trash import leftovers

KILLS = int(os.environ.get("NIGHTRANK_KILLS", "5"))
OLD_NIGHTS, KEPT = 12, 3
ROOT = Path(__file__).resolve().parents[2]

WAITING = """
import json, sys
import pipelines.inputs.read, pipelines.registry.versions, pipelines.verbs.prune, pipelines.verbs.score
from pipelines.cli.app import app
print("ready", flush=True)
sys.stdin.readline()
app(args=json.loads(sys.argv[1]), standalone_mode=False)
"""


@pytest.fixture
def waiting(project):
    """A command in a process of its own that has imported everything and waits for a line."""
    processes = []

    def begin(*arguments):
        words = json.dumps([*arguments, "--config", str(project.path)])
        process = subprocess.Popen(
            [sys.executable, "-c", WAITING, words],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        processes.append(process)
        assert process.stdout.readline() == "ready\n"
        return process

    yield begin
    for process in processes:
        process.kill()
        process.communicate()


def go(process):
    process.stdin.write("\n")
    process.stdin.flush()


def with_old_nights(project, command):
    """Publish tonight, and have the same lists be those of earlier days, long ago; tonight is not yet."""
    root = Path(project.config.output) / "rankings"
    tonight = Path(command(project, "score", "--date", str(project.day)).facts["attempt"])
    files = {path.name: path.read_bytes() for path in tonight.iterdir() if path.name != "audits.json"}
    shutil.rmtree(root)
    at = (datetime.now(UTC) - timedelta(days=60)).isoformat()
    for ago in range(OLD_NIGHTS, 0, -1):
        old = Attempt(root, f"{project.day - timedelta(days=ago)}-{'0' * 16}")
        old.folder.mkdir(parents=True)
        for name, content in files.items():
            (old.folder / name).write_bytes(content)
        old.publish(facts={"at": at})
    return root, tonight.name, files


@pytest.mark.slow
def test_fault_86_a_night_and_a_prune_that_are_killed_at_any_moment_leave_what_is_whole(
    project, command, waiting, tmp_path
):
    root, tonight, reference = with_old_nights(project, command)
    pristine = shutil.copytree(root, tmp_path / "pristine")
    score, prune = ("score", "--date", str(project.day)), ("prune", "--delete", "--keep", str(KEPT))
    chance, span, deaths = random.Random(0), None, Counter()
    for _ in range(KILLS + 1):
        shutil.rmtree(root)
        shutil.copytree(pristine, root)
        before = published(root).attempt
        both = {"score": waiting(*score), "prune": waiting(*prune)}
        victims = [] if span is None else chance.choice([["score"], ["prune"], ["score", "prune"]])
        start = time.monotonic()
        for process in both.values():
            go(process)
        for name, moment in sorted(((name, chance.uniform(0, span)) for name in victims), key=lambda pair: pair[1]):
            time.sleep(max(0.0, start + moment - time.monotonic()))
            both[name].send_signal(signal.SIGKILL)
        codes = {name: process.wait(timeout=300) for name, process in both.items()}
        span = span or time.monotonic() - start
        deaths.update(name for name, code in codes.items() if code == -signal.SIGKILL)
        assert all(code == 0 or (code == -signal.SIGKILL and name in victims) for name, code in codes.items()), codes

        live = published(root)  # which verifies every byte
        assert live.attempt in {before, Attempt(root, tonight)}
        for attempt in attempts_on_disk(root):
            if attempt.is_finished:
                attempt.verify()
        whole = [path for path in (root / "attempts" / tonight).glob("*.json") if path.with_suffix(".parquet").exists()]
        times = {path: path.stat().st_mtime_ns for path in whole}

        assert command(project, *score).code == 0
        assert command(project, *prune).code == 0
        assert published(root).attempt == Attempt(root, tonight)
        assert {name: (root / "attempts" / tonight / name).read_bytes() for name in reference} == reference
        assert {path: path.stat().st_mtime_ns for path in whole} == times  # nothing that was whole is made again
        entries = [entry["attempt"] for entry in journal_of(root)]
        assert len(entries) == len(set(entries)) == OLD_NIGHTS + 1
        assert len(attempts_on_disk(root)) == 7  # which the audits of the next night compare with
        assert list(leftovers(root, seconds=0)) == []
    assert KILLS < 5 or deaths
