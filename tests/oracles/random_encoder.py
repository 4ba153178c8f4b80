"""A small language encoder with random weights."""

from collections import Counter
from pathlib import Path
from typing import Any


def random_encoder(
    folder: Path,
    texts: list[str],
    *,
    heads: int,
    positions: int,
    spread: float,
    seed: int,
    kind: str = "bert",
    **changes: Any,
) -> Path:
    """Write an encoder of three layers, 32 wide, with random weights, and a tokenizer that knows the words of texts.

    Args:
        folder: Where to.
        texts: What the tokenizer is trained on: other letters are unknown to it.
        heads: Attention heads.
        positions: Longest input in tokens.
        spread: Standard deviation of the weights: the larger, the more texts differ.
        seed: Of the weights.
        kind: `model_type` of the config.
        changes: Further keys of the config.
    """
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import AutoConfig, AutoModel, PreTrainedTokenizerFast

    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    # NOTE: no trainer: among equal counts it takes others in each process.
    cut = (tokenizer.pre_tokenizer.pre_tokenize_str(tokenizer.normalizer.normalize_str(text)) for text in texts)
    counts = Counter(word for words in cut for word, _ in words)
    letters = sorted({letter for word in counts for letter in word})
    names = [*special.values(), *letters, *(f"##{letter}" for letter in letters)]
    names += sorted((word for word in counts if len(word) > 1), key=lambda word: (-counts[word], word))[:200]
    tokenizer.model = models.WordPiece({name: number for number, name in enumerate(names)}, unk_token="[UNK]")
    ends = [(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    sizes = {
        "vocab_size": tokenizer.get_vocab_size(),
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": heads,
        "intermediate_size": 64,
        "max_position_embeddings": positions,
        "initializer_range": spread,
        "pad_token_id": 0,
    }
    config = AutoConfig.for_model(kind, **(sizes | changes))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        AutoModel.from_config(config).save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=positions, **special).save_pretrained(folder)
    return folder
