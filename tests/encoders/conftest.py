"""Shared by the encoders' tests: interest models over the small encoder."""

from pathlib import Path

import numpy as np
import pytest

from encoders.config import EncoderConfig
from encoders.loading import load_backbone
from encoders.model import InterestModel

WORDS = (
    *("red", "blue", "mug", "teapot", "kitchen", "running", "shoe", "rain", "jacket", "outdoor"),
    *("красная", "кружка", "кухня", "чайник", "红茶杯", "厨房", "[SEP]", "🙂"),
)

_SHELVES = (
    "red mug kitchen, blue mug kitchen, glass teapot kitchen, iron pan kitchen",
    "running shoe outdoor, rain jacket outdoor, warm tent outdoor, wool sock outdoor",
    "красная кружка кухня, синий чайник кухня, тёплая куртка дорога",
    "红茶杯 蓝茶壶 厨房 跑鞋 雨衣 帐篷 户外",
    "a b c d e f g h i j k l m n o p q r s t u v w x y z 0 1 2 3 4 5 6 7 8 9 . , ! - | [ ] ( )",
)


@pytest.fixture(scope="session")
def random_shelf_encoder(tmp_path_factory: pytest.TempPathFactory, encoder_folder):
    """Writes a small random encoder whose tokenizer reads three scripts, with weights so large that texts differ."""

    def make(**changes) -> Path:
        folder = tmp_path_factory.mktemp("small_encoder")
        return encoder_folder(
            folder, list(_SHELVES * 3), **({"heads": 4, "positions": 64, "spread": 0.2, "seed": 7} | changes)
        )

    return make


@pytest.fixture(scope="session")
def small_encoder(random_shelf_encoder):
    """Folder of a small random BERT."""
    return random_shelf_encoder()


@pytest.fixture(scope="session")
def tiny_config(small_encoder):
    """A configuration over the small encoder, with changes."""

    def make(**changes) -> EncoderConfig:
        return EncoderConfig(**({"model": str(small_encoder), "max_tokens": 32, "precision": "fp32"} | changes))

    return make


@pytest.fixture(scope="session")
def tiny_model(tiny_config):
    """A new interest model over the small encoder; may be altered."""

    def make(*, event_types=(), queries=False, **changes) -> InterestModel:
        return InterestModel.start(tiny_config(**changes), event_types=event_types, queries=queries)

    return make


@pytest.fixture(scope="session")
def tiny_tokenizer(small_encoder):
    """Tokenizer and padding id of the small encoder."""
    backbone = load_backbone(str(small_encoder))
    return backbone.tokenizer, backbone.pad_id


@pytest.fixture(scope="session")
def some_texts():
    """Distinct texts of many lengths from a seed, the empty one among them."""

    def make(count: int, seed: int = 0) -> list[str]:
        rng = np.random.default_rng(seed)
        texts = {" ".join(rng.choice(WORDS, int(rng.integers(1, 24)))) for _ in range(2 * count)}
        return ["", *sorted(texts)][:count]

    return make
