"""`nightrank vectors`: what the stores hold, whether they are whole, and what nobody needs any more."""

import fcntl
import os
import time
from pathlib import Path

import numpy as np
import pytest

from pipelines.registry.registry import Registry
from pipelines.stores.storage import read_json
from pipelines.stores.vectors import LOCK, VectorStore

IDLE = "ab" * 32
DAY = 86_400


@pytest.fixture
def root(project) -> Path:
    return Path(project.config.output) / "vectors"


def folders(root: Path) -> set[str]:
    return {path.name for path in root.iterdir()}


def used(project) -> set[str]:
    """Stores of the one registered version, by its bundle."""
    registry = Registry(project.config)
    manifest = read_json(registry.bundle_folder(registry.version("1")) / "manifest.json", what="bundle")
    return {digest[:32] for digest in manifest["encoder"].values()}


def age(folder: Path, days: float) -> None:
    for path in (folder, *folder.iterdir()):
        os.utime(path, (time.time() - days * DAY,) * 2)


def add_idle(root: Path, days: float) -> Path:
    VectorStore(root, IDLE).put(["a", "b"], np.ones((2, 4), np.int16))
    age(root / IDLE[:32], days)
    return root / IDLE[:32]


def test_stats_have_a_row_an_encoder_with_its_versions(project, root, command):
    add_idle(root, days=3)
    told = command(project, "vectors", "stats")
    assert told.code == 0
    rows = {row["encoder"]: row for row in told.facts["stores"]}
    assert rows.keys() == folders(root)
    assert {name for name, row in rows.items() if row["used_by"]} == used(project)
    assert {tuple(rows[name]["used_by"]) for name in used(project)} == {("nightrank/1 @champion",)}
    idle = rows[IDLE[:32]]
    assert (idle["segments"], idle["texts"]) == (1, 2)
    assert idle["bytes"] == sum(path.stat().st_size for path in (root / IDLE[:32]).iterdir())
    assert told.facts["stores"][-1] == idle  # the others were used today
    assert idle["last_used"] < rows[min(used(project))]["last_used"]
    assert all(name in told.err for name in rows)


def test_verify_counts_what_is_whole_and_names_every_damaged_file_and_the_remedy(project, root, command):
    segments = sorted(root.glob("*/*.npy"))
    told = command(project, "vectors", "verify")
    assert told.code == 0
    assert told.facts == {
        "stores": len(folders(root)),
        "segments": len(segments),
        "bytes": sum(path.stat().st_size for path in segments),
    }
    for path in segments[:2]:
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
    told = command(project, "vectors", "verify")
    assert told.code == 12
    assert all(str(path) in told.err for path in segments[:2])
    assert str(segments[2]) not in told.err
    assert "Delete them; their texts are encoded again." in told.err
    for path in segments[:2]:
        path.unlink()
    assert command(project, "vectors", "verify").code == 0


def test_gc_removes_what_no_version_uses_once_it_has_been_idle_and_a_dry_run_nothing(project, root, command):
    before = folders(root)
    size = sum(path.stat().st_size for path in add_idle(root, days=8).iterdir())
    told = command(project, "vectors", "gc", "--dry-run")
    assert told.facts == {
        "dry_run": True,
        "removed": [IDLE[:32]],
        "kept": told.facts["kept"],
        "freed_bytes": size,
    }
    assert set(told.facts["kept"]) == before
    assert folders(root) == before | {IDLE[:32]}
    told = command(project, "vectors", "gc")
    assert (told.facts["removed"], told.facts["freed_bytes"]) == ([IDLE[:32]], size)
    assert folders(root) == before
    for name in before:
        age(root / name, days=400)
    removed = set(command(project, "vectors", "gc").facts["removed"])
    assert removed == before - used(project)  # the training's earlier blocks
    assert removed
    assert folders(root) == used(project)


def test_gc_keeps_what_was_used_lately_and_what_is_in_use(project, root, command):
    folder = add_idle(root, days=6)
    assert command(project, "vectors", "gc").facts["removed"] == []
    assert command(project, "vectors", "gc", "--dry-run", "--set", "vectors.keep_days=5").facts["removed"] != []
    age(folder, days=8)
    with (folder / LOCK).open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        assert command(project, "vectors", "gc").facts["removed"] == []
    assert IDLE[:32] in folders(root)
    VectorStore(root, IDLE).vectors(["a"], lambda texts: np.zeros((len(texts), 4), np.int16))  # a use begins anew
    assert command(project, "vectors", "gc").facts["removed"] == []


def test_gc_removes_what_killed_writers_left_in_a_store_after_a_day(project, root, command):
    folder = root / min(used(project))
    old, new = folder / ".0123.tmp", folder / ".4567.tmp"
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 2 * DAY,) * 2)
    assert command(project, "vectors", "gc").facts["freed_bytes"] == 4
    assert not old.exists()
    assert new.exists()


def test_gc_removes_nothing_where_a_versions_bundle_is_damaged(project, root, command):
    add_idle(root, days=8)
    registry = Registry(project.config)
    version = registry.version("1")
    for folder in (registry.cached_bundle(version), registry.run_bundle(version)):
        (folder / "config.yaml").write_text("{}")
    told = command(project, "vectors", "gc")
    assert told.code == 12
    assert IDLE[:32] in folders(root)


def test_a_project_without_stores_has_none(shop_project, tmp_path, command):
    project = shop_project.copy(tmp_path / "project")
    assert command(project, "vectors", "stats").facts == {"stores": []}
    assert command(project, "vectors", "verify").facts == {"stores": 0, "segments": 0, "bytes": 0}
    assert command(project, "vectors", "gc").facts["freed_bytes"] == 0
