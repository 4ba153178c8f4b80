"""What is live: the pointer moves to the same day or a later one, and never back by itself."""

import json
from contextlib import contextmanager, nullcontext
from datetime import date

import polars as pl
import pytest

from features.errors import BlockedError, ConfigError, IntegrityError, TryAgainError
from pipelines.stores.publish import (
    Attempt,
    journal_of,
    last_token,
    live_day,
    published,
    published_attempts,
    published_on,
)
from pipelines.stores.served import last_good, mend_pointer, served


@pytest.fixture
def attempt(tmp_path):
    """A complete attempt of a day."""

    def make(name):
        made = Attempt(tmp_path, name)
        made.write("shard-00000", pl.DataFrame({"user_id": [name]}))
        made.write("fallback", pl.DataFrame({"rank": [1]}))
        made.finish(["shard-00000", "fallback"], {"date": name[:10]})
        return made

    return make


def test_nothing_is_live_before_anything_was_published(tmp_path):
    assert live_day(tmp_path) is None
    assert published(tmp_path) is None


def test_fault_49_an_earlier_day_never_replaces_a_later_one(attempt, tmp_path):
    night, past = attempt("2024-02-19-a"), attempt("2024-02-18-b")
    assert past.publish()
    assert night.publish()
    pointer = (tmp_path / "published.json").read_bytes()
    assert not past.publish()
    assert not attempt("2023-12-31-c").publish()
    assert (tmp_path / "published.json").read_bytes() == pointer
    assert live_day(tmp_path) == date(2024, 2, 19)
    assert published(tmp_path).manifest["date"] == "2024-02-19"


def test_a_later_attempt_of_the_same_day_and_a_later_day_go_live(attempt, tmp_path):
    first, second = attempt("2024-02-19-a"), attempt("2024-02-19-b")
    assert first.publish()
    assert second.publish()
    assert not second.publish()  # it is live already
    assert first.publish()  # an item is no longer blocked, say
    assert attempt("2024-02-20-a").publish()
    assert live_day(tmp_path) == date(2024, 2, 20)


def test_a_live_attempt_that_lost_its_manifest_is_not_the_one_that_went_live(attempt):
    night = attempt("2024-02-19-a")
    night.publish()
    manifest = (night.folder / "manifest.json").read_bytes()
    (night.folder / "manifest.json").unlink()
    assert night.is_live
    assert night.would_go_live()
    (night.folder / "manifest.json").write_bytes(manifest)
    assert not night.would_go_live()
    assert not night.publish()


@pytest.mark.parametrize("pointer", [{}, [], {"attempt": ""}, {"attempt": "../2024-02-19-a"}, {"attempt": "night"}])
def test_a_pointer_to_no_attempt_is_damaged(pointer, attempt, tmp_path):
    night = attempt("2024-02-19-a")
    (tmp_path / "published.json").write_text(json.dumps(pointer), encoding="utf-8")
    for follow in (night.publish, lambda: live_day(tmp_path), lambda: published(tmp_path)):
        with pytest.raises(IntegrityError, match="names no attempt folder"):
            follow()


def actions(root):
    return [(entry["action"], entry["attempt"]) for entry in journal_of(root)]


def test_the_journal_says_what_went_live_and_what_was_published_for_its_own_date(attempt, tmp_path):
    night, past = attempt("2024-02-19-a"), attempt("2024-02-18-b")
    for _ in range(2):  # and running them again says nothing more
        night.publish(facts={"version": "shop/1"})
        past.publish()
    assert actions(tmp_path) == [("live", night.name), ("dated", past.name)]
    assert journal_of(tmp_path)[0]["version"] == "shop/1"
    assert published_attempts(tmp_path) == [night]
    assert published_on(tmp_path, date(2024, 2, 18)) == [past]


def test_a_kill_between_pointer_and_journal_is_mended_by_the_next_run(attempt, tmp_path):
    night = attempt("2024-02-19-a")
    night.publish()
    (tmp_path / "journal.jsonl").unlink()
    assert not night.publish()
    assert actions(tmp_path) == [("live", night.name)]


def without_last_line(path):
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join(lines[:-1]), encoding="utf-8")
    return json.loads(lines[-1])


BLOCKED = {"catalogue": "half of it is off sale"}


