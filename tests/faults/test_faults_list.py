"""The list of faults names every test that holds one, and no other."""

import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
NAMED = re.compile(r"^(?:def )?(test_faults?_((?:and_|\d+_)+)\w*)(?=\(| = )", re.MULTILINE)


def test_the_list_is_that_of_the_tests():
    held = {
        (number, path.relative_to(TESTS).as_posix(), name)
        for path in TESTS.rglob("test_*.py")
        for name, numbers in NAMED.findall(path.read_text(encoding="utf-8"))
        for number in re.findall(r"\d+", numbers)
    }
    rows = re.findall(
        r"^\| (\d+) \|.*\| (.*) \|$", (TESTS / "faults/README.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    listed = {(number, path, name) for number, tests in rows for path, name in re.findall(r"`(\S+)`: `(\w+)`", tests)}
    assert [int(number) for number, _ in rows] == list(range(1, len(rows) + 1))
    assert listed == held
