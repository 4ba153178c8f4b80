import json
import math
import re
import sys

import polars as pl
import pytest

from pipelines.base import report
from pipelines.base.progress import say
from pipelines.evaluation.evaluate import Evaluation
from ranker.config import EvaluationConfig
from ranker.judge import Window, judge


@pytest.fixture
def by_one_user():
    """An evaluation over one user, who has no interval."""
    kinds = {"request": pl.UInt32, "item": pl.UInt32}
    truth = pl.DataFrame({"request": [0], "item": [1], "label": [1], "is_new": [True]}, schema_overrides=kinds)
    window = Window(
        requests=pl.DataFrame({"request": [0], "user": [0]}, schema_overrides=kinds),
        truth=truth.with_columns(pl.col("label").cast(pl.Int32)),
        had_before=pl.DataFrame(schema=kinds),
        cold=pl.Series([], dtype=pl.UInt32),
    )
    good = pl.DataFrame({"request": [0, 0], "item": [1, 2], "score": [2.0, 1.0]}, schema_overrides=kinds)
    poor = good.with_columns(-pl.col("score"))
    judged = judge(
        window,
        {"good": good, "poor": poor},
        candidates=good,
        config=EvaluationConfig(resamples=100),
        seed=0,
        compared=[("good", "poor")],
    )
    beyond = {"good": {"novelty@10": 2.5, "diversity@10": math.nan}, "poor": {"novelty@10": 1.0, "diversity@10": 0.25}}
    return Evaluation(judged, first_day=0, end_day=1, n_requests=1, in_window=1, share_distinct=1.0, beyond=beyond)


def test_an_interval_that_is_undefined_is_null_in_json_and_a_dash_on_the_page(by_one_user, capsys):
    facts = by_one_user.as_json()
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts
    assert {row["low"] for row in facts["systems"]} == {None}
    assert facts["candidate_recall"]["repeat"] is None
    report.show(*report.systems_table(facts, k=10))
    shown = capsys.readouterr().err
    assert "1.0000 [-]" in shown
    assert "+0.3691 [-]" in shown  # 1 - 1 / log2(3)
    assert facts["beyond_accuracy"]["good"] == {"novelty@10": 2.5, "diversity@10": None}
    assert re.search(r"good\W+2\.5000\W+-\W+poor\W+1\.0000\W+0\.2500", shown)


def test_what_is_said_on_a_terminal_is_no_markup(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    say("read", ignored_columns=["note[/b]", "[red]x"])
    shown = capsys.readouterr().err
    assert "note[/b]" in shown
    assert "[red]x" in shown


def test_control_characters_are_shown_as_their_escapes():
    assert str(report.plain("a\x1b[31m\n\u202eb é")) == r"a\x1b[31m\n\u202eb é"
