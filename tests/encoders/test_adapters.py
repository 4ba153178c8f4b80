"""What `encoder.train` says is trained, and nothing else; adapters are gone when training ends, their effect is not."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from encoders.adapters import adapted, layers_trained
from encoders.config import EncoderConfig, TrainConfig
from encoders.data import Examples, Histories
from encoders.fit import ReadTexts, fit_block
from encoders.model import InterestModel
from encoders.module import InterestModule
from features.errors import ConfigError

pytestmark = pytest.mark.slow

TEXTS = ["red mug", "blue mug", "glass teapot", "iron pan", "running shoe", "rain jacket", "warm tent", "wool sock"]
KINDS = {"bert": {}, "modernbert": {"cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3}}
LAYERS = {"bert": "query|key|value|dense", "modernbert": "Wqkv|Wi|Wo"}


@pytest.fixture(scope="module", params=KINDS)
def folder(request, random_shelf_encoder):
    return random_shelf_encoder(kind=request.param, **KINDS[request.param])


@pytest.fixture(scope="module")
def bert(random_shelf_encoder):
    return random_shelf_encoder()


def config_of(folder, train, **changes) -> EncoderConfig:
    told = {"head_steps": 2, "steps": 3, "requests_per_batch": 8, "candidates_per_request": 4}
    told |= {"positives_per_request": 1, "learning_rate": 1e-3, "precision": "fp32"}
    return EncoderConfig(model=str(folder), train=train, **(told | changes))


def block() -> Examples:
    """Who had one thing of a shelf takes another of it."""
    one = np.ones((8, 1), np.float32)
    return Examples(
        histories=Histories(np.arange(8).reshape(8, 1), one, one, one.astype(np.uint16)),
        item=np.array([[at ^ 1, (at + 4) % 8, (at + 5) % 8, (at + 6) % 8] for at in range(8)]).ravel(),
        gain=np.tile(np.array([1, 0, 0, 0], np.float32), 8),
        starts=np.arange(9) * 4,
        positives=np.ones(8, np.int64),
        text_of_item=np.arange(8),
    )


def trained(config, *, seed=3, model=None, report=None):
    """A model, its weights before a block, and the losses of the block."""
    model = model or InterestModel.start(config)
    before = {name: tensor.clone() for name, tensor in model._tensors().items()}
    texts = model.tokenise(TEXTS)
    lower = model.read_lower(texts)
    pooled = model.pool("tuned", texts, lower=lower)
    taught = fit_block(model, block(), ReadTexts(texts, lower, pooled), config=config, seed=seed, report=report)
    return model, before, taught.losses


def moved(model, before) -> set[str]:
    """Names of the transformer's weights that changed."""
    now = model._tensors()
    assert now.keys() == before.keys()
    assert not {name for name in before if name.startswith("zero_shot.") and not torch.equal(now[name], before[name])}
    names = {name.removeprefix("tuned.") for name in before if name.startswith("tuned.")}
    return {
        name for name in names - {"projection.weight"} if not torch.equal(now[f"tuned.{name}"], before[f"tuned.{name}"])
    }


def layer_of(name) -> str:
    found = re.match(r"upper\.(\d+)\.", name)
    return found.group(1) if found else name.split(".")[0]


def test_full_trains_every_weight(folder):
    model, before, _ = trained(config_of(folder, "full"))
    found = moved(model, before)
    assert {layer_of(name) for name in found} >= {"embeddings", "0", "1", "2"}
    still = {name.removeprefix("tuned.") for name in before if name.startswith("tuned.")} - found
    # What no text has: token types, and the keys' bias, which softmax ignores but for rounding.
    assert {name for name in still if "token_type" not in name and "key.bias" not in name} == {
        "projection.weight"
    } & still
    assert len(model.tuned.lower) == 0
    assert all(read.dtype == torch.int32 and read.ndim == 1 for read in model.read_lower(model.tokenise(TEXTS)))


