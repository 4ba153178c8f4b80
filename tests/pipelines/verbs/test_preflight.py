"""What `check` warns of: each with its key and the right figures, and nothing of a clean project."""

import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace

import polars as pl
import pytest
from single_events import relogged, single_events

from features.errors import NightrankError
from pipelines.base.config import Config
from pipelines.inputs.check import TextField, read_inputs
from pipelines.training.train import train
from pipelines.verbs import preflight
from pipelines.verbs.preflight import cautions, quick_cautions


@pytest.fixture(scope="module")
def inputs(shop_project):
    return read_inputs(shop_project.config)


@pytest.fixture
def config(shop_project, tmp_path):
    """The shop's configuration with changed keys; writes into a folder of the test's own."""

    def make(**keys) -> Config:
        told = shop_project.config.model_dump(exclude_unset=True)
        for key, value in {"output": str(tmp_path / "out"), **keys}.items():
            told[key] = {**told.get(key, {}), **value} if isinstance(value, dict) else value
        return Config.model_validate(told)

    return make


def recoded(inputs, kind):
    """The same log with other event types."""
    return replace(inputs, log=relogged(inputs.log, single_events(inputs).with_columns(kind=kind)))


def told_of(found):
    return [(caution.key, caution.message) for caution in found]


def test_check_warns_of_nothing_in_a_clean_project_and_makes_nothing(shop_project, tmp_path, command, snapshot):
    project = shop_project.copy(tmp_path / "project")
    project.change(encoder={"max_tokens": 64})  # the titles are longer than the 16 that make tests quick
    before = snapshot(project.folder)
    ended = command(project, "check", "--strict")
    assert ended.code == 0
    assert ended.facts["warnings"] == []
    assert '"warning"' not in ended.err
    made = snapshot(project.folder).keys() - before.keys()
    assert {name for name in made if not name.startswith("out/quarantine/")} == set()


def test_fault_55_check_names_a_day_far_from_all_others_and_strict_makes_an_error_of_it(
    shop_project, tmp_path, command
):
    project = shop_project.copy(tmp_path / "project")
    project.change(encoder={"max_tokens": 64})
    path = next(project.folder.glob("events/*/*.parquet"))
    day = pl.read_parquet(path, hive_partitioning=False)
    odd = day.head(1).with_columns(
        pl.lit("odd").alias("event_id"),
        pl.lit(datetime(1975, 5, 1, tzinfo=UTC)).cast(day.schema["timestamp"]).alias("timestamp"),
    )
    pl.concat([day, odd.select(day.columns)]).write_parquet(path)
    ended = command(project, "check", "--strict")
    (warning,) = ended.facts["warnings"]
    assert warning["key"] == "data.events"
    assert "1 events of 1 days lie far from all others ('1975-05-01'; the others are of 20" in warning["message"]
    assert ended.facts["first_event"] > "2023-12"
    assert ended.code == 10
    assert "--strict: 1 warnings.\ndata.events: 1 events of 1 days lie far" in ended.err


def test_fault_58_a_gain_that_matches_nothing_names_the_nearest_type(inputs, config):
    shop = recoded(inputs, pl.col("kind").replace("purchase", "Purchase"))
    purchases, events = (pl.col("kind") == "Purchase").sum(), shop.log.events.height
    many = shop.log.events.select(purchases).item()
    told = told_of(quick_cautions(shop, config(labels={"gains": {"click": 1, "buy": 2, "purchase": 3}}), []))
    assert [key for key, _ in told] == ["labels.gains", "labels.gains", "features.roles.bought"]
    assert told[0][1].startswith(f"'buy' is the type of none of the {events:,} events")
    assert f"the nearest type is 'Purchase' ({many:,} events)" in told[1][1]


def test_default_gains_that_the_log_lacks_are_no_fault_unless_one_is_spelled_otherwise(inputs, config):
    plain = config().model_copy(update={"labels": Config.model_fields["labels"].get_default(call_default_factory=True)})
    log = inputs.log
    no_cart = replace(inputs, log=relogged(log, single_events(inputs).filter(pl.col("kind") != "cart")))
    assert quick_cautions(no_cart, plain, []) == []
    told = told_of(quick_cautions(recoded(inputs, pl.col("kind").replace("cart", "CART")), plain, []))
    assert [key for key, _ in told] == ["labels.gains"]


def test_fault_58_two_spellings_are_named_with_what_counts(inputs, config):
    half = pl.when((pl.col("kind") == "purchase") & (pl.int_range(pl.len()) % 2 == 0)).then(pl.lit("Purchase"))
    shop = recoded(inputs, half.otherwise("kind"))
    counts = dict(shop.log.events["kind"].value_counts().rows())
    ((key, message),) = told_of(quick_cautions(shop, config(), []))
    assert key == "labels.gains"
    assert f"'Purchase' ({counts['Purchase']:,} events), 'purchase' ({counts['purchase']:,} events)" in message
    assert "labels.gains counts 'purchase' alone" in message


def test_roles_that_are_set_and_match_nothing_are_named(inputs, config):
    roles = {"roles": {"shown": ["banner", "teaser"], "clicked": ["click", "tap"]}}
    assert [one.key for one in quick_cautions(inputs, config(features=roles), [])] == ["features.roles.shown"] * 2


