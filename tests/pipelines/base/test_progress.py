"""What is told on the way: valid JSON elsewhere than on a terminal, and nothing interpreted there."""

import json
import re
import sys
import time

import pytest
from rich.table import Table
from rich.text import Text

from pipelines.base import report
from pipelines.base.progress import close, duration, json_line, say, task

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


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test sets: ``clock(12.0)``."""
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    return lambda seconds: now.__setitem__(0, seconds)


def test_lines_say_how_many_seconds_are_left_at_the_rate_so_far(clock, capsys):
    with task("Ranking", 40, "users") as advance:
        clock(9.0)
        advance(5)  # too soon for a line
        clock(30.0)
        advance(5)  # 10 of 40 in 30 s: the other 30 take 90 s
        clock(100.0)
        advance(30)
    first, second, last = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert first == {"event": "Ranking", "done": 10, "total": 40, "unit": "users", "eta_s": 90.0}
    assert (second["done"], second["eta_s"]) == (40, 0.0)
    assert last == {"event": "Ranking", "done": 40, "unit": "users", "seconds": 100.0}


def test_before_anything_is_done_nobody_knows_what_is_left(clock, capsys):
    with task("Ranking", 40) as advance:
        clock(11.0)
        advance(0)
    first, _ = capsys.readouterr().err.splitlines()
    assert json.loads(first)["eta_s"] is None


def test_a_bar_says_how_long_it_took_and_what_is_left(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "140")
    with task("Ranking", 40, "users") as advance:
        time.sleep(0.3)
        advance(10)
        time.sleep(0.7)
    assert re.search(r"users [01]\.\d s, about 0\.[1-9] s left", capsys.readouterr().err)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0.0 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 0 s"),
        (61.4, "1 min 1 s"),
        (3599.6, "1 h 0 min"),
        (7265, "2 h 1 min"),
    ],
)
def test_spans_of_time_in_words(seconds, words):
    assert duration(seconds) == words


def test_the_closing_line_leaves_out_what_there_is_not(capsys):
    close("verified it", seconds=1.26)
    assert json.loads(capsys.readouterr().err) == {"event": "done", "what": "verified it", "seconds": 1.3}
