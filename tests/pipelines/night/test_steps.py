"""Steps with recorded results: what is done is skipped, what failed is done again, alone or from there on."""

from datetime import date

import pytest

from features.errors import BlockedError, ConfigError, ContractError
from pipelines.night.steps import Off, Record, Step, chosen_steps, run_steps

DAY = date(2024, 5, 1)


@pytest.fixture
def run(tmp_path):
    """Runs three steps; `ends` says what a step raises, or the facts that it gives."""
    ran = []

    def steps(ends, stands):
        def step(name, **more):
            def work():
                ran.append(name)
                if isinstance(ends.get(name), Exception):
                    raise ends[name]
                return ends.get(name, {"of": name})

            return Step(name, work, **more)

        return [
            step("check", matters=True),
            step("score", needs=("check",), matters=True, stands=stands),
            step("train"),
        ]

    def go(ends=None, *, key="k", chosen=None, stands=lambda _: True):
        ran.clear()
        outcomes = run_steps(steps(ends or {}, stands), Record(tmp_path, DAY, key), chosen, lambda _: None)
        return list(ran), {name: (outcome.status, outcome.code) for name, outcome in outcomes.items()}

    return go


DONE, FRESH = ("done", 0), ["check", "score", "train"]


def test_what_is_done_is_not_done_again_while_its_key_is_the_same(run):
    assert run() == (FRESH, dict.fromkeys(FRESH, DONE))
    assert run() == ([], dict.fromkeys(FRESH, DONE))
    assert run(stands=lambda facts: facts != {"of": "score"})[0] == ["score"]
    assert run(key="another")[0] == FRESH
    assert run(key=None)[0] == FRESH


def test_what_failed_is_done_again_and_what_needs_it_waits(run):
    ran, outcomes = run({"check": ContractError("wrong"), "train": Off("not due")})
    assert ran == ["check", "train"]
    assert outcomes == {"check": ("failed", 10), "score": ("not run", 0), "train": ("off", 0)}
    ran, outcomes = run({"score": BlockedError("an audit")})
    assert ran == FRESH  # the step that was off is asked again
    assert outcomes["score"] == ("failed", 11)
    assert run() == (["score"], dict.fromkeys(FRESH, DONE))


def test_a_fault_of_ours_is_a_failed_step_and_a_signal_ends_all(run, capsys):
    assert run({"check": ZeroDivisionError("ours")})[1]["check"] == ("failed", 1)
    assert "Traceback" in capsys.readouterr().err


def test_a_signal_ends_all(tmp_path):
    def terminated():
        raise SystemExit(143)

    with pytest.raises(SystemExit):
        run_steps([Step("check", terminated)], Record(tmp_path, DAY, "k"), None, lambda _: None)
    assert Record(tmp_path, DAY, "k").read() == {}


def test_steps_are_chosen_whatever_is_recorded(run):
    run()
    assert run(chosen=chosen_steps(FRESH, first="score", only=None))[0] == ["score", "train"]
    assert run(chosen=chosen_steps(FRESH, first=None, only="check"))[0] == ["check"]
    assert chosen_steps(FRESH, first=None, only=None) is None
    for first, only, says in (("nosuch", None, "no step 'nosuch'"), (None, "x", "--only"), ("check", "check", "one")):
        with pytest.raises(ConfigError, match=says):
            chosen_steps(FRESH, first=first, only=only)


def test_a_damaged_record_is_left_out(run, tmp_path, capsys):
    run()
    (tmp_path / "jobs/nightly/2024-05-01.json").write_text('{"key": "k", "steps": [1]}', encoding="utf-8")
    assert run()[0] == FRESH
    assert "damaged" in capsys.readouterr().err
