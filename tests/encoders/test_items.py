"""A residual by id or attribute moves the items it was learned for, and no other item by a bit."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from pydantic import ValidationError

from encoders.config import ItemEmbeddingsConfig
from encoders.data import Examples, Histories
from encoders.embed import on_grid
from encoders.fit import ReadTexts, fit_block
from encoders.items import CodedItems, ItemEmbeddings
from encoders.model import InterestModel
from features.errors import ConfigError
from features.tables.text import GRID

TEXTS = ["red mug", "iron pan", "rain jacket", "warm tent"]
ITEMS = pl.DataFrame(
    {"item_id": range(8), "shelf": ["a", "a", "b", None, "a", "b", "b", "new"]},
    schema={"item_id": pl.Int64, "shelf": pl.String},
)
"""Items n and n + 4 share a text; the first four are preferred."""


@pytest.fixture
def embeddings():
    """Of ids 1 and 5 and of shelves a and b, two wide."""
    made = ItemEmbeddings(2, {"item_id": ["1", "5"], "shelf": ["a", "b"]}, dropout=0.5).eval()
    with torch.no_grad():
        made.tables[0][1:] = torch.tensor([[0.0, 1.0], [-0.5, 0.0]])
        made.tables[1][1:] = torch.tensor([[0.0, 0.5], [0.25, 0.0]])
    return made


def test_what_the_vocabulary_does_not_have_and_null_is_0(embeddings):
    assert embeddings.codes(ITEMS).tolist() == [[0, 1], [1, 1], [0, 2], [0, 0], [0, 1], [2, 2], [0, 2], [0, 0]]


def test_the_vector_is_the_unit_vector_of_the_sum(embeddings):
    vectors = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.6, 0.8]])
    found = embeddings(vectors, torch.tensor([[1, 1], [2, 2], [0, 0]]))
    expected = torch.tensor([[1.0, 1.5], [0.75, 0.0], [0.6, 0.8]])
    torch.testing.assert_close(found, expected / expected.norm(dim=1, keepdim=True))


def test_an_item_without_a_residual_keeps_its_vector_to_the_last_bit(embeddings):
    vectors = on_grid(np.random.default_rng(0).normal(size=(8, 2)).astype(np.float32))
    found = embeddings.apply_to(vectors, ITEMS)
    assert np.array_equal(found[[3, 7]], vectors[[3, 7]])
    assert (found[[0, 1, 2, 4, 5, 6]] != vectors[[0, 1, 2, 4, 5, 6]]).any(1).all()
    one = vectors[1] / GRID + [0.0, 1.5]
    assert found[1] == pytest.approx(GRID * one / np.linalg.norm(one), abs=1.5)
    fresh = ItemEmbeddings(2, embeddings.vocabularies, dropout=0.5)
    assert np.array_equal(fresh.apply_to(vectors, ITEMS), vectors)


def test_some_other_items_beside_it_change_no_bit_of_an_item(embeddings):
    vectors = on_grid(np.random.default_rng(1).normal(size=(8, 2)).astype(np.float32))
    whole = embeddings.apply_to(vectors, ITEMS)
    for kept in ([5], [1, 2], [6, 5, 0]):
        assert np.array_equal(embeddings.apply_to(vectors[kept], ITEMS[kept]), whole[kept])


def test_in_training_some_items_do_without_and_none_does_later(embeddings):
    vectors, codes = torch.tensor([[1.0, 0.0]]).repeat(4000, 1), torch.tensor([[1, 0]]).repeat(4000, 1)
    torch.manual_seed(0)
    found = embeddings.train()(vectors, codes)
    assert (found == vectors).all(1).float().mean().item() == pytest.approx(0.5, abs=0.03)
    moved = found[(found != vectors).any(1)]
    torch.testing.assert_close(moved, torch.full_like(moved, 0.5**0.5))
    assert (embeddings.eval()(vectors, codes) != vectors).any(1).all()


def taught() -> Examples:
    """40 users without a history take item n, and never its twin n + 4 of the same text."""
    rng = np.random.default_rng(0)
    ones = np.ones((40, 1), np.float32)
    items = np.concatenate([np.r_[n, rng.permutation([4, 5, 6])] for n in rng.integers(0, 3, 40)])  # nobody meets 3, 7
    empty = Histories(np.full((40, 1), -1), ones, ones, ones.astype(np.uint16))
    gain = np.tile(np.array([1, 0, 0, 0], np.float32), 40)
    return Examples(empty, items, gain, np.arange(41) * 4, np.ones(40, np.int64), np.arange(8))


@pytest.fixture
def fit(tiny_model, tiny_config):
    """Trains a model on items that share texts; the model and the block."""

    def run(embedded: ItemEmbeddingsConfig | None, examples=None, **told):
        rates = {"projection_learning_rate": 1e-9, "head_learning_rate": 1e-2, "head_steps": 40, "steps": 2}
        sizes = {"requests_per_batch": 16, "candidates_per_request": 4, "positives_per_request": 1, "check_every": 8}
        config = tiny_config(**rates, **sizes, train={"last": 1}, item_embeddings=embedded)
        model, items = tiny_model(train={"last": 1}), None
        text_of_item = np.arange(8) % 4
        if embedded is not None:
            model.embed_items(embedded, ITEMS, np.ones(8, np.bool_))
            items = CodedItems(text_of_item, model.item_embeddings.codes(ITEMS))
        texts = model.tokenise(TEXTS)
        lower = model.read_lower(texts)
        read = ReadTexts(texts, lower, model.pool("tuned", texts, lower=lower), items)
        examples = examples or taught()
        if embedded is None:
            examples = replace(examples, text_of_item=text_of_item)
        return model, fit_block(model, examples, read, config=config, seed=1, **told)

    return run


STRONG = ItemEmbeddingsConfig(learning_rate=3.0)


def test_ids_tell_apart_what_texts_do_not(fit):
    _, plain = fit(None)
    model, told = fit(STRONG)
    assert np.mean(told.losses[-10:]) < 0.8 * np.mean(plain.losses[-10:])
    vectors = model.embed("tuned", model.tokenise(TEXTS))[np.arange(8) % 4]
    found = model.item_vectors(vectors, ITEMS)
    assert np.array_equal(found[[3, 7]], vectors[[3, 7]])
    assert (found[:3] != found[4:7]).any(1).all()
    wanted = found.astype(float) @ model.user_tower.wanted_D.detach().numpy()
    assert (wanted[:3] > wanted[4:7]).all()


def test_an_attribute_is_learned_for_all_that_have_it(fit):
    model, _ = fit(ItemEmbeddingsConfig(item_id=False, attributes=("shelf",), learning_rate=3.0))
    (table,) = model.item_embeddings.tables
    assert model.item_embeddings.vocabularies == {"shelf": ("a", "b", "new")}
    assert table[0].abs().max() == table[3].abs().max() == 0  # none, and a value that nobody met
    assert (table[1:3].abs().amax(1) > 0).all()


def test_the_same_seed_makes_the_same_residuals_and_a_killed_training_too(fit, tmp_path):
    model, told = fit(STRONG)

    def stop(training, _):
        if len(training.losses) == 21:
            raise RuntimeError("the user stopped it")

    with pytest.raises(RuntimeError, match="the user stopped it"):
        fit(STRONG, checkpoints=tmp_path, report=stop)
    made = []
    again, resumed = fit(STRONG, checkpoints=tmp_path, report=lambda training, _: made.append(len(training.losses)))
    assert made[0] == 17
    assert resumed.losses == told.losses
    assert again.interest_digest() == model.interest_digest() != fit(None)[0].interest_digest()
    assert again.interest_digest() != again.digest("tuned")


def test_decay_holds_residuals_back(fit):
    def length(**changes):
        model, _ = fit(ItemEmbeddingsConfig(learning_rate=1.0, **changes))
        return model.item_embeddings.tables[0].norm().item()

    assert length(weight_decay=0.3) < 0.5 * length(weight_decay=0.0)


def test_residuals_come_back_to_the_last_bit(fit, tmp_path):
    config = ItemEmbeddingsConfig(attributes=("shelf",), learning_rate=3.0, dropout=0.25)
    model, _ = fit(config)
    model.save(tmp_path)
    again = InterestModel.load(tmp_path)
    assert again.item_embeddings.vocabularies == model.item_embeddings.vocabularies
    assert list(again.item_embeddings.vocabularies) == list(config.columns)
    assert again.item_embeddings.dropout == 0.25
    assert again.interest_digest() == model.interest_digest()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors", "tokenizer.json"]
    before = model.weights()
    with torch.no_grad():
        model.item_embeddings.tables[0].add_(1)
    assert model.interest_digest() != again.interest_digest()
    model.restore(before)
    assert model.interest_digest() == again.interest_digest()


def test_an_attribute_that_is_not_there_is_refused(tiny_model):
    asked = ItemEmbeddingsConfig(attributes=("shelv",))
    with pytest.raises(ConfigError, match=r"encoder\.item_embeddings\.attributes: 'shelv'.*did you mean 'shelf'"):
        tiny_model().embed_items(asked, ITEMS, np.ones(8, np.bool_))
    with pytest.raises(ValidationError, match="names nothing to embed"):
        ItemEmbeddingsConfig(item_id=False)
