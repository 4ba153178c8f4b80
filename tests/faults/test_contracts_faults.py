"""Faults 4 to 31 of input files and labels: what stops, with which message, and what goes on as if nothing were."""

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from features.errors import ContractError
from pipelines.stores.publish import published
from ranker.config import RankerConfig
from ranker.groups import group_sizes
from ranker.lambdamart import LambdaMart
from ranker.metrics import ndcg_at

NEW = datetime(2024, 2, 24, 12, tzinfo=UTC)


@pytest.fixture
def project(trained_project, tmp_path):
    """A trained project whose events are one file."""
    project = trained_project.copy(tmp_path / "project")
    write_events(project, read_events(project))
    return project


def read_events(project) -> pl.DataFrame:
    paths = sorted(project.folder.glob("events/**/*.parquet"))
    return pl.concat([pl.read_parquet(path, hive_partitioning=False) for path in paths])


def write_events(project, events: pl.DataFrame) -> Path:
    shutil.rmtree(project.folder / "events")
    path = project.folder / "events" / "all.parquet"
    path.parent.mkdir()
    events.write_parquet(path)
    return path


def change(project, table: str, edit) -> None:
    if table == "events":
        write_events(project, edit(read_events(project)))
    else:
        path = project.folder / f"{table}.parquet"
        edit(pl.read_parquet(path)).write_parquet(path)


def extra(project, count=1, **columns) -> pl.DataFrame:
    """Some clicks of the eve, changed."""
    rows = read_events(project).filter(pl.col("event") == "click").head(count)
    clocks = {"timestamp": pl.lit(NEW), "extracted_at": pl.lit(NEW + timedelta(hours=12))}
    return rows.with_columns(event_id=pl.lit("new"), **clocks).with_columns(
        pl.lit(value, dtype=rows.schema[name]).alias(name) for name, value in columns.items()
    )


def score(project, command, *arguments, when=None):
    return command(project, "score", "--date", str(when or project.day), *arguments)


def rankings(project, command, **options) -> pl.DataFrame:
    ended = score(project, command, **options)
    assert ended.code == 0, ended.err
    return published(project.folder / "out/rankings").rankings()


def stops(ended, project, code, *says) -> None:
    """The command ended with the code, said all that, no result, and published nothing."""
    assert ended.code == code, ended.err
    told = ended.err.replace("\n", " ")
    assert [words for words in says if words not in told] == []
    assert ended.out == ""
    assert not (project.folder / "out/rankings").exists()


@pytest.mark.parametrize("kept", [0.0, 0.5, 0.99])
def test_faults_4_and_5_a_file_that_is_cut_off_or_empty(kept, project, command):
    """Faults 4 and 5: truncated and zero-byte Parquet end with 12 and name the file."""
    path = project.folder / "events/all.parquet"
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    stops(score(project, command), project, 12, "events:", "all.parquet", "Fetch it again")


def test_fault_7_stray_files_are_no_data(project, command):
    """Fault 7: a stray .tmp and _SUCCESS are ignored."""
    before = rankings(project, command)
    for name in (".x.tmp", "part.parquet.tmp", "_SUCCESS", "_temporary/part.parquet", ".hidden.parquet"):
        path = project.folder / "events" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"nonsense")
    again = score(project, command)
    assert again.facts["shards_written"] == 0
    assert published(project.folder / "out/rankings").rankings().equals(before)


def test_fault_8_all_missing_columns_of_all_tables_are_named(project, command):
    """Fault 8: a missing column ends with 10, every one named, with the remedy."""
    change(project, "events", lambda table: table.drop("user_id", "timestamp"))
    change(project, "items", lambda table: table.drop("title"))
    says = "events: missing columns 'user_id', 'timestamp'", "items: missing column 'title'", "data.events.columns"
    stops(score(project, command), project, 10, *says)


def test_fault_9_integers_where_floats_are_due_are_cast(project, command):
    """Fault 9: an int where a float is due is cast by contract."""
    change(project, "events", lambda table: table.with_columns(pl.col("value").round()))
    before = rankings(project, command)
    change(project, "events", lambda table: table.with_columns(pl.col("value").cast(pl.Int32)))
    assert rankings(project, command).equals(before)


def test_fault_9_what_cannot_be_cast_is_refused(project, command):
    """Fault 9: else it is 10, with the column, what it is and what to write."""
    change(project, "events", lambda table: table.with_columns(value=pl.concat_list("value")))
    stops(score(project, command), project, 10, "events: column 'value' is List(Float64); write it as numbers")


def test_faults_10_and_11_more_columns_in_another_order_change_no_score(project, command):
    """Faults 10 and 11: an extra column is ignored and logged; reordered columns give identical scores."""
    before = rankings(project, command)
    for table in ("events", "items", "users"):
        change(project, table, lambda frame: frame.select(pl.lit(1).alias("note[/b]"), *reversed(frame.columns)))
    assert rankings(project, command).equals(before)
    ended = command(project, "check")
    assert ended.facts["tables"]["events"]["ignored_columns"] == ["note[/b]"]
    assert '"ignored_columns": ["note[/b]"]' in ended.err


