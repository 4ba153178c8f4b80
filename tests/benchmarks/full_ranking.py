"""What benchmarks without clocks share: fine-tuning on histories alone, and scores over a whole catalogue."""

# R requests, H history items; B requests of a batch, C candidates, T distinct texts, D width
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from outcome import Trial, changes, command_line, data_root, files_sha256, measured, tell
from peer_results import peers_json

from encoders.config import EncoderConfig
from encoders.data import Examples, Histories
from encoders.fit import BlockTraining, ReadTexts, Report, fit_block
from encoders.interest import POOLINGS, InterestScorer, pooled_similarity
from encoders.model import InterestModel
from features.tables.text import GRID

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
TUNED, BEST = "fine-tuned", "zero-shot, best pooling"
_CELLS = 1 << 24  # cells of a (B, H, C) tensor computed at a time


@dataclass(frozen=True, slots=True)
class Texts:
    """A catalogue's texts, each distinct one once.

    Attributes:
        distinct: Sorted.
        of_item: (items,) position of each item's text.
    """

    distinct: list[str]
    of_item: Ints

    @classmethod
    def of(cls, texts: Sequence[str]) -> "Texts":
        """From the texts of items in the order of their codes."""
        distinct = sorted(set(texts))
        position = {text: at for at, text in enumerate(distinct)}
        return cls(distinct, np.array([position[text] for text in texts]))


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a benchmark, as its command line asks.

    Attributes:
        config: The encoder's configuration.
        data: Folder of the data sets.
        seed: Of everything drawn.
        validate: Whether to rank what is held out of training instead of the test.
        trial: What is told of it.
        folder: Where the fine-tuned model is kept, and read from if it is there; None keeps none.
    """

    config: EncoderConfig
    data: Path
    seed: int
    validate: bool
    trial: Trial
    folder: Path | None = None

    @classmethod
    def start(
        cls,
        doc: str | None,
        settings: dict[str, Any],
        *,
        name: str,
        folder: str,
        peers: str | None = None,
        **protocol: Any,
    ) -> Self:
        """From the command line.

        Args:
            doc: What `--help` says.
            settings: Of the encoder, where they are not the defaults.
            name: Of the benchmark.
            folder: Of its data, below NIGHTRANK_DATA.
            peers: The data's name among the peers that the test is compared with; None compares with none.
            protocol: What else decides the figures.
        """
        parser = command_line(doc)
        parser.add_argument(
            "--model", type=Path, default=None, metavar="FOLDER", help="keep the fine-tuned model there"
        )
        arguments = parser.parse_args()
        data = data_root()
        config = EncoderConfig(**settings | changes(arguments.overrides))
        beside = peers_json(peers) if peers is not None and not arguments.validate else {}
        resolved = {"encoder": config.model_dump(mode="json"), **protocol, **beside}
        trial = Trial.start(arguments, data=name, config=resolved, data_sha256=files_sha256(data / folder))
        return cls(config, data, arguments.seed, arguments.validate, trial, arguments.model)

    def fine_tune(self, examples: Examples, texts: Texts) -> InterestModel:
        """An interest model trained on one block; that of the folder, if there is one."""
        if self.folder is not None and self.folder.exists():
            return InterestModel.load(self.folder)
        model = InterestModel.start(self.config)
        start = time.monotonic()
        tokenised = model.tokenise(texts.distinct)
        lower = model.read_lower(tokenised)
        pooled = model.pool("tuned", tokenised, lower=lower)
        tell(f"{len(texts.distinct)} texts read in {time.monotonic() - start:.0f} s; {len(examples)} requests")
        fit_block(
            model,
            examples,
            ReadTexts(tokenised, lower, pooled),
            config=self.config,
            seed=self.seed,
            report=report_steps(),
        )
        if self.folder is not None:
            self.folder.mkdir(parents=True)
            model.save(self.folder)
        return model

    def conclude(
        self,
        metric: str,
        scores: dict[str, Floats],
        *,
        lift: float = 0,
        least: float = 0,
        ours: str = TUNED,
        others: str = BEST,
    ) -> int:
        """Print each system's mean, the paired differences of ours, and the bars.

        Args:
            metric: What was measured.
            scores: (requests,) values by system, one request a user.
            lift: What our system must reach, as a share of the best other one.
            least: What it must reach in any case.
            ours: Its name.
            others: What the best of the others is called.

        Returns:
            The exit status: 0 if the bars were reached and the difference from the best other one lies above zero.
        """
        best = max((name for name in scores if name != ours), key=lambda name: scores[name].mean())
        ordered = {ours: scores[ours], others: scores[best], **scores}
        figures, pairs = measured(ordered, np.arange(len(scores[ours])), metric)
        name, ratio = f"{ours}, {metric}", scores[ours].mean() / scores[best].mean()
        tell(f"{others} is {best}; {ours} has {ratio:.3f} of it")
        return self.trial.conclude(
            figures,
            pairs,
            least={name: least} if least else {},
            above_zero=[f"{ours} over {others}, {metric}"],
            others={f"{name} >= {lift:g} of {others}": bool(ratio >= lift)} if lift else {},
        )


def histories_of(rows: Sequence[Ints], items: int, *, aged: bool = True) -> Histories:
    """Histories without clocks.

    Args:
        rows: Items of each request, the most recent last.
        items: H, the most items kept.
        aged: Whether an item's age is its distance from the end; else all are of one age.
    """
    item = np.full((len(rows), items), -1, np.int64)
    for at, row in enumerate(rows):
        recent = row[::-1][:items]
        item[at, : len(recent)] = recent
    age = np.ones(item.shape, np.float32)
    if aged:
        age *= np.arange(1, items + 1, dtype=np.float32)
    return Histories(item, age, np.ones(item.shape, np.float32), np.zeros(item.shape, np.uint16))


def positives_only(histories: Histories, taken: Sequence[Ints], texts: Texts) -> Examples:
    """Examples without candidates: what each request took; what the batch's other requests took are its negatives."""
    many = np.array([len(row) for row in taken])
    item = np.concatenate(taken)
    starts = np.concatenate([[0], np.cumsum(many)])
    return Examples(histories, item, np.ones(len(item), np.float32), starts, many, texts.of_item)


