"""`nightrank features`, columns that the user brings along, and what is refused."""

import json

import polars as pl
import pytest

from features.errors import ConfigError, ContractError, IntegrityError
from features.families.registry import FAMILIES, FeatureSet
from pipelines.inputs.check import read_inputs
from pipelines.registry.bundle import load_bundle
from pipelines.training.feature_plan import plan_of
from pipelines.verbs.feature_columns import read_reference


@pytest.fixture
def project(shop_project, tmp_path):
    return shop_project.copy(tmp_path / "project")


@pytest.fixture
def own_columns(project):
    """The shop with a brand, a weight and a picture's vector of its items, an age of its users, moods of its events."""
    items = pl.read_parquet(project.folder / "items.parquet")
    number = pl.int_range(pl.len())
    items.with_columns(
        brand=pl.concat_str(pl.lit("brand "), number % 3),
        grams=number % 7,
        picture=pl.concat_list(number % 2, number % 3).cast(pl.List(pl.Float32)),
    ).write_parquet(project.folder / "items.parquet")
    users = pl.DataFrame({"user_id": project.dataset.events["user_id"].unique().sort()})
    users.with_columns(age=pl.int_range(pl.len()) % 50).write_parquet(project.folder / "users.parquet")
    for path in project.folder.glob("events/*/*.parquet"):
        day = pl.read_parquet(path, hive_partitioning=False)
        day.with_columns(text=pl.lit("fine"), mood=pl.lit(0.5)).write_parquet(path)
    project.change(
        data={"users": {"path": "users.parquet"}},
        features={
            "attributes": {"items": ["brand", "grams"], "users": ["age"]},
            "vectors": ["picture"],
            "sentiment": "mood",
        },
    )
    return project


def test_the_list_names_every_column_its_meaning_and_whether_it_is_on(project, command):
    project.change(features={"families": ["pair", "user", "text_words"]})
    ended = command(project, "features", "list")
    assert ended.code == 0
    columns = ended.facts["columns"]
    assert {column["family"] for column in columns} == {*FAMILIES, "sources"}
    assert {column["family"] for column in columns if column["on"]} == {"pair", "user", "text_words", "sources"}
    assert all(column["meaning"] for column in columns)
    assert "pair_days_since_last" in ended.err


def test_columns_brought_along_become_features(own_columns):
    inputs = read_inputs(own_columns.config)
    plan = plan_of(inputs.log, own_columns.config)
    assert {"items.brand", "items.grams", "items.picture", "users.age", "events.mood", "events.text"} <= set(
        plan.inventory.inputs
    )
    assert set(plan.inventory.vocabularies) == {"items.brand"}
    names = {name for family in FAMILIES.values() for name in family.columns_of(plan)}
    assert names >= {
        "user_brand_lift",
        "item_attribute_grams",
        "own_attribute_age",
        "vector_picture_nearest",
        "comments_mean_sentiment",
    }


def test_describe_tells_drift_against_what_it_wrote_before(own_columns, command, tmp_path):
    reference = tmp_path / "reference.json"
    first = command(own_columns, "features", "describe", "--to", str(reference))
    assert first.code == 0
    assert first.facts["psi"] == {}
    told = first.facts["columns"]
    assert told["own_attribute_age"]["largest"] < 50
    assert told["vector_picture_nearest"]["null_share"] < 1
    again = command(own_columns, "features", "describe", "--reference", str(reference))
    assert set(again.facts["psi"].values()) == {0.0}
    assert again.facts["psi"].keys() == told.keys()
    assert again.facts["gone"] == []
    other = json.loads(reference.read_text(encoding="utf-8"))
    other["columns"]["of_before"] = next(iter(other["columns"].values()))
    reference.write_text(json.dumps(other), encoding="utf-8")
    latest = command(own_columns, "features", "describe", "--latest", "--reference", str(reference))
    assert latest.facts["gone"] == ["of_before"]
    assert "of_before" in latest.err
    assert latest.facts["window"] != first.facts["window"]
    assert latest.facts["psi"]["user_days_since_first"] > 0


@pytest.mark.parametrize(
    ("told", "says"),
    [
        ({"attributes": {"items": ["pric"]}}, "features.attributes.items: 'pric' is no column of items; did you mean"),
        ({"attributes": {"users": ["segmnt"]}}, "'segmnt' is no column of users; did you mean 'segment'?"),
        ({"sentiment": "moood"}, "features.sentiment: 'moood' is no column of events"),
        ({"families": ["pair", "text_word"]}, "Did you mean 'text_words'?"),
        ({"famlies": ["pair"]}, "features.famlies: unknown key. Did you mean 'families'?"),
    ],
)
def test_what_features_name_wrongly_is_refused_with_the_nearest(project, command, told, says):
    project.change(features=told)
    ended = command(project, "check")
    assert ended.code == 2
    assert says in ended.err


