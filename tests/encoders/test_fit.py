"""A block trains what is to be trained, to the last bit the same each time, and says nothing."""

import logging
import signal
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from encoders.data import Examples, Histories, WholeLists
from encoders.fit import ReadTexts, fit_block
from encoders.interest import FINE_TUNED, InterestScorer
from encoders.module import InterestModule
from features.errors import ConfigError
from ranker.metrics import ndcg_at

KITCHEN = ["red mug", "blue mug", "glass teapot", "iron pan", "красная кружка", "红茶杯", "kitchen", "синий чайник"]
OUTDOOR = ["running shoe", "rain jacket", "warm tent", "wool sock", "тёплая куртка", "跑鞋", "outdoor", "雨衣"]
TEXTS = KITCHEN + OUTDOOR

linear_ndcg = partial(ndcg_at, k=10, gain="linear")


def block(requests: int = 40, seed: int = 0) -> Examples:
    """Each user has three items of one shelf and takes two more of it, among four of the other."""
    rng = np.random.default_rng(seed)
    histories, items = [], []
    for _ in range(requests):
        one, other = (rng.permutation(8) + shelf * 8 for shelf in rng.permutation(2))
        histories.append(one[:3])
        items.extend([*one[3:5], *other[:4]])
    ones = np.ones((requests, 3), np.float32)
    return Examples(
        histories=Histories(np.array(histories), ones, ones, np.tile(np.array([1, 2, 2], np.uint16), (requests, 1))),
        item=np.array(items),
        gain=np.tile(np.array([3, 1, 0, 0, 0, 0], np.float32), requests),
        starts=np.arange(requests + 1) * 6,
        positives=np.full(requests, 2),
        text_of_item=np.arange(16),
    )


def of_types(examples: Examples) -> Examples:
    """The same, where the first item of a history is of another shelf, and its event of a type of its own."""
    histories = examples.histories
    item_RH = histories.item_RH.copy()
    item_RH[:, 0] = (item_RH[:, 0] + 8) % 16
    return replace(examples, histories=replace(histories, item_RH=item_RH))


@pytest.fixture
def train(tiny_model, tiny_config):
    """Trains a new model; returns it, its weights before, and the losses."""

    def run(
        *,
        seed=3,
        report=None,
        model=None,
        examples=None,
        old=None,
        checkpoints=None,
        linear_ndcg=linear_ndcg,
        **changes,
    ):
        sizes = {"requests_per_batch": 10, "candidates_per_request": 6, "positives_per_request": 2}
        rates = {"head_steps": 6, "steps": 6, "train": {"last": 1}, "learning_rate": 1e-3}
        config = tiny_config(**(sizes | rates | changes))
        model = model or tiny_model(train=config.train, precision=config.precision)
        before = {name: tensor.clone() for name, tensor in model._tensors().items()}
        texts = model.tokenise(TEXTS)
        lower = model.read_lower(texts)
        taught = fit_block(
            model,
            block() if examples is None else examples,
            ReadTexts(texts, lower, model.pool("tuned", texts, lower=lower)),
            config=config,
            seed=seed,
            report=report,
            old=old,
            checkpoints=checkpoints,
            linear_ndcg=linear_ndcg,
        )
        run.result = taught
        return model, before, taught.losses

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


def test_weights_are_restored_to_the_last_bit(train):
    model, _, _ = train()
    before, digest = model.weights(), model.digest("tuned")
    train(model=model, seed=5)
    assert model.digest("tuned") != digest
    model.restore(before)
    assert model.digest("tuned") == digest
    assert all(torch.equal(tensor, before[name]) for name, tensor in model._tensors().items() if name in before)


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
    model, before, losses = train(examples=block(0))
    assert losses == []
    assert not changed(model, before)


def test_in_training_frozen_layers_are_in_eval_mode_and_upper_ones_are_not(train, tiny_model):
    model, seen = tiny_model(train={"last": 2}), []

    def look(training, _texts):
        frozen = [part for top in (model.tuned.embeddings, *model.tuned.lower) for part in top.modules()]
        live = [part for top in model.tuned.upper for part in top.modules()]
        seen.append(
            (len(training.losses), training.losses[-1], any(p.training for p in frozen), all(p.training for p in live))
        )

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

    def fail(*_):
        raise RuntimeError("the user stopped it")

    with pytest.raises(RuntimeError, match="the user stopped it"):
        train(report=fail)
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.utils.deterministic.fill_uninitialized_memory
    assert logging.getLogger("pytorch_lightning").level == level


