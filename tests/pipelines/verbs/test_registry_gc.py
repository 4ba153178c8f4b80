"""Verb `registry gc`: what is kept and why, what goes, and what is told apart."""

import json
import shutil
from pathlib import Path

import pytest
from small_registry import add_versions, config_of, move

from pipelines.registry.approvals import Approvals
from pipelines.registry.audit import audit
from pipelines.registry.registry import Registry
from pipelines.verbs.registry_gc import collect_versions


@pytest.fixture(scope="module")
def eight(tmp_path_factory, tracking_databases):  # noqa: ARG001 - for what it sets up
    """The output folder of a registry with versions 1 to 8, of which 2 and then 3 became champion."""
    output = tmp_path_factory.mktemp("gc") / "out"
    registry = Registry(config_of(output))
    add_versions(registry, 8)
    for to in ("2", "3"):
        move(registry, to=to)
    return output


@pytest.fixture
def registry(eight, tmp_path):
    return Registry(config_of(shutil.copytree(eight, tmp_path / "out")))


def output(registry) -> Path:
    return Path(registry.config.output)


def kept(collected):
    return {each.version.number: each.reasons for each in collected.judged if each.reasons}


def removed(collected):
    return [each.version.number for each in collected.removed]


def test_nothing_goes_before_somebody_says_so(registry, snapshot):
    before = snapshot(output(registry) / "bundles")
    collected = collect_versions(registry, keep=2)
    assert collected.as_json()["dry_run"]
    assert removed(collected) == ["6", "5", "4", "1"]
    assert len(registry.versions()) == 8
    assert snapshot(output(registry) / "bundles") == before


def test_what_is_live_was_live_is_pinned_approved_new_or_named_by_a_night_stays(registry):
    registry.client.set_model_version_tag("nightrank", "1", "pinned", "true")
    registry.client.set_model_version_tag("nightrank", "4", "pinned", "false")
    Approvals(registry).approve(registry.version("5"), "Ada")
    rankings = output(registry) / "rankings"
    rankings.mkdir()
    entry = {"attempt": "2024-02-25-ab", "date": "2024-02-25", "version": "nightrank/6", "action": "live"}
    (rankings / "journal.jsonl").write_text(json.dumps(entry) + "\n", encoding="utf-8")
    collected = collect_versions(registry, keep=1, delete=True)
    assert kept(collected) == {
        "8": ("alias challenger", "newest 1"),
        "6": ("ranked 2024-02-25",),
        "5": ("approved",),
        "3": ("alias champion", "decision 2"),
        "2": ("alias previous", "decision 2"),
        "1": ("pinned",),
    }
    assert removed(collected) == ["7", "4"]
    assert [version.number for version in registry.versions()] == ["8", "6", "5", "3", "2", "1"]
    assert not audit(registry).faults


def test_a_version_goes_with_its_files_and_its_run_stays(registry):
    version = registry.version("7")
    size = sum(path.stat().st_size for path in registry.cached_bundle(version).rglob("*") if path.is_file())
    collected = collect_versions(registry, keep=1, delete=True)
    (judged,) = [each for each in collected.removed if each.version == version]
    assert judged.size_bytes == 2 * size  # here, and in its run
    assert not registry.cached_bundle(version).exists()
    assert not registry.run_bundle(version).exists()
    assert registry.client.get_run(version.run_id).info.lifecycle_stage == "active"
    assert removed(collect_versions(registry, keep=1)) == []


def test_fault_87_versions_without_a_bundle_and_bundles_of_two_versions_are_told_apart(registry):
    orphan, first = registry.version("7"), registry.version("4")
    for folder in (registry.cached_bundle(orphan), registry.run_bundle(orphan)):
        shutil.rmtree(folder)
    registry.register(first.run_id, first.digest)  # as a training that is registered twice
    collected = collect_versions(registry, keep=2)
    states = {each.version.number: each.state for each in collected.judged}
    assert states["7"] == "orphaned: its bundle is nowhere"
    assert states["9"] == "the same bundle as nightrank/4"
    assert states["8"] == "whole"
    assert collected.as_json()["orphaned"] == ["nightrank/7"]
    assert collected.as_json()["same_bundle"] == {"nightrank/9": "nightrank/4"}
    assert [fault.what for fault in audit(registry).faults if "nightrank/7" in fault.what]
    assert audit(registry).notes == ["nightrank/9 is the same bundle as nightrank/4"]
    collect_versions(registry, keep=2, delete=True)
    assert [version.number for version in registry.versions()] == ["9", "8", "3", "2"]
    assert registry.bundle_folder(registry.version("9")).is_dir()  # though version 4, of the same bundle, went
    assert not audit(registry).faults


def test_a_version_that_became_champion_meanwhile_stays(registry, monkeypatch):
    find = Registry.find

    def promoted(self, wanted):
        if wanted == "1":
            self.client.set_registered_model_alias("nightrank", "wanted", "1")
        return find(self, wanted)

    monkeypatch.setattr(Registry, "find", promoted)
    collected = collect_versions(registry, keep=4, delete=True)
    assert (collected.skipped, removed(collected)) == (["nightrank/1"], ["4"])
    assert registry.find("1") is not None


def test_a_bundle_of_no_version_is_named_and_stays(registry):
    stranger = output(registry) / "bundles" / ("0" * 32)
    stranger.mkdir()
    assert collect_versions(registry, keep=8, delete=True).unregistered == [stranger]
    assert stranger.is_dir()


def test_the_command_shows_every_version(trained_project, tmp_path, command):
    project = trained_project.copy(tmp_path / "project")
    ended = command(project, "registry", "gc", "--keep", "0")
    assert ended.code == 0, ended.err
    assert ended.facts["removed"] == []
    assert "alias champion, decision 1" in ended.err
    assert "would remove 0 of 1 versions" in ended.err
