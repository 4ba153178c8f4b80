"""Options of the encoder through the whole job: what training read and trained, the night reads from the version."""

from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import yaml

from encoders.config import ItemEmbeddingsConfig
from encoders.model import InterestModel
from features.config import TextFieldConfig
from pipelines.inputs.check import read_inputs
from pipelines.registry.bundle import load_bundle
from pipelines.registry.register import register
from pipelines.registry.versions import judge_versions
from pipelines.stores.vectors import VectorStore
from pipelines.training.chain import Catalogue
from pipelines.training.train import coded_items, engaged_before, train

TEXT = [{"field": "description", "max_words": 3}, "title"]


@pytest.mark.slow
def test_a_version_of_adapters_prefix_and_limits_ranks_a_night_of_another_configuration(
    shop_project, tmp_path, command
):
    project = shop_project.copy(tmp_path / "project")
    plain = project.path.read_text(encoding="utf-8")
    data = yaml.safe_load(plain)["data"]
    items = data["items"] | {"text": TEXT}
    project.change(
        data=data | {"items": items},
        encoder={"train": "lora", "passage_prefix": "red ", "pooling": "cls", "layer_decay": 0.9},
    )
    trained = command(project, "train")
    assert trained.code == 0, trained.err
    assert command(project, "promote").code == 0
    (bundle,) = (project.folder / "out/bundles").iterdir()
    model = InterestModel.load(bundle / "encoder")
    assert (model.tuned.pooling, model.passage_prefix) == ("cls", "red ")
    assert model.digest("tuned") != model.digest("zero_shot")  # something was trained
    assert yaml.safe_load((bundle / "config.yaml").read_text())["data"]["items"]["text"] == TEXT
    project.path.write_text(plain, encoding="utf-8")  # tonight's own configuration knows nothing of it
    night = command(project, "score", "--date", str(project.day))
    assert night.code == 0, night.err
    assert night.facts["texts_encoded"] == 0  # the same texts under the same model as in training


def test_items_that_differ_beyond_the_limit_share_a_text(shop_project):
    log = read_inputs(shop_project.config).log
    whole = Catalogue.of(log, (TextFieldConfig(field="description"),))
    cut = Catalogue.of(log, (TextFieldConfig(field="description", max_words=1),))
    assert {" ".join(text.split()[:1]) for text in whole.texts} == set(cut.texts)
    assert len(cut.texts) < len(whole.texts)


@pytest.mark.slow
def test_items_that_are_told_apart_by_id_and_category_are_so_in_training_bundle_and_evaluation(shop_project, tmp_path):
    """Online, so that queries stand after items where positions of examples are those of items."""
    project = shop_project.copy(tmp_path / "project")
    embedded = {"attributes": ["category"], "learning_rate": 3.0}
    project.change(requests={"source": "logged", "mode": "online"}, encoder={"item_embeddings": embedded})
    inputs, config = read_inputs(project.config), project.config
    trained = train(inputs.log, config)
    chain, split, model = trained.chain, trained.split, trained.model
    ids, categories = model.item_embeddings.tables
    assert model.queries
    assert ids.abs().max() > 0
    assert categories.abs().max() > 0
    engaged = inputs.log.engaged.filter(pl.col("day") < split.valid.start)["item"].unique()
    known = inputs.log.items.filter(pl.col("item").is_in(engaged.implode()))["item_id"]
    assert set(model.item_embeddings.vocabularies["item_id"]) == set(known)
    assert len(known) < inputs.log.items.height
    store = VectorStore(tmp_path / "project/out/vectors", model.digest("tuned"))
    texts = store.vectors(chain.catalogue.texts, never)[chain.catalogue.text_of_item]  # of the texts alone
    assert np.array_equal(
        texts, model.embed("tuned", model.tokenise(chain.catalogue.texts))[chain.catalogue.text_of_item]
    )
    assert (model.item_vectors(texts, inputs.log.items) != texts).any()
    assert chain.digest == model.interest_digest() != model.digest("tuned")
    registered = register(trained, inputs, config)
    bundle = load_bundle(registered.bundle)
    assert bundle.model.interest_digest() == model.interest_digest()
    window = {"first_day": split.test.start, "end_day": split.test.end}
    again = judge_versions(inputs.log, config, {"nightrank/1": bundle}, **window)
    assert again.as_json() == registered.evaluation.as_json()


def never(texts):
    raise AssertionError(f"{len(texts)} texts were encoded again")


def test_an_id_that_is_new_to_a_block_learns_nothing_from_it_before_somebody_engages(shop_project):
    """What it was passed over for tells that it exists, and its place in the vocabulary that somebody will want it."""
    log = read_inputs(shop_project.config).log
    first = log.engaged.group_by("item").agg(pl.col("day").min()).sort("day")
    day = int(first["day"].quantile(0.9))
    model = InterestModel.start(shop_project.config.encoder)
    model.embed_items(ItemEmbeddingsConfig(), log.items, engaged_before(log, day + 99))
    catalogue = Catalogue.of(log, shop_project.config.data.items.text)
    coded = coded_items(SimpleNamespace(model=model, log=log, catalogue=catalogue), day)
    late = first.filter(pl.col("day") >= day)["item"].to_numpy()
    assert len(late)
    assert (coded.code_UN[late] == 0).all()
    assert (coded.code_UN[first.filter(pl.col("day") < day)["item"].to_numpy()] > 0).all()
    assert (model.item_embeddings.codes(log.items)[late] > 0).all()
