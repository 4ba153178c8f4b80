"""Scores of other systems, judged beside ours on the same requests."""

import polars as pl
import pytest

from features.errors import ConfigError, ContractError
from features.timeline import day_of
from pipelines.evaluate import FULL, OURS, chosen_systems
from pipelines.external import coded_scores, read_scores
from pipelines.registry import Registry
from pipelines.train import Labelled
from pipelines.versions import load_version
from ranker.baselines import BASELINES


@pytest.fixture(scope="module")
def by_popularity(trained_project, popularity_by_ids):
    """The lists of the baseline on the version's own window."""
    _, bundle = load_version(Registry(trained_project.config), "1")
    first, last = (day_of(day) for day in bundle.window)
    return popularity_by_ids(trained_project.inputs.log, first, last + 1)


@pytest.fixture
def project(trained_project, tmp_path):
    return trained_project.copy(tmp_path / "project")


@pytest.fixture
def evaluated(project, command):
    """Evaluate with files of scores."""

    def run(*arguments, **files):
        named = []
        for name, frame in files.items():
            path = project.folder / f"{name}.parquet"
            frame.write_parquet(path)
            named += ["--scores", f"{name}={path}"]
        return command(project, "evaluate", "--version", "1", *named, *arguments)

    return run


def figures(facts, system):
    return [{**row, "system": ""} for row in facts["systems"] if row["system"] == system]


def test_a_file_of_a_baselines_scores_gets_its_figures_to_the_last_digit(evaluated, by_popularity):
    facts = evaluated(theirs=by_popularity.sample(fraction=1.0, shuffle=True, seed=0)).facts
    assert len(figures(facts, "theirs")) > 8
    assert figures(facts, "theirs") == figures(facts, "popularity")
    assert facts["beyond_accuracy"]["theirs"] == facts["beyond_accuracy"]["popularity"]
    against = {(row["system"], row["against"]) for row in facts["comparisons"]}
    assert {(FULL, "theirs"), (FULL, "popularity")} <= against
    assert set(OURS) | set(BASELINES) < {row["system"] for row in facts["systems"]}


def test_chosen_systems_are_judged_alone_and_the_first_is_compared(evaluated, by_popularity):
    ended = evaluated("--systems", "theirs, popularity, 14 days", theirs=by_popularity, others=by_popularity)
    facts = ended.facts
    assert list(dict.fromkeys(row["system"] for row in facts["systems"])) == ["theirs", "popularity, 14 days"]
    assert {(row["system"], row["against"]) for row in facts["comparisons"]} == {("theirs", "popularity, 14 days")}


def test_all_faults_of_all_files_are_named_with_counts(evaluated, by_popularity):
    rows = by_popularity.height
    first = by_popularity["user_id"][0]
    strange = pl.DataFrame(
        {
            "user_id": ["nobody", first],
            "item_id": [by_popularity["item_id"][0], "no such thing"],
            "score": [1.0, 2.0],
            "day": by_popularity["day"].head(2),
        }
    )
    asked = by_popularity.select("user_id", "day").unique()
    one = asked.sort("day", "user_id").head(1)
    ended = evaluated(
        nan=by_popularity.with_columns(score=pl.when(pl.int_range(pl.len()) < 3).then(float("nan")).otherwise("score")),
        twice=pl.concat([by_popularity, by_popularity.head(2), strange]),
        missing=by_popularity.join(one, on=["user_id", "day"], how="anti"),
        typed=by_popularity.with_columns(item_id=pl.int_range(pl.len())),
        narrow=by_popularity.drop("day"),
        absent=by_popularity.with_columns(user_id=pl.lit(None, pl.String)),
    )
    assert ended.code == 10
    assert ended.err.splitlines()[-9:] == [
        "scores: the files cannot be judged.",
        f"- nan: 3 of {rows} rows have a NaN score: it has no place in an order",
        f"- twice: 1 of {rows + 4} rows are of requests that are not judged ({strange['day'][0]}): drop them",
        f"- twice: 1 of {rows + 4} rows name an item that the catalogue lacks: drop them",
        f"- twice: 2 of {rows + 4} rows repeat a request and item: keep one row a pair",
        f"- missing: 1 of {asked.height} judged requests have no row ({one['day'][0]}): score them",
        "- typed: item_id is Int64, and String is wanted: cast it",
        "- narrow: there is no column day; it must have user_id, day, item_id, score",
        f"- absent: {rows} of {rows} rows have no user_id: drop them",
    ]


