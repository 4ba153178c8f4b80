"""Faults 76, 77, 78, 81 and 87: bundles that break their parsers, are damaged, fetched twice, or registered late."""

import shutil
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests
import toy_ranker
import yaml
from mlflow import MlflowClient

from features.errors import IntegrityError, TryAgainError
from pipelines.registry import parsing
from pipelines.registry.bundle import load_bundle
from pipelines.registry.bundle_files import damage, install
from pipelines.registry.register import register
from pipelines.registry.registry import Registry
from pipelines.registry.tracking import Tracking
from pipelines.stores.storage import read_json, sha256_of, write_json


@pytest.fixture
def bundle(project):
    (folder,) = (project.folder / "out/bundles").iterdir()
    return folder


def forge(bundle: Path) -> Path:
    """Write the hashes of the files as they are into the manifest, and call the folder by its digest."""
    manifest = read_json(bundle / "manifest.json", what="bundle")
    names = {str(path.relative_to(bundle)) for path in bundle.rglob("*") if path.is_file()} - {"manifest.json"}
    manifest["files"] = {name: sha256_of(bundle / name) for name in sorted(names)}
    write_json(manifest, bundle / "manifest.json")
    return bundle.rename(bundle.with_name(sha256_of(bundle / "manifest.json")[:32]))


def rewrite(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def first(path: Path, key: str) -> str:
    """The first line `key=...` of a LightGBM model that has more than one node."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return next(line for line in lines if line.startswith(f"{key}=") and len(line.split()) > 2)


def cyclic(booster):
    line = first(booster, "left_child")
    rewrite(booster, line, " ".join(["left_child=0", *line.split()[1:]]))


def astray(booster):
    line = first(booster, "split_feature")
    rewrite(booster, line, " ".join(["split_feature=99999", *line.split()[1:]]))


def cut_nodes(booster):
    line = first(booster, "threshold")
    rewrite(booster, line, line.rpartition(" ")[0])


def cut(booster):
    text = booster.read_text(encoding="utf-8")
    booster.write_text(text[: len(text) // 2] + "\npandas_categorical:null\n", encoding="utf-8")


def no_number(booster):
    rewrite(booster, "max_feature_idx=", "max_feature_idx=-7")


def no_objective(booster):
    rewrite(booster, "num_tree_per_iteration=1", "num_tree_per_iteration=1000000")


@pytest.mark.parametrize(
    "harm", [pytest.param(cyclic, marks=pytest.mark.slow), astray, cut_nodes, cut, no_number, no_objective]
)
def test_fault_81_a_model_that_breaks_its_parser_behind_forged_hashes_ends_with_12(harm, bundle):
    harm(bundle / "ranker/booster.txt")
    folder = forge(bundle)
    start = time.monotonic()
    with pytest.raises(IntegrityError, match=r"no tree|no complete|refuse|end the process|other features"):
        load_bundle(folder)
    assert time.monotonic() - start < 120
    assert [path.stem for path in (folder.parent.parent / "parsed").iterdir()] != [sha256_of(folder / "manifest.json")]


LOOP = "while True: pass"
CRASH = "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"


@pytest.mark.parametrize(
    ("harm", "says"), [(LOOP, "were not read within 2 seconds of a processor"), (CRASH, r"SIGSEGV")]
)
def test_fault_81_whatever_a_parser_does_the_job_goes_on(harm, says, bundle, tmp_path, monkeypatch):
    """A ranker from outside whose parser hangs or crashes, as LightGBM's did on models that are no trees."""
    (tmp_path / "harmful.py").write_text(
        f"from toy_ranker import OneFeature\nclass Harmful(OneFeature):\n    @classmethod\n    def read(cls, *_):\n"
        f"        {harm}\n",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(Path(toy_ranker.__file__).parent)
    toy_ranker.install(tmp_path, monkeypatch, "harmful:Harmful")
    monkeypatch.setattr(parsing, "_CPU_SECONDS", 2)
    config = yaml.safe_load((bundle / "config.yaml").read_text(encoding="utf-8"))
    config["ranker"]["kind"] = toy_ranker.ENTRY_POINT
    (bundle / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    folder = forge(bundle)
    with pytest.raises(IntegrityError, match=says):
        load_bundle(folder)


def test_fault_81_a_bundle_is_parsed_elsewhere_once_and_again_when_a_file_changes(bundle, monkeypatch):
    started = []
    run = subprocess.run
    monkeypatch.setattr(parsing.subprocess, "run", lambda *args, **kwargs: started.append(1) or run(*args, **kwargs))
    load_bundle(bundle)
    assert not started  # the promotion did so
    rewrite(bundle / "evaluation.json", "\n", " \n")
    folder = forge(bundle)
    for _ in range(2):
        load_bundle(folder)
    assert len(started) == 1
    other = folder.rename(folder.with_name("copy"))
    load_bundle(other)
    assert len(started) == 2


def in_run(project) -> Path:
    """The bundle among the artefacts of the run of version 1."""
    registry = Registry(project.config)
    folder = registry.run_bundle(registry.version("1"))
    assert folder is not None
    return folder


def flip_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["ranker/booster.txt", "encoder/model.safetensors", "manifest.json"])
def test_fault_76_a_damaged_copy_of_a_bundle_is_fetched_again_and_that_is_said(name, project, bundle, capfd):
    registry, whole = Registry(project.config), (bundle / name).read_bytes()
    flip_bit(bundle / name)
    assert registry.bundle_folder(registry.version("1")) == bundle
    assert (bundle / name).read_bytes() == whole
    assert "a bundle on this machine was damaged; it is fetched again" in capfd.readouterr().err
    assert [path.name for path in bundle.parent.iterdir()] == [bundle.name]
    mode = (bundle / name).stat().st_mode
    assert mode == (bundle / "features.json").stat().st_mode


def test_fault_76_where_the_run_holds_no_whole_one_either_the_damaged_stays_and_both_are_named(project, bundle):
    registry = Registry(project.config)
    for folder in (bundle, in_run(project)):
        flip_bit(folder / "ranker/booster.txt")
    before = (bundle / "ranker/booster.txt").read_bytes()
    with pytest.raises(IntegrityError, match=r"its run holds is not the one .*/mlartifacts/.*booster.txt was altered"):
        registry.bundle_folder(registry.version("1"))
    assert (bundle / "ranker/booster.txt").read_bytes() == before


def test_fault_77_of_several_that_fetch_at_once_one_does_and_the_others_wait(project, bundle, monkeypatch):
    shutil.rmtree(bundle)
    registry, fetched = Registry(project.config), []
    version = registry.version("1")

    def slow(self, *arguments):
        fetched.append(1)
        time.sleep(0.5)
        return copied(self, *arguments)

    copied = Registry._copied
    monkeypatch.setattr(Registry, "_copied", slow)
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(registry.bundle_folder, [version] * 4)) == [bundle] * 4
    assert len(fetched) == 1
    assert damage(bundle, version.digest) is None


def test_fault_77_of_several_that_write_one_bundle_at_once_all_find_it(bundle):
    digest, root = sha256_of(bundle / "manifest.json"), bundle.parent
    staged = [Path(shutil.copytree(bundle, root / f".staging-{each}")) for each in range(4)]
    (bundle / "ranker/booster.txt").write_text("damaged", encoding="utf-8")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda folder: install(folder, bundle), staged))
    assert damage(bundle, digest) is None


