"""What is live, read by people, by programs and by schedulers; and the way back to an earlier date."""

import csv
import io
import json
import re
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from pipelines.cli.app import app
from pipelines.stores.journal import journal_of
from pipelines.stores.publish import published
from pipelines.verbs.project import write_day

README = (Path(__file__).resolve().parents[3] / "pipelines/README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def two_nights(trained_project, tmp_path_factory):
    """The project with two published nights."""
    project = trained_project.copy(tmp_path_factory.mktemp("nights") / "project")
    for when in (project.day, project.day + timedelta(days=1)):
        ended = CliRunner().invoke(app, ["score", "--config", str(project.path), "--date", str(when)])
        assert ended.exit_code == 0, ended.stderr
        write_day(project.dataset, project.folder, when)
    return project


@pytest.fixture
def project(two_nights, tmp_path):
    return two_nights.copy(tmp_path / "project")


@pytest.fixture
def read(project, command):
    return lambda *arguments: command(project, "read", *arguments)


def root(project):
    return Path(project.config.output) / "rankings"


def attempt_of(project, day):
    (folder,) = (root(project) / "attempts").glob(f"{day}-*")
    return folder


def test_what_is_live_is_shown_in_part_and_counted(read):
    ended = read()
    assert ended.code == 0
    assert ended.facts == {"date": "2024-02-26", "version": "nightrank/1", "rows": 600, "fallback": False}
    assert "Rankings of 2024-02-26" in ended.err
    assert "and 550 more rows" in ended.err


def test_each_format_holds_the_rows_of_its_date(read, project, tmp_path):
    day = str(project.day)
    shards = sorted(attempt_of(project, day).glob("shard-*.parquet"))
    rows = pl.concat(pl.read_parquet(shard) for shard in shards)
    for name in ("night.parquet", "night.csv", "night.jsonl"):
        to = tmp_path / "read" / name
        assert read("--date", day, "--to", str(to)).facts["rows"] == rows.height
    folder = tmp_path / "read"
    assert pl.read_parquet(folder / "night.parquet").equals(rows)
    assert pl.read_csv(folder / "night.csv", schema=rows.schema).equals(rows)
    lines = read("--date", day, "--format", "jsonl").out
    assert lines == (folder / "night.jsonl").read_text(encoding="utf-8")
    assert [json.loads(line) for line in lines.splitlines()] == rows.to_dicts()


def test_a_user_gets_the_own_list_and_an_unknown_one_the_fallback_which_is_said(read, project):
    live = published(root(project))
    user = live.rankings()["user_id"][0]
    own = [json.loads(line) for line in read("--user", user, "--format", "jsonl").out.splitlines()]
    assert own == live.rankings().filter(pl.col("user_id") == user).to_dicts()
    ended = read("--user", "nobody", "--format", "jsonl")
    assert "rows of the fallback list" in ended.err
    rows = [json.loads(line) for line in ended.out.splitlines()]
    assert [row["item_id"] for row in rows] == live.fallback()["item_id"].to_list()
    assert {row["user_id"] for row in rows} == {"nobody"}
    assert read("--user", "nobody").facts["fallback"] is True
    assert "nobody" not in read("--user", "nobody").err.splitlines()[0]


def test_a_user_of_a_number_is_asked_for_by_its_digits(trained_project, tmp_path, command):
    project = trained_project.copy(tmp_path / "project")
    number = pl.col("^(user_id|item_id)$").str.slice(1).cast(pl.Int32)
    for path in [*project.folder.glob("*.parquet"), *project.folder.glob("events/*/*.parquet")]:
        pl.read_parquet(path, hive_partitioning=False).with_columns(number).write_parquet(path)
    assert command(project, "score", "--date", str(project.day)).code == 0
    told = {user: command(project, "read", "--user", user).facts["fallback"] for user in ("7", "07", "7.0", "nobody")}
    assert told == {"7": False, "07": True, "7.0": True, "nobody": True}


def test_fault_40_what_spreadsheets_compute_and_terminals_interpret_is_escaped(project, read, command):
    hostile = {
        "i000001": '=HYPERLINK("http://x.example","y")',
        "i000002": "\x1b[31mred\x1b[0m",
        "i000003": "two\nlines",
        "i000004": "+1",
        "i000005": "-1",
        "i000006": "@SUM(A1)",
        "i000007": "\t=1",
        "i000008": "\r=1",
        "i000009": "\uff1d1",
        "i000010": 'a "quoted", text',
        "i000011": "\x7f\x9b31m",
    }
    rename = pl.col("item_id").replace(hostile)
    for path in [project.folder / "items.parquet", *project.folder.glob("events/*/*.parquet")]:
        pl.read_parquet(path, hive_partitioning=False).with_columns(rename).write_parquet(path)
    day = str(project.day + timedelta(days=2))
    scored = command(
        project,
        *("score", "--date", day, "--force", "--reason", "new ids", "--set", "night.top=100", "--version", "champion"),
        *("--set", "candidates.new_arrivals=100"),
    )
    assert scored.code == 0, scored.err
    shown = {*published(root(project)).rankings()["item_id"]}
    assert {*hostile.values()} <= shown

    written = read("--format", "csv").out
    cells = {row["item_id"] for row in csv.DictReader(io.StringIO(written))}
    assert len(cells) == len(shown)
    for start in "=+-@\t\r\n\uff1d":
        assert not [cell for cell in cells if cell.startswith(start)]
    assert {'\'=HYPERLINK("http://x.example","y")', "two\\nlines", "'-1", "'\\t=1", 'a "quoted", text'} <= cells
    assert all(letter.isprintable() for line in written.splitlines() for letter in line)
    lines = read("--format", "jsonl").out
    assert lines.replace("\n", "").isascii()
    assert lines.replace("\n", "").isprintable()
    assert {json.loads(line)["item_id"] for line in lines.splitlines()} == shown  # of which nothing is lost
    table = read("--set", "night.top=100").err
    assert table.replace("\n", "").isprintable()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--date", "2024-02-01"), "nothing was published for 2024-02-01. There are '2024-02-26', '2024-02-25'"),
        (("--format", "parquet"), "name it with --to FILE"),
        (("--format", "xls"), "is not one of"),
        (("--to", "night.xls"), "there is no format 'xls'"),
        (("--to", "night.csv", "--format", "table"), "goes to no file"),
    ],
)
def test_what_cannot_be_read_ends_with_2(arguments, says, read):
    ended = read(*arguments)
    assert (ended.code, ended.out) == (2, "")
    assert says in re.sub(r"\s+", " ", ended.err)


