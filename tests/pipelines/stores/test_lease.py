"""One night at a time, and none that was passed over publishes: with processes that are killed and stopped for real."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from datetime import date
from pathlib import Path

import polars as pl
import pytest

from features.errors import TryAgainError
from pipelines.stores.lease import leased, pointer_mutex
from pipelines.stores.publish import Attempt, last_token, live_day

ROOT = Path(__file__).resolve().parents[3]
FIRST, SECOND = date(2024, 2, 18), date(2024, 2, 19)

NIGHT = """
import sys
from datetime import date
from pathlib import Path
from features.errors import TryAgainError
from pipelines.stores.lease import leased
from pipelines.stores.publish import Attempt

output, name = Path(sys.argv[1]), sys.argv[2]
with leased(output, date.fromisoformat(name[:10]), minutes=60) as lease:
    print("began", flush=True)
    input()
    try:
        Attempt(output / "rankings", name).publish(guard=lease.fenced(), facts={"token": lease.token})
    except TryAgainError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
"""


@pytest.fixture
def attempt(tmp_path):
    """A complete attempt."""

    def make(name):
        made = Attempt(tmp_path / "rankings", name)
        made.write("shard-00000", pl.DataFrame({"user_id": [name]}))
        made.write("fallback", pl.DataFrame({"rank": [1]}))
        made.finish(["shard-00000", "fallback"], {"date": name[:10]})
        return made

    return make


@pytest.fixture
def night(tmp_path):
    """A night in a process of its own, which waits for a line before it publishes."""
    processes = []

    def begin(name):
        process = subprocess.Popen(
            [sys.executable, "-c", NIGHT, str(tmp_path), name],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        assert process.stdout.readline() == "began\n", process.stderr.read()
        return process

    yield begin
    for process in processes:
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGCONT)
        process.kill()
        process.communicate()


def locks(output):
    return sorted(path.name for path in (output / "jobs").glob("night-*.lock"))


def test_fault_38_a_second_night_is_refused_with_since_when_the_other_runs(tmp_path):
    with leased(tmp_path, FIRST, minutes=60) as first:
        with (
            pytest.raises(TryAgainError, match=rf"night of 2024-02-18 has been running .* since {first.since[:10]}"),
            leased(tmp_path, SECOND, minutes=60),
        ):
            pass
        with first.fenced():  # what was refused has changed nothing
            pass
    assert locks(tmp_path) == []
    with leased(tmp_path, SECOND, minutes=60) as second:
        assert (first.token, second.token) == (1, 2)


def test_a_killed_night_is_in_nobodys_way(tmp_path, night):
    process = night("2024-02-18-a")
    process.kill()
    process.wait()
    assert locks(tmp_path) == ["night-1.lock"]
    with leased(tmp_path, SECOND, minutes=60) as lease:
        assert lease.token == 2
        assert locks(tmp_path) == ["night-2.lock"]


def test_who_looks_whether_a_night_runs_is_not_taken_for_one(tmp_path, night):
    process = night("2024-02-18-a")
    process.kill()
    process.wait()
    with (tmp_path / "jobs" / "night-1.lock").open("r") as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        with leased(tmp_path, SECOND, minutes=60) as lease:
            assert lease.token == 2


@pytest.mark.parametrize("how", ["somebody says so", "it is silent for long"])
def test_fault_68_a_night_that_was_stopped_and_passed_over_publishes_nothing(how, tmp_path, attempt, night):
    later, older = attempt("2024-02-18-b"), attempt("2024-02-19-a")
    stopped = night(older.name)
    stopped.send_signal(signal.SIGSTOP)
    if how == "it is silent for long":
        hour_ago = time.time() - 3600
        os.utime(tmp_path / "jobs" / "night-1.lock", (hour_ago, hour_ago))
        with pytest.raises(TryAgainError), leased(tmp_path, SECOND, minutes=61):
            pass
    with leased(tmp_path, FIRST, minutes=59, take_over=how == "somebody says so") as lease:
        assert later.publish(guard=lease.fenced(), facts={"token": lease.token})
    pointer = (tmp_path / "rankings/published.json").read_bytes()
    journal = (tmp_path / "rankings/journal.jsonl").read_bytes()

    stopped.send_signal(signal.SIGCONT)
    _, told = stopped.communicate("\n", timeout=60)
    assert stopped.returncode == 75
    assert "this night of 2024-02-19 was passed over while it stood still (the night of 2024-02-18 began at" in told
    assert (tmp_path / "rankings/published.json").read_bytes() == pointer
    assert (tmp_path / "rankings/journal.jsonl").read_bytes() == journal
    assert json.loads(journal)["token"] == 2
    assert locks(tmp_path) == []


def test_a_night_that_was_stopped_and_not_passed_over_publishes(tmp_path, attempt, night):
    stopped = night(attempt("2024-02-18-a").name)
    stopped.send_signal(signal.SIGSTOP)
    with pytest.raises(TryAgainError), leased(tmp_path, SECOND, minutes=60):
        pass
    stopped.send_signal(signal.SIGCONT)
    stopped.communicate("\n", timeout=60)
    assert stopped.returncode == 0
    assert live_day(tmp_path / "rankings") == FIRST


def test_fault_68_a_night_whose_record_was_deleted_is_passed_over_too(tmp_path):
    record = tmp_path / "jobs" / "night.json"
    with leased(tmp_path, FIRST, minutes=60) as lease:
        record.unlink()
        with pytest.raises(TryAgainError, match="its record is gone"), lease.fenced():
            pass
        with leased(tmp_path, SECOND, minutes=60) as second:
            assert second.token == lease.token + 1
        record.unlink()
        (tmp_path / "jobs" / "night-1.lock").unlink()
        with leased(tmp_path, SECOND, minutes=60) as third:
            assert third.token == lease.token  # and yet they are two
            with pytest.raises(TryAgainError, match="passed over"), lease.fenced():
                pass


def test_tokens_grow_beyond_those_of_the_journal(tmp_path, attempt):
    root = tmp_path / "rankings"
    assert last_token(root) == 0
    attempt("2024-02-18-a").publish(facts={"token": 7})
    with leased(tmp_path, SECOND, minutes=60, after=last_token(root)) as lease:
        assert lease.token == 8


def test_who_finds_the_pointer_held_for_long_is_told_what_to_look_for(tmp_path, monkeypatch):
    monkeypatch.setattr("pipelines.stores.lease._PATIENCE_SECONDS", 0.1)
    with (
        pointer_mutex(tmp_path),
        pytest.raises(TryAgainError, match="stopped while it was publishing"),
        pointer_mutex(tmp_path),
    ):
        pass


@pytest.mark.parametrize("record", ["[]", "{", '{"token": "7"}', '{"token": 7}'])
def test_fault_76_a_damaged_record_of_the_last_night_is_made_anew(record, tmp_path, capsys):
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "night.json").write_text(record, encoding="utf-8")
    with leased(tmp_path, FIRST, minutes=60, after=4) as lease, lease.fenced():
        assert lease.token == 5
    assert "the record of the last night is damaged" in capsys.readouterr().err
