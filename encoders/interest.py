"""Interest columns: how much a request's user wants each candidate, by text alone.

One function serves training, evaluation and the night. Similarities are exact (see `features.candidates.GRID`), all
else is computed element by element in one order: a row's values do not depend on the rows around it.
"""

# B requests, H history items, C candidates, D width
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from torch import Tensor

from encoders.data import Histories
from encoders.embed import on_grid
from encoders.towers import UserTower
from features.candidates import GRID

__all__ = ["FINE_TUNED", "INTEREST_COLUMNS", "POOLINGS", "ZERO_SHOT", "InterestScorer"]

POOLINGS = ("mean", "top3", "decayed")
"""Plain poolings of the similarities to the history: all alike, the three nearest, by age."""
ZERO_SHOT = tuple(f"zero_shot_{pooling}" for pooling in POOLINGS)
FINE_TUNED = "interest"
"""Raw score of the fine-tuned model; comparable within a request only, so that it is no feature of the ranker."""
INTEREST_COLUMNS: tuple[str, ...] = (
    "interest_rank",
    "interest_z",
    "interest_last",
    "interest_nearest",
    "interest_mean",
    *ZERO_SHOT,
)
"""What the ranker reads, in the order of the feature manifest."""

_CELLS = 1 << 23  # cells of a (B, H, C) tensor computed at a time
_HALF_LIFE_DAYS = 30.0


@dataclass(frozen=True, slots=True)
class InterestScorer:
    """Scores candidates of requests.

    Args:
        user_tower: The fine-tuned user tower.
        fine_tuned: (items, D) int16 vectors of the fine-tuned text tower, by item code, on the grid of 1/GRID.
        zero_shot: The same of the encoder as it came.
        history_items: H.
    """

    user_tower: UserTower
    fine_tuned: npt.NDArray[np.int16]
    zero_shot: npt.NDArray[np.int16]
    history_items: int

    def wanted(self) -> npt.NDArray[np.float32]:
        """(items,) what everybody wants, by item code: exact like every similarity."""
        weights = self.user_tower.wanted_D.detach().numpy()
        norm = np.float32(np.linalg.norm(weights.astype(np.float64)))
        direction = on_grid(weights[None])[0].astype(np.float32)
        dots: npt.NDArray[np.float32] = self.fine_tuned.astype(np.float32) @ direction
        return dots / np.float32(GRID**2) * norm

    def columns(self, requests: pl.DataFrame, history: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
        """Interest of the rows.

        Args:
            requests: request, sorted; every request of `rows`.
            history: `features.candidates.histories` of the requests.
            rows: request, item; sorted by request.

        Returns:
            `interest` and `INTEREST_COLUMNS` (Float32), one row a row of `rows`. Of a user without
            history, `interest`, its rank and its z-score tell what everybody wants; the others are NaN.
        """
        histories = Histories.of(requests, history, self.history_items)
        names = (FINE_TUNED, "interest_last", "interest_nearest", "interest_mean", *ZERO_SHOT)
        values = np.full((len(names), rows.height), np.nan, np.float32)
        if rows.is_empty():
            return pl.DataFrame(schema=dict.fromkeys((FINE_TUNED, *INTEREST_COLUMNS), pl.Float32))
        starts = np.searchsorted(rows["request"].to_numpy(), requests["request"].to_numpy())
        ends = np.append(starts[1:], rows.height)
        items = rows["item"].to_numpy().astype(np.int64)
        wanted = self.wanted()
        for batch, candidate_BC, held_BC in self._batches(starts, ends, items):
            scores = self._scores(histories, batch, candidate_BC, wanted)
            taken = np.concatenate([np.arange(starts[row], ends[row]) for row in batch])
            values[:, taken] = scores[:, held_BC]
        columns = dict(zip(names, values, strict=True))
        columns |= _within_requests(columns[FINE_TUNED], starts[ends > starts])
        return pl.DataFrame(columns).select(FINE_TUNED, *INTEREST_COLUMNS)

    def _batches(
        self, starts: npt.NDArray[np.int64], ends: npt.NDArray[np.int64], items: npt.NDArray[np.int64]
    ) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.bool_]]]:
        """Requests by number of candidates, in batches of bounded size: rows of requests, items, what is no padding."""
        sizes = ends - starts
        order = np.argsort(sizes, kind="stable")
        order = order[sizes[order] > 0]
        while len(order):
            widest = np.maximum.accumulate(sizes[order]) * np.arange(1, len(order) + 1) * self.history_items
            batch = order[: max(int(np.searchsorted(widest, _CELLS, side="right")), 1)]
            order = order[len(batch) :]
            held = np.arange(sizes[batch].max()) < sizes[batch][:, None]
            at = np.minimum(starts[batch][:, None] + np.arange(held.shape[1]), len(items) - 1)
            yield batch, np.where(held, items[at], 0), held

    def _scores(
        self,
        histories: Histories,
        batch: npt.NDArray[np.int64],
        candidate_BC: npt.NDArray[np.int64],
        wanted: npt.NDArray[np.float32],
    ) -> npt.NDArray[np.float32]:
        item_BH = histories.item_RH[batch]
        mask_BH = torch.from_numpy(item_BH >= 0)
        age_BH, gain_BH = (torch.from_numpy(part[batch]) for part in (histories.age_RH, histories.gain_RH))
        tuned_BHC = _similarities(self.fine_tuned, item_BH, candidate_BC)
        plain_BHC = _similarities(self.zero_shot, item_BH, candidate_BC)
        with torch.inference_mode():
            # NOTE: that the user had this very item is the behavioural features' part, in training and here.
            other_BHC = torch.from_numpy(item_BH[:, :, None] != candidate_BC[:, None, :]) & mask_BH.unsqueeze(-1)
            match_BC = self.user_tower(tuned_BHC, age_BH, gain_BH, other_BHC)
            interest_BC = match_BC + torch.from_numpy(wanted[candidate_BC])
            last_BC = tuned_BHC[:, 0]
            nearest_BC = _pooled(tuned_BHC, age_BH, mask_BH, "nearest")
            mean_BC = _pooled(tuned_BHC, age_BH, mask_BH, "mean")
            plain = [_pooled(plain_BHC, age_BH, mask_BH, pooling) for pooling in POOLINGS]
            scores = torch.stack([interest_BC, last_BC, nearest_BC, mean_BC, *plain])
            scores[1:, ~mask_BH.any(1)] = torch.nan
        return scores.numpy()


