"""Scores of other systems, judged beside ours on the same requests."""

from datetime import datetime
from decimal import Decimal

import polars as pl
import pytest

from features.errors import ConfigError, ContractError
from features.log.event_log import date_of, day_of
from features.requests.engaged import requests_between
from pipelines.evaluation.evaluate import FULL, OURS, chosen_systems
from pipelines.evaluation.external import coded_scores, read_as, read_scores, unfit_reason
from pipelines.registry.registry import Registry
from pipelines.registry.versions import load_version
from pipelines.training.draw import whole_users
from pipelines.training.labelled import Labelled
from ranker.baselines import BASELINES

pytestmark = pytest.mark.slow


def assert_says(lines, facts):
    """Each line begins with the name of a file, and has its other facts."""
    assert len(lines) == len(facts)
    for line, (name, *others) in zip(lines, facts, strict=True):
        assert line.startswith(f"- {name}: ")
        assert [fact for fact in others if fact not in line] == []


@pytest.fixture(scope="module")
def by_popularity(trained_project, popularity_by_ids):
    """The lists of the baseline on the version's own window."""
    _, bundle = load_version(Registry(trained_project.config), "1")
    first, last = (day_of(day) for day in bundle.window)
    return popularity_by_ids(trained_project.inputs.log, first, last + 1)


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


def test_of_a_window_that_is_drawn_from_scores_of_the_other_requests_are_not_read(evaluated, by_popularity, project):
    few = ("--set", "evaluation.max_requests=40")
    ended = evaluated(*few, theirs=by_popularity)
    facts, whole = ended.facts, project.registered.evaluation
    assert figures(facts, "theirs") == figures(facts, "popularity")
    assert 40 <= facts["requests"] < facts["requests_in_window"] == whole.n_requests
    assert facts["share_drawn"] == facts["requests"] / whole.n_requests
    assert (
        f"{facts['requests']:,} of {whole.n_requests:,} requests ({facts['share_drawn']:.1%}, whole users" in ended.err
    )

    log, window = project.inputs.log, project.trained.split.test
    asked = requests_between(log, window.start, window.closed_end)
    drawn, others = whole_users(asked, log, 40)
    assert drawn.height == facts["requests"]
    left_out = by_popularity.join(
        others.select(user_id=log.user_ids.gather(others["user"]), day=days_of(others)), on=["user_id", "day"]
    )
    assert '"scores of requests that were not drawn are not read"' in ended.err
    assert f'"rows": {left_out.height}, "of": {by_popularity.height}' in ended.err
    judged = whole.judged.per_request.filter(pl.col("user").is_in(drawn["user"].implode()), system=FULL, slice="all")
    (full,) = (row for row in figures(facts, FULL) if (row["slice"], row["metric"]) == ("all", "ndcg@10"))
    assert full["mean"] == pytest.approx(judged["ndcg@10"].mean(), abs=1e-12)

    stranger = by_popularity.head(1).with_columns(user_id=pl.lit("nobody"))
    ended = evaluated(*few, theirs=pl.concat([by_popularity, stranger]))
    assert ended.code == 10
    assert "theirs: 1 of" in ended.err
    assert "rows are of requests that are not judged" in ended.err


def days_of(requests):
    return requests.select(pl.col("as_of_day").map_elements(date_of, return_dtype=pl.Date)).to_series()


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
        typed=by_popularity.with_columns(item_id=pl.lit(value=True)),
        narrow=by_popularity.drop("day"),
        absent=by_popularity.with_columns(user_id=pl.lit(None, pl.String)),
    )
    assert ended.code == 10
    facts = [
        ("nan", f"3 of {rows} rows", "NaN"),
        ("twice", f"1 of {rows + 4} rows", "not judged", str(strange["day"][0])),
        ("twice", f"1 of {rows + 4} rows", "catalogue"),
        ("twice", f"2 of {rows + 4} rows", "repeat"),
        ("missing", f"1 of {asked.height} judged requests", str(one["day"][0])),
        ("typed", f"all {rows} rows", "item_id is Boolean"),
        ("narrow", "no column day", "user_id, day, item_id, score"),
        ("absent", f"{rows} of {rows} rows", "user_id"),
    ]
    assert_says(ended.err.splitlines()[-len(facts) :], facts)


