"""A block trains what is to be trained, to the last bit the same each time, and says nothing."""

import logging

import numpy as np
import pytest
import torch

from encoders.data import Examples, Histories
from encoders.fit import fit_block

KITCHEN = ["red mug", "blue mug", "glass teapot", "iron pan", "красная кружка", "红茶杯", "kitchen", "синий чайник"]
OUTDOOR = ["running shoe", "rain jacket", "warm tent", "wool sock", "тёплая куртка", "跑鞋", "outdoor", "雨衣"]
TEXTS = KITCHEN + OUTDOOR


def lesson(requests: int = 40, seed: int = 0) -> Examples:
    """Each user has three items of one shelf and takes two more of it, among four of the other."""
    rng = np.random.default_rng(seed)
    histories, items = [], []
    for _ in range(requests):
        one, other = (rng.permutation(8) + shelf * 8 for shelf in rng.permutation(2))
        histories.append(one[:3])
        items.extend([*one[3:5], *other[:4]])
    shape = (requests, 3)
    return Examples(
        histories=Histories(np.array(histories), np.ones(shape, np.float32), np.ones(shape, np.float32)),
        item=np.array(items),
        gain=np.tile(np.array([3, 1, 0, 0, 0, 0], np.float32), requests),
        starts=np.arange(requests + 1) * 6,
        positives=np.full(requests, 2),
        text_of_item=np.arange(16),
    )


@pytest.fixture
def train(tiny_model, tiny_config):
    """Trains a new model; returns it, its weights before, and the losses."""

    def run(*, seed=3, report=None, model=None, examples=None, **changes):
        sizes = {"requests_per_batch": 10, "candidates_per_request": 6, "positives_per_request": 2}
        rates = {"head_steps": 6, "steps": 6, "train": {"last": 1}, "learning_rate": 1e-3}
        config = tiny_config(**(sizes | rates | changes))
        model = model or tiny_model(train=config.train, precision=config.precision)
        before = {name: tensor.clone() for name, tensor in model._tensors().items()}
        texts = model.tokenise(TEXTS)
        lower = model.read_lower(texts)
        losses = fit_block(
            model,
            lesson() if examples is None else examples,
            texts=texts,
            lower=lower,
            pooled=model.pool("tuned", texts, lower=lower),
            config=config,
            seed=seed,
            report=report,
        )
        return model, before, losses

    return run


def changed(model, before) -> set[str]:
    return {name for name, tensor in model._tensors().items() if not torch.equal(tensor, before[name])}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_same_seed_makes_the_same_weights_to_the_last_bit(train, precision):
    one, _, first = train(precision=precision)
    torch.rand(7)  # the state of the global generator plays no part
    two, _, second = train(precision=precision)
    other, _, _ = train(precision=precision, seed=4)
    assert first == second
    assert one.digest("tuned") == two.digest("tuned") != other.digest("tuned")
    assert all(torch.equal(a, b) for a, b in zip(one._tensors().values(), two._tensors().values(), strict=True))


def test_the_loss_goes_down_on_what_can_be_learned(train):
    _, _, losses = train(head_steps=15, steps=25, learning_rate=3e-3, projection_learning_rate=2e-2)
    assert len(losses) == 40
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:3])


def test_training_generalises_to_other_requests_of_the_same_shelves(train):
    model, _, _ = train(head_steps=15, steps=25, learning_rate=3e-3, projection_learning_rate=2e-2)
    vectors = model.embed("tuned", model.tokenise(TEXTS)).astype(float)
    plain = model.embed("zero_shot", model.tokenise(TEXTS)).astype(float)

    def contrast(of):
        shelf = np.arange(16) // 8
        cosines = of @ of.T / np.linalg.norm(of, axis=1) / np.linalg.norm(of, axis=1)[:, None]
        alike = shelf[:, None] == shelf
        return cosines[alike & ~np.eye(16, dtype=bool)].mean() - cosines[~alike].mean()

    assert contrast(vectors) > contrast(plain) + 0.2


def test_upper_layers_projection_and_user_tower_change_and_nothing_else(train):
    model, before, _ = train()
    moved = changed(model, before)
    assert "tuned.projection.weight" in moved
    assert {"user.wanted_D", "user.sharpness_K", "user.mixture_K", "user.log_scale"} <= moved
    upper = {name for name in before if name.startswith("tuned.upper.")}
    assert {name for name in upper if "weight" in name} <= moved
    assert {name.split(".")[0] for name in moved} == {"tuned", "user"}
    assert not [name for name in moved if name.startswith(("tuned.lower.", "tuned.embeddings."))]


def test_the_zero_shot_vectors_stay_what_they_were(train, tiny_model):
    model, _, _ = train()
    fresh = tiny_model(train={"last": 1})
    assert model.digest("zero_shot") == fresh.digest("zero_shot")
    assert np.array_equal(
        model.embed("zero_shot", model.tokenise(TEXTS)), fresh.embed("zero_shot", fresh.tokenise(TEXTS))
    )


def test_head_steps_alone_leave_the_layers_untouched(train):
    model, before, losses = train(head_steps=5, steps=0)
    assert len(losses) == 5
    moved = changed(model, before)
    assert "tuned.projection.weight" in moved
    assert not [name for name in moved if name.startswith("tuned.upper.")]


def test_steps_without_head_steps_train_the_layers_from_the_first(train):
    model, before, losses = train(head_steps=0, steps=2)
    assert len(losses) == 2
    assert [name for name in changed(model, before) if name.startswith("tuned.upper.")]


@pytest.mark.parametrize("changes", [{"head_steps": 0, "steps": 0}, {"train": {"last": 0}}])
def test_nothing_asked_changes_nothing(train, changes):
    model, before, losses = train(**changes)
    assert losses == []
    assert not changed(model, before)


def test_nothing_to_learn_changes_nothing(train):
    model, before, losses = train(examples=lesson(0))
    assert losses == []
    assert not changed(model, before)


def test_in_training_frozen_layers_are_in_eval_mode_and_upper_ones_are_not(train, tiny_model):
    model, seen = tiny_model(train={"last": 2}), []

    def look(step, loss):
        frozen = [part for top in (model.tuned.embeddings, *model.tuned.lower) for part in top.modules()]
        live = [part for top in model.tuned.upper for part in top.modules()]
        seen.append((step, loss, any(p.training for p in frozen), all(p.training for p in live)))

    _, _, losses = train(model=model, train={"last": 2}, head_steps=2, steps=2, report=look)
    assert seen == [(step + 1, loss, False, True) for step, loss in enumerate(losses)]
    assert not any(part.training for part in (*model.tuned.modules(), *model.user_tower.modules()))


def test_nothing_is_printed_logged_or_warned_of(train, capfd, caplog, recwarn):
    with caplog.at_level(logging.INFO):
        train()
    told = capfd.readouterr()
    assert told.out == ""
    assert "eval mode" not in told.err + caplog.text
    assert not [str(warning.message) for warning in recwarn]


def test_a_failure_leaves_determinism_and_logging_as_they_were(train):
    level = logging.getLogger("pytorch_lightning").level

    def fail(_step, _loss):
        raise RuntimeError("the user stopped it")

    with pytest.raises(RuntimeError, match="the user stopped it"):
        train(report=fail)
    assert not torch.are_deterministic_algorithms_enabled()
    assert logging.getLogger("pytorch_lightning").level == level
