"""Windows that have nothing to teach stop a training before it begins."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest
from single_events import relogged, single_events

import pipelines.training.train
from features.errors import ConfigError, ContractError
from features.log.event_log import Calendar, EventLog, day_of
from features.requests.split import Split
from pipelines.base.config import Config
from pipelines.training.train import train
from pipelines.training.windows import filled_windows, refuse_unteachable

START = date(2024, 1, 1)
DAYS = 30
TIMELINE = {"test_days": 4, "valid_days": 3, "ranker_days": 10, "blocks": 2, "min_history_days": 5}


def config(**keys):
    data = {"items": {"path": "items.parquet"}, "events": {"path": "events.parquet"}}
    return Config.model_validate({"data": data, "timeline": TIMELINE, **keys})


def log_of(kind_of_day):
    """A log with a click of two users on each day, or another type of event, or none."""
    rows = [
        {"user_id": user, "item_id": "a", "event": kind, "timestamp": datetime(2024, 1, 1, 12, tzinfo=UTC)}
        | {"timestamp": datetime(2024, 1, 1, 12, tzinfo=UTC) + timedelta(days=day)}
        for day in range(DAYS)
        if (kind := kind_of_day(day)) is not None
        for user in ("u", "v")
    ]
    return EventLog.build(
        events=pl.DataFrame(rows, schema_overrides={"timestamp": pl.Datetime("us", "UTC")}).with_columns(
            value=pl.lit(None, pl.Float64)
        ),
        items=pl.DataFrame({"item_id": ["a"]}),
        users=None,
        calendar=Calendar(config().calendar),
        gains={"click": 1},
    )


def windows_of(log, told):
    return Split.of(log, told.timeline, told.labels)


def test_windows_are_counted_by_hand():
    log, told = log_of(lambda day: "click" if day != 24 else "view"), config()
    windows = filled_windows(log, told, windows_of(log, told))
    assert [(window.name, window.requests, window.positives) for window in windows] == [
        ("warm-up", 16, 16),  # days 5 to 12
        ("training", 20, 20),  # 13 to 22
        ("validation", 4, 4),  # 23 to 25 without the 24th
        ("test", 8, 8),
    ]
    assert windows[1].days == "2024-01-14 to 2024-01-23"
    refuse_unteachable(log, told, windows_of(log, told))


@pytest.mark.parametrize(
    ("silent", "names"),
    [
        (range(13, 23), ["training"]),
        (range(23, 26), ["validation"]),
        (range(5, 26), ["training", "validation"]),
    ],
)
@pytest.mark.parametrize("kind", ["view", None])
def test_fault_57_all_windows_without_a_positive_are_named_at_once(silent, names, kind):
    log, told = log_of(lambda day: kind if day in silent else "click"), config()
    with pytest.raises(ContractError) as refused:
        refuse_unteachable(log, told, windows_of(log, told))
    lines = str(refused.value).splitlines()
    assert [line.split(" request")[0] for line in lines[:-1]] == [f"events: no {name}" for name in names]
    assert f"lie on {DAYS - len(silent)} days from 2024-01-01 to 2024-01-30" in lines[-1]
    assert "timeline.test_days, valid_days, ranker_days" in lines[-1]


def test_a_warm_up_without_a_positive_is_no_reason_to_stop_and_a_version_brings_its_rows():
    told = config()
    log = log_of(lambda day: "view" if 5 <= day < 13 else "click")
    refuse_unteachable(log, told, windows_of(log, told))
    log = log_of(lambda day: "view" if 13 <= day < 23 else "click")
    split = windows_of(log, told).after(day_of(START) + 13)
    refuse_unteachable(log, told, split, continues=True)


def test_labels_that_never_close_in_time_are_a_matter_of_the_configuration():
    told = config(labels={"gains": {"click": 1}, "horizon_days": 3}, timeline={**TIMELINE, "test_days": 2})
    log = log_of(lambda _: "click")
    with pytest.raises(ConfigError, match=r"no test request close in time.*labels\.horizon_days \(3\).*test_days"):
        refuse_unteachable(log, told, windows_of(log, told))


def test_nothing_is_loaded_before_the_windows_are_looked_at(shop_project, tmp_path, monkeypatch):
    from pipelines.inputs.check import read_inputs

    project = shop_project.copy(tmp_path / "project")
    inputs = read_inputs(project.config)
    log = inputs.log
    split = Split.of(log, project.config.timeline, project.config.labels)
    silent = single_events(inputs).filter(
        ~pl.col("label_day").is_between(split.valid.start, split.valid.end, closed="left")
    )
    monkeypatch.setattr(pipelines.training.train.InterestModel, "start", lambda *_, **__: pytest.fail("loaded"))
    with pytest.raises(ContractError, match="no validation request has a positive"):
        train(relogged(log, silent), project.config)


def test_fault_57_items_that_are_never_on_sale_are_said_before_the_first_lesson(shop_project, tmp_path, monkeypatch):
    from pipelines.inputs.check import read_inputs

    project = shop_project.copy(tmp_path / "project")
    log = read_inputs(project.config).log
    opens = pl.lit(datetime(2030, 1, 1, tzinfo=UTC)).cast(pl.Datetime("us", "UTC"))
    monkeypatch.setattr(pipelines.training.train.BlockTrainer, "teach", lambda *_, **__: pytest.fail("taught"))
    with pytest.raises(ContractError, match=r"no training and no validation request has a positive among its candid"):
        train(replace(log, items=log.items.with_columns(available_from=opens)), project.config)
