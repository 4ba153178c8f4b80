"""The layers under the pointwise head, trained as a LightningModule and stopped by groups it never saw."""

# R rows (texts of a group), L tokens, K states of a text (into the trained layers, out of each of them), D width
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self, cast

import numpy as np
import numpy.typing as npt
import pytorch_lightning as lightning
import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from encoders.config import ClickModelConfig
from encoders.embed import ROWS
from encoders.fit import quiet
from encoders.losses import binomial_log_loss
from encoders.module import rise_and_fall
from encoders.tokenize import TokenisedTexts
from encoders.towers import TextTower

__all__ = ["Material", "Scale", "Shown", "states_of", "train_layers"]

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Shown:
    """Impressions and clicks of texts, by group.

    Attributes:
        clicks_R: Clicks of each row, float64; fractions, where rows are weighted.
        impressions_R: Impressions of each row, float64.
        group_R: Group of each row, from 0.
    """

    clicks_R: Tensor
    impressions_R: Tensor
    group_R: Tensor

    def loss(self, score_R: Tensor) -> Tensor:
        """`binomial_log_loss` of scores."""
        return binomial_log_loss(score_R, self.clicks_R, self.impressions_R, self.group_R)

    def of(self, rows: Ints) -> Self:
        """Some rows, their groups numbered anew."""
        at = torch.from_numpy(rows)
        group_R = torch.unique(self.group_R[at], return_inverse=True)[1]
        return type(self)(self.clicks_R[at], self.impressions_R[at], group_R)


@dataclass(frozen=True, slots=True)
class Scale:
    """Brings a text's states to comparable size.

    Attributes:
        mean_KD: Mean of each state over the texts.
        factor_K: What its deviations are multiplied by.
    """

    mean_KD: Tensor
    factor_K: Tensor

    @classmethod
    def fit(cls, state_RKD: Tensor, *, variance: float) -> Self:
        """Such that a row's squared norm is `variance` on average, each state having an equal part in it."""
        mean_KD = state_RKD.mean(0)
        size_K = (state_RKD - mean_KD).square().sum(-1).mean(0).clamp(min=1e-12)
        return cls(mean_KD, (variance / len(size_K) / size_K).sqrt())

    def __call__(self, state_RKD: Tensor) -> Tensor:
        """Vectors (R, K * D)."""
        return ((state_RKD - self.mean_KD) * self.factor_K[:, None]).flatten(1)


def states_of(tower: TextTower, texts: TokenisedTexts, lower: Sequence[Tensor], *, bf16: bool) -> Tensor:
    """States of all texts (R, K, D); a text's states do not depend on the other texts."""
    device = next(tower.parameters()).device
    states = torch.zeros(len(texts.ids), len(tower.upper) + 1, tower.width)
    was_training = tower.training
    tower.eval()
    for _, positions in texts.buckets():
        for start in range(0, len(positions), ROWS):
            chosen = positions[start : start + ROWS]
            filled = np.concatenate([chosen, np.repeat(chosen[:1], ROWS - len(chosen))])
            with torch.inference_mode(), torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16):
                states[chosen] = _states(tower, texts, lower, filled).cpu()[: len(chosen)]
    tower.train(was_training)
    return states


def _states(tower: TextTower, texts: TokenisedTexts, lower: Sequence[Tensor], positions: Ints) -> Tensor:
    """States (R, K, D) of texts of one padded length."""
    device = next(tower.parameters()).device
    _, mask = texts.padded(positions, len(positions))
    hidden_RLD = torch.stack([lower[position] for position in positions]).to(device)
    return tower.pool_each(hidden_RLD, torch.from_numpy(mask).to(device))


@dataclass(frozen=True, slots=True)
class Material:
    """Training and validation data of one member.

    Attributes:
        texts: Tokens of the rows' texts.
        lower: What the frozen layers make of them.
        shown: Clicks of the rows.
        scale: States to vectors.
        beside_R: The score that words and phrases give each row; the layers' is added to it.
        validation_R: Rows of the validation groups.
        training_groups: Rows of each training group.
    """

    texts: TokenisedTexts
    lower: Sequence[Tensor]
    shown: Shown
    scale: Scale
    beside_R: Tensor
    validation_R: Ints
    training_groups: Sequence[Ints]


