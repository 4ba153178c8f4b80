"""The interest model as a LightningModule: both towers, the loss, the optimiser."""

# B requests, H history items, C candidates, T texts, L tokens, D width
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pytorch_lightning as lightning
import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.utils.checkpoint import checkpoint as recomputed

from encoders.config import EncoderConfig
from encoders.data import Batch
from encoders.items import CodedItems, ItemEmbeddings
from encoders.losses import in_batch_softmax, listwise_softmax
from encoders.tokenize import TokenisedTexts
from encoders.towers import TextTower, UserTower

__all__ = ["LINEAR_NDCG", "InterestModule", "ListMetric", "ReadTexts", "rise_and_fall"]

LINEAR_NDCG = "ndcg@10"
"""What checkpoints call NDCG@10 with linear gain, by which training is stopped."""

ListMetric = Callable[
    [npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.int64]], npt.NDArray[np.float64]
]
"""A metric of ranked lists one after another: (N,) finite scores, (N,) gains and (R,) lengths to (R,) values.

Training is given `ranker.metrics.ndcg_at` at 10 with linear gain: this package does not know the ranker."""

_SHARED = 2  # dimensions of candidates that all requests have
_LIVE_BYTES = 75  # kept for the gradient of a token, a trained layer and a number of its width


@dataclass(frozen=True, slots=True)
class ReadTexts:
    """The distinct texts of a catalogue, as far as training need not read them again.

    Attributes:
        texts: Their token ids.
        lower: `model.read_lower(texts)`.
        pooled: `model.pool("tuned", texts)` as the model stands.
        items: Meaning of positions where items have vectors of their own; None where they are those of texts.
    """

    texts: TokenisedTexts
    lower: Sequence[Tensor]
    pooled: Tensor
    items: CodedItems | None = None


