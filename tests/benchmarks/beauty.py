"""Amazon Beauty, leave-one-out: ndcg@10 of the fine-tuned towers alone and of zero-shot text, over the whole catalogue.

    NIGHTRANK_DATA=... python tests/benchmarks/beauty.py [--validate] [--seed N] [--set KEY=VALUE ...]

Protocol: train on s[:-2] of each user's sequence s, rank all 12,101 items but those of s[:-1] for the last one; there
are no clocks but the order, an event's age is its distance from the end. `--validate` ranks s[-2] after s[:-2] instead.
Item codes are shuffled: the files stand in ASIN order, which tells when an item came.
"""

import gzip
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
from full_ranking import TUNED, Run, Texts, catalogue_scores, histories_of, plain_scores, positives_only

from encoders.data import Examples

BAR = 1.15  # of the best zero-shot pooling
FOLDER = "amazon_beauty"
SETTINGS = {
    "history_items": 24,
    "requests_per_batch": 256,
    "positives_per_request": 2,
    "candidates_per_request": 3,
    "in_batch_weight": 1.0,
    "head_steps": 300,
    "steps": 60,
    "max_tokens": 48,
}
NEXT = 2  # items after a history that it is to rank
Ints = npt.NDArray[np.int64]


def main() -> int:
    """Run and print; the exit status says whether the bar was reached."""
    run = Run.start(__doc__, SETTINGS, name="amazon-beauty-towers", folder=FOLDER, next=NEXT)
    rng = np.random.default_rng(run.seed)
    texts, sequences = read(run.data, rng)
    model = run.fine_tune(steps_of(run, texts, sequences), texts)
    last = -2 if run.validate else -1
    if run.validate:
        sequences = [sequences[row] for row in rng.choice(len(sequences), 4000, replace=False)]
    histories = histories_of([s[:last] for s in sequences], run.config.history_items)
    everything = np.arange(len(texts.of_item))
    scores = {
        name: _ndcg(batches, sequences, last)
        for name, batches in (
            *plain_scores(model, histories, texts, everything),
            (TUNED, catalogue_scores(model, histories, texts, everything)),
        )
    }
    return run.conclude("ndcg@10", scores, lift=BAR)


def read(data: Path, rng: np.random.Generator) -> tuple[Texts, list[Ints]]:
    """The titles and each user's items in order, items numbered in an order drawn."""
    folder = data / FOLDER
    lines = gzip.decompress((folder / "items.tsv.gz").read_bytes()).decode().splitlines()[1:]
    title_of = dict(line.split("\t", 1) for line in lines)
    code = {item: at for at, item in enumerate(rng.permutation(sorted(title_of)))}
    lines = gzip.decompress((folder / "sequences.tsv.gz").read_bytes()).decode().splitlines()
    sequences = [np.array([code[item] for item in line.split("\t")[1].split()]) for line in lines]
    return Texts.of([title_of[item] for item in code]), sequences


def steps_of(run: Run, texts: Texts, sequences: list[Ints]) -> Examples:
    """What the encoder learns: at each step of s[:-2], what came next."""
    cuts = [(s, at) for s in sequences for at in range(1, len(s) - 2)]
    histories = histories_of([s[:at] for s, at in cuts], run.config.history_items)
    return positives_only(histories, [s[at : min(at + NEXT, len(s) - 2)] for s, at in cuts], texts)


def _ndcg(batches, sequences: list[Ints], last: int, first: int = 10) -> npt.NDArray[np.float64]:
    """NDCG with one relevant item: 1 / log2(rank + 1) in the first ten, ties by expectation over their order."""
    gains = np.concatenate([1 / np.log2(np.arange(2, first + 2)), np.zeros(1)])
    ndcg = np.zeros(len(sequences))
    for rows, score_BC in batches:
        for row, score in zip(rows, score_BC, strict=True):
            s = sequences[row]
            own = score[s[last]]
            score[s[:last]] = -np.inf
            better, equal = int((score > own).sum()), int((score == own).sum())
            ranks = np.minimum(np.arange(better, better + max(equal, 1)), first)
            ndcg[row] = gains[ranks].mean() if s[last] not in s[:last] else 0.0
    return ndcg


if __name__ == "__main__":
    sys.exit(main())
