"""Interest columns: how much a request's user wants each candidate, by text alone.

One function serves training, evaluation and the night. Similarities are exact (see `features.tables.text.GRID`), all
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

from encoders.data import FINE_TUNED, Histories
from encoders.embed import on_grid
from encoders.towers import UserTower
from features.tables.text import GRID

__all__ = [
    "FINE_TUNED",
    "INTEREST_COLUMNS",
    "OF_QUERY",
    "POOLINGS",
    "ZERO_SHOT",
    "InterestScorer",
    "pooled_similarity",
]

POOLINGS = ("mean", "top3", "decayed")
"""Plain poolings of the similarities to the history: all alike, the three nearest, by age."""
ZERO_SHOT = tuple(f"zero_shot_{pooling}" for pooling in POOLINGS)
INTEREST_COLUMNS: tuple[str, ...] = (
    "interest_rank",
    "interest_z",
    "interest_last_z",
    "interest_nearest_z",
    "interest_mean_z",
    *ZERO_SHOT,
)
"""What the ranker reads, in the order of the feature manifest. Of the fine-tuned model only what is relative to the
request: raw scores and similarities of different encoders, one a block, are not comparable."""

OF_QUERY = "interest_query_z"
"""What it reads after them where requests have queries: similarity to the request's own."""

_RAW = (FINE_TUNED, "last", "nearest", "mean", *ZERO_SHOT)

_CELLS = 1 << 23  # of (B, H, C) of the requests that share products of their texts
_PART_CELLS = 1 << 19  # of them computed at a time: tensors that the processor's cache holds
_WASTE = 4  # products of texts that are made for each that is needed, at most
_REQUESTS = 16  # whose queries are answered at a time
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

    @property
    def queries(self) -> bool:
        """Whether queries are read."""
        return self.user_tower.query_gate is not None

    @property
    def names(self) -> tuple[str, ...]:
        """The interest columns, in order."""
        return (*INTEREST_COLUMNS, OF_QUERY) if self.queries else INTEREST_COLUMNS

    def wanted(self) -> npt.NDArray[np.float32]:
        """(items,) score of each item that is the same for all users, by item code: exact like every similarity."""
        weights = self.user_tower.wanted_D.detach().numpy()
        norm = np.float32(np.linalg.norm(weights.astype(np.float64)))
        direction = on_grid(weights[None])[0].astype(np.float32)
        dots: npt.NDArray[np.float32] = self.fine_tuned.astype(np.float32) @ direction
        return dots / np.float32(GRID**2) * norm

    def columns(
        self,
        requests: pl.DataFrame,
        history: pl.DataFrame,
        rows: pl.DataFrame,
        query_RD: npt.NDArray[np.int16] | None = None,
    ) -> pl.DataFrame:
        """Interest of the rows.

        Args:
            requests: request, sorted; every request of `rows`.
            history: `HistoryItems` of the requests.
            rows: `CandidateRows`.
            query_RD: Vectors of the requests' queries on the grid, 0 where a request has none; only where queries are
                read, and None there if no request has one.

        Returns:
            `interest` and `names` (Float32), one row a row of `rows`. The candidate's own events are left out of the
            history. Where nothing is left, `interest`, its rank and its z-score tell how the query is answered and what
            everybody wants; the others are NaN, and `OF_QUERY` is without a query.
        """
        histories = Histories.of(requests, history, self.history_items)
        raw = (*_RAW, "query") if self.queries else _RAW
        values = np.full((len(raw), rows.height), np.nan, np.float32)
        if rows.is_empty():
            return pl.DataFrame(schema=dict.fromkeys((FINE_TUNED, *self.names), pl.Float32))
        starts = np.searchsorted(rows["request"].to_numpy(), requests["request"].to_numpy())
        ends = np.append(starts[1:], rows.height)
        items = rows["item"].to_numpy().astype(np.int64)
        wanted = self.wanted()
        for batch, at_BC, mask_BC in self._batches(starts, ends):
            candidate_BC = np.where(mask_BC, items[at_BC], 0)
            slots_BH = np.maximum(histories.item_RH[batch], 0)
            for part, cosines in _similarities((self.fine_tuned, self.zero_shot), slots_BH, candidate_BC):
                query_BD = None if query_RD is None else query_RD[batch[part]]
                scores = self._scores(histories, batch[part], candidate_BC[part], cosines, wanted, query_BD)
                values[:, at_BC[part][mask_BC[part]]] = scores[:, mask_BC[part]]
        columns = dict(zip(raw, values, strict=True))
        first = starts[ends > starts]
        columns |= {"interest_rank": _rank(columns[FINE_TUNED], first), "interest_z": _z(columns[FINE_TUNED], first)}
        similar = [name for name in ("last", "nearest", "mean", "query") if name in raw]
        columns |= {f"interest_{name}_z": _z(columns.pop(name), first) for name in similar}
        return pl.DataFrame(columns).select(FINE_TUNED, *self.names)

    def _batches(
        self, starts: npt.NDArray[np.int64], ends: npt.NDArray[np.int64]
    ) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.bool_]]]:
        """Batches of requests of like size: rows of the requests, rows of their candidates, and the mask of these."""
        sizes = ends - starts
        order = np.argsort(sizes, kind="stable")
        order = order[sizes[order] > 0]
        while len(order):
            widest = np.maximum.accumulate(sizes[order]) * np.arange(1, len(order) + 1) * self.history_items
            batch = order[: max(int(np.searchsorted(widest, _CELLS, side="right")), 1)]
            order = order[len(batch) :]
            mask_BC = np.arange(sizes[batch].max()) < sizes[batch][:, None]
            yield batch, np.where(mask_BC, starts[batch][:, None] + np.arange(mask_BC.shape[1]), 0), mask_BC

    def _scores(
        self,
        histories: Histories,
        batch: npt.NDArray[np.int64],
        candidate_BC: npt.NDArray[np.int64],
        cosines: tuple[Tensor, Tensor],
        wanted: npt.NDArray[np.float32],
        query_BD: npt.NDArray[np.int16] | None,
    ) -> npt.NDArray[np.float32]:
        tuned_BHC, plain_BHC = cosines
        item_BH = histories.item_RH[batch]
        mask_BH = torch.from_numpy(item_BH >= 0)
        age_BH, gain_BH = (torch.from_numpy(part[batch]) for part in (histories.age_RH, histories.gain_RH))
        event_type_BH = torch.from_numpy(histories.event_type_RH[batch].astype(np.int64))
        with torch.inference_mode():
            # NOTE: that the user had this very item is the behavioural features' part, in training and here.
            other_BHC = torch.from_numpy(item_BH[:, :, None] != candidate_BC[:, None, :]) & mask_BH.unsqueeze(-1)
            match_BC = self.user_tower(tuned_BHC, age_BH, gain_BH, other_BHC, event_type_BH)
            answers = []
            if self.queries:
                answers.append(_answers(self.fine_tuned, query_BD, candidate_BC))
                match_BC = match_BC + self.user_tower.answer(answers[0].nan_to_num())
            interest_BC = match_BC + torch.from_numpy(wanted[candidate_BC])
            tuned = [pooled_similarity(tuned_BHC, age_BH, other_BHC, pooling) for pooling in ("nearest", "mean")]
            plain = [pooled_similarity(plain_BHC, age_BH, other_BHC, pooling) for pooling in POOLINGS]
            return torch.stack([interest_BC, _last(tuned_BHC, other_BHC), *tuned, *plain, *answers]).numpy()


