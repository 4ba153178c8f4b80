"""Training data of a block and its batches: requests with their histories and candidates."""

# R requests of the block, H history items; B requests of a batch, C candidates, T texts, P texts that are positives
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import polars as pl
import pytorch_lightning as lightning
import torch
from torch.utils.data import DataLoader, Dataset, Subset

from encoders.config import EncoderConfig
from features.tables.frames import PAIR

__all__ = ["FINE_TUNED", "QUERY", "Batch", "BlockBatches", "BlockData", "Examples", "Histories", "WholeLists"]

Ints = npt.NDArray[np.int64]
_Array = TypeVar("_Array", bound=npt.NDArray[Any])

FINE_TUNED = "interest"
"""Raw score of the fine-tuned model; comparable within a request only, so that it is no feature of the ranker."""

QUERY = "query_text"
"""Column of requests: position of the query among the distinct texts, -1 where a request has none."""

_WHOLE = 16  # requests whose candidates are scored together


@dataclass(frozen=True, slots=True)
class Histories:
    """The most recent items of each request's user, padded to one length.

    Attributes:
        item_RH: Item codes, -1 where the history is shorter.
        age_RH: Days from the item's last event to the as-of, at least 1 (1 where padded).
        gain_RH: Highest gain of the user's events with the item (1 where padded).
        event_type_RH: Code of the type of the event with that gain, 0 for an unknown one (and where padded).
    """

    item_RH: Ints
    age_RH: npt.NDArray[np.float32]
    gain_RH: npt.NDArray[np.float32]
    event_type_RH: npt.NDArray[np.uint16]

    @classmethod
    def of(cls, requests: pl.DataFrame, history: pl.DataFrame, items: int) -> "Histories":
        """From `features.candidates.union.histories`.

        Args:
            requests: The requests, in the order wanted.
            history: `HistoryItems`.
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
        event_type = np.zeros(shape, np.uint16)
        event_type[at] = placed["event_type"].to_numpy()
        return cls(item, age, gain, event_type)

    def parts(self) -> tuple[npt.NDArray[Any], ...]:
        """The arrays, in the order of the attributes."""
        return self.item_RH, self.age_RH, self.gain_RH, self.event_type_RH

    def take(self, rows: Ints) -> "Histories":
        """The histories of some requests, in the order of `rows`."""
        return Histories(*(part[rows] for part in self.parts()))

    def joined(self, other: "Histories") -> "Histories":
        """These and then others of the same length."""
        return Histories(*map(np.concatenate, zip(self.parts(), other.parts(), strict=True)))


@dataclass(frozen=True, slots=True)
class Examples:
    """Training data of a block of the timeline: requests, and which of their candidates were taken.

    Attributes:
        histories: Of R requests that have a history or a query, a positive and a negative.
        item: Codes of the candidates that are new to the user; those of one request together, positives first.
        gain: Their gains, 0 for a negative.
        starts: (R + 1,) where each request's candidates start.
        positives: (R,) how many of them are positive.
        text_of_item: (items,) position of each item's text among the distinct texts.
        score: Score of each candidate by the encoder before the block, float32; None where it has scored none.
        query_R: (R,) position of each request's query among the distinct texts, -1 where it has none; None where
            queries are not read.
    """

    histories: Histories
    item: Ints
    gain: npt.NDArray[np.float32]
    starts: Ints
    positives: Ints
    text_of_item: Ints
    score: npt.NDArray[np.float32] | None = None
    query_R: Ints | None = None

    @classmethod
    def of(
        cls,
        requests: pl.DataFrame,
        history: pl.DataFrame,
        rows: pl.DataFrame,
        text_of_item: Ints,
        config: EncoderConfig,
    ) -> "Examples":
        """Examples of the candidates that are new to the user; repeats are left to the behavioural features.

        Args:
            requests: request; where queries are read, `QUERY`.
            history: `HistoryItems` of the requests.
            rows: `Pairs` with their label: the requests' candidates; `FINE_TUNED` where an encoder has scored them.
            text_of_item: Position of each item's text.
            config: Length of histories.
        """
        scored = [FINE_TUNED] if FINE_TUNED in rows.columns else []
        new = rows.select(*PAIR, "label", *scored).join(history, on=PAIR, how="anti")
        has_queries = QUERY in requests.columns
        with_context = [history["request"], *([requests.filter(pl.col(QUERY) >= 0)["request"]] if has_queries else [])]
        new = new.filter(pl.col("request").is_in(pl.concat(with_context).unique().implode()))
        new = new.filter(((pl.col("label") > 0).any() & (pl.col("label") == 0).any()).over("request"))
        new = new.sort(["request", "label", "item"], descending=[False, True, False])
        sizes = new.group_by("request").agg(all=pl.len(), positive=(pl.col("label") > 0).sum()).sort("request")
        kept = requests.filter(pl.col("request").is_in(sizes["request"].implode())).sort("request")
        return cls(
            Histories.of(kept, history, config.history_items),
            new["item"].to_numpy().astype(np.int64),
            new["label"].to_numpy().astype(np.float32),
            np.concatenate([[0], np.cumsum(sizes["all"].to_numpy())]).astype(np.int64),
            sizes["positive"].to_numpy().astype(np.int64),
            text_of_item,
            new[FINE_TUNED].to_numpy().astype(np.float32) if scored else None,
            kept[QUERY].to_numpy().astype(np.int64) if has_queries else None,
        )

    def __len__(self) -> int:
        return len(self.positives)

    def take(self, rows: Ints) -> "Examples":
        """Some of the requests, in the order of `rows`."""
        sizes = np.diff(self.starts)[rows]
        starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        at = np.repeat(self.starts[rows] - starts[:-1], sizes) + np.arange(starts[-1])
        histories = self.histories.take(rows)
        return replace(
            self,
            histories=histories,
            item=self.item[at],
            gain=self.gain[at],
            starts=starts,
            positives=self.positives[rows],
            score=None if self.score is None else self.score[at],
            query_R=None if self.query_R is None else self.query_R[rows],
        )

    def joined(self, other: "Examples") -> "Examples":
        """These requests and then those of another block of the same catalogue; scored only if both are."""
        return Examples(
            self.histories.joined(other.histories),
            np.concatenate([self.item, other.item]),
            np.concatenate([self.gain, other.gain]),
            np.concatenate([self.starts, self.starts[-1] + other.starts[1:]]),
            np.concatenate([self.positives, other.positives]),
            self.text_of_item,
            _both(self.score, other.score),
            _both(self.query_R, other.query_R),
        )

    def replaying(self, past: "Examples", share: float, seed: int) -> "Examples":
        """These requests after so many drawn of an earlier block that they make up a share of all, or all it has."""
        wanted = min(round(len(self) * share / (1 - share)), len(past))
        drawn = np.random.default_rng([seed, 1 << 21]).permutation(len(past))[:wanted]
        return past.take(np.sort(drawn)).joined(self) if wanted else self

    def split(self, latest: int) -> tuple["Examples", "Examples"]:
        """All requests but the `latest` last, and those."""
        cut = max(len(self) - latest, 0)
        return self.take(np.arange(cut)), self.take(np.arange(cut, len(self)))


def _both(one: _Array | None, other: _Array | None) -> _Array | None:
    return None if one is None or other is None else np.concatenate([one, other])  # type: ignore[return-value]


class SharedPositives(NamedTuple):
    """The P distinct texts that some request of the batch took: each is a negative of the others.

    Attributes:
        text_P: Positions in `Batch.text_T`.
        gain_BP: Gain of the request's own drawn positives, 0 elsewhere.
        mask_BP: False where the request had the text, or took it without its being drawn.
        log_q_P: Logarithm of the text's share of all positives of the block.
    """

    text_P: torch.Tensor
    gain_BP: torch.Tensor
    mask_BP: torch.Tensor
    log_q_P: torch.Tensor


class Batch(NamedTuple):
    """B requests, C candidates each, T distinct texts.

    Attributes:
        text_T: Distinct texts of the batch.
        history_BH: Positions in `text_T`, 0 where padded.
        history_mask_BH: Where there is a history item.
        age_BH: See `Histories`.
        history_gain_BH: See `Histories`.
        event_type_BH: See `Histories`; int64.
        by_length: Requests whose histories are of similar length, and how many slots they need, at least 1; every
            request is in one of these groups.
        candidate_BC: Positions in `text_T`, 0 where padded.
        mask_BC: Where there is a candidate.
        gain_BC: Gain of each candidate, 0 for a negative.
        query_B: Position of the request's query in `text_T`, 0 where it has none.
        query_mask_B: Where there is a query.
        shared: What in-batch negatives need, None without them.
    """

    text_T: Ints
    history_BH: torch.Tensor
    history_mask_BH: torch.Tensor
    age_BH: torch.Tensor
    history_gain_BH: torch.Tensor
    event_type_BH: torch.Tensor
    by_length: tuple[tuple[torch.Tensor, int], ...]
    candidate_BC: torch.Tensor
    mask_BC: torch.Tensor
    gain_BC: torch.Tensor
    query_B: torch.Tensor
    query_mask_B: torch.Tensor
    shared: "SharedPositives | None" = None


def batch_of(examples: Examples, chosen: Ints, at_BC: Ints) -> Batch:
    """A batch of some requests.

    Args:
        examples: All requests.
        chosen: (B,) which of them.
        at_BC: Their candidates as positions in `Examples.item`, -1 where padded.
    """
    candidate_BC = np.where(at_BC >= 0, examples.text_of_item[examples.item[at_BC]], -1)
    history = examples.histories.item_RH[chosen]
    history_text_BH = np.where(history >= 0, examples.text_of_item[history], -1)
    query_B = np.full(len(chosen), -1) if examples.query_R is None else examples.query_R[chosen]
    text_T = np.unique(np.concatenate([candidate_BC.ravel(), history_text_BH.ravel(), query_B]))
    text_T = text_T[text_T >= 0]
    return Batch(
        text_T=text_T,
        history_BH=torch.from_numpy(np.searchsorted(text_T, np.maximum(history_text_BH, text_T[0]))),
        history_mask_BH=torch.from_numpy(history_text_BH >= 0),
        age_BH=torch.from_numpy(examples.histories.age_RH[chosen]),
        history_gain_BH=torch.from_numpy(examples.histories.gain_RH[chosen]),
        event_type_BH=torch.from_numpy(examples.histories.event_type_RH[chosen].astype(np.int64)),
        by_length=_by_length(history_text_BH >= 0),
        candidate_BC=torch.from_numpy(np.searchsorted(text_T, np.maximum(candidate_BC, text_T[0]))),
        mask_BC=torch.from_numpy(at_BC >= 0),
        gain_BC=torch.from_numpy(np.where(at_BC >= 0, examples.gain[at_BC], 0).astype(np.float32)),
        query_B=torch.from_numpy(np.searchsorted(text_T, np.maximum(query_B, text_T[0]))),
        query_mask_B=torch.from_numpy(query_B >= 0),
    )


def _by_length(mask_BH: npt.NDArray[np.bool_]) -> tuple[tuple[torch.Tensor, int], ...]:
    """Groups of rows by the power of two that the length of each reaches: less than half of a group is padding."""
    most = mask_BH.shape[1]
    length_B = (mask_BH * np.arange(1, most + 1)).max(1)
    slots_B = np.minimum(2 ** np.ceil(np.log2(np.maximum(length_B, 1))).astype(np.int64), most)
    return tuple((torch.from_numpy(np.flatnonzero(slots_B == slots)), int(slots)) for slots in np.unique(slots_B))


class BlockBatches(Dataset[Batch]):
    """Batch number i is a function of (seed, i): training can be stopped and taken up at any of them.

    Args:
        examples: What there is to learn.
        config: Sizes and steps, of `accumulate` batches each.
        seed: Seed of the order and of the draws.
    """

    def __init__(self, examples: Examples, config: EncoderConfig, *, seed: int) -> None:
        self._examples = examples
        self._config = config
        self._seed = seed
        self._log_q = _log_share(examples) if config.in_batch_weight > 0 else None

    def __len__(self) -> int:
        steps = self._config.head_steps + self._config.steps
        return steps * self._config.accumulate if len(self._examples) else 0

    def __getitem__(self, number: int) -> Batch:
        if number >= len(self):
            raise IndexError(number)
        examples = self._examples
        chosen = self._requests(number)
        rng = np.random.default_rng([self._seed, number])
        at_BC = np.full((len(chosen), self._config.candidates_per_request), -1)
        for row, request in enumerate(chosen):
            drawn = self._draw(rng, request)
            at_BC[row, : len(drawn)] = drawn
        batch = batch_of(examples, chosen, at_BC)
        if self._log_q is None:
            return batch
        return batch._replace(shared=self._shared(chosen, batch))

    def _shared(self, chosen: Ints, batch: Batch) -> SharedPositives:
        """The positives of a batch as negatives of its other requests."""
        assert self._log_q is not None
        examples = self._examples
        candidate_BC, gain_BC = batch.text_T[batch.candidate_BC.numpy()], batch.gain_BC.numpy()
        text_P = np.unique(candidate_BC[gain_BC > 0])
        mask_BP = np.ones((len(chosen), len(text_P)), np.bool_)
        many = examples.positives[chosen]
        first = np.repeat(examples.starts[chosen] - np.cumsum(many) + many, many)
        taken = examples.text_of_item[examples.item[first + np.arange(len(first))]]
        history_text_BH, history_mask_BH = batch.text_T[batch.history_BH.numpy()], batch.history_mask_BH.numpy()
        for rows, texts in (
            (np.repeat(np.arange(len(chosen)), many), taken),
            (np.nonzero(history_mask_BH)[0], history_text_BH[history_mask_BH]),
        ):
            at = np.minimum(np.searchsorted(text_P, texts), len(text_P) - 1)
            shared = text_P[at] == texts
            mask_BP[rows[shared], at[shared]] = False
        own_BC = gain_BC > 0
        drawn = np.nonzero(own_BC)[0], np.searchsorted(text_P, candidate_BC[own_BC])
        mask_BP[drawn] = True
        gain_BP = np.zeros(mask_BP.shape, np.float32)
        np.maximum.at(gain_BP, drawn, gain_BC[own_BC])
        return SharedPositives(
            text_P=torch.from_numpy(np.searchsorted(batch.text_T, text_P)),
            gain_BP=torch.from_numpy(gain_BP),
            mask_BP=torch.from_numpy(mask_BP),
            log_q_P=torch.from_numpy(self._log_q[text_P]),
        )

    def _requests(self, number: int) -> Ints:
        """A batch's requests: passes over all of them, each in an order of its own."""
        total, size = len(self._examples), self._config.requests_per_batch
        wanted = np.arange(number * size, (number + 1) * size)
        orders = {
            turn: np.random.default_rng([self._seed, 1 << 20, turn]).permutation(total)
            for turn in np.unique(wanted // total)
        }
        return np.unique(
            [orders[turn][position] for turn, position in zip(wanted // total, wanted % total, strict=True)]
        )

    def _draw(self, rng: np.random.Generator, request: int) -> Ints:
        """Some positives of a request and then negatives, the hard ones first, as positions in `Examples.item`."""
        examples, config = self._examples, self._config
        start, end, many = examples.starts[request], examples.starts[request + 1], examples.positives[request]
        taken = rng.permutation(many)[: config.positives_per_request]
        n_negatives = config.candidates_per_request - len(taken)
        hard = rng.permutation(self._hardest(request))[
            : round(config.hard_negatives * min(n_negatives, end - start - many))
        ]
        others = np.arange(many, end - start)
        left = rng.permutation(np.setdiff1d(others, hard) if len(hard) else others)[: n_negatives - len(hard)]
        drawn: Ints = start + np.concatenate([taken, hard, left])
        return drawn

    def _hardest(self, request: int) -> Ints:
        """Negatives that hard ones are drawn from, best first, as positions among the request's candidates.

        They are as many as a batch holds candidates of a request, of those that score by more than a margin below the
        request's best positive: what scores above it may well be wanted too (TopK-MarginPos of NV-Retriever, Moreira et
        al. 2024). The margin is in standard deviations of the request's scores. Ties by item code.
        """
        examples, config = self._examples, self._config
        if examples.score is None or config.hard_negatives == 0:
            return np.empty(0, np.int64)
        start, end, many = examples.starts[request], examples.starts[request + 1], examples.positives[request]
        score = examples.score[start:end].astype(np.float64)
        below = score[:many].max() - config.hard_margin * score.std()
        order = many + np.argsort(-score[many:], kind="stable")
        hardest: Ints = order[score[order] < below][: config.candidates_per_request]
        return hardest


def _log_share(examples: Examples) -> npt.NDArray[np.float32]:
    """(texts,) logarithm of each text's share of all positives; that of half a positive where there is none."""
    first, many = examples.starts[:-1], examples.positives
    at = np.repeat(first - np.concatenate([[0], np.cumsum(many)[:-1]]), many) + np.arange(many.sum())
    texts = examples.text_of_item[examples.item[at]]
    counts = np.bincount(texts, minlength=int(examples.text_of_item.max()) + 1)
    share: npt.NDArray[np.float32] = np.log(np.maximum(counts, 0.5) / max(len(texts), 1)).astype(np.float32)
    return share


class WholeLists(Dataset[Batch]):
    """Requests with all their candidates, a few at a time: what NDCG is measured on."""

    def __init__(self, examples: Examples) -> None:
        self._examples = examples

    def __len__(self) -> int:
        return (len(self._examples) + _WHOLE - 1) // _WHOLE

    def __getitem__(self, index: int) -> Batch:
        if index >= len(self):
            raise IndexError(index)
        chosen = np.arange(index * _WHOLE, min((index + 1) * _WHOLE, len(self._examples)))
        starts, ends = self._examples.starts[chosen], self._examples.starts[chosen + 1]
        at_BC = starts[:, None] + np.arange((ends - starts).max())
        return batch_of(self._examples, chosen, np.where(at_BC < ends[:, None], at_BC, -1))


class BlockData(lightning.LightningDataModule):
    """The batches of one block, in order, `every` an epoch: an epoch's end is where training is judged and kept.

    Args:
        batches: What is trained on.
        every: Batches of an epoch.
        judged: What is judged at the end of each; None for nothing.
    """

    def __init__(self, batches: BlockBatches, every: int, judged: WholeLists | None = None) -> None:
        super().__init__()
        self._batches = batches
        self._every = every
        self._judged = judged

    def train_dataloader(self) -> DataLoader[Batch]:
        """The epoch's batches; they are made whole, so nothing is collated."""
        first = self.trainer.current_epoch * self._every if self.trainer is not None else 0
        numbers = range(first, min(first + self._every, len(self._batches)))
        return _in_order(Subset(self._batches, numbers))

    def val_dataloader(self) -> DataLoader[Batch] | list[DataLoader[Batch]]:
        """The judged requests, in order."""
        return _in_order(self._judged) if self._judged is not None else []


def _in_order(batches: Dataset[Batch]) -> DataLoader[Batch]:
    """Batches as they are. Torch would make tensors of arrays, and Lightning move those to the device."""
    return DataLoader(batches, batch_size=None, shuffle=False, collate_fn=_as_it_is)


def _as_it_is(batch: Any) -> Any:  # noqa: ANN401 - torch's signature has lists in mind
    return batch