def test_logged_lists_want_a_score_for_every_shown_item_and_for_no_other(trained_project):
    log = trained_project.inputs.log
    ids = log.items["item_id"]
    codes = {"request": pl.UInt32, "item": pl.UInt32}
    requests = pl.DataFrame({"request": [0, 1], "request_id": ["r0", "r1"]}, schema_overrides=codes)
    shown = pl.DataFrame({"request": [0, 0, 1], "item": [3, 4, 3]}, schema_overrides=codes)
    labelled = Labelled(requests, shown.clear(), shown, logged_lists=True)
    scores = pl.DataFrame({"request_id": ["r0", "r0", "r1"], "item_id": ids.gather([3, 4, 3]), "score": [1, 2, 3]})
    coded = coded_scores({"theirs": scores}, labelled, log)["theirs"]
    assert coded.rows() == [(0, 3, 1.0), (0, 4, 2.0), (1, 3, 3.0)]
    assert coded.schema == {**codes, "score": pl.Float64}
    other = scores.with_columns(item_id=ids.gather([3, 5, 3]))
    with pytest.raises(ContractError) as caught:
        coded_scores({"theirs": other, "good": scores, "few": scores.head(2)}, labelled, log)
    facts = [
        ("theirs", "1 of 3 shown pairs", "no score"),
        ("theirs", "1 of 3 rows", "not shown"),
        ("few", "1 of 2 judged requests", "no row"),
        ("few", "1 of 3 shown pairs", "no score"),
    ]
    assert_says(str(caught.value).splitlines()[1:], facts)


def test_a_csv_is_read_as_the_log_has_its_ids_and_says_what_it_cannot_read(project, command, by_popularity):
    path = project.folder / "theirs.csv"
    by_popularity.write_csv(path)
    systems = ("--systems", "theirs,popularity")
    facts = command(project, "evaluate", "--version", "1", "--scores", str(path), *systems).facts
    assert figures(facts, "theirs") == figures(facts, "popularity")
    path.write_text(path.read_text(encoding="utf-8").replace("2024-02-", "Feb ", 2), encoding="utf-8")
    ended = command(project, "evaluate", "--version", "1", "--scores", str(path), *systems)
    assert ended.code == 10
    assert f"theirs: 2 of {by_popularity.height} rows have a day" in ended.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--scores", "theirs=nowhere.parquet"), "no .parquet, .csv or .tsv file at 'nowhere.parquet'"),
        (("--systems", "theirs"), "--systems: 'theirs' is no system here"),
    ],
)
def test_what_is_not_there_is_wrong_usage(project, command, arguments, message):
    ended = command(project, "evaluate", "--version", "1", *arguments)
    assert ended.code == 2
    assert message in ended.err


def test_a_name_of_ours_or_given_twice_is_refused(project, evaluated, by_popularity):
    ended = evaluated(**{"full system": by_popularity})
    assert ended.code == 2
    assert "full system is taken" in ended.err
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


IDS = pl.Series("item_id", ["1", "2", "3"])
AS_OTHERS_WRITE_IDS = [
    IDS,
    IDS.cast(pl.Categorical),
    IDS.cast(pl.Enum(["1", "2", "3"])),
    *(
        IDS.cast(pl.Int64).cast(kind)
        for kind in (pl.Int8, pl.UInt64, pl.Int64, pl.Float32, pl.Float64, pl.Decimal(9, 0))
    ),
]


@pytest.mark.parametrize("wanted", [pl.String(), pl.Int64()])
@pytest.mark.parametrize("ids", AS_OTHERS_WRITE_IDS, ids=lambda ids: str(ids.dtype.base_type()))
def test_ids_of_any_type_are_read_as_the_log_has_them(ids, wanted):
    assert unfit_reason(ids.dtype, wanted) is None
    assert read_as(ids, wanted).equals(IDS.cast(wanted))