@pytest.mark.parametrize("ending", ["", '{"action": "li'])
def test_what_a_kill_kept_from_the_journal_is_read_from_the_pointer_and_appended_by_the_next_command(
    ending, attempt, tmp_path
):
    first, night, later = attempt("2024-02-18-a"), attempt("2024-02-19-a"), attempt("2024-02-20-a")
    first.publish()
    night.publish(blocked=BLOCKED, reason="the autumn range ended", facts={"token": 7})
    journal = tmp_path / "journal.jsonl"
    lost = without_last_line(journal)
    with journal.open("a", encoding="utf-8") as file:
        file.write(ending)
    assert lost.items() >= {"forced": ["catalogue"], "reason": "the autumn range ended", "token": 7}.items()
    assert journal_of(tmp_path)[1:] == [lost]
    assert last_token(tmp_path) == 7
    assert published_attempts(tmp_path) == [first]  # what was forced is compared with by no night
    later.publish()
    assert journal_of(tmp_path)[1] == lost
    assert actions(tmp_path) == [("live", first.name), ("live", night.name), ("live", later.name)]


def test_going_back_that_is_killed_before_the_journal_is_known_too(attempt, tmp_path):
    past, night = attempt("2024-02-18-a"), attempt("2024-02-19-a")
    past.publish()
    night.publish()
    past.go_back("wrong prices")
    without_last_line(tmp_path / "journal.jsonl")
    assert night.is_withdrawn
    assert not night.publish()
    assert json.loads((tmp_path / "journal.jsonl").read_text().splitlines()[-1])["reason"] == "wrong prices"


def test_what_was_gone_back_from_returns_only_with_a_reason_and_another_attempt_by_itself(attempt, tmp_path):
    past, night = attempt("2024-02-18-a"), attempt("2024-02-19-a")
    past.publish()
    night.publish()
    past.go_back("wrong prices")
    journal = (tmp_path / "journal.jsonl").read_bytes()
    assert not night.publish()
    assert live_day(tmp_path) == past.day
    assert (tmp_path / "journal.jsonl").read_bytes() == journal
    assert attempt("2024-02-19-b").publish()
    assert not night.publish()  # the prices are wrong as ever
    assert night.publish(reason="the prices were right")
    assert journal_of(tmp_path)[-1]["reason"] == "the prices were right"
    assert not night.is_withdrawn
    assert night in published_attempts(tmp_path)


def test_a_past_day_that_stands_in_the_journal_does_not_go_live_after_somebody_went_back(attempt, tmp_path):
    first, past, night = attempt("2024-02-17-a"), attempt("2024-02-18-a"), attempt("2024-02-19-a")
    first.publish()
    night.publish()
    past.publish()
    first.go_back("wrong prices")
    assert not past.publish()
    assert live_day(tmp_path) == first.day


def test_a_blocked_night_goes_live_with_a_reason_alone(attempt, tmp_path):
    night = attempt("2024-02-19-a")
    with pytest.raises(BlockedError, match="2024-02-19 does not go live: catalogue: half of it is off sale"):
        night.publish(blocked=BLOCKED)
    assert (live_day(tmp_path), journal_of(tmp_path)) == (None, [])
    assert night.publish(blocked=BLOCKED, reason="the autumn range ended")


def test_going_back_within_the_guard_makes_a_blocked_past_day_a_night_that_is_refused(attempt, tmp_path):
    first, past, night = attempt("2024-02-17-a"), attempt("2024-02-18-a"), attempt("2024-02-19-a")
    first.publish()
    night.publish()

    @contextmanager
    def guard():
        first.go_back("wrong prices")  # after it was decided that the night is a past one
        yield

    with pytest.raises(BlockedError, match="2024-02-18 does not go live"):
        past.publish(guard=guard(), blocked=BLOCKED)
    assert live_day(tmp_path) == first.day


