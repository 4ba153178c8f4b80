"""The upgrade note of the changelog, step by step, from what nightrank 0.1.0 wrote.

`release_0_1_0` is the simulated shop of the tests as 0.1.0 trained, promoted and published it: configuration, bundle,
rankings and journal. Of another training of the same shop it has a ranker's network, which the first one did without,
and the manifest of a night's state.
"""

import importlib
import json
import re
import shutil
import warnings
from datetime import date
from pathlib import Path

import pytest
import yaml

from features.errors import ConfigError, OutdatedError
from pipelines.base.config import load_config
from pipelines.inputs.read import read_night
from pipelines.registry.bundle import load_bundle
from pipelines.registry.registry import CHAMPION, Registry
from pipelines.registry.versions import trained_config
from pipelines.stores.publish import published
from pipelines.stores.storage import read_json, sha256_of, write_json
from pipelines.verbs import promote as promoting

pytestmark = pytest.mark.slow

BEFORE = Path(__file__).with_name("release_0_1_0")
(BUNDLE,) = (BEFORE / "out" / "bundles").iterdir()
CHANGELOG = (Path(__file__).parents[3] / "CHANGELOG.md").read_text(encoding="utf-8")
NOTE = CHANGELOG.partition("### Upgrading from 0.1.0")[2].partition("\n### ")[0]


@pytest.fixture
def upgraded(shop_project, tmp_path):
    """The shop's folder as 0.1.0 left it, but for MLflow's database."""
    project = shop_project.copy(tmp_path / "project")
    model = project.config.encoder.model
    shutil.copytree(BEFORE / "out", project.folder / "out", dirs_exist_ok=True)
    shutil.copy(BEFORE / "nightrank.yaml", project.path)
    project.change(encoder={"model": model})
    return project


@pytest.fixture
def registered(trained_project, tmp_path):
    """A project with a champion of today whose registry has the version of 0.1.0 as its second."""
    project = trained_project.copy(tmp_path / "project")
    shutil.copytree(BUNDLE, project.folder / "out" / "bundles" / BUNDLE.name)
    registry = Registry(project.config)
    registry.register(registry.version(CHAMPION).run_id, sha256_of(BUNDLE / "manifest.json"))
    return project


@pytest.fixture
def with_network(tmp_path):
    """The bundle with a network as 0.1.0 wrote it."""
    folder = Path(shutil.copytree(BUNDLE, tmp_path / "bundle"))
    manifest = read_json(folder / "manifest.json", what="bundle")
    for name in ("ranker/network.safetensors", "ranker/behaviour.safetensors"):
        shutil.copy(BEFORE / "network.safetensors", folder / name)
        manifest["files"][name] = sha256_of(folder / name)
    write_json(manifest, folder / "manifest.json")
    return folder


def test_step_2_the_configuration_is_read(upgraded):
    config = upgraded.config
    assert config.ranker.max_trees == 20
    assert config.night.shard_users == 20


def test_step_2_every_key_that_is_gone_is_named_with_what_to_do(upgraded):
    whole = yaml.safe_load((BUNDLE / "config.yaml").read_text(encoding="utf-8"))  # all keys that 0.1.0 had
    written = yaml.safe_load(upgraded.path.read_text(encoding="utf-8"))
    everything = whole | {key: written[key] for key in ("data", "output")}
    everything["encoder"] |= {"model": written["encoder"]["model"], "backend": "auto"}
    upgraded.path.write_text(yaml.safe_dump(everything), encoding="utf-8")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # old names of families
        with pytest.raises(ConfigError) as refused:
            load_config(upgraded.path)
    lines = [line for line in str(refused.value).splitlines() if ": " in line]
    gone = {"features.max_memory_gb": "Delete the key", "ranker.position_debias": "Delete the key"}
    gone |= {"encoder.backend": "Write torch, or cuda"}
    assert len([line for line in lines if any(key in line for key in gone)]) == len(gone)
    for key, remedy in gone.items():
        assert [line for line in lines if key in line and remedy in line], key
        assert key in NOTE or key.rpartition(".")[2] in NOTE
    del everything["features"]["max_memory_gb"], everything["ranker"]["position_debias"]
    everything["encoder"]["backend"] = "torch"
    upgraded.path.write_text(yaml.safe_dump(everything), encoding="utf-8")
    with pytest.warns(UserWarning, match=r"'(user|own)_attribute' is called '\w+_attribute' now"):
        families = load_config(upgraded.path).features.families
    assert {"user_item_attribute", "profile_attribute"} < set(families)


def test_step_4_a_version_of_trees_is_read_and_scores_its_golden_rows_without_a_warning(tmp_path):
    bundle = load_bundle(Path(shutil.copytree(BUNDLE, tmp_path / BUNDLE.name)))
    assert bundle.manifest["libraries"]["nightrank"] == "0.1.0"
    assert "user_item_attribute" in trained_config(bundle).features.families


def test_step_4_it_becomes_champion_and_ranks_the_next_night(registered, command):
    assert command(registered, "promote", "--version", "2").facts["champion"] == "nightrank/2"
    night = command(registered, "score", "--date", str(registered.day))
    assert night.code == 0, night.err
    assert night.facts["version"] == "nightrank/2"
    assert night.facts["live"] == str(registered.day)


def test_step_4_a_version_with_a_network_is_refused_with_the_command_that_makes_another(with_network):
    with pytest.raises(OutdatedError, match=r"of an earlier nightrank .* nightrank train"):
        load_bundle(with_network)
    assert OutdatedError.exit_code == 12


def test_step_4_a_champion_that_is_not_read_any_more_gives_way(registered, with_network, command, monkeypatch):
    command(registered, "promote", "--version", "2")

    def load(folder):
        return load_bundle(with_network if folder.name == BUNDLE.name else folder)

    monkeypatch.setattr(promoting, "load_bundle", load)
    ended = command(registered, "promote", "--version", "1")
    assert ended.code == 0, ended.err
    assert ended.facts["champion"] == "nightrank/1"
    assert not [gate for gate in ended.facts["gates"] if "nightrank/2" in gate]
    said = [json.loads(line) for line in ended.err.splitlines() if "champion not compared" in line]
    assert [line["version"] for line in said] == ["nightrank/2"]


def test_step_5_the_state_is_folded_anew_and_says_so(upgraded, capfd):
    for folded in (True, False):
        inputs = read_night(upgraded.config)
        lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith('{"event": "state"')]
        (said,) = map(json.loads, lines)
        assert bool(said.get("rebuilt_because")) == folded
        assert said["folded"] == (said["files"] if folded else 0)
        assert inputs.log.items.height == 120


def test_step_6_the_rankings_and_the_journal_are_read(upgraded, command):
    facts = command(upgraded, "status").facts
    assert (facts["live"], facts["version"]) == ("2024-02-25", "nightrank/1")
    live = published(upgraded.folder / "out" / "rankings")
    assert live is not None
    assert live.attempt.day == date(2024, 2, 25)
    assert live.rankings()["rank"].max() == 10
    (entry,) = command(upgraded, "history").facts["history"]
    assert (entry["action"], entry["to"]) == ("promote", "nightrank/1")


def test_step_7_every_module_is_where_the_note_says():
    moved = re.findall(r"^ +\| `([\w.]+)` \| `([\w.]+)` \|$", NOTE, re.MULTILINE)
    assert len(moved) > 10
    for _, today in moved:
        importlib.import_module(today)