@pytest.mark.parametrize(
    ("ids", "wanted", "read"),
    [
        (["7", " 8 ", "9.00", "1.5", "x"], pl.Int64(), [7, 8, 9, None, None]),
        ([1.0, 1.5, float("nan"), float("inf")], pl.String(), ["1", None, None, None]),
        ([Decimal("1.50"), Decimal("2.00")], pl.Int64(), [None, 2]),
        (pl.Series([2**63, 1], dtype=pl.UInt64), pl.Int64(), [None, 1]),
        (pl.Series([2**63], dtype=pl.UInt64), pl.String(), ["9223372036854775808"]),
    ],
)
def test_what_is_no_id_is_null_and_never_another_id(ids, wanted, read):
    assert read_as(pl.Series(ids), wanted).to_list() == read


DAY = datetime(2024, 2, 12)  # noqa: DTZ001 - as other systems write days


@pytest.mark.parametrize(
    ("days", "n_read"),
    [
        (["2024-02-12", "2024-02-12 00:00:00", "2024-02-12T00:00:00.000Z", "2024/02/12", " 2024-02-12"], 5),
        (["2024-02-12 07:00:00", "12.02.2024", "2024-02-30", "soon", ""], 0),
        ([DAY, DAY.replace(hour=7)], 1),
        (pl.Series([DAY]).dt.replace_time_zone("Asia/Tokyo"), 1),
        ([DAY.date()], 1),
    ],
)
def test_a_day_is_a_date_or_its_midnight(days, n_read):
    found = read_as(pl.Series(days), pl.Date())
    assert found.drop_nulls().to_list() == [DAY.date()] * n_read


@pytest.mark.parametrize("kind", [pl.Float32, pl.Int16, pl.UInt64, pl.Decimal(9, 2), pl.String])
def test_a_score_is_a_number_of_any_type(kind):
    assert unfit_reason(pl.Series([2, 1]).cast(kind).dtype, pl.Float64()) is None
    assert read_as(pl.Series([2, 1]).cast(kind), pl.Float64()).to_list() == [2.0, 1.0]


def test_what_cannot_be_read_is_named_by_column_count_and_what_is_accepted(trained_project):
    log = trained_project.inputs.log
    codes = {"request": pl.UInt32, "item": pl.UInt32}
    requests = pl.DataFrame({"request": [0], "request_id": ["r0"]}, schema_overrides=codes)
    labelled = Labelled(requests, pl.DataFrame(schema=codes), pl.DataFrame(schema=codes), logged_lists=False)
    good = pl.DataFrame({"request_id": ["r0"], "item_id": log.items["item_id"].head(1), "score": [1.0]})
    files = {
        "bool": good.with_columns(score=pl.lit(value=True)),
        "list": good.with_columns(item_id=pl.concat_list("item_id")),
        "enum": good.with_columns(score=pl.lit("secret", pl.Enum(["secret"]))),
        "text": good.with_columns(score=pl.lit("1,5")),
        "null": good.with_columns(score=pl.lit(None)),
        "empty": good.head(0),
    }
    with pytest.raises(ContractError) as caught:
        coded_scores(files, labelled, log)
    facts = [
        ("bool", "all 1 rows", "score is Boolean", "numbers"),
        ("list", "all 1 rows", "item_id is List", "ids"),
        ("enum", "all 1 rows", "score is Enum", "numbers"),
        ("text", "1 of 1 rows", "score that is no number"),
        ("null", "1 of 1 rows", "no score"),
        ("empty", "no rows", "1 requests"),
    ]
    assert_says(str(caught.value).splitlines()[1:], facts)


@pytest.mark.parametrize("entry", ["=x.parquet", " =x.parquet", "a\x1b[31mb=x.parquet", "a\nb=x.parquet", "their pop="])
def test_a_name_that_is_none_is_refused_and_never_printed_as_it_is(entry):
    with pytest.raises(ConfigError, match="is no name of its own") as caught:
        read_scores([entry])
    assert str(caught.value).isprintable()


def test_a_path_with_an_equals_sign_is_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "day=2024-02-12"
    folder.mkdir()
    pl.DataFrame({"score": [1.0]}).write_parquet(folder / "their pop.parquet")
    assert set(read_scores(["day=2024-02-12/their pop.parquet"])) == {"their pop"}
    assert set(read_scores(["a name=day=2024-02-12/their pop.parquet"])) == {"a name"}
