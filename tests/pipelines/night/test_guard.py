"""Nights whose inputs went wrong on the way: each is blocked by name, and what was live stays live."""

import json
import re
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from pipelines.night.guard import Guard
from pipelines.stores.journal import journal_of
from pipelines.stores.publish import published, published_attempts
from pipelines.stores.storage import sha256_of
from pipelines.verbs.project import write_day


@pytest.fixture(scope="module")
def after_a_night(trained_project, tmp_path_factory):
    """The project with one published night, and the next day's events delivered."""
    from typer.testing import CliRunner

    from pipelines.cli.app import app

    project = trained_project.copy(tmp_path_factory.mktemp("night") / "project")
    ended = CliRunner().invoke(app, ["score", "--config", str(project.path), "--date", str(project.day)])
    assert ended.exit_code == 0, ended.stderr
    write_day(project.dataset, project.folder, project.day)
    return project


@pytest.fixture
def project(after_a_night, tmp_path):
    return after_a_night.copy(tmp_path / "project")


@pytest.fixture
def night(project, command):
    return lambda *arguments: command(project, "score", "--date", str(project.day + timedelta(days=1)), *arguments)


def rewrite(path: Path, change) -> None:
    change(pl.read_parquet(path)).write_parquet(path)


def items(project, change):
    rewrite(project.folder / "items.parquet", change)


def days(project) -> list[Path]:
    return sorted((project.folder / "events").glob("date=*"))


def off_sale(project, *, but):
    past = pl.lit("2024-01-01T00:00:00Z").str.to_datetime(time_zone="UTC")
    until = pl.when(pl.int_range(pl.len()) < but).then(None).otherwise(past)
    items(project, lambda table: table.with_columns(available_until=until))


def textless(table: pl.DataFrame) -> pl.DataFrame:
    return table.with_columns(title=pl.lit(None, pl.String), description=pl.lit(None, pl.String))


def lose(project, kept):
    """Delete the folders of days that are not kept, by their position from the last, which is 0."""
    for position, folder in enumerate(reversed(days(project))):
        if not kept(position):
            for file in folder.iterdir():
                file.unlink()
            folder.rmdir()


def thin(project, share):
    (file,) = days(project)[-1].glob("*.parquet")
    rewrite(file, lambda table: table.sample(fraction=share, seed=0))


def without_users(project):
    gone = {f"u{number:06d}" for number in range(0, 60, 3)}
    for folder in days(project):
        for file in folder.glob("*.parquet"):
            rewrite(file, lambda table: table.filter(~pl.col("user_id").is_in(sorted(gone))))
    path = project.folder / "users.parquet"
    rewrite(path, lambda table: table.filter(~pl.col("user_id").is_in(sorted(gone))))


def without_clicks(project):
    (file,) = days(project)[-1].glob("*.parquet")
    rewrite(file, lambda table: table.filter(pl.col("event") != "click"))


