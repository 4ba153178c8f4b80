"""The README is short, and what it shows works as it stands there."""

import re
import shlex
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import forest
import polars as pl
import pytest
from scoreboard import RESULTS, Results
from typer.main import get_command

from pipelines.base.config import load_config
from pipelines.cli.app import app
from pipelines.inputs.check import read_inputs
from pipelines.stores.storage import write_parquet

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [
    ROOT / "README.md",
    *(ROOT / folder / "README.md" for folder in ("features", "encoders", "ranker", "pipelines", "notebooks")),
    ROOT / "tests" / "benchmarks" / "README.md",
    ROOT / "tests" / "faults" / "README.md",
]
LINES, WORDS = 150, 1000


@pytest.fixture
def example(tmp_path: Path) -> Path:
    """The README's own configuration, beside tables of the shape that it describes."""
    (block,) = re.findall(r"```yaml\n(.*?)```", README, flags=re.DOTALL)
    path = tmp_path / "nightrank.yaml"
    path.write_text(block, encoding="utf-8")
    items = {"sku": ["a", "b"], "department": ["Kitchen", None], "title": ["Red mug", "Pan"], "description": ["", None]}
    write_parquet(pl.DataFrame(items), tmp_path / "items.parquet")
    at = datetime(2024, 5, 1, 12, tzinfo=UTC)
    events = {"customer": [1, 2], "sku": ["a", "b"], "action": ["click", "view"], "at": [at, at]}
    write_parquet(pl.DataFrame(events), tmp_path / "events" / "date=2024-05-01" / "part.parquet")
    return path


def test_the_readme_is_read_in_a_few_minutes() -> None:
    assert README.count("\n") <= LINES
    assert len(README.split()) <= WORDS
    assert README.count("![") >= 2


def test_the_example_for_ones_own_tables_reads_them(example: Path) -> None:
    inputs = read_inputs(load_config(example))
    assert inputs.log.items["category"].to_list() == ["Kitchen", None]
    assert inputs.log.events["gain"].to_list() == [1, 0]  # a click counts 1, a view is context
    assert not inputs.quarantine


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.parent.name)
def test_every_link_and_picture_is_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?://", target):
            continue
        path, _, heading = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        if heading:
            assert heading in _anchors(file), target


def _anchors(page: Path) -> set[str]:
    """Anchors of a page's headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.parent.name)
def test_every_command_that_is_shown_is_understood(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    blocks = "\n".join(re.findall(r"^```\w*\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE))
    shown = re.findall(r"^nightrank (.*)$", blocks, flags=re.MULTILINE) + re.findall(r"`nightrank ([^`]*)`", text)
    for line in shown:
        for part in re.sub(r"\s{2,}#.*|\s#\s.*", "", line).split(";"):
            _parse(shlex.split(part.removeprefix(" nightrank ")))


def _parse(arguments: list[str]) -> None:
    """Hold a command line against its command; D and DATE stand for a day, words in capitals for any value."""
    command: Any = get_command(app)
    while hasattr(command, "commands") and arguments:
        name, *arguments = arguments
        assert name in command.commands, f"no command {name}"
        command = command.commands[name]
    if not arguments:
        return
    values = ["2024-06-01" if part in {"D", "DATE", "DAY"} else part for part in arguments]
    command.make_context("nightrank", values, resilient_parsing=True)
    options = {name for each in command.params for name in (*each.opts, *each.secondary_opts)} | {"--help"}
    assert {part.partition("=")[0] for part in values if part.startswith("--")} <= options


def test_promises_are_linked_to_tests() -> None:
    (section,) = re.findall(r"^## What it promises\n(.*?)^## ", README, flags=re.DOTALL | re.MULTILINE)
    promises = [line for line in section.splitlines() if line.startswith("- ")]
    assert len(promises) >= 6
    for promise in promises:
        linked = re.findall(r"\]\((tests/[^)]*)\)", section[section.index(promise) :].split("\n- ")[0])
        assert linked, promise


def test_the_figures_are_those_of_the_results_file() -> None:
    rows = forest.rows_of(Results.read(ROOT / "tests" / "benchmarks" / "results" / RESULTS))
    assert forest.fill_readme(README, rows) == README
    picture = forest.PICTURE.read_text(encoding="utf-8").replace("\N{MINUS SIGN}", "-")
    assert all(row.text in picture and row.title in picture for row in rows)