def test_going_back_to_a_day_that_audits_block_or_never_saw_needs_force(attempt, tmp_path):
    past, older, night = attempt("2024-02-18-a"), attempt("2024-02-17-a"), attempt("2024-02-19-a")
    night.publish()
    past.publish(blocked=BLOCKED)
    older.publish()
    assert journal_of(tmp_path)[1]["blocked"] == ["catalogue"]
    with pytest.raises(BlockedError, match="audits block them \\('catalogue'\\)"):
        past.go_back("wrong prices")
    assert live_day(tmp_path) == night.day
    assert past.go_back("wrong prices", although_blocked=True)
    assert journal_of(tmp_path)[-1]["forced"] == ["catalogue"]
    assert published_attempts(tmp_path) == [night]
    assert older.go_back("worse")  # which passed its audits
    assert "forced" not in journal_of(tmp_path)[-1]
    entries = [{k: v for k, v in entry.items() if k != "blocked"} for entry in journal_of(tmp_path)[:3]]
    (tmp_path / "journal.jsonl").write_text("".join(f"{json.dumps(entry)}\n" for entry in entries))
    with pytest.raises(BlockedError, match="never audited"):  # as an earlier version wrote it
        past.go_back("wrong prices")


def test_a_night_that_was_forced_live_is_no_way_back_without_force(attempt):
    forced, night = attempt("2024-02-18-a"), attempt("2024-02-19-a")
    forced.publish(blocked=BLOCKED, reason="the autumn range ended")
    night.publish()
    with pytest.raises(BlockedError, match="catalogue"):
        forced.go_back("wrong prices")


def test_a_pointer_of_an_earlier_version_carries_no_entry(attempt, tmp_path):
    night = attempt("2024-02-19-a")
    night.publish()
    pointer = json.loads((tmp_path / "published.json").read_text())
    (tmp_path / "published.json").write_text(json.dumps({k: v for k, v in pointer.items() if k != "entry"}))
    assert len(journal_of(tmp_path)) == 1
    (tmp_path / "journal.jsonl").unlink()
    assert published_attempts(tmp_path) == [night]