def test_fault_12_events_delivered_twice_count_once(project, command):
    """Fault 12: duplicate events are dropped; features, and so rankings, are equal."""
    before = rankings(project, command)
    later = pl.lit(datetime(2024, 2, 25, tzinfo=UTC))
    change(project, "events", lambda table: pl.concat([table, table.tail(500).with_columns(extracted_at=later)]))
    assert rankings(project, command).equals(before)
    assert command(project, "check").facts["tables"]["events"].items() >= {"duplicates": 500, "quarantined": 0}.items()


@pytest.mark.parametrize(
    ("rows", "rules"),
    [
        pytest.param([{}, {"value": 9.5}], {"event_id_unique": 2}, id="13: same id, other payload"),
        pytest.param(
            [{"timestamp": datetime(2024, 2, 25, 1, tzinfo=UTC), "extracted_at": datetime(2024, 2, 25, tzinfo=UTC)}],
            {"timestamp_after_extract": 1},
            id="14: later than its extract",
        ),
        pytest.param([{"user_id": None}], {"user_id_present": 1}, id="18: no user"),
        pytest.param([{"item_id": None}, {"item_id": ""}], {"item_id_present": 2}, id="18: no item"),
        pytest.param([{"item_id": "i999999"}], {"item_not_in_items": 1}, id="item not in the catalogue"),
    ],
)
def test_faults_13_14_18_rows_that_break_a_contract_are_set_aside_and_change_nothing(rows, rules, project, command):
    """Faults 13, 14 and 18: quarantine, counted by rule; rankings are those of the other rows."""
    before = rankings(project, command)
    ids = ["new"] * len(rows) if "event_id_unique" in rules else [f"new{n}" for n in range(len(rows))]
    bad = [extra(project, **{"event_id": name, **row}) for name, row in zip(ids, rows, strict=True)]
    change(project, "events", lambda table: pl.concat([table, *bad]))
    ended = command(project, "check")
    assert ended.code == 0
    assert ended.facts["tables"]["events"]["rules"] == rules
    kept = pl.read_parquet(ended.facts["quarantine"]["events"])
    assert kept.height == len(rows)
    assert kept["rules"].to_list() == [*rules] * len(rows)
    assert rankings(project, command).equals(before)


def test_fault_18_too_many_broken_rows_stop_the_job(project, command):
    """Fault 18: above data.quarantine.max_share it is 10, with rule, count, first row and no id."""
    half = pl.when(pl.int_range(pl.len()) % 2 == 1).then("user_id")
    change(project, "events", lambda table: table.with_columns(user_id=half))
    total = read_events(project).height
    ended = score(project, command)
    rules = f"events: {total // 2} of {total} rows", f"user_id_present {total // 2} (first at row 0)"
    stops(ended, project, 10, *rules, "data.quarantine.max_share")
    assert "u0000" not in ended.err


def test_faults_14_and_15_a_night_of_the_past_ends_at_its_cut_off(project, command):
    """Faults 14 and 15: a night of the past gives what it would have given then; the cut-off itself is excluded."""
    past = project.day - timedelta(days=5)
    at = datetime(past.year, past.month, past.day, tzinfo=UTC)
    now = rankings(project, command, when=past)
    change(project, "events", lambda table: table.filter(pl.col("timestamp") < at))
    assert rankings(project, command, when=past).equals(now)
    exactly = extra(project, count=30, timestamp=at, extracted_at=at)
    exactly = exactly.with_columns(event_id=pl.format("new{}", pl.int_range(pl.len())))
    change(project, "events", lambda table: pl.concat([table, exactly]))
    assert rankings(project, command, when=past).equals(now)
    just_before = exactly.with_columns(pl.col("timestamp") - timedelta(microseconds=1))
    change(project, "events", lambda table: pl.concat([table.filter(pl.col("timestamp") < at), just_before]))
    assert not rankings(project, command, when=past).equals(now)


def test_fault_19_an_empty_partition_is_refused_unless_allowed(project, command):
    """Fault 19: 10, unless --allow-empty."""
    before = rankings(project, command)
    shutil.rmtree(project.folder / "out/rankings")
    read_events(project).clear().write_parquet(project.folder / "events/none.parquet")
    stops(score(project, command), project, 10, "events: 1 of 2 files have no rows ('none.parquet')", "--allow-empty")
    assert score(project, command, "--allow-empty").code == 0
    assert published(project.folder / "out/rankings").rankings().equals(before)


def test_fault_20_an_item_that_nobody_has_seen_is_scored_from_its_text(project, command):
    """Fault 20: an unseen item gets a finite score, where its text is that of what a user had."""
    project.change(night={"top": 300})
    bought = read_events(project).filter(pl.col("event") == "purchase")["item_id"][-1]
    once = extra(project, user_id="solo", item_id=bought)
    change(project, "events", lambda table: pl.concat([table, once]))

    def add_twin(items):
        twin = items.filter(pl.col("item_id") == bought)
        return pl.concat(
            [items, twin.with_columns(item_id=pl.lit("twin"), available_from=None)], how="vertical_relaxed"
        )

    change(project, "items", add_twin)
    found = rankings(project, command).filter(pl.col("item_id") == "twin")
    assert "solo" in found["user_id"]
    assert found["score"].is_finite().all()