class InterestModule(lightning.LightningModule):
    """Fine-tunes the text tower's upper layers, its projection and the user tower on what users took.

    The first `head_steps` train projection and user tower over texts as the layers pool them now, which costs next to
    nothing; then the layers join in. Layers that start under a fitted head are bent less out of shape (Kumar et al.,
    "Fine-tuning can distort pretrained features", ICLR 2022). Candidates pass through the layers live; a text that only
    histories hold, and a query, keeps what the layers made of it at the block's start.

    Args:
        text_tower: Item texts to vectors.
        user_tower: Histories to scores.
        read: All distinct texts of the catalogue, and queries.
        config: Rates and steps.
        block: What is being learned, from where: a checkpoint of another one is not resumed.
        item_embeddings: Residuals of items; None where texts alone are read.
        linear_ndcg: Judges validation requests; None where there are none.
        memory_bytes: What a step's texts may take in the layers; where they would take more, the layers read some of
            them at a time, and once more for the gradient. None: as much as they take.

    Attributes:
        losses: Of each step, the mean over its batches.
        checks: Validation NDCG@10 at the end of each epoch.
        texts_seen: Texts that training has read, a text once a batch.
    """

    strict_loading = False  # checkpoints hold what is trained

    def __init__(
        self,
        text_tower: TextTower,
        user_tower: UserTower,
        read: ReadTexts,
        *,
        config: EncoderConfig,
        block: str = "",
        item_embeddings: ItemEmbeddings | None = None,
        linear_ndcg: ListMetric | None = None,
        memory_bytes: float | None = None,
    ) -> None:
        super().__init__()
        self.text_tower = text_tower
        self.user_tower = user_tower
        self.item_embeddings = item_embeddings
        self._read = read
        self._config = config
        self._block = block
        self._linear_ndcg = linear_ndcg
        self._memory_bytes = memory_bytes
        self._random: list[Tensor] | None = None
        self._judged: list[float] = []
        self._batch_losses: list[float] = []
        start = self._layers().items() if config.start_weight > 0 else ()
        self._start = {name: now.detach().clone() for name, now in start}
        self.losses: list[float] = []
        self.checks: list[float] = []
        self.texts_seen = 0

    def on_fit_start(self) -> None:
        """Move the weights that training is pulled towards to the device."""
        self._start = {name: before.to(self.device) for name, before in self._start.items()}

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:  # noqa: ARG002 - Lightning's signature
        """The loss of one batch."""
        live = torch.unique(batch.candidate_BC[batch.mask_BC]) if self.global_step >= self._config.head_steps else None
        vector_TD = self._vectors(batch, live)
        with torch.autocast(self.device.type, enabled=False):
            score_BC = self._scores(batch, vector_TD, vector_TD[batch.candidate_BC])
            loss = listwise_softmax(score_BC, batch.gain_BC, batch.mask_BC)
            if (shared := batch.shared) is not None:
                score_BP = self._scores(batch, vector_TD, vector_TD[shared.text_P])
                in_batch = in_batch_softmax(score_BP, shared.gain_BP, shared.mask_BP, shared.log_q_P)
                loss = loss + self._config.in_batch_weight * in_batch
            if self._start and live is not None:
                moved = [(now - self._start[name]).square().sum() for name, now in self._layers().items()]
                loss = loss + self._config.start_weight * torch.stack(moved).sum()
        self._batch_losses.append(float(loss.detach()))
        if len(self._batch_losses) == self._config.accumulate:
            self.losses.append(sum(self._batch_losses) / self._config.accumulate)
            self._batch_losses.clear()
        self.texts_seen += len(batch.text_T)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:  # noqa: ARG002
        """NDCG@10 of each request, all texts through the layers as they are; a score that is NaN ranks last."""
        assert self._linear_ndcg is not None, "there are validation requests and no metric"
        vector_TD = self._vectors(batch, torch.arange(len(batch.text_T), device=self.device))
        with torch.autocast(self.device.type, enabled=False):
            score_BC = self._scores(batch, vector_TD, vector_TD[batch.candidate_BC])
        finite_BC = score_BC.nan_to_num(nan=torch.finfo(score_BC.dtype).min)
        scores, gains = (part[batch.mask_BC].double().cpu().numpy() for part in (finite_BC, batch.gain_BC))
        self._judged.extend(self._linear_ndcg(scores, gains, batch.mask_BC.sum(1).cpu().numpy()).tolist())

    def on_validation_epoch_end(self) -> None:
        """Keep the mean over the requests, and log it for early stopping."""
        self.checks.append(self.take_judged())
        self.log(LINEAR_NDCG, self.checks[-1])

    def take_judged(self) -> float:
        """Mean NDCG@10 of the requests judged since the last call."""
        mean = float(np.mean(self._judged))
        self._judged.clear()
        return mean

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:  # noqa: ARG002 - Lightning's signature
        """Go on from the random numbers of the last epoch's end; what the loaders drew in between does not count."""
        if batch_idx == 0 and self._random is not None:
            torch.set_rng_state(self._random[0])
            if len(self._random) > 1:
                torch.cuda.set_rng_state_all(self._random[1:])

    def on_train_epoch_end(self) -> None:
        """Keep the state of the random numbers."""
        self._random = [torch.get_rng_state(), *(torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [])]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """What is trained, and all that the next step depends on; frozen weights are the encoder's own."""
        trained = {name for name, parameter in self.named_parameters() if parameter.requires_grad}
        checkpoint["state_dict"] = {name: value for name, value in checkpoint["state_dict"].items() if name in trained}
        checkpoint |= {"losses": self.losses, "checks": self.checks, "random": self._random, "block": self._block}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore what `on_save_checkpoint` kept."""
        self.losses, self.checks, self._random = (checkpoint[name] for name in ("losses", "checks", "random"))

    def _layers(self) -> dict[str, Tensor]:
        """What is trained of the text tower below its projection, by name."""
        named = self.text_tower.named_parameters()
        return {name: now for name, now in named if now.requires_grad and not name.startswith("projection.")}

    def _vectors(self, batch: Batch, live: Tensor | None) -> Tensor:
        """Unit vectors (T, D) of a batch's texts, or of its items where these have vectors of their own.

        Args:
            batch: The batch.
            live: Positions of those whose text passes through the layers; others stay as pooled at the block's start.
        """
        items = self._read.items
        if self.item_embeddings is None or items is None:
            return self._text_vectors(batch.text_T, live)
        text_T, position = np.unique(items.text_U[batch.text_T], return_inverse=True)
        position_U = torch.from_numpy(position).to(self.device)
        vector_TD = self._text_vectors(text_T, None if live is None else torch.unique(position_U[live]))
        code_UN = torch.from_numpy(items.code_UN[batch.text_T]).to(self.device)
        with torch.autocast(self.device.type, enabled=False):
            vector_UD: Tensor = self.item_embeddings(vector_TD[position_U], code_UN)
        return vector_UD

    def _text_vectors(self, text_T: npt.NDArray[np.int64], live: Tensor | None) -> Tensor:
        """Unit vectors (T, D) of texts, the live ones of them through the layers."""
        pooled_TD = self._read.pooled[text_T].to(self.device)
        if live is not None:
            live_ND = self.pool(text_T[live.cpu().numpy()])
            pooled_TD = pooled_TD.index_copy(0, live, live_ND)
        with torch.autocast(self.device.type, enabled=False):
            return self.text_tower.project(pooled_TD)

    def _scores(self, batch: Batch, vector_TD: Tensor, candidate_D: Tensor) -> Tensor:
        """Scores (B, C) of candidates of width D: (B, C, D) each request's own, or (C, D) the same for all."""
        history = (batch.history_BH, batch.history_mask_BH, batch.age_BH, batch.history_gain_BH, batch.event_type_BH)
        matches = []
        for rows_G, slots in batch.by_length:
            history_GH, mask_GH, age_GH, gain_GH, event_type_GH = (part[rows_G, :slots] for part in history)
            group_D = candidate_D if candidate_D.ndim == _SHARED else candidate_D[rows_G]
            similar_GHC = vector_TD[history_GH] @ group_D.mT
            mask_GHC = mask_GH.unsqueeze(-1).expand_as(similar_GHC)
            matches.append(self.user_tower(similar_GHC, age_GH, gain_GH, mask_GHC, event_type_GH))
        match_BC = torch.cat(matches)[torch.cat([rows_G for rows_G, _ in batch.by_length]).argsort()]
        if self.user_tower.query_gate is not None:
            query_BC = (vector_TD[batch.query_B].unsqueeze(1) @ candidate_D.mT).squeeze(1)
            match_BC = match_BC + self.user_tower.answer(query_BC * batch.query_mask_B.unsqueeze(1))
        score_BC: Tensor = match_BC + candidate_D @ self.user_tower.wanted_D
        return score_BC

    def pool(self, text_T: npt.NDArray[np.int64]) -> Tensor:
        """Pooled output (T, D) of the upper layers, in the order of `text_T`."""
        token_bytes = _LIVE_BYTES * self.text_tower.width * max(len(self.text_tower.upper), 1)
        whole = int(self._read.texts.lengths[text_T].sum()) * token_bytes
        # NOTE: read in parts, a step takes more than the part at work: half is left for the gradients around it.
        at_once = None if self._memory_bytes is None or whole <= self._memory_bytes else self._memory_bytes / 2
        parts, order = [], []
        for length, positions in self._read.texts.buckets(text_T):
            most = len(positions) if at_once is None else max(int(at_once / (length * token_bytes)), 1)
            for first in range(0, len(positions), most):
                some = positions[first : first + most]
                parts.append(self._pool_some(some, length, again=at_once is not None))
                order.append(some)
        row_of = dict(zip(np.concatenate(order).tolist(), range(len(text_T)), strict=True))
        return torch.cat(parts)[[row_of[text] for text in text_T.tolist()]]

    def _pool_some(self, text_T: npt.NDArray[np.int64], length: int, *, again: bool) -> Tensor:
        """Pooled output (T, D) of texts of one padded length; `again` computes all of it once more for the gradient."""
        hidden_TLD = torch.stack([self._read.lower[position] for position in text_T]).to(self.device)
        tokens = torch.tensor([len(self._read.texts.ids[position]) for position in text_T], device=self.device)
        mask_TL = torch.arange(length, device=self.device) < tokens.unsqueeze(1)
        if again:
            pooled_TD: Tensor = recomputed(self.text_tower.pool, hidden_TLD, mask_TL, use_reentrant=False)
            return pooled_TD
        return self.text_tower.pool(hidden_TLD, mask_TL, checkpoint=self._config.gradient_checkpointing)

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
        parameter_groups: list[dict[str, Any]] = [
            {"params": params, "lr": rate, "weight_decay": decay} for params, rate, decay, _ in groups
        ]
        rates_of = [start for *_, start in groups]
        if self.item_embeddings is not None and (items := config.item_embeddings) is not None:
            # NOTE: Adam steps as far for what is met once as for what is met often; with an epsilon far above any
            # gradient it makes plain steps with momentum.
            decay, rate = items.weight_decay, items.learning_rate
            embedded = list(self.item_embeddings.parameters())
            parameter_groups.append({"params": embedded, "lr": rate, "weight_decay": decay, "eps": 1.0})
            rates_of.append(0)
        optimiser = torch.optim.AdamW(parameter_groups)
        end = config.head_steps + config.steps
        rates = [rise_and_fall(start, end, config.warmup_share) for start in rates_of]
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimiser, rates)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def rise_and_fall(start: int, end: int, warmup_share: float) -> Callable[[int], float]:
    """0 before `start`, 1 after the warm-up, 0 at `end`."""
    warmup = max(round(warmup_share * (end - start)), 1)

    def rate(step: int) -> float:
        falling = (end - step) / max(end - start - warmup, 1)
        return max(min((step - start + 1) / warmup, falling, 1.0), 0.0)

    return rate
