"""The interest model as a LightningModule: both towers, the loss, the optimiser."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytorch_lightning as lightning
import torch
from torch import Tensor

from encoders.config import EncoderConfig
from encoders.data import Batch
from encoders.losses import listwise_softmax
from encoders.tokenize import TokenisedTexts
from encoders.towers import TextTower, UserTower

__all__ = ["InterestModule"]


class InterestModule(lightning.LightningModule):
    """Fine-tunes the text tower's upper layers and the user tower on what users took up.

    Args:
        text_tower: Item texts to vectors.
        user_tower: Histories to scores.
        texts: All distinct texts of the catalogue.
        lower: The frozen layers' hidden states of those texts (`encoders.embed.read_lower`).
        config: Rates and schedule.
        steps: Training steps of the block.
    """

    def __init__(
        self,
        text_tower: TextTower,
        user_tower: UserTower,
        *,
        texts: TokenisedTexts,
        lower: Sequence[Tensor],
        config: EncoderConfig,
        steps: int,
    ) -> None:
        super().__init__()
        self.text_tower = text_tower
        self.user_tower = user_tower
        self._texts = texts
        self._lower = lower
        self._config = config
        self._steps = steps
        self.losses: list[float] = []

    def vectors(self, text_T: npt.NDArray[np.int64]) -> Tensor:
        """Unit vectors (T, D) of texts, each encoded once, in the order asked."""
        parts, order = [], []
        for length, positions in self._texts.buckets(text_T):
            hidden_TLD = torch.stack([self._lower[position] for position in positions]).to(self.device)
            tokens = torch.tensor([len(self._texts.ids[position]) for position in positions], device=self.device)
            mask_TL = torch.arange(length, device=self.device) < tokens.unsqueeze(1)
            parts.append(self.text_tower.understand(hidden_TLD, mask_TL))
            order.append(positions)
        place = np.empty(len(self._texts.ids), np.int64)
        place[np.concatenate(order)] = np.arange(len(text_T))
        return torch.cat(parts)[torch.from_numpy(place[text_T]).to(self.device)]

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:  # noqa: ARG002 - Lightning's signature
        """The listwise loss of one batch."""
        import os
        if os.environ.get("NOGRAD"):
            with torch.no_grad():
                rest = self.vectors(batch.text_T[batch.n_candidates:])
            vectors_TD = torch.cat([self.vectors(batch.text_T[:batch.n_candidates]), rest])
        else:
            vectors_TD = self.vectors(batch.text_T)
        with torch.autocast(self.device.type, enabled=False):
            candidate_ND = vectors_TD[: batch.n_candidates]
            similar_BHN = vectors_TD[batch.history_BH] @ candidate_ND.T
            score_BN = self.user_tower(similar_BHN, batch.age_BH, batch.gain_BH, batch.mask_BH)
            loss = listwise_softmax(score_BN, batch.label_BN, batch.excluded_BN, batch.log_q_N)
        self.losses.append(float(loss.detach()))
        self.log("loss", loss.detach(), prog_bar=False, batch_size=len(batch.history_BH))
        return loss

    def configure_optimizers(self) -> dict[str, Any]:
        """AdamW; the rate rises, then falls to nothing at the block's end."""
        config = self._config
        matrices, others = [], []
        for parameter in self.text_tower.parameters():
            if parameter.requires_grad:
                (matrices if parameter.ndim > 1 else others).append(parameter)
        optimiser = torch.optim.AdamW(
            [
                {"params": matrices, "lr": config.learning_rate, "weight_decay": config.weight_decay},
                {"params": others, "lr": config.learning_rate, "weight_decay": 0.0},
                {
                    "params": list(self.user_tower.parameters()),
                    "lr": config.head_learning_rate,
                    "weight_decay": 0.0,
                },
            ]
        )
        warmup = max(round(config.warmup_share * self._steps), 1)

        def rate(step: int) -> float:
            falling = (self._steps - step) / max(self._steps - warmup, 1)
            return min((step + 1) / warmup, max(falling, 0.0))

        scheduler = torch.optim.lr_scheduler.LambdaLR(optimiser, rate)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
