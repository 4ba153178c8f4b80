"""Training batches: requests with their history, and the texts they are to tell apart."""

# R requests of the block, H history items; B requests of a batch, N texts of a batch
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
import pytorch_lightning as lightning
import torch
from torch.utils.data import DataLoader, Dataset

from encoders.config import EncoderConfig

__all__ = ["Batch", "BlockBatches", "BlockData", "Examples", "Histories"]

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Histories:
    """The most recent items of each request's user, padded to one length.

    Attributes:
        item_RH: Item codes, -1 where the history is shorter.
        age_RH: Days from the item's last event to the as-of, at least 1 (1 where padded).
        gain_RH: Highest gain of the user's events with the item (1 where padded).
    """

    item_RH: Ints
    age_RH: npt.NDArray[np.float32]
    gain_RH: npt.NDArray[np.float32]

    @classmethod
    def of(cls, requests: pl.DataFrame, history: pl.DataFrame, items: int) -> "Histories":
        """From `features.candidates.histories`.

        Args:
            requests: The requests, in the order wanted.
            history: request, item, as_of_day, last_day, gain; most recent first.
            items: H, the most items kept.
        """
        slot = pl.int_range(pl.len()).over("request")
        recent = history.with_columns(slot=slot).filter(pl.col("slot") < items)
        rows = requests.select("request").with_row_index("row")
        placed = recent.join(rows, on="request")
        at = placed["row"].to_numpy(), placed["slot"].to_numpy()
        shape = (requests.height, items)
        item, age, gain = np.full(shape, -1, np.int64), np.ones(shape, np.float32), np.ones(shape, np.float32)
        item[at] = placed["item"].to_numpy()
        age[at] = (placed["as_of_day"] - placed["last_day"]).to_numpy()
        gain[at] = placed["gain"].to_numpy()
        return cls(item, age, gain)


@dataclass(frozen=True, slots=True)
class Examples:
    """All that a block of the timeline teaches.

    Attributes:
        histories: Of R requests that have a history and a positive outside it.
        positive_item: Item codes of the positives, those of one request together.
        positive_gain: Their gains.
        starts: (R + 1,) where each request's positives start.
        text_of_item: (items,) position of each item's text among the distinct texts.
    """

    histories: Histories
    positive_item: Ints
    positive_gain: Ints
    starts: Ints
    text_of_item: Ints

    @classmethod
    def of(
        cls,
        requests: pl.DataFrame,
        history: pl.DataFrame,
        truth: pl.DataFrame,
        text_of_item: Ints,
        config: EncoderConfig,
    ) -> "Examples":
        """What the user took up that is new to them; what they take again is the behavioural features' part."""
        new = truth.filter(pl.col("is_new") & pl.col("request").is_in(history["request"].implode()))
        new = new.sort("request", "item")
        kept = requests.filter(pl.col("request").is_in(new["request"].implode())).sort("request")
        sizes = new.group_by("request").len().sort("request")["len"].to_numpy()
        return cls(
            Histories.of(kept, history, config.history_items),
            new["item"].to_numpy().astype(np.int64),
            new["label"].to_numpy().astype(np.int64),
            np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
            text_of_item,
        )

    def __len__(self) -> int:
        return len(self.starts) - 1


class Batch(NamedTuple):
    """B requests and N texts.

    Attributes:
        text_T: Distinct texts of the batch, the N candidates first, then what only histories need.
        n_candidates: N.
        history_BH: Positions in `text_T`, 0 where padded.
        mask_BH: Where there is a history item.
        age_BH: See `Histories`.
        gain_BH: See `Histories`.
        label_BN: Gain of each candidate, 0 for a negative.
        excluded_BN: Candidates that are neither: texts of the history, positives that were not drawn.
        log_q_N: Log of the expected share of each candidate in a batch.
    """

    text_T: Ints
    n_candidates: int
    history_BH: torch.Tensor
    mask_BH: torch.Tensor
    age_BH: torch.Tensor
    gain_BH: torch.Tensor
    label_BN: torch.Tensor
    excluded_BN: torch.Tensor
    log_q_N: torch.Tensor


