"""The README of pipelines: its length, its links, its table of exit codes and of verbs, against what is there."""

import re
from pathlib import Path

from typer.main import get_command

from features.errors import BlockedError, ConfigError, ContractError, IntegrityError, TryAgainError
from pipelines.base.config import Config
from pipelines.cli.app import app

FOLDER = Path(__file__).resolve().parents[2] / "pipelines"
README = (FOLDER / "README.md").read_text(encoding="utf-8")
WRITTEN = re.sub(r"(<!-- config: [\w.]+ -->).*?(<!-- /config -->)", r"\1\2", README, flags=re.DOTALL)


def test_it_is_short_and_its_links_resolve():
    assert len(WRITTEN.splitlines()) <= 355
    for page in (FOLDER / "README.md", FOLDER / "registry" / "README.md"):
        targets = re.findall(r"\]\(([^)#]+)[)#]", page.read_text(encoding="utf-8"))
        assert targets
        assert [target for target in targets if not (page.parent / target).exists()] == []


def test_every_exit_code_is_in_the_table():
    listed = {int(code) for row in re.findall(r"^\| ([\d, ]+) \|", README, re.MULTILINE) for code in row.split(",")}
    kinds = (ConfigError, ContractError, BlockedError, IntegrityError, TryAgainError)
    assert listed == {0, 1, 130, 143, *(kind.exit_code for kind in kinds)}


def test_every_verb_is_in_the_table():
    rows = re.search(r"^\| verb \|.*?\n\n", README, re.DOTALL | re.MULTILINE)[0]
    assert [verb for verb in get_command(app).commands if f"`{verb}" not in rows] == []


def test_generated_tables_are_of_sections_that_there_are():
    sections = re.findall(r"<!-- config: ([\w.]+) -->", README)
    assert sections
    assert {section.partition(".")[0] for section in sections} <= set(Config.model_fields)