class ClickModule(lightning.LightningModule):
    """Fine-tunes the text tower's upper layers and the head over them; see `train_layers`."""

    def __init__(
        self, tower: TextTower, head: Tensor, material: Material, *, bf16: bool, steps: int, config: ClickModelConfig
    ) -> None:
        super().__init__()
        self.tower = tower
        self.head = nn.Parameter(head.float())
        self._material, self._bf16, self._steps, self._config = material, bf16, steps, config
        self.validation_losses = [self._validation_loss()]
        self.best = self._trained()

    def training_step(self, rows: Ints, batch_idx: int) -> Tensor:  # noqa: ARG002 - Lightning's signature
        """The loss of a batch of whole groups."""
        material = self._material
        parts = [
            (at, _states(self.tower, material.texts, material.lower, at)) for _, at in material.texts.buckets(rows)
        ]
        rows = np.concatenate([at for at, _ in parts])
        with torch.autocast(self.device.type, enabled=False):
            return self._loss(torch.cat([states for _, states in parts]), rows)

    def on_train_epoch_end(self) -> None:
        """Keep the epoch if it is better than all before; end, if it is not."""
        self.validation_losses.append(self._validation_loss())
        if self.validation_losses[-1] < min(self.validation_losses[:-1]):
            self.best = self._trained()
        else:
            self.trainer.should_stop = True

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW with a warm-up, and a fall to nothing at the end of the last epoch."""
        config = self._config
        layers = list(self.tower.upper.parameters())
        groups: list[dict[str, Any]] = [
            {
                "params": [p for p in layers if p.ndim > 1],
                "lr": config.learning_rate,
                "weight_decay": config.weight_decay,
            },
            {"params": [p for p in layers if p.ndim == 1], "lr": config.learning_rate, "weight_decay": 0.0},
            {"params": [self.head], "lr": config.head_learning_rate, "weight_decay": 0.0},
        ]
        optimiser = torch.optim.AdamW(groups)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimiser, rise_and_fall(0, self._steps, config.warmup_share))
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _validation_loss(self) -> float:
        material, rows = self._material, self._material.validation_R
        texts = TokenisedTexts(
            [material.texts.ids[row] for row in rows], material.texts.lengths[rows], material.texts.pad_id
        )
        states_RKD = states_of(self.tower, texts, [material.lower[row] for row in rows], bf16=self._bf16)
        with torch.no_grad():
            return float(self._loss(states_RKD, rows))

    def _loss(self, states_RKD: Tensor, rows: Ints) -> Tensor:
        material = self._material
        score_R = material.scale(states_RKD.cpu()) @ self.head.cpu() + material.beside_R[torch.from_numpy(rows)]
        return material.shown.of(rows).loss(score_R)

    def _trained(self) -> tuple[Tensor, dict[str, Tensor]]:
        upper = self.tower.upper.state_dict()
        return self.head.detach().cpu().clone(), {name: tensor.cpu().clone() for name, tensor in upper.items()}


def train_layers(
    tower: TextTower, head: Tensor, material: Material, *, bf16: bool, config: ClickModelConfig, seed: int
) -> tuple[Tensor, list[float]]:
    """Train the tower's upper layers, in place, and the fitted head over them.

    Layers that start under a fitted head are bent less out of shape (Kumar et al., ICLR 2022). The epoch with the least
    loss of the held-out groups is kept, the start among them; the first one that is no better ends the training.

    Args:
        tower: Its upper layers are trained; eval mode and on the processor afterwards.
        head: (K * D,) fitted to the layers as they are.
        material: Training and validation data.
        bf16: Whether matrix products run in bfloat16.
        config: Rates and epochs.
        seed: Same seed, same machine: same weights to the last bit.

    Returns:
        The head, and the loss of the held-out groups at the start and after each epoch.
    """
    lightning.seed_everything(seed, verbose=False)
    loader: DataLoader[Ints] = DataLoader(
        cast("Dataset[Ints]", material.training_groups),  # any sequence is one
        batch_size=config.groups_per_batch,
        shuffle=True,
        generator=torch.Generator().manual_seed(seed),
        collate_fn=np.concatenate,
    )
    module = ClickModule(tower, head, material, bf16=bf16, steps=len(loader) * config.epochs, config=config)
    if not config.epochs or not len(tower.upper):
        return head, module.validation_losses
    module.train()
    try:
        with quiet():
            _trainer(bf16=bf16, epochs=config.epochs).fit(module, loader)
    finally:
        tower.to("cpu").eval()
        torch.use_deterministic_algorithms(mode=False)
    head, upper = module.best
    tower.upper.load_state_dict(upper)
    return head, module.validation_losses


def _trainer(*, bf16: bool, epochs: int) -> lightning.Trainer:
    return lightning.Trainer(
        max_epochs=epochs,
        accelerator="auto",
        devices=1,
        precision="bf16-mixed" if bf16 else "32-true",
        gradient_clip_val=1.0,
        deterministic=True,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