class BlockBatches(Dataset[Batch]):
    """Batch number i is a function of (seed, i): training can be stopped and taken up at any step."""

    def __init__(self, examples: Examples, config: EncoderConfig, *, seed: int) -> None:
        self._examples = examples
        self._config = config
        self._seed = seed
        items = len(examples.text_of_item)
        texts = int(examples.text_of_item.max()) + 1
        drawn = np.bincount(examples.text_of_item[examples.positive_item], minlength=texts)
        even = np.bincount(examples.text_of_item, minlength=texts)
        positives, negatives = config.requests_per_batch * config.positives_per_request, config.negatives_per_batch
        share = positives * drawn / max(drawn.sum(), 1) + negatives * even / items
        self._log_q = np.log(np.maximum(share / (positives + negatives), 1e-9)).astype(np.float32)

    def __len__(self) -> int:
        batches = round(self._config.passes * len(self._examples) / self._config.requests_per_batch)
        return min(max(batches, 1), self._config.max_steps) if len(self._examples) else 0

    def __getitem__(self, step: int) -> Batch:
        if step >= len(self):
            raise IndexError(step)
        examples, config = self._examples, self._config
        rng = np.random.default_rng([self._seed, step])
        chosen = self._requests(step)
        positives = [self._draw(rng, request) for request in chosen]
        evenly = rng.integers(len(examples.text_of_item), size=config.negatives_per_batch)
        candidate_N = np.unique(examples.text_of_item[np.concatenate([*positives, evenly])])
        history = examples.histories.item_RH[chosen]
        known_BH = np.where(history >= 0, examples.text_of_item[history], -1)
        only_history = np.setdiff1d(known_BH[known_BH >= 0], candidate_N)
        text_T = np.concatenate([candidate_N, only_history])
        place = np.full(len(self._log_q), -1)
        place[text_T] = np.arange(len(text_T))
        label_BN, excluded_BN = self._labels(chosen, positives, known_BH, place, len(candidate_N))
        return Batch(
            text_T=text_T,
            n_candidates=len(candidate_N),
            history_BH=torch.from_numpy(np.where(known_BH >= 0, place[known_BH], 0)),
            mask_BH=torch.from_numpy(known_BH >= 0),
            age_BH=torch.from_numpy(examples.histories.age_RH[chosen]),
            gain_BH=torch.from_numpy(examples.histories.gain_RH[chosen]),
            label_BN=torch.from_numpy(label_BN),
            excluded_BN=torch.from_numpy(excluded_BN),
            log_q_N=torch.from_numpy(self._log_q[candidate_N]),
        )

    def _requests(self, step: int) -> Ints:
        """The step's requests: passes over all of them, each in an order of its own."""
        total, size = len(self._examples), self._config.requests_per_batch
        wanted = np.arange(step * size, (step + 1) * size)
        orders = {
            turn: np.random.default_rng([self._seed, 1 << 20, turn]).permutation(total)
            for turn in np.unique(wanted // total)
        }
        return np.unique([orders[turn][place] for turn, place in zip(wanted // total, wanted % total, strict=True)])

    def _draw(self, rng: np.random.Generator, request: int) -> Ints:
        own = self._examples.positive_item[self._examples.starts[request] : self._examples.starts[request + 1]]
        most = self._config.positives_per_request
        return own if len(own) <= most else rng.choice(own, most, replace=False)

    def _labels(
        self, chosen: Ints, positives: list[Ints], known_BH: Ints, place: Ints, candidates: int
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        """Gain of each drawn positive, and what is excluded from a request's negatives."""
        examples = self._examples
        label_BN = np.zeros((len(chosen), candidates), np.float32)
        excluded_BN = np.zeros((len(chosen), candidates), np.bool_)
        for row, request in enumerate(chosen):
            span = slice(examples.starts[request], examples.starts[request + 1])
            at = place[examples.text_of_item[examples.positive_item[span]]]
            drawn = np.isin(examples.positive_item[span], positives[row])
            inside = (at >= 0) & (at < candidates)
            np.maximum.at(label_BN[row], at[drawn], examples.positive_gain[span][drawn].astype(np.float32))
            excluded_BN[row, at[inside & ~drawn]] = True
            known = place[known_BH[row][known_BH[row] >= 0]]
            excluded_BN[row, known[known < candidates]] = True
        return label_BN, excluded_BN


class BlockData(lightning.LightningDataModule):
    """The batches of one block, in order."""

    def __init__(self, batches: BlockBatches) -> None:
        super().__init__()
        self._batches = batches

    def train_dataloader(self) -> DataLoader[Batch]:
        """One batch a step; batches are made whole, so nothing is collated."""
        return DataLoader(self._batches, batch_size=None, shuffle=False)