def test_the_last_layers_train_and_nothing_below(folder):
    model, before, _ = trained(config_of(folder, {"last": 2}))
    assert {layer_of(name) for name in moved(model, before)} - {"kind"} == {"0", "1"}
    assert len(model.tuned.lower) == 1


@pytest.mark.parametrize("train", ["lora", {"lora": {"r": 2}}])
def test_adapters_of_lora_change_every_matrix_and_nothing_else(folder, train):
    model, before, _ = trained(config_of(folder, train))
    matrices = LAYERS[model.tuned.config.model_type]
    expected = {
        name for name, tensor in model.tuned.state_dict().items()
        if re.search(rf"upper\.\d+\..*({matrices})\.weight$", name) and tensor.ndim == 2
    }  # fmt: skip
    assert moved(model, before) == expected
    assert {layer_of(name) for name in expected} == {"0", "1", "2"}


@pytest.mark.parametrize(("chosen", "cut", "changed"), [([1, 2], 1, {"0", "1"}), ([1], 1, {"0"}), (2, 2, {"0"})])
def test_layers_below_the_lowest_adapter_stay_cached(folder, chosen, cut, changed):
    model, before, _ = trained(config_of(folder, {"lora": {"layers_to_transform": chosen}}))
    assert len(model.tuned.lower) == cut
    assert {layer_of(name) for name in moved(model, before)} == changed


def test_target_modules_mean_what_they_mean_in_transformers(bert):
    model, before, _ = trained(config_of(bert, {"lora": {"target_modules": r".*encoder\.layer\.[02]\..*query"}}))
    assert moved(model, before) == {f"upper.{layer}.attention.self.query.weight" for layer in (0, 2)}


@pytest.mark.parametrize(
    "told", [{"peft_type": "ia3", "feedforward_modules": ["output.dense"]}, {"peft_type": "LOHA", "r": 2}]
)
def test_any_method_of_peft_is_passed_through(bert, told):
    model, before, _ = trained(config_of(bert, {"peft": told | {"target_modules": ["value", "output.dense"]}}))
    found = {name.split(".", 2)[2].rpartition(".")[0] for name in moved(model, before)}
    assert found == {"attention.self.value", "output.dense", "attention.output.dense"}


def test_merged_weights_make_what_the_adapters_made(folder):
    config = config_of(folder, {"lora": {"r": 4, "lora_alpha": 8}})
    model = InterestModel.start(config)
    texts, plain = model.tokenise(TEXTS), set(model.tuned.state_dict())
    generator = torch.Generator().manual_seed(1)
    before = model.pool("tuned", texts)
    with adapted(model.tuned, config.train):
        torch.testing.assert_close(model.pool("tuned", texts), before, rtol=1e-6, atol=1e-6)  # they start as nothing
        adapters = {name: each for name, each in model.tuned.named_parameters() if "lora_" in name}
        assert {name for name, each in model.tuned.upper.named_parameters() if each.requires_grad} == {
            name.removeprefix("upper.") for name in adapters
        }
        with torch.no_grad():
            for each in adapters.values():
                each.add_(torch.randn(each.shape, generator=generator) * 0.1)
        unmerged = model.pool("tuned", texts)
    torch.testing.assert_close(model.pool("tuned", texts), unmerged, rtol=1e-5, atol=1e-5)
    assert (unmerged - before).abs().max() > 0.01
    assert set(model.tuned.state_dict()) == plain


def test_a_saved_model_is_a_plain_one_bound_to_its_base(folder, tmp_path):
    model, _, _ = trained(config_of(folder, "lora"))
    model.save(tmp_path)
    again = InterestModel.load(tmp_path)
    assert again.base_digest == InterestModel.start(config_of(folder, {"last": 1})).base_digest
    assert not [name for name in again._tensors() if "lora" in name]
    for which in ("tuned", "zero_shot"):
        assert np.array_equal(again.embed(which, again.tokenise(TEXTS)), model.embed(which, model.tokenise(TEXTS)))