WRONG = {
    "all but five items off sale": (lambda project: off_sale(project, but=5), {"catalogue"}),
    "half of the catalogue off sale": (lambda project: off_sale(project, but=60), {"catalogue"}),
    "all titles null": (lambda project: items(project, textless), {"texts"}),
    "all days but one lost": (lambda project: lose(project, lambda position: position == 0), {"log", "past_days"}),
    "three days lost": (lambda project: lose(project, lambda position: position not in {3, 4, 5}), {"past_days"}),
    "yesterday missing": (lambda project: lose(project, lambda position: position != 0), {"eve"}),
    "a tenth of yesterday": (lambda project: thin(project, 0.1), {"eve"}),
    "a third of the users lost": (without_users, {"users"}),
    "clicks missing": (without_clicks, {"event_types"}),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_fault_65_what_went_wrong_is_blocked_by_name(wrong, project, night):
    damage, audits = WRONG[wrong]
    live = published(Path(project.config.output) / "rankings").attempt
    damage(project)
    ended = night()
    assert ended.code == 11, ended.err
    blocked = set(re.findall(r"(\w+): ", ended.err.splitlines()[-1]))
    assert audits <= blocked
    assert published(Path(project.config.output) / "rankings").attempt == live


def test_an_ordinary_second_night_goes_live(project, night):
    ended = night()
    assert ended.code == 0, ended.err
    assert ended.facts["pointer_moved"]
    assert "blocked" not in ended.facts["audits"].values()
    root = Path(project.config.output) / "rankings"
    assert [attempt.day for attempt in published_attempts(root)] == [project.day + timedelta(days=1), project.day]
    kept = json.loads((Path(ended.facts["attempt"]) / "audits.json").read_text())
    assert {finding["audit"]: finding["verdict"] for finding in kept} == ended.facts["audits"]


def test_a_blocked_night_is_published_with_a_reason_and_no_later_night_is_compared_with_it(project, night):
    off_sale(project, but=60)
    assert night("--force").code == 2
    ended = night("--force", "--reason", "the autumn range ended")
    assert ended.code == 0, ended.err
    root = Path(project.config.output) / "rankings"
    entry = json.loads((root / "journal.jsonl").read_text().splitlines()[-1])
    assert entry["reason"] == "the autumn range ended"
    assert "catalogue" in entry["forced"]
    assert published(root).attempt.day == project.day + timedelta(days=1)
    assert [attempt.day for attempt in published_attempts(root)] == [project.day]


def test_an_audit_that_is_off_or_warns_stops_nothing(project, night):
    off_sale(project, but=60)
    project.change(night={"audits": {"catalogue": "off", "items_shown": "warn", "log": "warn", "past_days": "warn"}})
    ended = night()
    assert ended.code == 0, ended.err
    assert "catalogue" not in ended.facts["audits"]


def test_a_past_day_is_audited_beside_what_is_live_and_going_back_to_a_blocked_one_needs_force(project, night, command):
    assert night().facts["pointer_moved"]
    off_sale(project, but=60)
    past = command(project, "score", "--date", str(project.day))  # again, by another catalogue
    assert (past.code, past.facts["pointer_moved"]) == (0, False), past.err
    assert past.facts["audits"]["catalogue"] == "blocked"
    assert "audits block this night, which is published for its own date alone" in past.err
    root = Path(project.config.output) / "rankings"
    assert "catalogue" in journal_of(root)[-1]["blocked"]
    pointer = (root / "published.json").read_bytes()
    back = ("live", "--set", str(project.day), "--reason", "wrong prices")
    refused = command(project, *back)
    assert (refused.code, refused.out) == (11, "")
    assert "audits block them (" in refused.err
    assert (root / "published.json").read_bytes() == pointer
    assert command(project, *back, "--force").facts.items() >= {"live": str(project.day), "pointer_moved": True}.items()


def test_the_night_that_somebody_went_back_from_is_run_again_and_stays_where_it_is(project, night, command):
    assert night().facts["pointer_moved"]
    assert command(project, "live", "--set", str(project.day), "--reason", "wrong prices").code == 0
    again = night()
    assert again.facts.items() >= {"pointer_moved": False, "live": str(project.day), "shards_written": 0}.items()
    assert "somebody went back from it on purpose" in again.err
    assert night("--set", "night.top=9").facts["pointer_moved"]  # another attempt
    command(project, "live", "--set", str(project.day), "--reason", "still wrong")
    assert night("--force", "--reason", "the prices were right").facts["pointer_moved"]


def test_going_back_while_a_past_day_is_written_lets_no_blocked_list_go_live(project, night, command, monkeypatch):
    assert night().facts["pointer_moved"]
    off_sale(project, but=60)
    audited = Guard.audited

    def interrupted(*arguments):
        findings = audited(*arguments)
        command(project, "live", "--set", str(project.day), "--reason", "wrong prices")
        return findings

    monkeypatch.setattr(Guard, "audited", interrupted)
    ended = command(project, "score", "--date", str(project.day))
    assert ended.code == 11
    assert f"the night of {project.day} does not go live: catalogue" in ended.err


def test_measures_that_were_altered_are_made_again_and_compared_with_by_no_night(project, night):
    last = published(Path(project.config.output) / "rankings").attempt
    path = last.folder / "measures.json"
    assert last.recorded("measures.json") == sha256_of(path)
    path.write_text(path.read_text().replace('"items": 120', '"items": 12000'))
    ended = night()
    assert ended.facts["audits"]["catalogue"] == "not judged"
    assert "measures that cannot be read are left out of the audits" in ended.err
    own = Path(ended.facts["attempt"]) / "measures.json"
    content = own.read_bytes()
    own.write_bytes(content.replace(b'"users": 60', b'"users": 90'))
    assert own.read_bytes() != content
    assert night().code == 0
    assert own.read_bytes() == content


def cut_off(attempt):
    path = attempt.folder / "shard-00000.parquet"
    path.write_bytes(path.read_bytes()[:100])


def with_item_numbers(attempt):
    manifest = attempt.verify()
    facts = {name: fact for name, fact in manifest.items() if name != "parts"}
    (attempt.folder / "manifest.json").unlink()
    shard = pl.read_parquet(attempt.folder / "shard-00000.parquet")
    attempt.write("shard-00000", shard.with_columns(item_id=pl.int_range(pl.len())))
    attempt.finish(list(manifest["parts"]), facts)


@pytest.mark.parametrize("change", [cut_off, with_item_numbers])
def test_lists_of_the_last_night_that_do_not_compare_stop_no_night(change, project, night):
    change(published(Path(project.config.output) / "rankings").attempt)
    ended = night()
    assert ended.code == 0, ended.err
    assert ended.facts["audits"]["overlap"] == "not judged"
