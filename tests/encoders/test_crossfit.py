"""A fold's scores come from a model that the fold has taught nothing."""

import dataclasses
from dataclasses import replace

import numpy as np
import pytest
import torch

from encoders.crossfit import cross_fit
from encoders.data import Examples, Histories
from encoders.fit import ReadTexts, fit_block
from features.errors import ConfigError

TEXTS = ["red mug", "blue mug", "teapot", "iron pan", "kettle", "shoe", "jacket", "tent", "sock", "boot"]
ITEMS, REQUESTS = len(TEXTS), 24


def lessons(seed: int = 0) -> Examples:
    """Two items had, two taken, three not, for each request."""
    rng = np.random.default_rng(seed)
    dealt = np.array([rng.permutation(ITEMS) for _ in range(REQUESTS)])
    ones = np.ones((REQUESTS, 2), np.float32)
    return Examples(
        histories=Histories(dealt[:, :2], ones, ones, ones.astype(np.uint16)),
        item=dealt[:, 2:7].ravel(),
        gain=np.tile(np.array([2, 1, 0, 0, 0], np.float32), REQUESTS),
        starts=np.arange(REQUESTS + 1) * 5,
        positives=np.full(REQUESTS, 2),
        text_of_item=np.arange(ITEMS),
    )


@pytest.fixture
def learner(tiny_model, tiny_config):
    """A model, its texts, and the configuration of its lessons."""
    sizes = {"requests_per_batch": 8, "candidates_per_request": 5, "positives_per_request": 2}
    config = tiny_config(**sizes, head_steps=4, steps=4, train={"last": 1}, learning_rate=1e-3, in_batch_weight=0.5)
    model = tiny_model(train=config.train)
    texts = model.tokenise(TEXTS)
    lower = model.read_lower(texts)
    return model, ReadTexts(texts, lower, model.pool("tuned", texts, lower=lower)), config


def weights_of_each_fold(learner, examples: Examples, fold, by: str):
    model, read, config = learner
    fits = cross_fit(model, examples, fold, by=by, read=read, config=config, seed=7)
    return {number: model.weights() for number, _ in fits}


def same(one, other) -> bool:
    return all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_a_fold_is_scored_by_what_the_other_folds_alone_make_of_the_model(learner):
    model, read, config = learner
    examples, fold = lessons(), np.arange(REQUESTS) % 3
    found = weights_of_each_fold(learner, examples, fold, "user")
    start = model.weights()
    fit_block(model, examples.take(np.flatnonzero(fold != 1)), read, config=config, seed=8)
    assert same(found[1], model.weights())
    assert not same(found[1], start)
    assert not same(found[1], found[2])


def test_what_users_of_a_fold_took_does_not_reach_the_model_that_scores_them(learner):
    examples, other, fold = lessons(), lessons(seed=1), np.arange(REQUESTS) % 3
    changed = other.take(np.flatnonzero(fold == 0)).joined(examples.take(np.flatnonzero(fold != 0)))
    moved = np.concatenate([np.zeros((fold == 0).sum(), np.int64), fold[fold != 0]])
    first, second = (weights_of_each_fold(learner, of, at, "user") for of, at in ((examples, fold), (changed, moved)))
    assert same(first[0], second[0])
    assert not same(first[1], second[1])


def test_items_of_a_fold_reach_the_model_that_scores_them_in_no_role(learner):
    examples, fold = lessons(), np.arange(ITEMS) % 2
    deal = np.arange(ITEMS)
    deal[fold == 0] = np.roll(deal[fold == 0], 1)  # who had and took which of them is dealt out anew
    held = examples.histories
    histories = dataclasses.replace(held, item_RH=deal[held.item_RH])
    changed = dataclasses.replace(examples, histories=histories, item=deal[examples.item])
    first, second = (weights_of_each_fold(learner, of, fold, "item") for of in (examples, changed))
    assert same(first[0], second[0])
    assert not same(first[1], second[1])


@pytest.mark.parametrize("stop_early", [True, False])
def test_the_model_is_afterwards_what_it_was(learner, stop_early):
    model, read, config = learner
    start = model.weights()
    for _ in cross_fit(model, lessons(), np.arange(REQUESTS) % 2, by="user", read=read, config=config, seed=7):
        assert not same(model.weights(), start)
        if stop_early:
            break
    assert same(model.weights(), start)


def test_without_items_leaves_the_other_candidates_and_histories_in_their_order():
    examples = Examples(
        histories=Histories(
            np.array([[0, 1], [2, -1], [3, 4]]), np.ones((3, 2)), np.full((3, 2), 2.0), np.arange(6).reshape(3, 2)
        ),
        item=np.array([2, 3, 4, 0, 1, 2, 0, 1]),
        gain=np.array([3, 1, 0, 2, 0, 1, 1, 0], np.float32),
        starts=np.array([0, 3, 5, 8]),
        positives=np.array([2, 1, 2]),
        text_of_item=np.arange(5),
        score=np.arange(8, dtype=np.float32),
    )
    left = examples.without(np.array([False, False, True, False, False]))
    # The second request's history was item 2 alone: it goes. The others lose candidate 2.
    assert left.histories.item_RH.tolist() == [[0, 1], [3, 4]]
    assert left.histories.event_type_RH.tolist() == [[0, 1], [4, 5]]
    assert left.item.tolist() == [3, 4, 0, 1]
    assert left.gain.tolist() == [1, 0, 1, 0]
    assert left.score.tolist() == [1, 2, 6, 7]
    assert left.starts.tolist() == [0, 2, 4]
    assert left.positives.tolist() == [1, 1]
    assert len(examples.without(np.ones(5, bool))) == 0
    asking = replace(examples, query_R=np.array([-1, 7, -1])).without(np.arange(5) == 2)
    assert asking.query_R.tolist() == [-1, 7, -1]  # whose query is enough
    assert asking.histories.item_RH.tolist() == [[0, 1], [-1, -1], [3, 4]]


@pytest.mark.parametrize(
    ("fold", "by", "told"),
    [
        (np.zeros(REQUESTS, np.int64), "user", "fold 0 of users leaves no request"),
        (np.zeros(ITEMS, np.int64), "item", "fold 0 of items leaves no request"),
        (np.zeros(ITEMS, np.int64), "user", f"each of {REQUESTS}"),
        (np.full(ITEMS, -1), "item", f"each of {ITEMS}"),
    ],
)
def test_folds_that_cannot_be_are_refused(learner, fold, by, told):
    with pytest.raises(ConfigError, match=told):
        weights_of_each_fold(learner, lessons(), fold, by)