@pytest.mark.parametrize("train", ["full", "lora", {"last": 1}])
def test_the_same_seed_makes_the_same_weights_to_the_last_bit(folder, train):
    config = config_of(folder, train)
    one, _, first = trained(config)
    torch.rand(7)
    two, _, second = trained(config)
    other, _, _ = trained(config, seed=4)
    assert first == second
    assert one.digest("tuned") == two.digest("tuned") != other.digest("tuned")


def test_a_second_block_goes_on_from_the_first(folder):
    config = config_of(folder, "lora")
    model, _, _ = trained(config)
    once = model.digest("tuned")
    _, before, _ = trained(config, seed=4, model=model)
    assert moved(model, before)
    assert model.digest("tuned") != once


@pytest.mark.parametrize(
    ("train", "live"),
    [
        ("full", {"embeddings", "0", "1", "2"}),
        ({"last": 2}, {"0", "1"}),
        ("lora", {"0", "1", "2"}),
        ({"lora": {"layers_to_transform": [1], "lora_dropout": 0.1}}, {"0"}),
    ],
)
def test_dropout_is_on_layer_by_layer_where_something_is_trained(bert, train, live):
    model, seen = InterestModel.start(config_of(bert, train)), []

    def look(*_):
        tower = model.tuned
        parts = {"embeddings": tower.embeddings, **{f"lower {at}": each for at, each in enumerate(tower.lower)}}
        parts |= {str(at): each for at, each in enumerate(tower.upper)}
        on = {
            name: {each.training for each in part.modules() if isinstance(each, nn.Dropout)}
            for name, part in parts.items()
        }
        seen.append(
            ({name for name, told in on.items() if True in told}, {name for name, told in on.items() if False in told})
        )

    trained(config_of(bert, train), model=model, report=look)
    assert len(seen) == 5
    assert all(on == live and not on & off for on, off in seen)
    assert not any(part.training for part in model.tuned.modules())