@pytest.fixture
def elsewhere(project, tmp_path):
    """The project with an output folder in which nothing was trained yet."""
    return project.config.model_copy(update={"output": str(tmp_path / "other")})


@pytest.mark.parametrize(
    "lost",
    [
        "log_artifacts",
        *(
            pytest.param(call, marks=pytest.mark.slow)
            for call in ("create_model_version", "set_registered_model_alias")
        ),
    ],
)
def test_fault_78_a_training_whose_server_dies_while_it_registers_is_registered_later(
    lost, project, elsewhere, command, monkeypatch
):
    def gone(*_, **__):
        raise requests.exceptions.ConnectionError("connection refused")

    with monkeypatch.context() as patched:
        patched.setattr(MlflowClient, lost, gone)
        with pytest.raises(TryAgainError, match="Do not train again: `nightrank register ") as raised:
            register(project.trained, project.inputs, elsewhere)
    folder = str(raised.value).partition("`nightrank register ")[2].partition("`")[0]
    to = ["--set", f"output={elsewhere.output}"]
    later = command(project, "register", folder, *to)
    assert later.code == 0, later.err
    assert (later.facts["version"], later.facts["bundle"]) == ("nightrank/1", folder)
    registry = Registry(elsewhere)
    assert registry.version("challenger").number == "1"
    assert load_bundle(registry.bundle_folder(registry.version("1"))).digest == later.facts["digest"]
    run = registry.client.get_run(registry.version("1").run_id)
    first = project.registered.version.run_id
    as_it_was = Registry(project.config).client.get_run(first)
    ours = {key for key in as_it_was.data.metrics if not key.startswith("system/")}
    assert {key: run.data.metrics[key] for key in ours} == {key: as_it_was.data.metrics[key] for key in ours}
    assert run.data.tags["bundle_digest"] == later.facts["digest"]
    assert {each.dataset.name for each in run.inputs.dataset_inputs} == {"items", "users", "events"}
    again = command(project, "register", folder, *to)
    assert (again.code, again.facts["version"], again.facts["new"]) == (0, "nightrank/1", False)
    assert len(registry.versions()) == 1


def test_fault_78_a_series_of_which_some_is_written_gets_the_rest(elsewhere):
    tracking = Tracking(elsewhere)
    with tracking.run() as run:
        run.record("x", metrics={}, series={"loss": [3.0, 2.0]}, tags={}, artefacts={})
    with tracking.reopened(run.id, series=["loss"]) as same:
        same.record("x", metrics={}, series={"loss": [3.0, 2.0, 1.0]}, tags={}, artefacts={})
    assert [point.value for point in tracking.client.get_metric_history(run.id, "loss")] == [3.0, 2.0, 1.0]
    assert tracking.client.get_run(run.id).info.status == "FINISHED"
    with tracking.reopened("0" * 32, series=["loss"]) as another:
        another.record("x", metrics={}, series={"loss": [3.0]}, tags={}, artefacts={})
    assert another.id != run.id


def test_fault_78_a_bundle_without_its_evaluation_is_not_registered(elsewhere, project, bundle, command):
    ended = command(project, "register", str(bundle), "--set", f"output={elsewhere.output}")
    assert ended.code == 2
    assert "entry.json is missing" in ended.err
    assert command(project, "register", str(bundle)).facts["new"] is False