def dealt(
    rng: np.random.Generator, sets: Sequence[Ints], texts: Texts, config: EncoderConfig, *, deals: int
) -> Examples:
    """Sets without order, each dealt several times into a history, half of it at most, and what was taken."""
    histories, taken = [], []
    for items in sets:
        for _ in range(deals if len(items) > 1 else 0):
            order = rng.permutation(items)
            cut = min((len(items) + 1) // 2, config.history_items)
            histories.append(order[:cut])
            taken.append(order[cut:])
    return positives_only(histories_of(histories, config.history_items, aged=False), taken, texts)


Scored = Iterator[tuple[Ints, npt.NDArray[np.float32]]]


def catalogue_scores(model: InterestModel, histories: Histories, texts: Texts, candidates: Ints) -> Scored:
    """Fine-tuned scores (B, C) of all candidates, batch by batch, with the rows of the requests."""
    vectors = model.embed("tuned", model.tokenise(texts.distinct))[texts.of_item]
    wanted = torch.from_numpy(InterestScorer(model.user_tower, vectors, vectors, 1).wanted()[candidates])
    for rows, *tensors in _batches(histories, vectors, candidates):
        with torch.inference_mode():
            yield rows, (model.user_tower(*tensors) + wanted).numpy()


def plain_scores(
    model: InterestModel, histories: Histories, texts: Texts, candidates: Ints
) -> Iterator[tuple[str, Scored]]:
    """The same for each zero-shot pooling, with its name."""
    vectors = model.embed("zero_shot", model.tokenise(texts.distinct))[texts.of_item]

    def pooled(pooling: str) -> Scored:
        for rows, similar_BHC, age_BH, _, mask_BHC in _batches(histories, vectors, candidates):
            with torch.inference_mode():
                yield rows, pooled_similarity(similar_BHC, age_BH, mask_BHC, pooling).numpy()

    for pooling in POOLINGS:
        yield f"zero-shot {pooling}", pooled(pooling)


def _batches(
    histories: Histories, vectors: npt.NDArray[np.int16], candidates: Ints
) -> Iterator[tuple[Ints, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Rows of requests, short histories first, with cosines (B, H, C), ages, gains and the mask."""
    wide = vectors.astype(np.float32) / np.float32(GRID)
    length = (histories.item_RH >= 0).sum(1)
    order = np.argsort(length, kind="stable")
    while len(order):
        widest = np.maximum.accumulate(length[order]) * np.arange(1, len(order) + 1) * len(candidates)
        rows = order[: max(int(np.searchsorted(widest, _CELLS, side="right")), 1)]
        order = order[len(rows) :]
        most = max(int(length[rows].max()), 1)
        item_BH = histories.item_RH[rows, :most]
        distinct, position = np.unique(item_BH, return_inverse=True)
        similar_IC = torch.from_numpy(wide[np.maximum(distinct, 0)] @ wide[candidates].T)
        similar_BHC = similar_IC[torch.from_numpy(position.reshape(item_BH.shape))]
        mask_BHC = torch.from_numpy(item_BH >= 0).unsqueeze(-1).expand_as(similar_BHC)
        age_BH, gain_BH = (torch.from_numpy(part[rows, :most]) for part in (histories.age_RH, histories.gain_RH))
        yield rows, similar_BHC, age_BH, gain_BH, mask_BHC


def report_steps() -> Report:
    """Tells the loss of each fiftieth step."""
    start = time.monotonic()

    def report(training: BlockTraining, _: int) -> None:
        if len(training.losses) % 50 == 0:
            tell(f"step {len(training.losses)}, loss {training.losses[-1]:.3f}, {time.monotonic() - start:.0f} s")

    return report