def test_given_lists_want_a_score_for_every_shown_item_and_for_no_other(trained_project):
    log = trained_project.inputs.log
    ids = log.items["item_id"]
    codes = {"request": pl.UInt32, "item": pl.UInt32}
    requests = pl.DataFrame({"request": [0, 1], "request_id": ["r0", "r1"]}, schema_overrides=codes)
    shown = pl.DataFrame({"request": [0, 0, 1], "item": [3, 4, 3]}, schema_overrides=codes)
    labelled = Labelled(requests, shown.clear(), shown, given=True)
    scores = pl.DataFrame({"request_id": ["r0", "r0", "r1"], "item_id": ids.gather([3, 4, 3]), "score": [1, 2, 3]})
    coded = coded_scores({"theirs": scores}, labelled, log)["theirs"]
    assert coded.rows() == [(0, 3, 1.0), (0, 4, 2.0), (1, 3, 3.0)]
    assert coded.schema == {**codes, "score": pl.Float64}
    other = scores.with_columns(item_id=ids.gather([3, 5, 3]))
    with pytest.raises(ContractError) as caught:
        coded_scores({"theirs": other, "good": scores, "few": scores.head(2)}, labelled, log)
    assert str(caught.value).splitlines()[1:] == [
        "- theirs: 1 of 3 shown pairs have no score: score every shown item",
        "- theirs: 1 of 3 rows score an item that was not shown: drop them",
        "- few: 1 of 2 judged requests have no row: score them",
        "- few: 1 of 3 shown pairs have no score: score every shown item",
    ]


def test_a_csv_is_read_as_the_log_has_its_ids_and_says_what_it_cannot_read(project, command, by_popularity):
    path = project.folder / "theirs.csv"
    by_popularity.write_csv(path)
    systems = ("--systems", "theirs,popularity")
    facts = command(project, "evaluate", "--version", "1", "--scores", str(path), *systems).facts
    assert figures(facts, "theirs") == figures(facts, "popularity")
    path.write_text(path.read_text(encoding="utf-8").replace("2024-02-", "Feb ", 2), encoding="utf-8")
    ended = command(project, "evaluate", "--version", "1", "--scores", str(path), *systems)
    assert ended.code == 10
    assert f"theirs: 2 of {by_popularity.height} rows have a day that is no Date: correct them" in ended.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--scores", "theirs=nowhere.parquet"), "no .parquet, .csv or .csv.gz file at 'nowhere.parquet'"),
        (("--systems", "theirs"), "--systems: 'theirs' is no system here. Choose of: full system; "),
    ],
)
def test_what_is_not_there_is_wrong_usage(project, command, arguments, message):
    ended = command(project, "evaluate", "--version", "1", *arguments)
    assert ended.code == 2
    assert message in ended.err


def test_a_name_of_ours_or_given_twice_is_refused(project, evaluated, by_popularity):
    ended = evaluated(**{"full system": by_popularity})
    assert ended.code == 2
    assert "full system is taken by a system of ours. Choose another name." in ended.err
    path = str(project.folder / "full system.parquet")
    with pytest.raises(ConfigError, match="each name once"):
        read_scores([f"a={path}", f"a={path}"])


def test_names_with_commas_are_told_apart():
    known = ["popularity", "popularity, 14 days", "ItemKNN"]
    assert chosen_systems("popularity,14 days", known) == ["popularity, 14 days"]
    assert chosen_systems("ItemKNN,popularity", known) == ["popularity", "ItemKNN"]
    assert chosen_systems("all", known) == known
    for told in ("", "popularity, 15 days", "all, ItemKNN"):
        with pytest.raises(ConfigError, match="is no system here"):
            chosen_systems(told, known)
