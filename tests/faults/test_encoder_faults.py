"""Faults 24 and 34 of an encoder: what is not whole, not its own, or would run code ends the job before it begins."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file


@pytest.fixture
def project(shop_project, tmp_path):
    return shop_project.copy(tmp_path / "project")


@pytest.fixture
def encoder(tiny_encoder, tmp_path):
    """A copy of the project's encoder, to be damaged."""
    return Path(shutil.copytree(tiny_encoder, tmp_path / "encoder"))


def edit(path: Path, **changes) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def reweigh(folder: Path, change) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def refused(project, command, encoder, code, *says) -> None:
    """Training ended with the code before it wrote anything but the quarantine, and said all that."""
    ended = command(project, "train", "--set", f"encoder.model={encoder}")
    assert ended.code == code, ended.err
    told = ended.err.replace("\n", " ")
    assert [words for words in says if words not in told] == []
    assert ended.out == ""
    made = {path.name for path in (project.folder / "out").glob("*")}
    assert not made & {"vectors", "bundles", "rankings"}


def test_fault_34_a_missing_weight(project, encoder, command):
    """Fault 34: a key missing in safetensors ends with 12 and is named; it would be random."""
    reweigh(encoder, lambda tensors: tensors.pop("encoder.layer.1.attention.self.query.weight"))
    refused(project, command, encoder, 12, "encoder.layer.1.attention.self.query.weight", "Fetch the model again")


def test_fault_34_weights_that_the_config_does_not_ask_for(project, encoder, command):
    """Fault 34: a layer more than the config says is another model's config."""
    name = "encoder.layer.3.output.dense.bias"
    reweigh(encoder, lambda tensors: tensors.update({name: torch.zeros(32)}))
    refused(project, command, encoder, 12, name, "the config is another model's")


def test_fault_34_the_tokenizer_of_another_model(project, encoder, command):
    """Fault 34: ids that mean something else to the model, or nothing."""
    edit(encoder / "config.json", vocab_size=40)
    name = "embeddings.word_embeddings.weight"
    reweigh(encoder, lambda tensors: tensors.update({name: tensors[name][:40].clone()}))
    refused(project, command, encoder, 12, "tokens and the model 40", "it is another model's tokenizer")


@pytest.mark.parametrize("beside_a_base", [False, True])
def test_fault_34_an_adapter_on_a_wrong_base(project, encoder, tiny_encoder, command, tmp_path, beside_a_base):
    """Fault 34: a real adapter of peft, on a base of the same shapes that it was not trained on."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModel

    own_base = AutoModel.from_pretrained(tiny_encoder)
    adapter = tmp_path / "adapter"
    get_peft_model(own_base, LoraConfig(target_modules=["query"])).save_pretrained(adapter)
    reweigh(encoder, lambda tensors: [tensor.add_(1) for tensor in tensors.values()])  # another base
    edit(adapter / "adapter_config.json", base_model_name_or_path=str(encoder))
    if beside_a_base:
        shutil.copytree(encoder, adapter, dirs_exist_ok=True)
    refused(project, command, adapter, 12, f"is an adapter on '{encoder}'", "Merge it into its base")


def test_fault_33_code_in_a_model_folder(project, encoder, command, tmp_path):
    """Fault 33 for encoders: a model that brings code is refused, and its marker file never appears."""
    marker = tmp_path / "marker"
    (encoder / "evil.py").write_text(f"from pathlib import Path\nPath({str(marker)!r}).touch()\nclass Evil: pass\n")
    edit(encoder / "config.json", auto_map={"AutoConfig": "evil.Evil", "AutoModel": "evil.Evil"})
    refused(project, command, encoder, 2, "brings code of its own", "auto_map")
    assert not marker.exists()


@pytest.mark.parametrize(
    "train", ["{lora: {rank: 4}}", "{lora: {layers_to_transform: [9]}}", "{peft: {peft_type: NONE}}"]
)
def test_an_adapter_that_cannot_be_ends_before_anything_is_computed(project, command, train):
    ended = command(project, "train", "--set", f"encoder.train={train}")
    assert ended.code == 2
    assert "encoder.train" in ended.err
    assert not (project.folder / "out/vectors").exists()


def test_fault_24_texts_longer_than_the_model_are_cut_where_it_ends(encoder, some_long_texts):
    """Fault 24: more is asked for than the encoder has positions for; what it has is read, and only that."""
    from encoders.config import EncoderConfig
    from encoders.model import InterestModel

    model = InterestModel.start(EncoderConfig(model=str(encoder), max_tokens=512, precision="fp32"))
    assert model.max_tokens == 128
    texts = model.tokenise(some_long_texts)
    assert texts.lengths.tolist() == [128] * len(some_long_texts)
    vectors = model.embed("tuned", texts)
    assert len({row.tobytes() for row in vectors}) == 2  # they differ before the cut, and not after it


@pytest.fixture
def some_long_texts():
    """Three texts, two of which differ only beyond 128 tokens."""
    return ["red mug " * 500, "red mug " * 499 + "lamp", "blue mug " * 500]