def _within_requests(
    score: npt.NDArray[np.float32], starts: npt.NDArray[np.int64]
) -> dict[str, npt.NDArray[np.float32]]:
    """Rank (1 is best, ties share the best rank) and z-score of each row within its request; NaN stays NaN."""
    sizes = np.diff(np.append(starts, len(score)))
    request = np.repeat(np.arange(len(starts)), sizes)
    wide = score.astype(np.float64)
    mean = np.repeat(np.add.reduceat(wide, starts) / sizes, sizes)
    deviation = np.repeat(np.sqrt(np.add.reduceat((wide - mean) ** 2, starts) / sizes), sizes)
    z = np.where(deviation > 0, (wide - mean) / np.where(deviation > 0, deviation, 1), wide - mean)
    order = np.lexsort((-wide, request))
    leader = np.empty(len(wide), np.bool_)
    leader[0], leader[1:] = True, (np.diff(wide[order]) != 0) | (np.diff(request[order]) != 0)
    first = np.maximum.accumulate(np.where(leader, np.arange(len(wide)), 0))
    rank = np.empty(len(wide), np.float64)
    rank[order] = first - starts[request[order]] + 1
    return {
        "interest_rank": np.where(np.isnan(score), np.nan, rank).astype(np.float32),
        "interest_z": z.astype(np.float32),
    }


def _similarities(
    vectors: npt.NDArray[np.int16], item_BH: npt.NDArray[np.int64], candidate_BC: npt.NDArray[np.int64]
) -> Tensor:
    """Cosines (B, H, C): products and sums of whole numbers below 2^24, then one division."""
    history_BHD = torch.from_numpy(vectors[np.maximum(item_BH, 0)].astype(np.float32))
    candidate_BCD = torch.from_numpy(vectors[candidate_BC].astype(np.float32))
    return torch.bmm(history_BHD, candidate_BCD.transpose(1, 2)) / GRID**2


def _pooled(similar_BHC: Tensor, age_BH: Tensor, mask_BH: Tensor, pooling: str) -> Tensor:
    """Pool similarities over the history, history items in order."""
    if pooling in {"nearest", "top3"}:
        most = 1 if pooling == "nearest" else 3
        best = similar_BHC.masked_fill(~mask_BH.unsqueeze(-1), -torch.inf).topk(min(most, mask_BH.shape[1]), 1).values
        count_B = mask_BH.sum(1).clamp(1, most)
        total_BC = sum(best.masked_fill(best.isinf(), 0.0).unbind(1), torch.zeros(()))
        return total_BC / count_B.unsqueeze(-1)
    weight_BH = mask_BH.float()
    if pooling == "decayed":
        weight_BH = weight_BH * torch.exp(age_BH * -(math.log(2) / _HALF_LIFE_DAYS))  # exp2 depends on the row's place
    total_BC = torch.zeros_like(similar_BHC[:, 0])
    weight_B = torch.zeros(len(weight_BH))
    for slot in range(weight_BH.shape[1]):
        total_BC = total_BC + weight_BH[:, slot, None] * similar_BHC[:, slot]
        weight_B = weight_B + weight_BH[:, slot]
    return total_BC / weight_B.clamp(min=1e-9).unsqueeze(-1)
