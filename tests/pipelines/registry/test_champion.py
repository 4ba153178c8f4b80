"""Who is champion, whatever kills or overtakes the command that decides it: SQLite stores, and every write of each."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from small_registry import config_of, move, number, one_history

from features.errors import BlockedError, ConfigError, IntegrityError, TryAgainError
from pipelines.registry.champion import Champion
from pipelines.registry.decisions import Action, State
from pipelines.registry.registry import CHALLENGER, CHAMPION, PREVIOUS, Registry
from pipelines.verbs.promote import rollback

WRITES = {
    "create_registered_model",
    "set_registered_model_tag",
    "set_registered_model_alias",
    "delete_registered_model_alias",
}


class Killed(BaseException):
    """What no code catches, as nothing catches `kill -9`."""


class Client:
    """MLflow's client with something done before or after its k-th write.

    Args:
        client: The client.
        at: Which write, from 0 on.
        before: Done before the write.
        after: Done after it.
    """

    def __init__(self, client, at, *, before=lambda: None, after=lambda: None):
        self._client, self._at, self._before, self._after = client, at, before, after
        self.writes = []

    def __getattr__(self, name):
        method = getattr(self._client, name)
        if name not in WRITES:
            return method

        def write(*arguments, **named):
            self.writes.append((name, *arguments[1:2]))
            due = len(self.writes) == self._at + 1
            if due:
                self._before()
            answer = method(*arguments, **named)
            if due:
                self._after()
            return answer

        return write


def kill():
    raise Killed


def at_write(registry, at, **what):
    """The registry of another command, to which something happens at its k-th write."""
    other = Registry(registry.config)
    other.client = Client(registry.client, at, **what)
    return other


def promote_challenger(registry, to):
    registry.client.set_registered_model_alias("nightrank", CHALLENGER, to)
    return lambda registry: move(registry, to=to)


def killed_at_every_write(registry, when, act):
    """Let an act be killed at each of its writes, and the next command finish it.

    Args:
        registry: The registry.
        when: `before` or `after` the write.
        act: Gives what a command does, anew each time.

    Returns:
        The writes of the act when nothing killed it.
    """
    for at in range(20):
        decided = act()
        before = one_history(registry)
        command = at_write(registry, at, **{when: kill})
        try:
            decided(command)
        except Killed:
            assert number(registry, PREVIOUS) is None or number(registry, PREVIOUS) != number(registry, CHAMPION)
            standing = Champion(registry).settle()
            moves = one_history(registry)
            assert len(moves) == len(before) + (when == "after" or at > 0)
            assert standing.champion == registry.find(CHAMPION)
        else:
            return command.client.writes
    raise AssertionError("it never came to an end")


@pytest.mark.parametrize("when", ["before", "after"])
def test_fault_71_a_promotion_killed_at_any_write_is_completed_by_the_next_command(when, registry):
    """Without a trace where it was killed before its first write, else as if nothing had happened: one entry each."""
    targets = iter(["1", "2", "3", "4"] * 5)
    writes = killed_at_every_write(registry, when, lambda: promote_challenger(registry, next(targets)))
    assert [name for name, *_ in writes] == [
        "create_registered_model",
        "set_registered_model_alias",
        "set_registered_model_alias",
        "delete_registered_model_alias",
        "set_registered_model_tag",
    ]
    assert [what for _, *what in writes[1:4]] == [[CHAMPION], [PREVIOUS], [CHALLENGER]]


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before", "after"])
def test_fault_72_a_rollback_killed_at_any_write_is_completed_by_the_next_command(when, registry):
    move(registry, to="1")

    def act():
        move(registry, to=str(int(number(registry, CHAMPION)) % 4 + 1))
        return rollback

    writes = killed_at_every_write(registry, when, act)
    assert [name for name, *_ in writes] == [
        "create_registered_model",
        "delete_registered_model_alias",  # `previous`, which must not name what goes live
        "set_registered_model_alias",
        "set_registered_model_alias",
        "set_registered_model_tag",
    ]


def test_fault_72_a_rollback_does_not_repeat_itself_and_names_its_target(registry):
    for to in ("1", "2", "3"):
        move(registry, to=to)
    assert [version.number for version in rollback(registry)] == ["3", "2"]
    with pytest.raises(BlockedError, match=r"was a rollback already .*rollback nightrank/3 -> nightrank/2.*--to N"):
        rollback(registry)
    assert [version.number for version in rollback(registry, "1", reason="2 is no better")] == ["2", "1"]
    assert one_history(registry)[-1].reason == "2 is no better"
    told = len(one_history(registry))
    assert [version.number for version in rollback(registry, "1")] == ["1", "1"]  # a rerun changes nothing
    assert len(one_history(registry)) == told
    with pytest.raises(ConfigError, match="no version '9'"):
        rollback(registry, "9")


def test_the_last_entry_of_an_old_journal_counts_where_nothing_was_decided_since(registry):
    for alias, to in ((CHAMPION, "1"), (PREVIOUS, "2")):
        registry.client.set_registered_model_alias("nightrank", alias, to)
    folder = Path(registry.config.output) / "registry"
    folder.mkdir()
    (folder / "journal.jsonl").write_text('{"action": "rollback", "by": "ann", "at": "2024-01-01T00:00:00+00:00"}\n')
    with pytest.raises(BlockedError, match=r"was a rollback already .by ann at 2024-01-01"):
        rollback(registry)
    (folder / "journal.jsonl").unlink()
    assert [version.number for version in rollback(registry)] == ["1", "2"]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("at", range(5))
def test_fault_73_a_promoter_that_comes_in_at_any_write_of_another_leaves_one_history(at, when, registry, elsewhere):
    """Two machines with output folders of their own; the first is paused at one of its writes."""
    move(registry, to="1")
    registry.client.set_registered_model_alias("nightrank", CHALLENGER, "2")
    came = []
    command = at_write(registry, at, **{when: lambda: came.append(move(elsewhere, to="3"))})
    if (at, when) == (0, "before"):
        with pytest.raises(TryAgainError, match=r"somebody else decided meanwhile: decision 2, promote .*nightrank/3"):
            move(command, to="2")
        assert [decision.after for decision in one_history(registry)] == ["1", "3"]
    else:
        assert move(command, to="2").number == 2
        assert [decision.after for decision in one_history(registry)] == ["1", "2", "3"]
    assert len(came) == 1


def test_fault_36_a_promoter_that_judged_an_earlier_champion_is_told_to_try_again(registry, elsewhere):
    move(registry, to="1")
    champions = Champion(registry)
    standing = champions.settle()
    move(elsewhere, to="2")
    with pytest.raises(TryAgainError, match="somebody else moved the alias `champion` meanwhile"):
        champions.decide(Action.PROMOTE, registry.version("3"), standing)
    assert [decision.after for decision in one_history(registry)] == ["1", "2"]


def test_a_refusal_takes_a_number_and_stands_in_nobodys_way(registry, elsewhere):
    move(registry, to="1")
    champions = Champion(registry)
    standing = champions.settle()
    refused = Champion(elsewhere).refuse(elsewhere.version("2"), standing, reason="", figures={"gate": "no"}, policy={})
    assert (refused.number, refused.moves) == (2, False)
    assert champions.decide(Action.PROMOTE, registry.version("3"), standing).number == 3
    assert [decision.after for decision in one_history(registry)] == ["1", "3"]


def test_a_request_that_is_repeated_since_its_answer_was_lost_is_not_refused_by_itself(registry):
    class Repeating:
        def __getattr__(self, name):
            return getattr(registry.client, name)

        def create_registered_model(self, *arguments, **named):
            registry.client.create_registered_model(*arguments, **named)
            return registry.client.create_registered_model(*arguments, **named)

    command = Registry(registry.config)
    command.client = Repeating()
    with pytest.raises(MlflowException, match="already exists"):
        command.client.create_registered_model("twice")
    assert move(command, to="1").number == 1
    assert len(one_history(registry)) == 1


def unfinished(registry, to):
    """A decision of which only the first write was made."""
    with pytest.raises(Killed):
        move(at_write(registry, 0, after=kill), to=to)


@pytest.mark.parametrize("before", [None, "1"])
@pytest.mark.parametrize("fault", ["deleted", "altered"])
def test_an_unfinished_decision_whose_version_cannot_go_live_is_withdrawn(fault, before, registry):
    if before is not None:
        move(registry, to=before)
    with pytest.raises(Killed):
        move(at_write(registry, 1, after=kill), to="2")
    assert number(registry, CHAMPION) == "2"
    if fault == "deleted":
        registry.client.delete_model_version("nightrank", "2")
    else:
        version = registry.version("2")
        for folder in (registry.cached_bundle(version), registry.run_bundle(version)):
            (folder / "features.json").write_text("{}")
    assert Champion(registry).settle().completed is None
    assert number(registry, CHAMPION) == before
    withdrawn = Champion(registry).decisions.read()[-1]
    assert (withdrawn.after, withdrawn.state) == ("2", State.WITHDRAWN)
    assert {"deleted": "is not in the registry", "altered": "features.json was altered"}[fault] in withdrawn.note
    assert move(registry, to="3").number == withdrawn.number + 1
    assert [decision.after for decision in Champion(registry).decisions.read() if decision.moves][-1] == "3"


def test_an_alias_moved_by_hand_stops_decisions_until_it_is_set_back_or_adopted(registry):
    for to in ("1", "2"):
        move(registry, to=to)
    registry.client.set_registered_model_alias("nightrank", CHAMPION, "3")
    with pytest.raises(IntegrityError, match="`champion` names nightrank/3, and by decision 2 it is nightrank/2"):
        move(registry, to="4")
    assert Champion(registry).repair().number == 2
    assert [decision.after for decision in one_history(registry)] == ["1", "2"]
    registry.client.set_registered_model_alias("nightrank", CHAMPION, "3")
    with pytest.raises(ConfigError, match="say why, with --reason TEXT"):
        Champion(registry).adopt(" ")
    adopted = Champion(registry).adopt("the night of the outage")
    assert (adopted.action, adopted.before, adopted.after) == (Action.ADOPT, "2", "3")
    assert one_history(registry)[-1].reason == "the night of the outage"
    assert Champion(registry).adopt("again") is None
    assert number(registry, PREVIOUS) == "2"


def test_a_champion_from_before_there_were_decisions_is_taken_as_it_is_and_can_be_adopted(registry):
    for alias, to in ((CHAMPION, "2"), (PREVIOUS, "1")):
        registry.client.set_registered_model_alias("nightrank", alias, to)
    assert Champion(registry).repair() is None
    adopted = Champion(registry).adopt("as it was")
    assert (adopted.before, adopted.after) == ("1", "2")
    move(registry, to="3")
    assert [(each.before, each.after) for each in one_history(registry)] == [("1", "2"), ("2", "3")]


def test_a_champion_that_was_deleted_is_followed_by_another(registry):
    for to in ("1", "2"):
        move(registry, to=to)
    registry.client.delete_model_version("nightrank", "2")
    went, came = rollback(registry)
    assert (went, came.number) == (None, "1")
    assert (number(registry, CHAMPION), number(registry, PREVIOUS)) == ("1", None)


def test_fault_74_nothing_moves_where_the_decision_cannot_be_written(registry):
    move(registry, to="1")
    with closing(sqlite3.connect(Path(registry.config.output) / "mlflow.db")) as opened, opened:
        opened.execute(
            "create trigger full before insert on registered_models begin select raise(abort, 'disk is full'); end"
        )
    with pytest.raises((TryAgainError, ConfigError)):
        move(registry, to="2")
    assert [decision.after for decision in one_history(registry)] == ["1"]


def test_a_server_that_goes_away_after_the_decision_was_written_says_what_comes_next(registry):
    def gone():
        raise MlflowException("connection refused")

    with pytest.raises(TryAgainError, match=r"decision 1 \(promote nothing -> nightrank/1 .*not carried"):
        move(at_write(registry, 1, before=gone), to="1")
    assert Champion(registry).settle().completed.number == 1
    assert [decision.after for decision in one_history(registry)] == ["1"]


def test_decisions_of_models_with_like_names_are_apart(registry, tmp_path):
    """In a filter of MLflow's a `_` stands for any letter."""
    like, other = (Registry(config_of(tmp_path / "out", model=model)) for model in ("axb", "a_b"))
    for each in (like, other):
        each.register(registry.version("1").run_id, registry.version("1").digest)
        assert move(each, to="1").number == 1
    assert len(Champion(other).decisions.read()) == 1