KILLED = """
import json, os, signal, sys
from pathlib import Path
sys.path[:0] = {paths!r}
from test_fit import TEXTS, block, linear_ndcg
from encoders.config import EncoderConfig
from encoders.fit import ReadTexts, fit_block
from encoders.model import InterestModel

config = EncoderConfig(**json.loads(sys.argv[1]))
model = InterestModel.start(config)
texts = model.tokenise(TEXTS)
lower = model.read_lower(texts)
fit_block(
    model, block(), ReadTexts(texts, lower, model.pool("tuned", texts, lower=lower)), config=config, seed=3,
    report=lambda training, _: len(training.losses) == int(sys.argv[3]) and os.kill(os.getpid(), signal.SIGKILL),
    checkpoints=Path(sys.argv[2]), linear_ndcg=linear_ndcg,
)
"""


@pytest.mark.parametrize("at", [3, pytest.param(11, marks=pytest.mark.slow)])
def test_a_killed_training_is_taken_up_to_the_same_bits(train, tiny_config, tmp_path, at):
    """Killed among the head steps and among the layers' steps; states are kept every 4 of 16 steps."""
    changes = {"head_steps": 6, "steps": 10, "check_every": 4, "stop_requests": 4, "patience": 9}
    whole, _, losses = train(**changes)
    sizes = {"requests_per_batch": 10, "candidates_per_request": 6, "positives_per_request": 2, "train": {"last": 1}}
    config = tiny_config(**(sizes | {"learning_rate": 1e-3} | changes))
    here = Path(__file__).parent
    script = KILLED.format(paths=[str(here.parents[1]), str(here)])
    command = [sys.executable, "-c", script, config.model_dump_json(), str(tmp_path), str(at)]
    assert subprocess.run(command, check=False, capture_output=True).returncode == -signal.SIGKILL
    kept = torch.load(tmp_path / "last.ckpt", weights_only=True) if at > 4 else {"global_step": 0}
    assert kept["global_step"] == at // 4 * 4
    made = []
    resumed, _, again = train(
        **changes, checkpoints=tmp_path, report=lambda training, _: made.append(len(training.losses))
    )
    assert made == list(range(at // 4 * 4 + 1, 17))
    assert again == losses
    assert all(torch.equal(a, b) for a, b in zip(whole._tensors().values(), resumed._tensors().values(), strict=True))


def test_a_finished_lesson_is_not_made_again(train, tmp_path):
    whole, _, losses = train(checkpoints=tmp_path)
    made = []
    again, _, told = train(checkpoints=tmp_path, report=lambda training, _: made.append(len(training.losses)))
    assert made == []
    assert told == losses
    assert again.digest("tuned") == whole.digest("tuned")


@pytest.mark.parametrize("harm", ["another block", "truncated", "no checkpoint at all"])
def test_what_is_no_state_of_this_lesson_is_written_over(train, tmp_path, harm):
    whole, _, losses = train(seed=3)
    train(seed=4 if harm == "another block" else 3, checkpoints=tmp_path)
    last = tmp_path / "last.ckpt"
    if harm == "truncated":
        last.write_bytes(last.read_bytes()[:2000])
    elif harm == "no checkpoint at all":
        last.write_bytes(b"a text")
    again, _, told = train(seed=3, checkpoints=tmp_path)
    assert told == losses
    assert again.digest("tuned") == whole.digest("tuned")
    assert torch.load(last, weights_only=True)["global_step"] == 12


def test_how_often_the_state_is_kept_changes_no_bit(train, tmp_path):
    often, _, _ = train(check_every=1, checkpoints=tmp_path)
    never, _, _ = train(check_every=100)
    assert often.digest("tuned") == never.digest("tuned")


def test_two_batches_of_half_the_size_make_the_same_step(train):
    """All candidates are drawn and the layers, with their dropout, stand still: only the sums' order differs."""
    changes = {"head_steps": 8, "steps": 0}  # two passes
    made = []
    one, _, losses = train(
        **changes, requests_per_batch=5, accumulate=2, report=lambda training, _: made.append(len(training.losses))
    )
    two, _, others = train(**changes, requests_per_batch=10)
    assert made == list(range(1, 9))
    assert losses == pytest.approx(others, rel=1e-4)
    for name in ("tuned.projection.weight", "user.wanted_D"):
        assert torch.allclose(one._tensors()[name], two._tensors()[name], atol=2e-3)


def test_layers_join_in_after_the_head_steps_however_many_batches_make_a_step(train):
    model, before, losses = train(head_steps=5, steps=0, accumulate=3)
    assert len(losses) == 5
    assert not [name for name in changed(model, before) if name.startswith("tuned.upper.")]
    model, before, losses = train(head_steps=5, steps=1, accumulate=3)
    assert len(losses) == 6
    assert [name for name in changed(model, before) if name.startswith("tuned.upper.")]


def test_an_accumulating_training_is_taken_up_to_the_same_bits(train, tmp_path):
    changes = {"accumulate": 2, "check_every": 4, "stop_requests": 4, "patience": 9}
    whole, _, losses = train(**changes)
    assert len(train.result.checks) == 3

    def stop(training, _):
        if len(training.losses) == 7:
            raise RuntimeError("the user stopped it")

    with pytest.raises(RuntimeError, match="the user stopped it"):
        train(**changes, checkpoints=tmp_path, report=stop)
    made = []
    resumed, _, again = train(
        **changes, checkpoints=tmp_path, report=lambda training, _: made.append(len(training.losses))
    )
    assert made == list(range(5, 13))
    assert again == losses
    assert resumed.digest("tuned") == whole.digest("tuned")


def test_positions_of_texts_stay_where_the_texts_are(train, monkeypatch):
    """Tensors move to the device, and the texts are not there."""
    step, kinds = InterestModule.training_step, set()

    def spied(module, batch, batch_idx):
        kinds.add(type(batch.text_T))
        return step(module, batch, batch_idx)

    monkeypatch.setattr(InterestModule, "training_step", spied)
    train(start_weight=0.1)
    assert kinds == {np.ndarray}


@pytest.mark.skipif(torch.cuda.is_available(), reason="what a machine without a GPU says")
def test_fp16_without_a_gpu_is_refused(tiny_model):
    with pytest.raises(ConfigError, match=r"encoder\.precision is fp16.*Set it to auto"):
        tiny_model(precision="fp16")


@pytest.mark.gpu
def test_fp16_trains_on_a_gpu(train):
    model, before, losses = train(precision="fp16", steps=20)
    assert np.isfinite(losses).all()
    assert np.mean(losses[-5:]) < np.mean(losses[:3])
    assert [name for name in changed(model, before) if name.startswith("tuned.upper.")]


def test_training_stops_when_the_judges_see_nothing_better_and_keeps_the_best(train, tmp_path):
    """A rate that wrecks what was learned: the first checks are the best ones."""
    changes = {"head_steps": 40, "steps": 0, "check_every": 2, "stop_requests": 10, "patience": 3}
    model, _, losses = train(**changes, projection_learning_rate=3.0, head_learning_rate=1.0)
    checks = train.result.checks
    best = int(np.argmax(checks))
    assert len(checks) == best + 1 + 3
    assert len(losses) == 2 * len(checks) < 40
    _, judges = block().split(10)
    train(**changes, projection_learning_rate=3.0, head_learning_rate=1.0, old=judges)
    assert min(checks) < train.result.old_after == pytest.approx(max(checks))
    folder = tmp_path / "kept"
    train(**changes, projection_learning_rate=3.0, head_learning_rate=1.0, checkpoints=folder)
    assert torch.load(folder / "last.ckpt", weights_only=True)["global_step"] == len(losses)  # not that of the best
    again, _, _ = train(**(changes | {"stop_requests": 10}), projection_learning_rate=3.0, head_learning_rate=1.0)
    assert again.digest("tuned") == model.digest("tuned")


def test_the_judges_lists_reach_the_metric_whole_and_its_mean_is_the_check(train):
    seen = []

    def metric(scores, gains, lengths):
        seen.append((scores, gains, lengths))
        return np.arange(len(lengths), dtype=np.float64)

    train(stop_requests=3, check_every=100, linear_ndcg=metric)
    ((scores, gains, lengths),) = seen
    assert (len(scores), lengths.tolist(), gains.tolist()) == (18, [6, 6, 6], [3, 1, 0, 0, 0, 0] * 3)
    assert train.result.checks == [1.0]


@pytest.mark.parametrize("changes", [{"stop_requests": 3}, {"old": block(4)}], ids=["judges", "earlier requests"])
def test_requests_to_judge_need_a_metric(train, changes):
    with pytest.raises(ValueError, match="linear_ndcg is None"):
        train(linear_ndcg=None, **changes)


@pytest.mark.parametrize("stop_requests", [40, 1000])
def test_judges_that_would_leave_nothing_to_learn_are_half_of_the_requests(train, stop_requests):
    model, _, losses = train(stop_requests=stop_requests, check_every=2)
    half, _, of_half = train(stop_requests=20, check_every=2)
    assert losses == of_half
    assert model.digest("tuned") == half.digest("tuned")


def test_judges_are_the_latest_requests_and_are_not_trained_on(train):
    """What they hold plays no part in the weights: other judges, the same training."""
    one, other = block(40), block(40)
    other.gain[-6:] = np.roll(other.gain[-6:], 3)  # of the last request
    changes = {"stop_requests": 1, "check_every": 100}
    first, _, _ = train(examples=one, **changes)
    low = train.result.checks
    second, _, _ = train(examples=other, **changes)
    assert first.digest("tuned") == second.digest("tuned")
    assert low != train.result.checks


def test_a_pull_towards_the_start_holds_the_layers_back(train):
    def moved(**changes):
        model, before, _ = train(head_steps=0, steps=20, **changes)
        now = model._tensors()
        return sum((now[name] - before[name]).square().sum().item() for name in now if ".upper." in name)

    assert moved(start_weight=100.0) < 0.5 * moved()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_what_is_forgotten_is_measured_before_and_after(train, precision):
    rates = {"learning_rate": 3e-3, "projection_learning_rate": 2e-2}
    train(old=block(20, seed=9), head_steps=15, steps=25, precision=precision, **rates)
    taught = train.result
    assert 0 < taught.old_before < taught.old_after <= 1  # the same shelves: nothing is forgotten, all is learned
    train()
    assert (train.result.old_before, train.result.old_after) == (None, None)


def test_ndcg_of_judges_by_hand(train):
    """One request, nothing trained: its six candidates in the order of the model's own scores."""
    model, _, _ = train(examples=block(0))
    assert train.result.checks == []
    examples = block(1)
    train(
        old=examples,
        head_steps=1,
        steps=0,
        projection_learning_rate=1e-12,
        head_learning_rate=1e-12,
        examples=block(5),
    )
    vectors = model.embed("tuned", model.tokenise(TEXTS)).astype(np.float32) / 4000
    held, items = examples.histories.item_RH[0], examples.item
    similar = torch.from_numpy(vectors[held] @ vectors[items].T).unsqueeze(0)
    score = (
        model.user_tower(similar, torch.ones(1, 3), torch.ones(1, 3), torch.ones(1, 3, 6).bool())[0].detach().numpy()
    )
    gains = examples.gain[np.argsort(-score, kind="stable")]
    discount = 1 / np.log2(np.arange(2, 8))
    expected = (gains * discount).sum() / (np.sort(gains)[::-1] * discount).sum()
    assert train.result.old_before == pytest.approx(expected, abs=1e-4)


def test_what_type_of_event_tells_nothing_is_learned(train, tiny_model):
    """The first item of each history leads astray, and an event type of its own says so."""
    taught = of_types(block())
    rates = {"head_steps": 120, "steps": 0, "head_learning_rate": 3e-2, "projection_learning_rate": 1e-2}
    model, _, _ = train(examples=taught, model=tiny_model(train={"last": 1}, event_types=("look", "take")), **rates)
    look_K, take_K = model.user_tower.event_KE.T
    assert (look_K < take_K).all()


def searching(model, texts: list[str]) -> tuple[Examples, ReadTexts]:
    """Requests without a history, each with a query that names the shelf it takes from, and all texts read."""
    plain = block()
    first = plain.item[plain.starts[:-1]]
    empty = replace(plain.histories, item_RH=np.full_like(plain.histories.item_RH, -1))
    tokens = model.tokenise(texts).joined(model.tokenise(["for the kitchen", "for the mountains"], queries=True))
    lower = model.read_lower(tokens)
    read = ReadTexts(tokens, lower, model.pool("tuned", tokens, lower=lower))
    return replace(plain, histories=empty, query_R=len(texts) + first // 8), read


def test_a_step_that_would_take_too_much_reads_some_texts_at_a_time_to_the_same_gradient(tiny_model, tiny_config):
    model = tiny_model(train={"last": 1}, precision="fp32")
    texts = model.tokenise(TEXTS)
    lower = model.read_lower(texts)
    read, (length,) = ReadTexts(texts, lower, model.pool("tuned", texts, lower=lower)), set(texts.lengths.tolist())
    sizes, passes = length * model.tuned.width * 75, []  # of one text in the one layer that is trained

    def gradient(memory_bytes):
        passes.clear()
        module = InterestModule(
            model.tuned, model.user_tower, read, config=tiny_config(train={"last": 1}), memory_bytes=memory_bytes
        )
        module.eval()  # dropout would be drawn in another order
        with model.tuned.upper[0].register_forward_pre_hook(lambda _, inputs: passes.append(len(inputs[0]))):
            pooled = module.pool(np.arange(16))
            pooled.square().sum().backward()
        found = [part.grad.clone() for part in model.tuned.upper.parameters()]
        model.tuned.zero_grad()
        return [pooled.detach(), *found]

    whole = gradient(None)
    assert passes == [16]
    assert all(map(torch.equal, gradient(16 * sizes), whole))
    assert passes == [16]
    for one, other in zip(gradient(12 * sizes), whole, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
    assert passes == [6, 6, 4, 4, 6, 6]  # forwards, and backwards once more from the last


def test_without_histories_the_query_is_learned_from(tiny_model, tiny_config):
    model = tiny_model(queries=True, train={"last": 1})
    taught, read = searching(model, TEXTS)
    changes = {"requests_per_batch": 10, "candidates_per_request": 6, "positives_per_request": 2, "train": {"last": 1}}
    rates = {"head_steps": 150, "steps": 0, "projection_learning_rate": 2e-2, "stop_requests": 10, "check_every": 150}
    config = tiny_config(**changes, **rates)
    training = fit_block(model, taught, read, config=config, seed=3, linear_ndcg=linear_ndcg)
    assert np.mean(training.losses[-20:]) < 0.5 * np.mean(training.losses[:3])
    assert training.checks[-1] > 0.8  # of the latest requests; without a query all shelves are alike


def test_training_scores_histories_of_any_length_and_queries_as_the_interest_columns_do(tiny_model, tiny_config):
    model = tiny_model(queries=True, train={"last": 1})
    taught, read = searching(model, TEXTS)
    histories = block().histories
    too_many = np.arange(3) >= np.arange(len(taught))[:, None] % 4
    histories = replace(histories, item_RH=np.where(too_many, -1, histories.item_RH))
    taught = replace(taught, histories=histories)
    module = InterestModule(model.tuned, model.user_tower, read, config=tiny_config())
    batch = WholeLists(taught)[0]
    with torch.inference_mode():
        vector_TD = module._vectors(batch, None)
        scores = module._scores(batch, vector_TD, vector_TD[batch.candidate_BC]).numpy()
    vectors = model.project("tuned", read.pooled)
    rows = pl.DataFrame({"request": np.repeat(np.arange(16, dtype=np.uint32), 6), "item": taught.item[:96]})
    had = taught.histories.item_RH[:16]
    history = pl.DataFrame({"request": np.repeat(np.arange(16, dtype=np.uint32), 3), "item": had.ravel()})
    history = history.filter(pl.col("item") >= 0).with_columns(as_of_day=2, last_day=1, gain=1, event_type=0)
    assert len(batch.by_length) == 3
    scorer = InterestScorer(model.user_tower, vectors[:16], vectors[:16], 3)
    requests = rows.select("request").unique().sort("request")
    found = scorer.columns(requests, history, rows, vectors[taught.query_R[:16]])
    np.testing.assert_allclose(found[FINE_TUNED].to_numpy().reshape(16, 6), scores, rtol=3e-3)