def test_texts_that_are_cut_name_the_key(inputs, config):
    fields = [TextField("title", 1.0, 0.0, 0.66), TextField("description", 1.0, 0.0, 0.5)]
    ((key, message),) = told_of(quick_cautions(inputs, config(), fields))
    assert key == "encoder.max_tokens"
    assert "66% of the texts in 'title' are longer than encoder.max_tokens (16)" in message


def test_blocked_items_that_there_are_not_are_counted(inputs, config):
    blocked = [inputs.log.items["item_id"][0], "no-such-item", "another"]
    ((key, message),) = told_of(quick_cautions(inputs, config(candidates={"blocked": blocked}), []))
    assert key == "candidates.blocked"
    assert message.startswith("2 of the 3 ids match no item")
    assert "no-such-item" not in message


def test_nights_that_re_rank_need_their_lists(inputs, config):
    logged = config(requests={"source": "logged"}, candidates={"source": "logged"})
    ((key, message),) = told_of(quick_cautions(inputs, logged, []))
    assert key == "data.candidates"
    assert "their table is not configured" in message


def silent_but_for_the_last_day(inputs):
    events = single_events(inputs).filter((pl.col("gain") == 0) | (pl.col("label_day") == pl.col("label_day").max()))
    return replace(inputs, log=relogged(inputs.log, events))


@pytest.mark.parametrize(
    ("key", "keys", "change"),
    [
        ("timeline", {"timeline": {"ranker_days": 400}}, None),
        ("timeline", {"timeline": {"min_history_days": 300}}, None),
        ("timeline", {}, silent_but_for_the_last_day),
        ("ranker.monotone", {"ranker": {"monotone": {"item_event_7d": 1}}}, None),
    ],
)
def test_what_a_training_would_refuse_is_said_in_its_words(inputs, config, key, keys, change):
    shop, told = inputs if change is None else change(inputs), config(**keys)
    ((found, message),) = told_of(cautions(shop, told, []))
    assert found == key
    with pytest.raises(NightrankError) as refused:
        train(shop.log, told)
    assert str(refused.value) == message


@pytest.mark.parametrize("lost", ["tokenizer.json", "model.safetensors", "config.json"])
def test_fault_62_check_warns_of_an_encoder_that_training_would_refuse(
    lost, shop_project, tiny_encoder, tmp_path, command
):
    folder = shutil.copytree(tiny_encoder, tmp_path / "encoder")
    (folder / lost).unlink()
    ended = command(shop_project.copy(tmp_path / "project"), "check", "--set", f"encoder.model={folder}")
    assert ended.code == 0, ended.err
    (warning,) = ended.facts["warnings"]
    assert warning["key"] == "encoder.model"
    assert lost in warning["message"]
    (said,) = [line for line in map(json.loads, lines_of(ended.err)) if line["event"] == "warning"]
    assert said == {"event": "warning", **warning}


def lines_of(err):
    return [line for line in err.splitlines() if line.startswith("{")]


def test_fault_62_an_encoder_that_does_not_load_is_said(inputs, config, tiny_encoder, tmp_path):
    folder = shutil.copytree(tiny_encoder, tmp_path / "encoder")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    assert [caution.key for caution in cautions(inputs, config(encoder={"model": str(folder)}), [])] == [
        "encoder.model"
    ]


def test_a_tracking_server_that_does_not_answer_is_said_and_nothing_is_made(inputs, config, monkeypatch, tmp_path):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    ((key, message),) = told_of(cautions(inputs, config(tracking={"uri": "http://127.0.0.1:9"}), []))
    assert key == "tracking.uri"
    assert "does not answer" in message
    assert not (tmp_path / "out").exists()


def test_memory_that_does_not_suffice_is_said_as_the_training_would(inputs, config):
    ((key, message),) = told_of(cautions(inputs, config(max_memory_gb=1.0), []))
    assert key == "max_memory_gb"
    assert "1 GB are too few for" in message


def test_a_disk_that_will_not_hold_what_comes_is_said_with_the_figures(inputs, config, monkeypatch):
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    ((key, message),) = told_of(cautions(inputs, config(), []))
    assert key == "output"
    assert "and its disk has 0.0 GB left" in message


def test_a_training_is_told_of_the_quick_ones(shop_project, tmp_path, command):
    project = shop_project.copy(tmp_path / "project")
    project.change(candidates={"blocked": ["no-such-item"]}, timeline={"ranker_days": 400})
    ended = command(project, "train")
    assert ended.code == 2
    assert '"event": "warning", "key": "candidates.blocked"' in ended.err


def test_files_that_are_not_read_are_named_but_for_hidden_ones(inputs, config):
    shop = replace(inputs, left_out={"events": ["old/2023.feather", "_SUCCESS", ".x.crc"], "items": []})
    ((key, message),) = told_of(cautions(shop, config(), []))
    assert key == "data.events.path"
    assert message.startswith("1 files are not read, since no table has their suffix ('old/2023.feather').")


def test_users_that_the_log_writes_otherwise_are_counted(inputs, config):
    users = inputs.tables["users"]
    spaced = replace(users, good=users.good.with_columns(pl.col("user_id") + " "))
    ((key, message),) = told_of(cautions(replace(inputs, tables={**inputs.tables, "users": spaced}), config(), []))
    assert key == "data.users"
    assert "would match without spaces around them" in message
