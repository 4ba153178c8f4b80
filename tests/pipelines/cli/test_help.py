"""`nightrank help`: topics are sections of the READMEs, keys come from the configuration's own descriptions."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from features.errors import IntegrityError
from pipelines.base.option_tables import filled, markdown_table
from pipelines.cli.topics import TOPICS, Topic, section, text_of

ROOT = Path(__file__).resolve().parents[3]


def test_help_lists_topics_and_commands(command):
    ended = command(None, "help")
    assert ended.code == 0
    for name in (*(topic.name for topic in TOPICS), "config", "train", "click-model"):
        assert name in ended.out
    assert ended.err == ""


@pytest.mark.parametrize("topic", TOPICS, ids=lambda topic: topic.name)
def test_a_topic_is_a_section_of_a_readme(topic, command):
    text = text_of(topic)
    assert text.lstrip("# ").startswith(topic.heading)
    assert len(text.split()) > 30
    ended = command(None, "help", topic.name)
    assert ended.code == 0
    assert ended.out.rstrip("\n") == text.rstrip("\n")


def test_the_wheel_carries_the_texts_of_the_topics():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    carried = project["tool"]["setuptools"]["package-data"]
    assert {package for package, names in carried.items() if "README.md" in names} >= {
        topic.package for topic in TOPICS
    }


def test_a_topic_whose_section_is_gone_is_told():
    with pytest.raises(IntegrityError, match=r"has no section 'Nothing'\. Install nightrank again"):
        text_of(Topic("x", "A line.", "features", "Nothing"))


def test_a_section_ends_at_the_next_heading_of_its_level_or_above():
    text = "# A\n\n## B\none\n```\n# no heading\n```\n### C\ntwo\n## D\nthree\n# E\n"
    assert section(text, "B") == "## B\none\n```\n# no heading\n```\n### C\ntwo\n"
    assert section(text, "D") == "## D\nthree\n"
    assert section(text, "C") == "### C\ntwo\n"
    assert section(text, "no heading") is None


def test_a_section_is_printed_without_the_marks_of_generated_tables():
    assert section("## A\n<!-- config: x -->\n| a |\n<!-- /config -->\n", "A") == "## A\n| a |\n"


def test_help_config_prints_sections_and_keys(command):
    assert "ranker             The ranker: LambdaMART" in command(None, "help", "config").out
    ended = command(None, "help", "config", "ranker.network")
    assert (ended.code, ended.out) == (0, markdown_table("ranker.network"))


def test_help_of_a_command_is_its_help(command):
    ended = command(None, "help", "promote")
    assert ended.code == 0
    assert "Usage: nightrank promote" in ended.out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("help", "confg"), "no topic and no command 'confg'. Did you mean 'config'?"),
        (("help", "rollbck"), "Did you mean 'rollback'?"),
        (("help", "zzz"), "`nightrank help` lists them"),
        (("help", "config", "ranker.netwrk"), "has no key 'ranker.netwrk'. Did you mean 'ranker.network'?"),
        (("help", "train", "ranker"), "only `nightrank help config` takes a second word"),
    ],
)
def test_what_there_is_no_help_on_names_the_nearest(words, says, command):
    ended = command(None, *words)
    assert (ended.code, ended.out) == (2, "")
    assert says in ended.err


@pytest.mark.parametrize("words", [["help"], ["help", "config", "ranker"]])
def test_help_imports_no_model(words):
    code = (
        f"import sys; sys.argv[1:] = {words!r}\n"
        "from pipelines.cli.app import app\n"
        "try: app()\n"
        "except SystemExit as ended: assert not ended.code\n"
        "heavy = {'torch', 'mlflow', 'lightgbm', 'transformers', 'pytorch_lightning'} & set(sys.modules)\n"
        "sys.exit(', '.join(sorted(heavy)) or 0)"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize("path", sorted(ROOT.glob("*/README.md")), ids=lambda path: path.parent.name)
def test_tables_of_options_in_a_readme_are_current(path):
    text = path.read_text(encoding="utf-8")
    assert filled(text) == text, "write them anew with: make readme"
