"""Encoder folders as people save them: read right, or refused in one sentence with what is missing and the remedy."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, normalizers

from encoders import folders
from encoders.folders import resolve
from encoders.loading import load_backbone, load_tokenizer
from features.errors import ConfigError, IntegrityError, TryAgainError

WEIGHTS, POINTER = "model.safetensors", "version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 1\n"


@pytest.fixture
def folder(small_encoder, tmp_path):
    return Path(shutil.copytree(small_encoder, tmp_path / "encoder"))


def edit(path: Path, **changes) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def reweigh(folder: Path, change) -> None:
    """Save the weights again, each as (name, tensor) that `change` gives."""
    tensors = dict(change(name, tensor) for name, tensor in load_file(folder / WEIGHTS).items())
    save_file(tensors, folder / WEIGHTS, {"format": "pt"})


def sentence_transformer(folder: Path, *kinds: str, pooling: dict | None = None, at: str = "") -> None:
    """Write the list of modules as sentence-transformers does."""
    names = [kind if "." in kind else f"sentence_transformers.models.{kind}" for kind in kinds]
    places = [at, *(f"{place}_{name.rpartition('.')[2]}" for place, name in enumerate(names[1:], 1))]
    listed = [
        {"idx": i, "name": str(i), "path": p, "type": n} for i, (p, n) in enumerate(zip(places, names, strict=True))
    ]
    (folder / "modules.json").write_text(json.dumps(listed))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling/config.json").write_text(json.dumps(pooling or {"pooling_mode_mean_tokens": True}))


def shard(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    place = {name: f"model-0000{1 + at % 2}-of-00002.safetensors" for at, name in enumerate(sorted(tensors))}
    for file in set(place.values()):
        save_file({name: tensors[name] for name in place if place[name] == file}, folder / file, {"format": "pt"})
    (folder / f"{WEIGHTS}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": place}))


def old_names(name: str, tensor: torch.Tensor) -> tuple[str, torch.Tensor]:
    return name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"), tensor


SAME = {
    "normalize": lambda at: sentence_transformer(at, "Transformer", "Pooling", "Normalize"),
    "dropout": lambda at: sentence_transformer(at, "Transformer", "Pooling", "Dropout"),
    "modules where newer versions keep them": lambda at: sentence_transformer(
        at,
        "sentence_transformers.base.modules.transformer.Transformer",
        "sentence_transformers.sentence_transformer.modules.pooling.Pooling",
    ),
    "old names of layer norms": lambda at: reweigh(at, old_names),
    "prefix of a model with a head": lambda at: reweigh(at, lambda name, own: (f"bert.{name}", own)),
    "no metadata": lambda at: save_file(load_file(at / WEIGHTS), at / WEIGHTS),
    "sharded": shard,
    "left padding": lambda at: edit(at / "tokenizer_config.json", padding_side="left"),
    "a length of its own": lambda at: (at / "sentence_bert_config.json").write_text('{"max_seq_length": 16}'),
    "lower case twice": lambda at: (at / "sentence_bert_config.json").write_text('{"do_lower_case": true}'),
}


@pytest.mark.parametrize("how", SAME)
def test_fault_62_what_is_saved_otherwise_is_the_same_encoder(folder, small_encoder, how):
    SAME[how](folder)
    found, plain = load_backbone(str(folder)), load_backbone(str(small_encoder))
    assert (found.digest, found.pooling, found.max_tokens) == (plain.digest, "mean", plain.max_tokens)


def move_in(at: Path, name: str) -> None:
    (at / name).mkdir()
    for path in [path for path in at.iterdir() if path.is_file() and path.name != "modules.json"]:
        path.rename(at / name / path.name)


def added_token(at: Path) -> None:
    tokenizer = Tokenizer.from_file(str(at / "tokenizer.json"))
    tokenizer.add_tokens(["nightrankword"])
    tokenizer.save(str(at / "tokenizer.json"))


def in_own_folder(at: Path) -> None:
    sentence_transformer(at, "Transformer", "Pooling", at="0_Transformer")
    move_in(at, "0_Transformer")


def without_words(at: Path) -> None:
    """As transformers reads a BERT without vocabulary: five special tokens and no error."""
    (at / "tokenizer.json").unlink()
    (at / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n")
    edit(at / "tokenizer_config.json", tokenizer_class="BertTokenizer")


REFUSED = {
    **{
        kind: (lambda at, kind=kind: sentence_transformer(at, "Transformer", "Pooling", kind), rf"asks .* for '{kind}'")
        for kind in ("Dense", "LayerNorm", "CNN", "WeightedLayerPooling", "custom_st.Head")
    },
    "words": (lambda at: sentence_transformer(at, "WordEmbeddings", "Pooling"), r"for 'WordEmbeddings'.*without modul"),
    "clip": (lambda at: sentence_transformer(at, "CLIPModel"), r"asks in modules\.json for 'CLIPModel'"),
    "two": (lambda at: sentence_transformer(at, "Transformer", "Pooling", "Pooling"), r"for 'Pooling'"),
    "own folder": (in_own_folder, r"lies in its folder '0_Transformer'.*Name that folder"),
    "nested": (lambda at: move_in(at, "inner"), r"the model lies in a folder of it: 'inner'"),
    "no modules": (lambda at: (at / "modules.json").write_text("null"), r"is no list of modules"),
    "cut modules": (lambda at: (at / "modules.json").write_text("[{"), r"modules\.json cannot be read as JSON"),
    "max": (
        lambda at: sentence_transformer(at, "Transformer", "Pooling", pooling={"pooling_mode_max_tokens": True}),
        r"asks for \['pooling_mode_max_tokens'\].*Set encoder\.pooling",
    ),
    "pooling lost": (
        lambda at: (sentence_transformer(at, "Transformer", "Pooling"), shutil.rmtree(at / "1_Pooling")),
        r"1_Pooling/config\.json .* is not there.*set encoder\.pooling to mean or cls",
    ),
    "empty": (
        lambda at: [path.unlink() for path in at.iterdir()],
        r"no config\.json and no tokenizer.* and no model\.s",
    ),
    "half a vocabulary": (
        lambda at: (at / "tokenizer.json").rename(at / "vocab.json"),
        r"has no tokenizer\.json \(or vocab\.txt, or vocab\.json with merges\.txt\)",
    ),
    "no words": (without_words, r"its tokenizer knows no word"),
    "pickle": (lambda at: (at / WEIGHTS).rename(at / "pytorch_model.bin"), r"pytorch_model\.bin' may hold code"),
    "odd tokenizer": (lambda at: (at / "tokenizer.json").write_text("{}"), r"its tokenizer cannot be read \(KeyError"),
    "odd config": (
        lambda at: (at / "tokenizer_config.json").write_text("[]"),
        r"'tokenizer_config\.json' is no JSON ob",
    ),
    "no act": (
        lambda at: edit(at / "config.json", hidden_act="no"),
        r"its config or weights cannot be read \(KeyError",
    ),
    "heads": (lambda at: edit(at / "config.json", num_attention_heads=5), r"not a multiple of the number of attention"),
    "decoder": (lambda at: edit(at / "config.json", is_decoder=True), r"is a decoder"),
    "quantised": (lambda at: edit(at / "config.json", quantization_config={"quant_method": "gptq"}), r"are quantised"),
    "int8": (lambda at: reweigh(at, lambda name, own: (name, (own * 99).to(torch.int8))), r"quantised \('I8'\)"),
    "lost shard": (
        lambda at: (shard(at), next(at.glob("model-0*")).unlink()),
        r"cannot be read .*model-0000\d-of-00002",
    ),
    "lost index": (
        lambda at: (shard(at), (at / f"{WEIGHTS}.index.json").unlink()),
        r"no file named model\.safetensors",
    ),
}


@pytest.mark.parametrize("how", REFUSED)
def test_fault_62_what_is_not_read_is_refused_with_the_remedy(folder, how):
    damage, says = REFUSED[how]
    damage(folder)
    with pytest.raises(ConfigError, match=rf"^encoder\.(model|pooling): .*{says}"):
        load_backbone(str(folder))


BROKEN = {
    "no weights at all": (
        lambda at: (at / WEIGHTS).write_bytes(b""),
        r"truncated or no safetensors \(.*header too small",
    ),
    "garbage": (lambda at: (at / WEIGHTS).write_bytes(b"x" * 999), r"header too large\)\. Fetch the model again"),
    "pointers": (
        lambda at: [(at / name).write_text(POINTER) for name in (WEIGHTS, "tokenizer.json")],
        r"`git lfs pull`",
    ),
    "diverged": (lambda at: reweigh(at, lambda name, own: (name, own * float("nan"))), r"are NaN or infinite \('embed"),
    "another prefix": (lambda at: reweigh(at, lambda name, own: (f"module.{name}", own)), r"they would be random"),
    "added token": (added_token, r"tokens were added for which the model has no embeddings \(resize_token_embeddings"),
}


@pytest.mark.parametrize("how", BROKEN)
def test_fault_62_what_is_broken_is_named(folder, how):
    damage, says = BROKEN[how]
    damage(folder)
    with pytest.raises(IntegrityError, match=says):
        load_backbone(str(folder))


def test_texts_are_put_in_lower_case_where_the_folder_says_so(folder):
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.save(str(folder / "tokenizer.json"))
    red, RED = (load_tokenizer(str(folder))[0].encode(text).ids for text in ("red", "RED"))
    assert red != RED
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 32, "do_lower_case": true}')
    assert [load_tokenizer(str(folder))[0].encode(text).ids for text in ("red", "RED")] == [red, red]


def test_a_vocabulary_of_words_alone_reads_as_the_tokenizer_did(folder, small_encoder):
    vocabulary = load_tokenizer(str(small_encoder))[0].get_vocab()
    (folder / "vocab.txt").write_text("".join(f"{word}\n" for word in sorted(vocabulary, key=vocabulary.get)))
    (folder / "tokenizer.json").unlink()
    edit(folder / "tokenizer_config.json", tokenizer_class="BertTokenizer")
    texts = ["Red mug kitchen, красная кружка", "", "[SEP] nothing"]
    plain, found = (load_tokenizer(str(place))[0] for place in (small_encoder, folder))
    assert [found.encode(text).ids for text in texts] == [plain.encode(text).ids for text in texts]


def test_a_file_is_no_folder(folder):
    with pytest.raises(ConfigError, match="it is a file, and its folder is meant"):
        load_backbone(str(folder / "config.json"))


@pytest.mark.parametrize("name", ["~nobody-of-that-name/encoder", "no/such/folder", "a b", "x" * 5000, "a\0b", "./x"])
def test_what_is_neither_a_folder_nor_an_id_is_not_looked_for_elsewhere(name, monkeypatch):
    monkeypatch.setattr(folders, "_from_hub", None)
    with pytest.raises(ConfigError, match="there is no such folder"):
        resolve(name)


def test_an_address_is_refused_and_not_repeated():
    with pytest.raises(ConfigError, match="is an address") as refused:
        resolve("https://me:secret@huggingface.co/a/b")
    assert "secret" not in str(refused.value)


def test_a_folder_that_looks_like_an_id_or_begins_with_home_is_a_folder(small_encoder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(folders, "_from_hub", None)
    shutil.copytree(small_encoder, tmp_path / "owner/name")
    digests = {load_backbone(place).digest for place in ("owner/name", "~/owner/name", str(small_encoder))}
    assert len(digests) == 1


class Hub:
    """A hub that holds one model, or does not answer, and keeps what was fetched."""

    def __init__(self, monkeypatch, folder: Path) -> None:
        self.folder, self.fetched, self.error = folder, [], None
        self.files = sorted(path.name for path in folder.iterdir())
        monkeypatch.setattr(folders, "HfApi", lambda: self)
        monkeypatch.setattr(folders, "snapshot_download", self.download)

    def model_info(self, _model, timeout):
        assert timeout <= 10
        if self.error is not None:
            raise self.error
        others = ["onnx/model.onnx", "onnx/config.json", "openvino/x.safetensors", "pytorch_model.bin"]
        return SimpleNamespace(siblings=[SimpleNamespace(rfilename=name) for name in [*self.files, *others]])

    def download(self, _model, *, allow_patterns=(), local_files_only=False):
        if local_files_only and not self.fetched:
            raise LocalEntryNotFoundError("nothing cached")
        self.fetched += allow_patterns
        return str(self.folder)


def test_an_id_is_fetched_once_and_then_needs_no_network(folder, monkeypatch):
    hub = Hub(monkeypatch, folder)
    digest = load_backbone("owner/name").digest
    assert sorted(hub.fetched) == sorted([*hub.files, "onnx/config.json"])
    hub.error = OSError("Name or service not known")
    assert load_backbone("owner/name").digest == digest


def test_an_id_without_network_may_be_tried_again_and_one_that_is_not_there_not(folder, monkeypatch):
    hub = Hub(monkeypatch, folder)
    hub.error = OSError("Name or service not known")
    with pytest.raises(TryAgainError, match=r"no folder 'owner/name' here.*\(Name or service not known\)\. Correct"):
        load_backbone("owner/name")
    hub.error = OfflineModeIsEnabled("offline mode is enabled.")
    with pytest.raises(ConfigError, match=r"\(offline mode is enabled\)\. Name a folder"):
        load_backbone("owner/name")
    hub.error = OSError("404: no such model")
    hub.error.response = object()
    with pytest.raises(ConfigError, match=r"\(404: no such model\)\. Name a folder, or an id that is there"):
        load_backbone("owner/name")
