"""Verbs of `nightrank bundle`: what they say about versions and folders, and what they refuse."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from pipelines.registry.bundle_files import damage
from pipelines.registry.registry import Registry
from pipelines.stores.storage import read_json, sha256_of, write_json
from pipelines.verbs.bundles import bundle_in, bundle_of, differences, export, facts_of, trained_until


@pytest.fixture
def kept(project):
    return bundle_of("champion", Registry(project.config))


def test_a_version_is_verified_shown_and_copied(project, command, tmp_path):
    verified = command(project, "bundle", "verify", "1")
    assert verified.code == 0, verified.err
    assert verified.facts["version"] == "nightrank/1"
    assert verified.facts["other_libraries"] == {}
    shown = command(project, "bundle", "show")
    assert (shown.facts["version"], shown.facts["aliases"]) == ("nightrank/1", ["champion"])
    assert shown.facts["digest"] == verified.facts["digest"]
    assert f"events before {trained_until(shown.facts['cutoff'])}" in shown.err
    assert "Bundle nightrank/1 (champion)" in shown.err
    copied = command(project, "bundle", "export", "--to", str(tmp_path / "copies" / "1"))
    assert copied.code == 0, copied.err
    assert damage(tmp_path / "copies" / "1", verified.facts["digest"]) is None
    assert [path.name for path in (tmp_path / "copies").iterdir()] == ["1"]
    from_folder = command(None, "bundle", "verify", str(tmp_path / "copies" / "1"))
    assert from_folder.facts["digest"] == verified.facts["digest"]


def test_what_is_there_is_not_overwritten_and_what_is_no_bundle_is_refused(project, command, tmp_path):
    (tmp_path / "full").mkdir()
    refused = command(project, "bundle", "export", "--to", str(tmp_path / "full"))
    assert refused.code == 2
    assert "is there already" in refused.err
    assert list((tmp_path / "full").iterdir()) == []
    assert command(project, "bundle", "verify", str(tmp_path / "full")).code == 12
    assert command(project, "bundle", "show", "7").code == 2


def test_an_altered_bundle_is_neither_shown_nor_copied(kept, command, tmp_path):
    folder = Path(shutil.copytree(kept.folder, tmp_path / "altered"))
    (folder / "features.json").write_text("{}")
    for verb in (["verify"], ["show"], ["export", "--to", str(tmp_path / "copy")]):
        ended = command(None, "bundle", *verb[:1], str(folder), *verb[1:])
        assert ended.code == 12
        assert "features.json was altered" in ended.err
    assert not (tmp_path / "copy").exists()


def test_an_export_that_fails_leaves_nothing(kept, tmp_path):
    with pytest.raises(Exception, match="copying the bundle went wrong"):
        export(replace(kept, digest="another"), tmp_path / "copies" / "1")
    assert list((tmp_path / "copies").iterdir()) == []


def test_facts_are_those_of_the_files(kept):
    facts = facts_of(kept)
    features = json.loads((kept.folder / "features.json").read_text())
    assert facts["features"]["ranker"] == len(features["ranker"]) == sum(facts["features"]["families"].values())
    assert facts["bytes"] == sum(path.stat().st_size for path in kept.folder.rglob("*") if path.is_file())
    assert facts["files"]["features.json"]["sha256"] == sha256_of(kept.folder / "features.json")
    assert facts["continues"] is None


def test_a_difference_names_keys_features_libraries_data_and_figures(kept, command, tmp_path):
    folder = Path(shutil.copytree(kept.folder, tmp_path / "other"))
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["ranker"]["num_leaves"] = 63
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    evaluation = read_json(folder / "evaluation.json", what="bundle")
    for row in evaluation["systems"]:
        row["mean"] += 0.25
    write_json(evaluation, folder / "evaluation.json")
    manifest = read_json(folder / "manifest.json", what="bundle")
    manifest["libraries"]["polars"] = "1.0"
    manifest["data"]["items"] = "0" * 64
    manifest["files"] = {name: sha256_of(folder / name) for name in manifest["files"]}
    write_json(manifest, folder / "manifest.json")
    facts = differences(kept, bundle_in(folder))
    assert facts["config"] == {"ranker.num_leaves": [7, 63]}
    assert facts["libraries"] == {"polars": [kept.manifest["libraries"]["polars"], "1.0"]}
    assert facts["data"] == {"items": [kept.manifest["data"]["items"], "0" * 64]}
    assert facts["features"] == {"only_first": [], "only_second": []}
    assert facts["files"] == ["config.yaml", "evaluation.json"]
    assert {round(row["difference"], 6) for row in facts["metrics"]} == {0.25}
    ended = command(None, "bundle", "diff", str(kept.folder), str(folder))
    assert ended.code == 0, ended.err
    assert ended.facts["config"] == facts["config"]
    assert "ranker.num_leaves" in ended.err
    assert "+0.2500" in ended.err
    assert "Features: the same in both" in ended.err
    same = command(None, "bundle", "diff", str(folder), str(folder))
    assert "are the same bundle" in same.err
    assert same.facts["config"] == same.facts["libraries"] == same.facts["data"] == {}
