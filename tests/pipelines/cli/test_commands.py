"""Comfort: examples that parse, a closing line, completion in three shells, colours that can be switched off."""

import inspect
import json
import os
import pty
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from pipelines.cli.app import app
from pipelines.cli.commands import Closing, next_command

ROOT = Path(__file__).resolve().parents[3]
MAIN = [sys.executable, "-c", "import sys; sys.argv[0] = 'nightrank'; from pipelines.cli.app import main; main()"]
COLOUR = re.compile(r"\x1b\[[\d;]*\b(3[0-8]|9[0-7]|4[0-8])[\d;]*m")


def leaves(group, names=()):
    """Every command with the words that lead to it."""
    for name, one in group.commands.items():
        if hasattr(one, "commands"):
            yield from leaves(one, (*names, name))
        else:
            yield (*names, name), one


COMMANDS = dict(leaves(get_command(app)))


def examples_of(command):
    title, *lines = command.epilog.splitlines()
    assert title == "Examples:"
    return [line.strip() for line in lines]


def on_a_terminal(*arguments, code=None, **environment):
    """What a process writes whose output and errors are a terminal of 100 columns."""
    ours, theirs = pty.openpty()
    words = [*MAIN, *arguments] if code is None else [sys.executable, "-c", code]
    inherited = {key: value for key, value in os.environ.items() if key != "NO_COLOR"}
    environment = inherited | {"COLUMNS": "100", "TERM": "xterm-256color"} | environment
    process = subprocess.Popen(words, cwd=ROOT, env=environment, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    parts = []
    try:
        while part := os.read(ours, 65536):
            parts.append(part)
    except OSError:  # how Linux says that the other end is closed
        pass
    os.close(ours)
    assert process.wait(60) == 0
    return b"".join(parts).decode()


@pytest.mark.parametrize("names", COMMANDS)
def test_every_command_has_examples_whose_options_are_there(names):
    examples = examples_of(COMMANDS[names])
    assert examples
    for example in examples:
        program, *words = shlex.split(example)
        assert program == "nightrank"
        assert tuple(words[: len(names)]) == names
        COMMANDS[names].make_context(" ".join(names), words[len(names) :])  # refuses what it does not know


@pytest.mark.parametrize("names", COMMANDS)
def test_every_command_says_what_it_does_in_one_sentence_and_closes_with_a_line(names):
    assert re.match(r"[A-Z][a-z-]+ .*[.)]$", COMMANDS[names].help.splitlines()[0])
    if names not in {("help",), ("demo",)}:  # which end with what was asked for
        ends_with = inspect.signature(inspect.unwrap(COMMANDS[names].callback)).return_annotation
        assert ends_with in (Closing, Closing | None)  # None where what was asked for is printed alone


def test_the_command_to_go_on_with_names_the_configuration_in_use():
    assert next_command("promote", Path("nightrank.yaml")) == "nightrank promote"
    assert next_command("promote", Path("a/b.yaml")) == "nightrank promote --config a/b.yaml"


def test_a_command_ends_with_one_line_on_stderr(tmp_path, command):
    path = tmp_path / "shop.yaml"
    path.write_text("data: {items: {path: items.csv}, events: {path: events.csv}}", encoding="utf-8")
    ended = command(None, "status", "--config", str(path))
    line = json.loads(ended.err.splitlines()[-1])
    assert line.pop("seconds") >= 0
    then = f"nightrank score --date DAY --config {path}"
    assert line == {"event": "done", "what": "nothing is published yet", "next": then}


def test_a_command_that_fails_closes_with_its_error_alone(tmp_path, command):
    ended = command(None, "status", "--config", str(tmp_path / "absent.yaml"))
    assert ended.code == 2
    assert '"done"' not in ended.err


@pytest.mark.parametrize(
    ("shell", "words"),
    [
        ("bash", "complete -o default -F _nightrank_completion nightrank"),
        ("zsh", "#compdef nightrank"),
        ("fish", "complete --command nightrank"),
    ],
)
def test_the_script_of_completion_is_there_for(shell, words, command, monkeypatch):
    monkeypatch.setenv("_NIGHTRANK_COMPLETE", f"source_{shell}")
    assert words in command(None).out


@pytest.mark.parametrize(
    ("line", "completions"),
    [
        ("nightrank rol", ["rollback"]),
        ("nightrank promote --vers", ["--version"]),
        ("nightrank promote --version cha", ["champion", "challenger"]),
        ("nightrank train --set ranker.num", ["ranker.num_leaves="]),
        ("nightrank help config night.to", ["night.top"]),
        ("nightrank data sim", ["simulated"]),
    ],
)
def test_bash_completes(line, completions, command, monkeypatch):
    words = line.split(" ")
    monkeypatch.setenv("_NIGHTRANK_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "\n".join(words))
    monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
    assert command(None).out.split() == completions


def test_completion_can_be_installed(tmp_path):
    environment = os.environ | {"HOME": str(tmp_path)}
    code = f"{shlex.join(MAIN)} --install-completion; echo end"  # two commands: the shell stays its parent
    subprocess.run(["bash", "-c", code], cwd=ROOT, env=environment, check=True, capture_output=True)
    script = (tmp_path / ".bash_completions/nightrank.sh").read_text(encoding="utf-8")
    assert "_NIGHTRANK_COMPLETE=complete_bash" in script
    assert "nightrank.sh" in (tmp_path / ".bashrc").read_text(encoding="utf-8")


SHOWN = """
from rich.table import Table
from rich.text import Text
from pipelines.base import report
from pipelines.base.progress import close, say, task
table = Table("column", title="A table", style="red")
table.add_row("cell", style="green")
report.show(table, Text("cyan", style="bold cyan"))
say("read", rows=3)
with task("Working", 4, "rows") as advance:
    advance(2, note="a note")
    advance(2)
close("tried it", seconds=75, lies_in="out/x", then="nightrank promote")
"""


def test_no_color_holds_for_tables_lines_and_bars():
    assert COLOUR.search(on_a_terminal(code=SHOWN))
    plain = on_a_terminal(code=SHOWN, NO_COLOR="1")
    assert not COLOUR.search(plain)
    said = re.sub(r"\x1b\[[\d;?]*\w", "", plain)
    assert "Done: tried it in 1 min 15 s. It lies in out/x. Next: nightrank promote" in said


def test_no_color_holds_for_help_wherever_it_stands():
    assert COLOUR.search(on_a_terminal("train", "--help"))
    for words in (
        ("--no-color", "train", "--help"),
        ("train", "--help", "--no-color"),
        ("help", "config", "--no-color"),
    ):
        assert not COLOUR.search(on_a_terminal(*words))
    assert not COLOUR.search(on_a_terminal("train", "--help", NO_COLOR="1"))