def test_a_vector_column_of_texts_or_of_two_lengths_is_refused(own_columns):
    own_columns.change(features={"vectors": ["brand"]})
    with pytest.raises(ContractError, match="column 'brand' is String; write a list of numbers"):
        read_inputs(own_columns.config)
    items = pl.read_parquet(own_columns.folder / "items.parquet")
    uneven = pl.Series("picture", [[1.0] * (2 + n % 2) for n in range(items.height)])
    items.with_columns(uneven).write_parquet(own_columns.folder / "items.parquet")
    own_columns.change(features={"vectors": ["picture"], "attributes": {}})
    log = read_inputs(own_columns.config).log
    with pytest.raises(ContractError, match="vectors in 'picture' have 2 lengths"):
        FeatureSet(log, plan_of(log, own_columns.config))


def test_a_segment_is_a_column_of_users(project, command):
    project.change(candidates={"segment": "segmnt"})
    ended = command(project, "check")
    assert ended.code == 2
    assert "candidates.segment: 'segmnt' is no column of users; did you mean 'segment'?" in ended.err
    project.change(candidates={"segment": "segment"})
    assert "segment" in read_inputs(project.config).log.users.columns


def test_attributes_of_users_need_their_table(project):
    project.change(data={"users": None}, features={"attributes": {"users": ["segment"]}})
    with pytest.raises(ConfigError, match=r"name that table under data\.users"):
        read_inputs(project.config)


def test_a_reference_that_is_none_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="no reference at"):
        read_reference(tmp_path / "absent.json")
    for content in ({}, {"columns": {"a": 1}}, []):
        (tmp_path / "other.json").write_text(json.dumps(content), encoding="utf-8")
        with pytest.raises(IntegrityError, match="is no reference"):
            read_reference(tmp_path / "other.json")


def test_the_manifest_names_every_column_of_the_training_table(trained_project):
    trained = trained_project.trained
    manifest = load_bundle(trained_project.registered.bundle).features
    declared = [column.name for column in manifest.columns]
    assert tuple(declared) == trained.chain.features == trained.ranker.features
    assert {column.family for column in manifest.columns} <= {*FAMILIES, "sources", trained.chain.interest.name}
    text = {column.name for column in manifest.columns if column.text}
    assert set(manifest.behaviour) == set(declared) - text
    assert text >= set(trained.chain.interest.columns)
    assert manifest.inventory == trained.chain.assembler.plan.inventory


def test_a_night_without_an_input_of_the_training_is_refused(trained_project, tmp_path, command):
    project = trained_project.copy(tmp_path / "project")
    path = project.folder / "items.parquet"
    pl.read_parquet(path).with_columns(price=pl.lit(None, pl.Float64)).write_parquet(path)
    ended = command(project, "score", "--date", str(project.day))
    assert ended.code == 10
    assert "items has nothing in 'price'" in ended.err


def test_a_night_without_an_event_type_of_the_training_goes_on_and_says_so(trained_project, tmp_path, command):
    project = trained_project.copy(tmp_path / "project")
    for path in project.folder.glob("events/*/*.parquet"):
        day = pl.read_parquet(path, hive_partitioning=False)
        day.filter(pl.col("event") != "impression").write_parquet(path)
    ended = command(project, "score", "--date", str(project.day), "--allow-empty")
    assert ended.code == 0
    (said,) = [line for line in ended.err.splitlines() if "occur no longer" in line]
    assert json.loads(said)["types"] == ["impression"]


def test_a_manifest_of_other_columns_is_refused(trained_project, tmp_path, monkeypatch):
    from pipelines.registry import bundle

    project = trained_project.copy(tmp_path / "project")
    folder = project.folder / "out/bundles" / trained_project.registered.bundle.name
    told = json.loads((folder / "features.json").read_text(encoding="utf-8"))
    (folder / "features.json").write_text(json.dumps({**told, "more": 1}), encoding="utf-8")
    monkeypatch.setattr(bundle, "verify_files", lambda _: {})  # as if its hash were right
    with pytest.raises(IntegrityError, match="no feature manifest"):
        load_bundle(folder)