def test_what_is_kept_is_read_back_whatever_its_length_and_without_credentials(registry):
    figures = {f"gate {each}": "ö" * 400 for each in range(50)}
    reason = "see postgresql://ann:s3cret@host/db\nfor 'the' \"reason\""
    champions = Champion(registry)
    champions.decide(
        Action.PROMOTE, registry.version("1"), champions.settle(), reason=reason, figures=figures, policy={"least": 0.1}
    )
    (kept,) = champions.decisions.read()
    assert (kept.figures, kept.policy) == (figures, {"least": 0.1})
    assert kept.reason == reason.replace("ann:s3cret@", "")
    uri = f"sqlite:///{registry.config.output}/mlflow.db"
    listed = MlflowClient(registry_uri=uri, tracking_uri=uri).search_registered_models(order_by=["name ASC"])
    assert [model.name for model in listed] == ["nightrank", "~nightrank.decision-000001"]


def test_a_decision_whose_tags_were_altered_is_named(registry):
    move(registry, to="1")
    registry.client.set_registered_model_tag("~nightrank.decision-000001", "nightrank.state", "whatever")
    with pytest.raises(IntegrityError, match=r"'~nightrank.decision-000001' is a decision whose tags were altered"):
        Champion(registry).settle()


def test_a_copy_of_the_database_is_another_registry(registry, tmp_path):
    move(registry, to="1")
    copy = Registry(config_of(shutil.copytree(tmp_path / "out", tmp_path / "copy")))
    move(copy, to="2")
    assert len(one_history(copy)) == 2
    assert len(one_history(registry)) == 1
