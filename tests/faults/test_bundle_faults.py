"""Faults 76, 77, 78, 81 and 87: bundles that break their parsers, are damaged, fetched twice, or registered late."""

import subprocess
import time
from pathlib import Path

import pytest
import toy_ranker
import yaml

from features.errors import IntegrityError
from pipelines.registry import parsing
from pipelines.registry.bundle import load_bundle
from pipelines.stores.storage import read_json, sha256_of, write_json


@pytest.fixture
def project(trained_project, tmp_path):
    return trained_project.copy(tmp_path / "project")


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


@pytest.mark.parametrize("harm", [cyclic, astray, cut_nodes, cut, no_number, no_objective])
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
