"""The interest model as a LightningModule: both towers, the loss, the optimiser."""

# B requests, H history items, C candidates, T texts, L tokens, D width
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import pytorch_lightning as lightning
import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor

from encoders.config import EncoderConfig
from encoders.data import Batch
from encoders.losses import in_batch_softmax, listwise_softmax
from encoders.tokenize import TokenisedTexts
from encoders.towers import TextTower, UserTower

__all__ = ["InterestModule"]


class InterestModule(lightning.LightningModule):
    """Fine-tunes the text tower's upper layers, its projection and the user tower on what users took.

    The first `head_steps` train projection and user tower over texts as the layers pool them now, which costs next to
    nothing; then the layers join in. Layers that start under a fitted head are bent less out of shape (Kumar et al.,
    "Fine-tuning can distort pretrained features", ICLR 2022). Candidates pass through the layers live; a text that only
    histories hold keeps what the layers made of it at the block's start.

    Args:
        text_tower: Item texts to vectors.
        user_tower: Histories to scores.
        texts: All distinct texts of the catalogue.
        lower: The frozen layers' hidden states of those texts (`encoders.embed.read_lower`).
        pooled: (texts, D) what the upper layers make of them now (`encoders.embed.pool_all`).
        config: Rates and steps.
    """

    def __init__(
        self,
        text_tower: TextTower,
        user_tower: UserTower,
        *,
        texts: TokenisedTexts,
        lower: Sequence[Tensor],
        pooled: Tensor,
        config: EncoderConfig,
    ) -> None:
        super().__init__()
        self.text_tower = text_tower
        self.user_tower = user_tower
        self._texts = texts
        self._lower = lower
        self._pooled = pooled
        self._config = config
        self.losses: list[float] = []

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:  # noqa: ARG002 - Lightning's signature
        """The listwise loss of one batch."""
        pooled_TD = self._pooled[batch.text_T].to(self.device)
        if self.global_step >= self._config.head_steps:
            candidates = torch.unique(batch.candidate_BC[batch.mask_BC])
            live_ND = self.pool(batch.text_T[candidates.cpu().numpy()])
            pooled_TD = pooled_TD.index_copy(0, candidates, live_ND)
        with torch.autocast(self.device.type, enabled=False):
            vector_TD = self.text_tower.project(pooled_TD)
            score_BC = self._scores(batch, vector_TD, vector_TD[batch.candidate_BC])
            loss = listwise_softmax(score_BC, batch.gain_BC, batch.mask_BC)
            if (shared := batch.shared) is not None:
                score_BP = self._scores(batch, vector_TD, vector_TD[shared.text_P])
                in_batch = in_batch_softmax(score_BP, shared.gain_BP, shared.mask_BP, shared.log_q_P)
                loss = loss + self._config.in_batch_weight * in_batch
        self.losses.append(float(loss.detach()))
        return loss

    def _scores(self, batch: Batch, vector_TD: Tensor, candidate_D: Tensor) -> Tensor:
        """Scores (B, C) of candidates of width D: (B, C, D) each request's own, or (C, D) the same for all."""
        similar_BHC = vector_TD[batch.history_BH] @ candidate_D.mT
        mask_BHC = batch.history_mask_BH.unsqueeze(-1).expand_as(similar_BHC)
        match_BC = self.user_tower(similar_BHC, batch.age_BH, batch.history_gain_BH, mask_BHC)
        score_BC: Tensor = match_BC + candidate_D @ self.user_tower.wanted_D
        return score_BC

    def pool(self, text_T: npt.NDArray[np.int64]) -> Tensor:
        """What the upper layers make of texts (T, D), in the order asked."""
        parts, order = [], []
        for length, positions in self._texts.buckets(text_T):
            hidden_TLD = torch.stack([self._lower[position] for position in positions]).to(self.device)
            tokens = torch.tensor([len(self._texts.ids[position]) for position in positions], device=self.device)
            mask_TL = torch.arange(length, device=self.device) < tokens.unsqueeze(1)
            parts.append(self.text_tower.pool(hidden_TLD, mask_TL, checkpoint=self._config.gradient_checkpointing))
            order.append(positions)
        place = dict(zip(np.concatenate(order).tolist(), range(len(text_T)), strict=True))
        return torch.cat(parts)[[place[text] for text in text_T.tolist()]]

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW; each group's rate rises when its steps begin, then falls to nothing at the block's end.

        Where the layers train, the rate of one is `layer_decay` times that of the one above it (Howard and Ruder,
        "Universal language model fine-tuning", ACL 2018); the embeddings are the lowest.
        """
        config = self._config
        layers: dict[float, list[Tensor]] = {}
        for below, part in self.text_tower.trained():
            layers.setdefault(config.learning_rate * config.layer_decay**below, []).extend(part)
        groups: list[tuple[list[Tensor], float, float, int]] = []
        for rate, parameters in layers.items():
            groups.append(([p for p in parameters if p.ndim > 1], rate, config.weight_decay, config.head_steps))
            groups.append(([p for p in parameters if p.ndim == 1], rate, 0.0, config.head_steps))
        groups += [
            ([self.text_tower.projection.weight], config.projection_learning_rate, 0.0, 0),
            (list(self.user_tower.parameters()), config.head_learning_rate, 0.0, 0),
        ]
        optimiser = torch.optim.AdamW(
            [{"params": params, "lr": rate, "weight_decay": decay} for params, rate, decay, _ in groups]
        )
        end = config.head_steps + config.steps
        rates = [_rise_and_fall(start, end, config.warmup_share) for *_, start in groups]
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimiser, rates)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def _rise_and_fall(start: int, end: int, warmup_share: float) -> Callable[[int], float]:
    """0 before `start`, 1 after the warm-up, 0 at `end`."""
    warmup = max(round(warmup_share * (end - start)), 1)

    def rate(step: int) -> float:
        falling = (end - step) / max(end - start - warmup, 1)
        return max(min((step - start + 1) / warmup, falling, 1.0), 0.0)

    return rate