def test_fault_21_users_without_a_past_get_the_fallback_list(project, command):
    """Fault 21: a user of the table Users only, or of none, is served by the fallback ranking."""
    change(project, "users", lambda users: pl.concat([users, users.head(1).with_columns(user_id=pl.lit("stranger"))]))
    found = rankings(project, command).filter(pl.col("user_id") == "stranger").drop("user_id")
    fallback = published(project.folder / "out/rankings").fallback()
    assert fallback.height == 10
    assert fallback["rank"].to_list() == list(range(1, 11))
    assert fallback["score"].is_finite().all()
    assert found.equals(fallback)


@pytest.mark.parametrize("text", [None, "", " \t "])
def test_fault_22_an_item_without_text_is_ranked_all_the_same(text, project, command):
    """Fault 22: an empty or null text has a defined embedding."""
    project.change(night={"top": 300})
    last = read_events(project).filter(pl.col("event") == "purchase").tail(1)
    user, item = last.select("user_id", "item_id").row(0)
    mute = pl.when(pl.col("item_id") != item)
    columns = [mute.then(name).otherwise(pl.lit(text, pl.String)).alias(name) for name in ("title", "description")]
    change(project, "items", lambda items: items.with_columns(columns))
    found = rankings(project, command)
    own = found.filter(pl.col("user_id") == user, pl.col("item_id") == item)
    assert own.height == 1
    assert found["score"].is_finite().all()


def test_faults_23_and_25_any_text_is_ordinary_text(project, command):
    """Faults 23 and 25: emoji, right-to-left, joiners, NUL, Chinese, special tokens: the same when encoded again."""
    titles = [
        "👩\u200d👩\u200d👧",
        "قهوة",
        "a\x00b",
        "红色杯子",
        "[SEP] [PAD] [CLS] mug",
        "=cmd|' /C calc'!A0",
        "e\u0301",
    ]
    many = pl.Series(titles * 3)
    change(project, "items", lambda items: pl.concat([items.head(21).with_columns(title=many), items.tail(-21)]))
    found = rankings(project, command)
    assert found["score"].is_finite().all()
    shutil.rmtree(project.folder / "out/vectors")
    shutil.rmtree(project.folder / "out/rankings")
    assert rankings(project, command).equals(found)


@pytest.mark.parametrize("name", ["[SEP]", "[PAD]", "[CLS]", "[UNK]"])
def test_fault_25_a_special_tokens_name_in_a_text_is_not_that_token(name, tiny_encoder):
    """Fault 25."""
    from encoders.loading import load_tokenizer

    tokenizer, _ = load_tokenizer(str(tiny_encoder))
    inner = tokenizer.encode(f"mug {name} mug").ids[1:-1]
    assert tokenizer.token_to_id(name) not in inner


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -1.0, 31.0])
def test_fault_27_labels_that_lightgbm_would_take_unsaid_are_refused(wrong):
    """Fault 27."""
    table = pl.DataFrame({"request": [0, 0, 1, 1], "label": [1.0, 0.0, wrong, 1.0], "a": [1.0, 2.0, 3.0, 4.0]})
    with pytest.raises(ContractError, match=r"1 of 4 labels \(first at row 2\)"):
        LambdaMart.fit(table, table, features=("a",), config=RankerConfig(), seed=0)


def test_fault_28_groups_that_would_crash_lightgbm_cannot_be_made():
    """Fault 28: sizes are counted from the rows, never taken from outside; split requests are refused."""
    assert group_sizes(pl.Series([5, 5, 0, 9])).tolist() == [2, 1, 1]
    with pytest.raises(ContractError, match="do not stand together"):
        group_sizes(pl.Series([5, 0, 5]))


def test_fault_29_a_categorical_feature_is_an_error_and_no_crash():
    """Fault 29."""
    table = pl.DataFrame({"request": [0, 0], "label": [1, 0], "a": pl.Series(["x", "y"], dtype=pl.Categorical)})
    with pytest.raises(ContractError, match=r"a \(Categorical"):
        LambdaMart.fit(table, table, features=("a",), config=RankerConfig(), seed=0)


def test_fault_30_validation_without_a_positive_does_not_stop_a_training_early():
    """Fault 30."""
    table = pl.DataFrame({"request": [0, 0], "label": [1, 0], "a": [1.0, 2.0]})
    with pytest.raises(ContractError, match="no validation request has a positive"):
        LambdaMart.fit(table, table.with_columns(label=0), features=("a",), config=RankerConfig(), seed=0)


@pytest.mark.parametrize("labels", [[1, 0], [0, 1]])
def test_fault_31_constant_scores_get_the_mean_over_the_order_of_ties(labels):
    """Fault 31: one positive of two tied rows is first or second with equal chance; `test_promote` blocks the rest."""
    expected = (1 + 1 / np.log2(3)) / 2
    assert ndcg_at(np.zeros(2), np.array(labels), np.array([2]), 10)[0] == pytest.approx(expected)
