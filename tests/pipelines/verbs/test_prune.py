"""Keeping house: what goes, what stays, and what is left by kills."""

import json
import os
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from features.errors import IntegrityError
from pipelines.base.config import load_config
from pipelines.stores.lease import leased
from pipelines.stores.publish import Attempt, published, published_on
from pipelines.stores.trash import discard
from pipelines.verbs.prune import prune

LONG_AGO = timedelta(days=60)


@pytest.fixture
def config(tmp_path, tracking_databases):  # noqa: ARG001 - for what it sets up
    """A configuration whose output folder holds nothing yet."""
    path = tmp_path / "nightrank.yaml"
    path.write_text("data: {items: {path: items.csv}, events: {path: events.csv}}\nlabels: {gains: {purchase: 1}}\n")
    return load_config(path)


@pytest.fixture
def root(config):
    return Path(config.output) / "rankings"


@pytest.fixture
def attempt(root):
    """An attempt of a day, written long ago; finished and published, unless it should not be."""

    def make(name, *, finished=True, live=True, **publishing):
        made = Attempt(root, name)
        made.write("shard-00000", pl.DataFrame({"user_id": [name]}))
        made.write("fallback", pl.DataFrame({"rank": [1]}))
        if finished:
            made.finish(["shard-00000", "fallback"], {"date": name[:10]})
        if finished and live:
            made.publish(**publishing)
        age(made.folder)
        return made

    return make


def age(path, by=LONG_AGO):
    then = time.time() - by.total_seconds()
    for each in (path, *path.rglob("*")):
        os.utime(each, (then, then))


def long_ago(root):
    """Have all entries of the journal be of long ago, the pointer's too."""
    at = (datetime.now(UTC) - LONG_AGO).isoformat(timespec="seconds")
    entries = [{**json.loads(line), "at": at} for line in (root / "journal.jsonl").read_text().splitlines()]
    (root / "journal.jsonl").write_text("".join(f"{json.dumps(entry)}\n" for entry in entries))
    pointer = json.loads((root / "published.json").read_text())
    (root / "published.json").write_text(json.dumps({**pointer, "entry": {**pointer["entry"], "at": at}}))


def names(root):
    return sorted(path.name for path in (root / "attempts").iterdir())


def nights(attempt, n, first=date(2024, 2, 1)):
    return [attempt(f"{first + timedelta(days=number)}-a") for number in range(n)]


def test_good_nights_stay_as_many_as_are_named_and_those_that_audits_compare_with(attempt, root, config):
    every = nights(attempt, 20)
    long_ago(root)
    pruned = prune(config, keep=10, delete=True)
    assert names(root) == [each.name for each in every[-10:]]
    assert dict(pruned.kept) == {"live": 1, "a good night": 9}
    assert published(root).attempt == every[-1]
    assert dict(prune(config, keep=2, delete=True).kept) == {"live": 1, "a good night": 1, "audits compare with it": 5}
    assert names(root) == [each.name for each in every[-7:]]
    assert published_on(root, every[-7].day) == [every[-7]]
    assert not prune(config, keep=2, delete=True).removals


def test_without_delete_nothing_is_touched(attempt, root, config, snapshot):
    nights(attempt, 20)
    long_ago(root)
    before = snapshot(root)
    pruned = prune(config, keep=2)
    assert snapshot(root) == before
    assert not (Path(config.output) / "jobs").exists()
    size = sum(path.stat().st_size for each in names(root)[:13] for path in (root / "attempts" / each).iterdir())
    assert pruned.as_json().items() >= {"dry_run": True, "removed": {"attempt": 13}, "freed_bytes": size}.items()


def test_what_was_superseded_goes_and_what_is_published_for_its_date_stays(attempt, root, config):
    first, second = attempt("2024-02-18-a"), attempt("2024-02-18-b")
    nights(attempt, 7, first=date(2024, 2, 19))
    old, kept = attempt("2024-02-10-a"), attempt("2024-02-20-b")  # backfills
    long_ago(root)
    prune(config, keep=8, delete=True)
    assert not first.folder.exists()
    assert second.folder.exists()
    assert not old.folder.exists()
    assert kept.folder.exists()


def test_what_somebody_went_back_to_and_what_was_live_until_lately_stay(attempt, root, config):
    every = nights(attempt, 12)
    long_ago(root)
    every[1].go_back("wrong prices")
    last = attempt("2024-02-13-a")
    pruned = prune(config, keep=1, delete=True)
    assert every[1].folder.exists()
    assert every[-1].folder.exists()  # it was live until somebody went back
    assert not every[0].folder.exists()
    assert published(root).attempt == last
    assert pruned.kept["somebody went back to it"] + pruned.kept.get("audits compare with it", 0) >= 1


def test_unfinished_and_never_published_attempts_go_with_their_time(attempt, root, config):
    night = attempt("2024-02-19-a")
    killed, shadow = attempt("2024-02-19-b", finished=False), attempt("2024-02-19-c", live=False)
    old = attempt("2024-02-18-c", live=False)
    begun = attempt("2024-02-20-a", finished=False)
    age(begun.folder, timedelta(hours=1))
    prune(config, delete=True)
    assert names(root) == sorted([night.name, shadow.name, begun.name])
    assert not killed.folder.exists()
    assert not old.folder.exists()


def test_while_a_night_runs_its_attempts_stay_all_of_them(attempt, root, config):
    nights(attempt, 20)
    long_ago(root)
    with leased(Path(config.output), date(2024, 2, 21), minutes=60):
        pruned = prune(config, keep=2, delete=True)
        assert pruned.as_json()["night_under_way"] == "2024-02-21"
        assert len(names(root)) == 20
    prune(config, keep=2, delete=True)
    assert len(names(root)) == 7


def test_fault_86_what_kills_left_goes_after_a_day_and_old_quarantine_too(attempt, config):
    attempt("2024-02-19-a")
    output = Path(config.output)
    tmp = [output / folder / f".{'0' * 31}{n}.tmp" for n, folder in enumerate(("state", "quarantine", "rankings"))]
    own = output / "quarantine" / "events.parquet"
    foreign = output / "quarantine" / ".keep.tmp"
    for path in (*tmp, own, foreign):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x" * 10)
        age(path)
    fresh = output / "state" / f".{'1' * 32}.tmp"
    fresh.write_bytes(b"x")
    pruned = prune(config, delete=True)
    assert pruned.as_json()["removed"] == {"leftover": 3, "quarantine": 1}
    assert pruned.as_json()["freed_bytes"] == 40
    assert fresh.exists()
    assert foreign.exists()
    assert not any(path.exists() for path in (*tmp, own))


def test_a_prune_that_was_killed_after_a_rename_is_finished_by_the_next(attempt, root, config):
    every = nights(attempt, 9)
    long_ago(root)
    gone = discard(every[0].folder)
    (gone / "manifest.json").unlink()  # it was at it
    assert published_on(root, every[1].day) == [every[1]]
    assert prune(config, keep=8).as_json()["removed"] == {"leftover": 1}
    prune(config, keep=8, delete=True)
    assert names(root) == [each.name for each in every[1:]]


def test_a_live_attempt_that_is_gone_is_still_damage(attempt, root, config):
    night = attempt("2024-02-19-a")
    discard(night.folder)
    with pytest.raises(IntegrityError, match="manifest is missing"):
        published(root)
    assert published_on(root, night.day) == [night]
    prune(config)
