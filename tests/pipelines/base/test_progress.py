"""What is told on the way: valid JSON elsewhere than on a terminal, and nothing interpreted there."""

import json
import sys

import pytest
from rich.table import Table
from rich.text import Text

from pipelines.base import report
from pipelines.base.progress import json_line, say, task

ODD = "[bold]x[/bold] [/] [red] \x1b[31m \x9b31m \u202e :smile: a\nb"


def test_numbers_that_are_not_finite_are_null():
    facts = {"a": float("nan"), "b": [float("inf"), {"c": float("-inf")}], "d": (1.5, None)}
    assert json.loads(json_line(facts)) == {"a": None, "b": [None, {"c": None}], "d": [1.5, None]}


def test_a_line_is_one_line_without_control_characters_and_says_the_same():
    line = json_line({"name": ODD + "\x7f", "uri": "http://u:p@h"}, ascii_only=False)
    assert line.isprintable()
    assert json.loads(line) == {"name": ODD + "\x7f", "uri": "http://h"}


@pytest.mark.parametrize("terminal", [True, False])
def test_fault_85_names_are_shown_and_not_interpreted(terminal, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    monkeypatch.setenv("NO_COLOR", "1")
    table = Table(ODD, title=ODD, caption=ODD)
    table.add_row(ODD)
    table.add_row(report.plain(ODD))
    report.show(table, ODD, Text(ODD))
    say(ODD, **{ODD: ODD})
    with task(ODD, 1, ODD) as advance:
        advance(1, note=ODD)
    told = capsys.readouterr().err
    assert "[bold]x[/bold] [/] [red]" in told
    assert ":smile:" in told
    assert not [odd for odd in ("\x1b[31m", "\x9b", "\u202e") if odd in told]
