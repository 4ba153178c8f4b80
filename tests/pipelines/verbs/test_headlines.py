"""The verbs `click-model train` and `click-model score`, from a user's folder."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml

from features.errors import ConfigError, IntegrityError
from pipelines.base.config import load_click_config
from pipelines.verbs.headlines import load_click_model

RULES_BROKEN = ("clicks_at_most_impressions", "clicks_min", "group_has_two_texts", "text_nullability")


@dataclass(frozen=True)
class Folder:
    path: Path  # of clicks.yaml: what the fixture `command` asks of a project

    @property
    def at(self) -> Path:
        return self.path.parent


def packages() -> pl.DataFrame:
    """24 tests of two titles; the second title is always clicked more, the first one shown in two packages."""
    rng = np.random.default_rng(0)
    rows = []
    for test in range(24):
        noun = ["mug", "lamp", "kettle"][test % 3]
        plain, better = f"a {noun} number {test}", f"Gift: the {noun} {test}!"
        rows += [(test, plain, 1000, int(rng.binomial(1000, 0.02))) for _ in range(2)]
        rows += [(test, better, 2000, int(rng.binomial(2000, 0.06)))]
    return pl.DataFrame(rows, schema=["test", "title", "shown", "clicked"], orient="row")


@pytest.fixture
def folder(tmp_path, tiny_encoder) -> Folder:
    columns = {"group": "test", "text": "title", "impressions": "shown", "clicks": "clicked"}
    told = {
        "data": {"clicks": {"path": "clicks.csv", "columns": columns}},
        "encoder": {"model": str(tiny_encoder), "max_tokens": 16, "train": {"last": 1}, "precision": "fp32"},
        "click_model": {"members": 2},
    }
    (tmp_path / "clicks.yaml").write_text(yaml.safe_dump(told))
    packages().write_csv(tmp_path / "clicks.csv")
    return Folder(tmp_path / "clicks.yaml")


def test_train_then_score(folder, command):
    ended = command(folder, "click-model", "train")
    assert ended.code == 0, ended.err
    assert (ended.facts["groups"], ended.facts["texts"], ended.facts["impressions"]) == (24, 48, 24 * 4000)
    assert ended.facts["clicks"] == packages()["clicked"].sum()
    asked = pl.DataFrame({"title": ["a lamp number 99", "Gift: the lamp 99!"], "place": ["top", "end"]})
    asked.write_parquet(folder.at / "new.parquet")
    to = folder.at / "scores.parquet"
    scored = command(folder, "click-model", "score", str(folder.at / "new.parquet"), "--to", str(to))
    assert scored.code == 0, scored.err
    assert scored.facts["digest"] == ended.facts["digest"]
    table = pl.read_parquet(to)
    assert table.select("title", "place").equals(asked)
    plain, better = table["probability"]
    assert 0 < plain < better < 1
    model = load_click_model(Path(ended.facts["folder"]))
    assert table["logit"].to_list() == model.predict(asked["title"].to_list()).tolist()


def test_training_again_gives_the_same_bytes(folder, command, snapshot):
    ended = command(folder, "click-model", "train")
    before = {name: digest for name, (digest, _) in snapshot(Path(ended.facts["folder"])).items()}
    command(folder, "click-model", "train")
    assert {name: digest for name, (digest, _) in snapshot(Path(ended.facts["folder"])).items()} == before
    assert [path.name for path in (folder.at / "out").iterdir()] == ["click-model"]


def test_rows_that_break_the_contract_are_named_by_rule_and_count(folder, command):
    bad = pl.DataFrame(
        [(90, "x", 5, 9), (90, "y", 5, 1), (91, None, 5, 1), (91, "z", 5, 1), (91, "w", 5, -1), (92, "alone", 5, 1)],
        schema=["test", "title", "shown", "clicked"],
        orient="row",
    )
    pl.concat([packages(), bad]).write_csv(folder.at / "clicks.csv")
    ended = command(folder, "click-model", "train", "--set", "data.quarantine.max_share=0.01")
    assert ended.code == 10
    for rule in ("clicks_at_most_impressions 1", "text_nullability 1", "clicks_min 1", "group_has_two_texts 1"):
        assert rule in ended.err.replace("|", "_"), ended.err
    assert "clicks: 4 of 78 rows" in ended.err
    told = ended.err.replace("\n", "")
    assert f"the rows lie in {folder.at}/out/quarantine/clicks.parquet." in told
    within = command(folder, "click-model", "train", "--set", "data.quarantine.max_share=0.1")
    assert within.code == 0
    assert within.facts["quarantined"] == 4
    assert within.facts["rules"] == dict.fromkeys(RULES_BROKEN, 1)
    assert within.facts["quarantine"] == str(folder.at / "out/quarantine/clicks.parquet")
    # NOTE: groups 90 and 91 keep one text each, which is set against nothing.
    assert (within.facts["groups"], within.facts["silent_groups"]) == (26, 2)
    assert pl.read_parquet(folder.at / "out" / "quarantine" / "clicks.parquet")["clicks"].to_list() == [
        "9",
        "1",
        "-1",
        "1",
    ]


def test_a_column_that_is_missing_is_named(folder, command):
    packages().drop("shown").write_csv(folder.at / "clicks.csv")
    ended = command(folder, "click-model", "train")
    assert ended.code == 10
    assert "'shown'" in ended.err
    unscored = command(
        folder, "click-model", "score", str(folder.at / "clicks.csv"), "--to", str(folder.at / "s.parquet")
    )
    assert unscored.code == 12  # nothing was trained yet


def test_texts_to_score_must_be_there(folder, command):
    command(folder, "click-model", "train")
    pl.DataFrame({"title": ["", None]}).write_parquet(folder.at / "new.parquet")
    ended = command(
        folder, "click-model", "score", str(folder.at / "new.parquet"), "--to", str(folder.at / "s.parquet")
    )
    assert ended.code == 10
    assert "none of 2 rows has a text in column 'title'" in ended.err.replace("\n", " ")


@pytest.fixture
def scored(folder, command):
    """Score a table, over a model that is trained."""
    assert command(folder, "click-model", "train").code == 0
    to = folder.at / "scores.parquet"

    def run(table: pl.DataFrame | Path, *more: str, to: Path = to):
        path = table
        if isinstance(table, pl.DataFrame):
            path = folder.at / "new.parquet"
            table.write_parquet(path)
        return command(folder, "click-model", "score", str(path), "--to", str(to), *more), to

    return run


def test_rows_without_a_text_stay_without_a_score_and_are_counted(scored):
    table = pl.DataFrame({"title": ["a lamp", None, "Gift: the lamp", ""], "text": list("abcd")})
    ended, to = scored(table)
    assert ended.code == 0, ended.err
    assert (ended.facts["texts"], ended.facts["without_text"]) == (2, 2)
    found = pl.read_parquet(to)
    assert found.select("title", "text").equals(table)  # also a column that bears our name for another one
    assert found["logit"].is_null().to_list() == found["probability"].is_null().to_list() == [False, True, False, True]
    scored(table[[0]])
    assert pl.read_parquet(to)["logit"][0] == found["logit"][0]


def test_what_cannot_be_scored_is_named(scored, folder):
    table = pl.DataFrame({"title": ["a lamp"]})
    for frame, code, says in (
        (table.rename({"title": "headline"}), 10, "there is no column 'title'; the table has 'headline'. Add it"),
        (pl.DataFrame({"title": [["a", "b"]]}), 10, "column 'title' is List(String); write it as text"),
        (folder.at / "no.csv", 2, "no .parquet, .csv or .tsv file there"),
    ):
        ended, _ = scored(frame)
        assert ended.code == code
        assert says in ended.err.replace("\n", " ")
    ended, _ = scored(table, to=folder.at)
    assert ended.code == 2
    assert "it is a folder. Name the Parquet file to write" in ended.err.replace("\n", " ")


def test_without_a_model_the_command_that_makes_one_is_named(folder, command):
    ended = command(folder, "click-model", "score", str(folder.at / "clicks.csv"), "--to", str(folder.at / "s.parquet"))
    assert ended.code == 12
    assert "there is no click model. Train one by nightrank click-model train" in ended.err.replace("\n", " ")


def test_a_table_of_which_nothing_is_left_says_so(folder, command):
    packages().with_columns(clicked=pl.col("shown") + 1).write_csv(folder.at / "clicks.csv")
    ended = command(folder, "click-model", "train", "--set", "data.quarantine.max_share=1")
    assert ended.code == 10
    assert "all 72 rows were set aside, and none is left to learn from" in ended.err.replace("\n", " ")


def test_too_few_groups_are_counted(folder, command):
    packages().head(3).write_csv(folder.at / "clicks.csv")
    ended = command(folder, "click-model", "train")
    assert ended.code == 10
    assert "1 groups have two texts and clicks, and there are 2 members" in ended.err.replace("\n", " ")


@pytest.mark.parametrize("harm", ["alter", "remove", "add", "link"])
def test_a_folder_that_was_touched_is_refused_by_name(harm, folder, command):
    trained = Path(command(folder, "click-model", "train").facts["folder"])
    told = trained / "click_model.json"
    if harm == "alter":
        told.write_text(json.dumps(json.loads(told.read_text()) | {"intercept": 0.0}))
    elif harm == "add":
        told = trained / "more.bin"
        told.write_bytes(b"")
    else:
        kept = told.rename(folder.at / "kept.json")
        if harm == "link":
            told.symlink_to(kept)
    with pytest.raises(IntegrityError, match=told.name):
        load_click_model(trained)


def test_an_unknown_key_is_refused_and_the_nearest_named(folder):
    with pytest.raises(ConfigError, match=r"click_model\.member: unknown key\. Did you mean 'members'"):
        load_click_config(folder.path, ["click_model.member=3"])


def test_a_backend_other_than_torch_is_refused(folder):
    with pytest.raises(ConfigError, match=r"encoder\.backend must be torch"):
        load_click_config(folder.path, ["encoder.backend=cuda"])