@pytest.mark.parametrize("train", ["full", {"last": 2}, "lora"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_checkpointing_changes_no_bit(folder, train, precision):
    plain, _, first = trained(config_of(folder, train, precision=precision))
    checkpointed, _, second = trained(config_of(folder, train, precision=precision, gradient_checkpointing=True))
    assert first == second
    assert plain.digest("tuned") == checkpointed.digest("tuned")


def test_checkpointing_keeps_less(bert):
    model = InterestModel.start(config_of(bert, "full"))
    texts = model.tokenise(TEXTS)
    ids, mask = (torch.from_numpy(each) for each in texts.padded(np.arange(8), 8))

    def kept(*, checkpoint):
        held = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda each: held.append(each.numel()) or each, lambda each: each
        ):
            model.tuned.pool(ids, mask, checkpoint=checkpoint)
        return sum(held)

    assert kept(checkpoint=True) < 0.5 * kept(checkpoint=False)


def rates(config):
    """Peak rate and decay of each weight of the transformer, in the optimiser's groups."""
    model = InterestModel.start(config)
    texts = model.tokenise(TEXTS)
    lower = model.read_lower(texts)
    with adapted(model.tuned, config.train):
        read = ReadTexts(texts, lower, torch.zeros(8, 32))
        module = InterestModule(model.tuned, model.user_tower, read, config=config)
        groups = module.configure_optimizers()["optimizer"].param_groups
    names = {id(each): name for name, each in model.tuned.named_parameters()}
    return [
        {names[id(each)]: (group["initial_lr"], group["weight_decay"]) for each in group["params"]}
        for group in groups[:-2]
    ]  # fmt: skip


def test_one_rate_for_all_layers_is_two_groups(folder):
    for train in ("full", {"last": 2}):
        matrices, vectors = rates(config_of(folder, train, learning_rate=1e-4))
        assert set(matrices.values()) == {(1e-4, 0.01)}
        assert set(vectors.values()) == {(1e-4, 0.0)}
        assert all(name.startswith(("embeddings.", "upper.", "kind.")) for name in {**matrices, **vectors})


def test_rates_decay_layer_by_layer_from_the_top_down(folder):
    groups = rates(config_of(folder, "full", learning_rate=1e-3, layer_decay=0.5))
    found = {name: rate for group in groups for name, (rate, _) in group.items()}
    by_layer = {
        layer: {rate for name, rate in found.items() if layer_of(name) == layer} for layer in map(layer_of, found)
    }
    by_hand = {"2": 1e-3, "1": 5e-4, "0": 2.5e-4, "embeddings": 1.25e-4}
    assert {layer: rate for layer, (rate,) in by_layer.items() if layer != "kind"} == pytest.approx(by_hand)
    assert by_layer.get("kind", {1e-3}) == {1e-3}  # the final normalisation goes with the top


def test_lower_layers_that_learn_slower_move_less(bert):
    def shift(decay):
        model, before, _ = trained(config_of(bert, "full", layer_decay=decay))
        name = "tuned.embeddings.word_embeddings.weight"
        return (model._tensors()[name] - before[name]).abs().max()

    assert shift(0.5) < 0.3 * shift(1.0)


@pytest.mark.parametrize(
    ("written", "meant", "kept"),
    [
        ("full", TrainConfig(full=True), "full"),
        ("lora", TrainConfig(lora={}), {"lora": {}}),
        ({"last": 0}, TrainConfig(last=0), {"last": 0}),
        ({"lora": {"r": 4}}, TrainConfig(lora={"r": 4}), {"lora": {"r": 4}}),
        ({"peft": {"peft_type": "IA3"}}, TrainConfig(peft={"peft_type": "IA3"}), {"peft": {"peft_type": "IA3"}}),
    ],
)
def test_how_much_is_trained_can_be_written_in_short_and_comes_back(written, meant, kept):
    config = EncoderConfig(train=written)
    assert config.train == meant
    assert config.model_dump(mode="json")["train"] == kept
    assert EncoderConfig.model_validate(config.model_dump(mode="json")) == config


def test_two_layers_are_the_default():
    assert EncoderConfig().train == TrainConfig(last=2)


@pytest.mark.parametrize(
    "written", ["half", 2, None, {}, {"last": -1}, {"last": 1, "lora": {}}, {"peft": {"r": 3}}, {"full": False}]
)
def test_anything_else_is_refused(written):
    with pytest.raises(ValidationError):
        EncoderConfig(train=written)


@pytest.mark.parametrize(
    ("train", "says"),
    [
        ({"lora": {"rank": 4}}, r"LoraConfig of peft has no key 'rank'"),
        ({"lora": {"target_modules": ["nothing"]}}, r"peft refuses this adapter: Target modules"),
        ({"lora": {"layers_to_transform": [2, 3, 7]}}, r"names 3, 7; the encoder has the layers 0 to 2"),
        ({"peft": {"peft_type": "no_such"}}, r"peft has no method 'NO_SUCH'"),
        ({"peft": {"peft_type": "PROMPT_TUNING", "num_virtual_tokens": 4}}, r"PROMPT_TUNING cannot be merged"),
    ],
)  # fmt: skip
def test_an_adapter_that_cannot_be_is_refused_before_anything_is_computed(bert, train, says):
    with pytest.raises(ConfigError, match=says):
        InterestModel.start(config_of(bert, train))


@pytest.mark.slow
def test_peft_is_not_imported_by_those_who_want_none_of_it(bert):
    code = "import sys; from encoders.config import EncoderConfig; from encoders.model import InterestModel; "
    code += (
        f"import encoders.fit; InterestModel.start(EncoderConfig(model={str(bert)!r})); print('peft' in sys.modules)"
    )
    root = Path(__file__).parents[2]
    told = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert told.stdout == "False\n"


@pytest.mark.parametrize(
    ("train", "layers"),
    [("full", 6), ({"last": 2}, 2), ({"last": 9}, 6), ("lora", 6), ({"lora": {"layers_to_transform": [5, 3]}}, 3)],
)
def test_layers_trained_by_hand(train, layers):
    assert layers_trained(EncoderConfig(train=train).train, 6) == layers