def _rank(score: npt.NDArray[np.float32], starts: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """Rank of each row within its request, 1 is best, ties share the best rank."""
    request = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(score))))
    order = np.lexsort((-score, request))
    leader = np.empty(len(score), np.bool_)
    leader[0], leader[1:] = True, (np.diff(score[order]) != 0) | (np.diff(request[order]) != 0)
    first = np.maximum.accumulate(np.where(leader, np.arange(len(score)), 0))
    rank = np.empty(len(score), np.float32)
    rank[order] = first - starts[request[order]] + 1
    return rank


def _z(score: npt.NDArray[np.float32], starts: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """Distance from the request's mean in its standard deviations; NaN counts for nothing and stays NaN."""
    sizes = np.diff(np.append(starts, len(score)))
    wide, defined = score.astype(np.float64), ~np.isnan(score)
    count = np.maximum(np.add.reduceat(defined.astype(np.int64), starts), 1)
    mean = np.repeat(np.add.reduceat(np.where(defined, wide, 0), starts) / count, sizes)
    centred = np.where(defined, wide - mean, 0)
    deviation = np.repeat(np.sqrt(np.add.reduceat(centred**2, starts) / count), sizes)
    return np.where(defined, centred / np.where(deviation > 0, deviation, 1), np.nan).astype(np.float32)


def _similarities(
    stores: tuple[npt.NDArray[np.int16], npt.NDArray[np.int16]],
    item_BH: npt.NDArray[np.int64],
    candidate_BC: npt.NDArray[np.int64],
) -> Iterator[tuple[slice, tuple[Tensor, Tensor]]]:
    """Cosines (B, H, C) by each of two stores of vectors, some of the requests at a time.

    One product of all their distinct texts serves as many requests as share them well. Products and sums are of whole
    numbers below 2^24, hence exact in whatever order; then comes one division.
    """
    waiting = [slice(0, len(item_BH))]
    while waiting:
        rows = waiting.pop()
        history_BH, part_BC = item_BH[rows], candidate_BC[rows]
        history, candidates = np.unique(history_BH), np.unique(part_BC)
        if len(history_BH) > 1 and len(history) * len(candidates) > _WASTE * history_BH.shape[1] * part_BC.size:
            half = (rows.start + rows.stop) // 2
            waiting += [slice(half, rows.stop), slice(rows.start, half)]
            continue
        one, other = (_product(vectors, history, candidates) for vectors in stores)
        first_BH1 = torch.from_numpy(np.searchsorted(history, history_BH)).unsqueeze(2)
        second_B1C = torch.from_numpy(np.searchsorted(candidates, part_BC)).unsqueeze(1)
        many = max(_PART_CELLS // (history_BH.shape[1] * part_BC.shape[1]), 1)
        for start in range(0, len(history_BH), many):
            at = first_BH1[start : start + many], second_B1C[start : start + many]
            yield slice(rows.start + start, rows.start + start + len(at[0])), (one[at], other[at])


def _product(
    vectors: npt.NDArray[np.int16], history: npt.NDArray[np.int64], candidates: npt.NDArray[np.int64]
) -> Tensor:
    """Cosines of all pairs of some items."""
    one, other = (torch.from_numpy(vectors[items].astype(np.float32)) for items in (history, candidates))
    return torch.mm(one, other.T).div_(GRID**2)


def _answers(
    vectors: npt.NDArray[np.int16], query_BD: npt.NDArray[np.int16] | None, candidate_BC: npt.NDArray[np.int64]
) -> Tensor:
    """Cosines (B, C) of queries and candidates, exact like those of `_similarities`; NaN where there is no query."""
    if query_BD is None:
        return torch.full(candidate_BC.shape, torch.nan)
    parts = []
    for start in range(0, len(query_BD), _REQUESTS):
        query_PD1 = torch.from_numpy(query_BD[start : start + _REQUESTS].astype(np.float32)).unsqueeze(2)
        candidate_PCD = torch.from_numpy(vectors[candidate_BC[start : start + _REQUESTS]].astype(np.float32))
        parts.append(torch.bmm(candidate_PCD, query_PD1).squeeze(2))
    without_B1 = torch.from_numpy(~query_BD.any(1, keepdims=True))
    return (torch.cat(parts) / GRID**2).masked_fill(without_B1, torch.nan)


def pooled_similarity(similar_BHC: Tensor, age_BH: Tensor, mask_BHC: Tensor, pooling: str) -> Tensor:
    """Pool similarities over the history (B, C), history items in order; NaN where the mask leaves none."""
    if pooling in {"nearest", "top3"}:
        most = 1 if pooling == "nearest" else 3
        best = _largest(similar_BHC.masked_fill(~mask_BHC, -torch.inf), most)
        count_BC = mask_BHC.sum(1).clamp(max=most)
        return sum((each.masked_fill(each.isinf(), 0.0) for each in best), torch.zeros(())) / count_BC
    weight_BH = torch.ones_like(age_BH)
    if pooling == "decayed":
        weight_BH = torch.exp(age_BH * -(math.log(2) / _HALF_LIFE_DAYS))  # exp2 depends on the row's position
    total_BC = torch.zeros_like(similar_BHC[:, 0])
    total_weight_BC = torch.zeros_like(total_BC)
    for slot in range(mask_BHC.shape[1]):
        weight_BC = weight_BH[:, slot, None] * mask_BHC[:, slot]
        total_BC = total_BC + weight_BC * similar_BHC[:, slot]
        total_weight_BC = total_weight_BC + weight_BC
    return total_BC / total_weight_BC


def _largest(values_BHC: Tensor, most: int) -> list[Tensor]:
    """The `most` largest values of the history (B, C) each, descending: -inf where there are fewer."""
    best = [torch.full_like(values_BHC[:, 0], -torch.inf) for _ in range(most)]
    for slot in range(values_BHC.shape[1]):
        rest_BC = values_BHC[:, slot]
        for rank, kept_BC in enumerate(best):
            best[rank], rest_BC = torch.maximum(kept_BC, rest_BC), torch.minimum(kept_BC, rest_BC)
    return best


def _last(similar_BHC: Tensor, mask_BHC: Tensor) -> Tensor:
    """Similarity to the most recent history item that counts (B, C), NaN without one."""
    last_BC = torch.full_like(similar_BHC[:, 0], torch.nan)
    for slot in reversed(range(mask_BHC.shape[1])):
        last_BC = torch.where(mask_BHC[:, slot], similar_BHC[:, slot], last_BC)
    return last_BC