def test_an_entry_after_one_that_was_cut_off_is_not_lost(attempt, tmp_path):
    night = attempt("2024-02-19-a")
    night.publish()
    with (tmp_path / "journal.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"action": "li')
    later = attempt("2024-02-20-a")
    later.publish()
    assert actions(tmp_path) == [("live", night.name), ("live", later.name)]


def test_what_may_not_be_published_any_more_moves_nothing(attempt, tmp_path):
    night = attempt("2024-02-19-a")

    @contextmanager
    def refusal():
        raise TryAgainError("passed over")
        yield

    with pytest.raises(TryAgainError, match="passed over"):
        night.publish(guard=refusal())
    assert live_day(tmp_path) is None
    assert journal_of(tmp_path) == []


def test_going_back_is_journaled_and_the_next_night_goes_live_as_usual(attempt, tmp_path):
    past, night = attempt("2024-02-18-a"), attempt("2024-02-19-a")
    past.publish(facts={"version": "shop/1", "cutoff": "2024-02-18T00:00:00+00:00"})
    night.publish()
    assert past.go_back("wrong prices")
    assert live_day(tmp_path) == date(2024, 2, 18)
    assert not past.go_back("wrong prices")  # it is live already
    last = journal_of(tmp_path)[-1]
    assert last.items() >= {"action": "back", "reason": "wrong prices", "version": "shop/1"}.items()
    assert last["cutoff"] == "2024-02-18T00:00:00+00:00"
    assert published_attempts(tmp_path) == [past, night]  # audits compare with what is live
    assert not past.publish()
    assert attempt("2024-02-20-a").publish()
    assert len(journal_of(tmp_path)) == 4


def test_going_back_to_what_is_damaged_is_refused(attempt, tmp_path):
    past, night = attempt("2024-02-18-a"), attempt("2024-02-19-a")
    past.publish()
    night.publish()
    (past.folder / "shard-00000.parquet").write_bytes(b"")
    with pytest.raises(IntegrityError, match="missing or altered"):
        past.go_back("wrong prices")
    assert live_day(tmp_path) == date(2024, 2, 19)


def test_of_a_date_the_live_attempt_comes_first_and_then_the_latest(attempt, tmp_path):
    first, second, past = attempt("2024-02-19-a"), attempt("2024-02-19-b"), attempt("2024-02-18-a")
    for each in (past, first, second):
        each.publish()
    assert published_on(tmp_path, date(2024, 2, 19)) == [second, first]
    first.go_back("wrong prices")
    assert published_on(tmp_path, date(2024, 2, 19)) == [first, second]
    with pytest.raises(
        ConfigError, match=r"nothing was published for 2024-02-17\. There are '2024-02-19', '2024-02-18'"
    ):
        published_on(tmp_path, date(2024, 2, 17))


def test_an_attempt_that_was_never_published_is_of_no_date(attempt, tmp_path):
    attempt("2024-02-19-a")
    with pytest.raises(ConfigError, match="Nothing was published yet"):
        published_on(tmp_path, date(2024, 2, 19))


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damaged", ["shard-00000.parquet", "fallback.parquet", "manifest.json"])
def test_fault_76_where_what_is_live_is_damaged_the_last_good_rankings_are_served(damaged, attempt, tmp_path):
    past, night = attempt("2024-02-18-a"), attempt("2024-02-19-a")
    assert past.publish()
    assert night.publish()
    assert served(tmp_path).damage is None
    flip(night.folder / damaged)
    instead = served(tmp_path)
    assert instead.attempt == past
    assert night.name in instead.damage
    assert last_good([night, past]).attempt == past
    flip(past.folder / "shard-00000.parquet")
    with pytest.raises(IntegrityError, match=night.name):
        served(tmp_path)
    with pytest.raises(IntegrityError, match=night.name):
        last_good([night, past])


def test_fault_76_a_pointer_whose_hash_is_damaged_still_serves_what_it_names(attempt, tmp_path):
    night = attempt("2024-02-19-a")
    night.publish()
    pointer = json.loads((tmp_path / "published.json").read_text(encoding="utf-8"))
    pointer["manifest_sha256"] = "0" * 64
    (tmp_path / "published.json").write_text(json.dumps(pointer), encoding="utf-8")
    assert served(tmp_path).attempt == night
    assert served(tmp_path).damage is not None


POINTERS = ["{", "[]", '{"attempt": "night"}', '{"attempt": "2034-02-19-a", "manifest_sha256": "0"}']


@pytest.mark.parametrize("pointer", POINTERS)
def test_fault_76_a_damaged_pointer_names_the_last_good_rankings_again(pointer, attempt, tmp_path):
    past, night = attempt("2024-02-18-a"), attempt("2024-02-19-a")
    past.publish()
    night.publish()
    assert mend_pointer(tmp_path, nullcontext()) is None
    (tmp_path / "published.json").write_text(pointer, encoding="utf-8")
    assert served(tmp_path).attempt == night
    assert published_on(tmp_path, date(2024, 2, 18)) == [past]
    assert str(tmp_path / "published.json") in mend_pointer(tmp_path, nullcontext())
    assert published(tmp_path).attempt == night
    assert actions(tmp_path) == [("live", past.name), ("live", night.name)]
    (tmp_path / "published.json").write_text(pointer, encoding="utf-8")
    flip(night.folder / "shard-00000.parquet")
    mend_pointer(tmp_path, nullcontext())
    assert published(tmp_path).attempt == past
    assert actions(tmp_path)[-1] == ("mended", past.name)
    night.drop_damaged(["shard-00000"])
    night.write("shard-00000", pl.DataFrame({"user_id": [night.name]}))
    assert night.publish()  # as soon as it is whole again


def test_fault_76_a_damaged_pointer_with_nothing_behind_it_is_removed(tmp_path):
    (tmp_path / "published.json").write_text("{", encoding="utf-8")
    assert mend_pointer(tmp_path, nullcontext()) is not None
    assert published(tmp_path) is None


def test_fault_76_a_damaged_part_is_made_again_and_a_damaged_manifest_written_anew(attempt, tmp_path):
    night = attempt("2024-02-19-a")
    night.publish()
    before = {path.name: path.read_bytes() for path in night.folder.iterdir()}
    parts = ["shard-00000", "fallback"]
    assert night.drop_damaged(parts) == []
    flip(night.folder / "shard-00000.parquet")
    flip(night.folder / "fallback.json")
    assert night.drop_damaged(parts) == parts
    assert not night.has("shard-00000")
    flip(night.folder / "manifest.json")
    night.write("shard-00000", pl.DataFrame({"user_id": [night.name]}))
    night.write("fallback", pl.DataFrame({"rank": [1]}))
    assert night.finish(parts, {"date": "2024-02-19"})
    assert {path.name: path.read_bytes() for path in night.folder.iterdir()} == before
    assert not night.finish(parts, {"date": "2024-02-19"}, remarks={"degraded": "the server was down"})
    assert published(tmp_path).attempt == night