def test_before_the_first_night_there_is_nothing_to_read(trained_project, tmp_path, command):
    project = trained_project.copy(tmp_path / "project")
    ended = command(project, "read")
    assert ended.code == 2
    assert "nothing was published yet" in ended.err
    assert command(project, "status").facts == {"live": None}
    assert command(project, "status", "--max-age", "26h").code == 11


def test_of_a_date_the_last_good_rankings_are_read(project, read, command):
    eve = project.day
    first = attempt_of(project, eve)
    assert command(project, "score", "--date", str(eve), "--set", "night.top=5").code == 0
    assert read("--date", str(eve)).facts["rows"] == 300
    (second,) = [path for path in (root(project) / "attempts").glob(f"{eve}-*") if path != first]
    (second / "shard-00000.parquet").write_bytes(b"")
    ended = read("--date", str(eve))
    assert ended.facts["rows"] == 600
    assert "passed over" in ended.err
    (first / "manifest.json").unlink()
    assert read("--date", str(eve)).code == 12


def test_the_lines_of_the_readme_read_what_is_live(project, monkeypatch):
    section = re.search(r"^## Reading the rankings\n(.*?)^## ", README, re.DOTALL | re.MULTILINE)[1]
    blocks = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    assert len(blocks) == 1
    monkeypatch.chdir(project.folder)
    names = {}
    exec(blocks[0], names)
    assert names["rankings"].equals(published(root(project)).rankings())


def test_status_is_what_a_scheduler_reads(project, command):
    ended = command(project, "status")
    facts = ended.facts
    live = published(root(project))
    assert facts.keys() == {
        *("live", "version", "bundle", "published_at", "cutoff", "age_hours", "audits", "users", "rows", "folder"),
        *("damaged", "degraded", "fallback_users"),
    }
    assert facts["live"] == "2024-02-26"
    assert facts["cutoff"] == "2024-02-26T00:00:00+00:00"
    assert (facts["version"], facts["users"], facts["rows"]) == ("nightrank/1", 60, 600)
    assert facts["bundle"] == live.manifest["bundle"]
    assert facts["published_at"] == journal_of(root(project))[-1]["at"]
    assert facts["audits"]["catalogue"] == "passed"
    assert facts["age_hours"] > 24 * 365


def test_the_watchdog_is_called_by_the_age_of_the_cut_off(project, command):
    fresh = command(project, "status", "--max-age", "99999d")
    assert fresh.code == 0
    old = command(project, "status", "--max-age", "26h")
    assert old.code == 11
    assert old.facts["live"] == "2024-02-26"
    assert "whose cut-off lies" in old.err
    assert "--max-age allows 26 h 0 min" in old.err
    for wrong in ("26", "h", "1 day", "-1h"):
        assert command(project, "status", "--max-age", wrong).code == 2


def test_going_back_on_purpose_holds_until_the_next_night(project, command):
    back = command(project, "live", "--set", str(project.day), "--reason", "wrong prices")
    assert back.code == 0, back.err
    assert back.facts.items() >= {"live": "2024-02-25", "was": "2024-02-26", "pointer_moved": True}.items()
    assert command(project, "status").facts["cutoff"] == "2024-02-25T00:00:00+00:00"
    assert journal_of(root(project))[-1].items() >= {"action": "back", "reason": "wrong prices"}.items()
    again = command(project, "live", "--set", str(project.day), "--reason", "wrong prices")
    assert again.facts["pointer_moved"] is False
    assert command(project, "score", "--date", str(project.day + timedelta(days=2))).facts["pointer_moved"] is True
    assert command(project, "status").facts["live"] == "2024-02-27"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--set", "2024-02-01", "--reason", "why not"), "There are '2024-02-26', '2024-02-25'"),
        (("--set", "2024-02-25", "--reason", " "), "--reason is for the journal"),
    ],
)
def test_there_is_no_way_back_to_what_was_never_published_or_without_a_reason(arguments, says, project, command):
    pointer = (root(project) / "published.json").read_bytes()
    ended = command(project, "live", *arguments)
    assert ended.code == 2
    assert says in ended.err
    assert (root(project) / "published.json").read_bytes() == pointer
