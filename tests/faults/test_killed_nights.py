"""`nightrank nightly` killed at random points, and run again: as if nothing had happened.

`NIGHTRANK_ROUNDS` sets how often.
"""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipelines.stores.publish import journal_of, published

ROUNDS = int(os.environ.get("NIGHTRANK_ROUNDS", "5"))


def nightly(project) -> subprocess.Popen:
    words = ("nightly", "--config", str(project.path), "--date", str(project.day))
    return subprocess.Popen(
        [sys.executable, "-m", "pipelines.cli.app", *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def contents(attempt: Path) -> dict[str, bytes]:
    """Every file of an attempt but what a kill left half written."""
    return {path.name: path.read_bytes() for path in attempt.iterdir() if path.suffix != ".tmp"}


@pytest.mark.slow
def test_faults_1_and_2_a_nightly_that_is_killed_at_random_is_completed_byte_by_byte(
    trained_project, tmp_path, command
):
    undisturbed = trained_project.copy(tmp_path / "undisturbed")
    start = time.monotonic()
    assert nightly(undisturbed).wait() == 0
    seconds = time.monotonic() - start
    whole = published(undisturbed.folder / "out/rankings").attempt
    chance = random.Random(0)
    for number in range(ROUNDS):
        project = trained_project.copy(tmp_path / f"round-{number}")
        process = nightly(project)
        time.sleep(chance.uniform(0.1, 1) * seconds)
        process.send_signal(signal.SIGKILL)
        process.wait()
        root = project.folder / "out/rankings"
        standing = command(project, "status")
        assert standing.code == 0
        assert standing.facts["live"] in (None, str(project.day))
        again = command(project, "nightly", "--date", str(project.day))
        assert again.code == 0, again.err
        assert published(root).attempt.name == whole.name
        assert contents(published(root).attempt.folder) == contents(whole.folder)
        assert [entry["action"] for entry in journal_of(root)] == ["live"]
