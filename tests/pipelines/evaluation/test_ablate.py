"""What the parts of a version are worth: planted ones, and those that every version has."""

import re

import pytest
from mlflow import MlflowClient

from encoders.interest import FINE_TUNED, INTEREST_COLUMNS
from features.families.registry import FAMILIES
from features.signals.family import Family
from pipelines.evaluation.evaluate import FULL
from pipelines.inputs.check import read_inputs
from pipelines.registry.register import register
from pipelines.registry.registry import Registry
from pipelines.registry.tracking import tracking_uri
from pipelines.registry.versions import load_version, whole_version, working_config
from pipelines.stores.rows import kept_rows
from pipelines.training.chain import Chain
from pipelines.training.train import train

pytestmark = pytest.mark.slow


class Noise(Family):
    """Says nothing of any row."""

    name = "noise"
    keys = ("user", "item")
    columns = {"noise_hash": "a number that user, item and day give, another one each day"}

    def __init__(self, log, plan):
        pass

    def compute(self, rows):
        return {"noise_hash": (rows.user * 7919 + rows.item * 104_729 + rows.as_of_day * 15_485_863) % 1009}


@pytest.fixture(scope="module")
def planted(shop_project, tmp_path_factory):
    """A version with a family that is worth nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(FAMILIES, "noise", Noise)
        project = shop_project.copy(tmp_path_factory.mktemp("planted") / "project")
        project.change(
            features={"families": ["pair", "noise"]},
            candidates={"similar_users": 0},  # which would rank well enough before behaviour is read
            ranker={"max_trees": 100, "network": None},
        )
        inputs = read_inputs(project.config)
        register(train(inputs.log, project.config), inputs, project.config)
        yield project


def worth(facts, part, slice_name="all"):
    (found,) = (
        row
        for row in facts["ablations"]
        if (row["without"], row["slice"], row["metric"]) == (part, slice_name, "ndcg@10")
    )
    return found


@pytest.fixture(scope="module")
def whole(trained_project):
    """The version as its bundle has it, and not as its training left it."""
    config = trained_project.config
    name, bundle = load_version(Registry(config), "1")
    log = read_inputs(config).log
    return whole_version(name, bundle, Chain(log, working_config(config, bundle), bundle.model, cut=bundle.cut))


def test_with_all_its_parts_a_version_is_trained_again_to_the_same_bits(whole, trained_project):
    assert whole.ranker_without("nothing").files() == trained_project.trained.ranker.files()


def test_in_sample_rows_are_those_of_the_version_but_for_what_the_encoder_says(whole):
    rows = kept_rows(whole.rows, whole.chain.log, whole.config)
    again = whole.in_sample()
    of_encoder = {*INTEREST_COLUMNS, FINE_TUNED, "encoder_digest", "encoder_day"}
    others = [name for name in rows.columns if name not in {*of_encoder, "request"}]
    assert again.select(others).equals(rows.select(others), null_equal=True)
    assert again["request"].rle_id().equals(rows["request"].rle_id())
    assert (again["interest_z"] != rows["interest_z"]).mean() > 0.5
    assert again["encoder_day"].unique().to_list() == [whole.encoder_day]
    assert (again["encoder_day"] > again["as_of_day"]).all()  # what a ranker must not learn from


@pytest.mark.slow
def test_what_says_nothing_does_not_lose_and_the_only_useful_part_does(planted, command):
    ended = command(planted, "evaluate", "--ablate", "noise,behaviour")
    facts = ended.facts
    noise, behaviour = worth(facts, "noise"), worth(facts, "behaviour")
    assert not noise["loses"]
    assert noise["low"] <= 0
    assert behaviour["loses"]
    assert behaviour["low"] > 0.05
    table = ended.err[ended.err.index("What the parts are worth") :]
    noise_row, behaviour_row = (re.search(rf"│{part} +│ ([^│]+)│", table)[1] for part in ("noise", "behaviour"))
    assert "*" in noise_row
    assert "*" not in behaviour_row


def test_parts_are_judged_beside_the_systems_and_logged_to_the_versions_run(project, command):
    parts = "text, prequential, interest, field:description"
    ended = command(project, "evaluate", "--version", "1", "--ablate", parts, "--systems", "ItemKNN")
    facts = ended.facts
    systems = list(dict.fromkeys(row["system"] for row in facts["systems"]))
    # A part has its place, whatever the order they are told in.
    named = ["without text", "without prequential", "without interest", "without field:description"]
    assert systems == [FULL, *named, "ItemKNN"]
    full = [row for row in facts["systems"] if row["system"] == FULL]
    assert full == [row for row in project.registered.evaluation.as_json()["systems"] if row["system"] == FULL]
    assert [name for name in named if f"│ full system │ {name} " in ended.err] == []  # told in a table of their own
    client = MlflowClient(tracking_uri=tracking_uri(project.config))
    metrics = client.get_run(Registry(project.config).version("1").run_id).data.metrics
    assert metrics["lift.full_system.over.without_text.all.ndcg_at_10"] == worth(facts, "text")["difference"]
    assert metrics["without_field_description.all.ndcg_at_10"] == next(
        row["mean"]
        for row in facts["systems"]
        if (row["system"], row["slice"], row["metric"]) == (named[-1], "all", "ndcg@10")
    )


def test_on_logged_lists_the_ranker_without_text_is_the_behaviour_only_ranker(whole):
    assert whole.ranker_without("text", logged_lists=True) is whole.behaviour_ranker
    other = whole.ranker_without("text")
    assert other.features == whole.behaviour_ranker.features
    assert other.files() != whole.behaviour_ranker.files()  # its candidates are those of all generators


def test_an_unknown_part_is_refused_with_the_nearest_before_anything_is_scored(project, command):
    ended = command(project, "evaluate", "--version", "1", "--ablate", "text,preqential")
    assert ended.code == 2
    assert (
        "--ablate: 'preqential' is no part of nightrank/1. Did you mean 'prequential'? Choose of: text; " in ended.err
    )
    assert "Scoring" not in ended.err
    assert (
        "Did you mean 'field:description'?"
        in command(project, "evaluate", "--version", "1", "--ablate", "description").err
    )


def test_rows_that_are_not_there_are_wrong_usage_and_a_field_needs_none(project, command):
    (path,) = (project.folder / "out/training").glob("*.parquet")
    path.unlink()
    ended = command(project, "evaluate", "--version", "1", "--ablate", "pair")
    assert ended.code == 2
    assert f"no rows of the earlier training at {path}" in ended.err
    assert command(project, "evaluate", "--version", "1", "--ablate", "field:title").code == 0
