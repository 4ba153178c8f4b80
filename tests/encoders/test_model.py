"""A saved interest model comes back to the last bit, or not at all."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from encoders.model import InterestModel
from features.errors import IntegrityError


@pytest.fixture
def model(tiny_model):
    """A model that is tuned a little."""
    made = tiny_model(train={"last": 2})
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in (*made.tuned.upper.parameters(), made.tuned.projection.weight, *made.user_tower.parameters()):
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
    return made


@pytest.fixture
def folder(model, tmp_path):
    model.save(tmp_path)
    return tmp_path


def rewrite(folder, **changes):
    """Weights replaced by name; None takes one away."""
    tensors = load_file(folder / "model.safetensors") | changes
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, folder / "model.safetensors")


def reconfigure(folder, change):
    about = json.loads((folder / "config.json").read_text())
    change(about)
    (folder / "config.json").write_text(json.dumps(about))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("train_layers", [0, 1, 3])
def test_a_round_trip_keeps_every_bit(tiny_model, some_texts, tmp_path, precision, train_layers):
    model = tiny_model(precision=precision, train={"last": train_layers}, event_types=("cart", "click"))
    with torch.no_grad():
        model.user_tower.event_KE.add_(0.25)
        model.tuned.projection.weight.add_(0.01)
        model.user_tower.wanted_D.add_(0.5)
    model.save(tmp_path)
    again = InterestModel.load(tmp_path)
    texts = some_texts(30)
    for which in ("tuned", "zero_shot"):
        assert again.digest(which) == model.digest(which)
        assert np.array_equal(again.embed(which, again.tokenise(texts)), model.embed(which, model.tokenise(texts)))
    assert again.event_types == ("cart", "click")
    assert (again.pad_id, again.max_tokens, again.bf16, again.base_digest) == (
        model.pad_id, model.max_tokens, model.bf16, model.base_digest
    )  # fmt: skip
    assert all(torch.equal(a, b) for a, b in zip(again._tensors().values(), model._tensors().values(), strict=True))
    assert not any(part.training for tower in (again.tuned, again.zero_shot) for part in tower.modules())


def test_special_tokens_are_still_ordinary_text_after_a_round_trip(model, folder):
    again = InterestModel.load(folder)
    one, two = (m.tokenise(["red [SEP] mug [PAD]"]).ids[0].tolist() for m in (model, again))
    assert one == two
    assert one.count(model.tokenizer.token_to_id("[SEP]")) == 1


def test_only_weights_and_json_are_written(folder):
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors", "tokenizer.json"]


def test_saving_twice_writes_the_same_bytes(folder, tmp_path):
    again = tmp_path / "again"
    again.mkdir()
    InterestModel.load(folder).save(again)
    for name in ("model.safetensors", "tokenizer.json"):
        assert (again / name).read_bytes() == (folder / name).read_bytes()


def test_the_towers_share_their_frozen_layers(model, folder):
    for one in (model, InterestModel.load(folder)):
        assert one.tuned.embeddings is one.zero_shot.embeddings
        assert one.tuned.lower is one.zero_shot.lower
        assert one.tuned.upper is not one.zero_shot.upper


@pytest.mark.parametrize(
    "name",
    ["tuned.upper.0.output.dense.weight", "tuned.projection.weight", "zero_shot.upper.1.attention.self.query.bias",
     "user.wanted_D", "tuned.embeddings.word_embeddings.weight"],
)  # fmt: skip
def test_a_removed_or_reshaped_weight_is_refused_by_name(folder, name):
    whole = load_file(folder / "model.safetensors")[name]
    for altered in (None, whole[:-1].clone(), whole.double(), whole[None].clone()):
        rewrite(folder, **{name: altered})
        with pytest.raises(IntegrityError, match=rf"weights missing, unknown or of another shape: '{name}'\."):
            InterestModel.load(folder)


@pytest.mark.parametrize("name", ["extra", "tuned.extra", "user.extra", "zero_shot.lower.0.output.dense.bias"])
def test_an_extra_weight_is_refused_by_name(folder, name):
    rewrite(folder, **{name: torch.zeros(2)})
    with pytest.raises(IntegrityError, match=rf"unknown or of another shape: '{name}'\."):
        InterestModel.load(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
@pytest.mark.parametrize("fault", ["missing", "empty", "cut", "garbage"])
def test_a_broken_file_is_refused(folder, name, fault):
    content = (folder / name).read_bytes()
    (folder / name).unlink()
    if fault != "missing":
        (folder / name).write_bytes({"empty": b"", "cut": content[:-20], "garbage": b"\x80\x04K\x01."}[fault])
    with pytest.raises(IntegrityError, match="missing or altered"):
        InterestModel.load(folder)


@pytest.mark.parametrize(
    "change",
    [
        lambda about: about.pop("train_layers"),
        lambda about: about.pop("passage_prefix"),
        lambda about: about.update(pooling="max"),
        lambda about: about.update(train_embeddings=True),
        lambda about: about.pop("transformer"),
        lambda about: about["transformer"].update(model_type="no_such_model"),
        lambda about: about["transformer"].update(num_attention_heads=5),
        lambda about: about["transformer"].update(num_hidden_layers=2),
        lambda about: about["transformer"].update(hidden_size=64),
        lambda about: about.update(train_layers=1),
    ],
)
def test_an_altered_config_is_refused(folder, change):
    reconfigure(folder, change)
    with pytest.raises(IntegrityError):
        InterestModel.load(folder)


def test_a_configuration_that_fits_the_weights_but_is_another_has_another_digest(model, folder):
    reconfigure(folder, lambda about: about["transformer"].update(num_attention_heads=2))
    assert InterestModel.load(folder).digest("tuned") != model.digest("tuned")


def test_code_named_in_the_config_is_not_executed(folder, tmp_path):
    marker = tmp_path / "marker"
    (folder / "evil.py").write_text(f"from pathlib import Path\nPath({str(marker)!r}).touch()\nclass Evil: pass\n")
    reconfigure(folder, lambda about: about["transformer"].update(auto_map={"AutoModel": "evil.Evil"}))
    InterestModel.load(folder)
    assert not marker.exists()


def test_digests_tell_weights_backend_and_length_apart(tiny_model):
    models = [
        tiny_model(),
        tiny_model(precision="bf16"),
        tiny_model(max_tokens=16),
        tiny_model(train={"last": 1}),
    ]
    bumped = tiny_model()
    with torch.no_grad():
        bumped.tuned.projection.weight[0, 0] += 1e-6
    assert bumped.digest("zero_shot") == models[0].digest("zero_shot")
    assert len({model.digest("tuned") for model in [*models, bumped]}) == 5


def test_a_prefix_belongs_to_the_model(tiny_model, tmp_path):
    model = tiny_model(passage_prefix="red ")
    model.save(tmp_path)
    again, plain = InterestModel.load(tmp_path), tiny_model()
    for one in (model, again):
        assert one.tokenise(["mug", ""]).ids[0].tolist() == plain.tokenise(["red mug"]).ids[0].tolist()
    assert again.digest("tuned") == model.digest("tuned") != plain.digest("tuned")  # the same text, another vector


def test_a_digest_is_stable_whatever_was_tokenised_before(tiny_model, some_texts):
    model = tiny_model()
    before = model.digest("tuned")
    model.embed("tuned", model.tokenise(some_texts(3)))
    assert before == model.digest("tuned") == tiny_model().digest("tuned")


def test_an_untrained_tower_is_the_zero_shot_one(tiny_model, some_texts):
    model = tiny_model()
    texts = model.tokenise(some_texts(20))
    assert np.array_equal(model.embed("tuned", texts), model.embed("zero_shot", texts))
    assert model.digest("tuned") == model.digest("zero_shot")


def test_no_more_tokens_are_read_than_the_encoder_has_positions_for(tiny_model):
    assert tiny_model(max_tokens=512).max_tokens == 64


def test_a_query_has_a_prefix_and_a_digest_of_its_own(tiny_model, tmp_path):
    model = tiny_model(query_prefix="query: ", passage_prefix="passage: ", queries=True)
    ids = {kind: model.tokenise(["red mug"], queries=kind == "query").ids[0].tolist() for kind in ("query", "passage")}
    plain = tiny_model()
    for kind, found in ids.items():
        assert found == plain.tokenise([f"{kind}: red mug"]).ids[0].tolist()
    assert model.digest("tuned", queries=True) != model.digest("tuned")
    assert model.digest("tuned") == tiny_model(passage_prefix="passage: ").digest("tuned")
    assert plain.digest("tuned", queries=True) == plain.digest("tuned")  # one prefix, one store
    model.save(tmp_path)
    again = InterestModel.load(tmp_path)
    assert again.queries
    assert again.digest("tuned", queries=True) == model.digest("tuned", queries=True)


def test_a_model_of_before_event_types_and_queries_is_read(folder, model):
    def forget(about):
        for name in ("event_types", "queries", "query_prefix"):
            del about[name]

    reconfigure(folder, forget)
    again = InterestModel.load(folder)
    assert (again.event_types, again.queries, again.query_prefix) == ((), False, "")
    assert again.digest("tuned") == model.digest("tuned")
