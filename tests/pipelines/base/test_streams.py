"""Fault 82: who reads what a command says may go away, and the work has its own exit code all the same."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
CODE = """
import sys
from pipelines.cli import app as cli
from pipelines.base.progress import say
from pipelines.base.report import result, show

def work():
    for _ in range(300):
        say("read", rows=1)
        show("\\N{SNOWMAN} [x]")
    result({"done": "\\N{SNOWMAN}" * 5000})
    if "blocked" in sys.argv:
        from features.errors import BlockedError
        raise BlockedError("no")

cli.app = lambda **_: work()
cli.main()
"""


def code_of(shell: str) -> tuple[int, str]:
    """The exit code of a command in a shell line (`$RUN`), and what was seen."""
    line = shell.replace("$RUN", '"$0" -c "$1"')
    ended = subprocess.run(
        ["bash", "-c", line, sys.executable, CODE],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii"},
    )
    return ended.returncode, ended.stdout


@pytest.mark.parametrize(
    ("shell", "code"),
    [
        ("$RUN 2>&1 | true; exit ${PIPESTATUS[0]}", 0),
        ("$RUN blocked 2>&1 | true; exit ${PIPESTATUS[0]}", 11),
        ("$RUN >/dev/full 2>/dev/full", 0),
        ("$RUN >&- 2>&- <&-", 0),
        ("$RUN blocked >/dev/full 2>&-", 11),
    ],
)
def test_fault_82_the_exit_code_is_the_works_own(shell, code):
    assert code_of(shell)[0] == code


def test_a_result_is_whole_json_under_a_narrow_encoding():
    code, told = code_of("$RUN 2>/dev/null")
    assert code == 0
    assert json.loads(told)["done"] == "\N{SNOWMAN}" * 5000
