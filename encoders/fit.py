"""Take the interest model through one block of the timeline."""

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytorch_lightning as lightning
import torch
from torch import Tensor

from encoders.adapters import adapted
from encoders.config import EncoderConfig
from encoders.data import BlockBatches, BlockData, Examples
from encoders.model import InterestModel
from encoders.module import InterestModule
from encoders.tokenize import TokenisedTexts

__all__ = ["fit_block"]

Report = Callable[[int, float], None]
"""Told the number of steps done and the last loss."""


class _Steps(lightning.Callback):
    def __init__(self, report: Report) -> None:
        self._report = report

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: object,  # noqa: ARG002 - Lightning's signature
        batch: object,  # noqa: ARG002
        batch_idx: int,  # noqa: ARG002
    ) -> None:
        assert isinstance(pl_module, InterestModule)
        self._report(trainer.global_step, pl_module.losses[-1])


def fit_block(
    model: InterestModel,
    examples: Examples,
    *,
    texts: TokenisedTexts,
    lower: Sequence[Tensor],
    pooled: Tensor,
    config: EncoderConfig,
    seed: int,
    report: Report | None = None,
) -> list[float]:
    """Train both towers on a block, going on from where they stand.

    Args:
        model: Is trained in place.
        examples: What the block teaches; without any, nothing happens.
        texts: Distinct texts of the catalogue.
        lower: `model.read_lower(texts)`.
        pooled: `model.pool("tuned", texts)` as the model stands.
        config: Rates, batch sizes, steps.
        seed: Same seed, same machine: same weights to the last bit.
        report: Told of progress.

    Returns:
        The loss of each step.
    """
    batches = BlockBatches(examples, config, seed=seed)
    if not len(batches) or config.train.last == 0:
        return []
    lightning.seed_everything(seed, verbose=False)
    with adapted(model.tuned, config.train):
        module = InterestModule(model.tuned, model.user_tower, texts=texts, lower=lower, pooled=pooled, config=config)
        module.train()
        try:
            with _quiet():
                _trainer(model, report).fit(module, BlockData(batches))
        finally:
            for tower in (model.tuned, model.user_tower):
                tower.to("cpu").eval()
            torch.use_deterministic_algorithms(mode=False)
    return module.losses


def _trainer(model: InterestModel, report: Report | None) -> lightning.Trainer:
    return lightning.Trainer(
        max_epochs=1,
        accelerator="auto",
        devices=1,
        precision="bf16-mixed" if model.bf16 else "32-true",
        gradient_clip_val=1.0,
        deterministic=True,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[_Steps(report)] if report is not None else [],
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Lightning's advertisements, and its warnings of what is meant so."""
    logger = logging.getLogger("pytorch_lightning")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=r".*module\(s\) in eval mode.*")  # the frozen layers
            warnings.filterwarnings("ignore", message=r".*LeafSpec.*", category=FutureWarning)
            warnings.filterwarnings("ignore", message=r".*does not have many workers.*")
            yield
    finally:
        logger.setLevel(level)
