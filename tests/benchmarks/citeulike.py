"""citeulike-a, item-cold: unseen papers by title alone, recall@100 of the fine-tuned towers against zero-shot text.

    NIGHTRANK_DATA=... python tests/benchmarks/citeulike.py [--validate] [--seed N] [--set KEY=VALUE ...]

Protocol (DropoutNet's split): train on the users' libraries without 3,396 papers, rank those papers for each user who
saved one of them; recall@100 is the mean over users of the share of their unseen papers in the first hundred. There are
no clocks: each library is dealt into a history and what was taken, several times over. `--validate` holds out a tenth
of the training papers by hash instead, and counts the first k of them in the same proportion.
"""

import gzip
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
from full_ranking import TUNED, Run, Texts, catalogue_scores, dealt, histories_of, plain_scores

from features.tables.hashing import part_of

BAR = 0.64
FOLDER = "citeulike_a"
SETTINGS = {
    "history_items": 24,
    "requests_per_batch": 256,
    "positives_per_request": 4,
    "candidates_per_request": 5,
    "in_batch_weight": 1.0,
    "head_steps": 200,
    "steps": 80,
    "max_tokens": 32,
}
DEALS = 4
LIBRARY = 64  # papers of a library that a ranking looks at
Ints = npt.NDArray[np.int64]


def main() -> int:
    """Run and print; the exit status says whether the bar was reached."""
    run = Run.start(__doc__, SETTINGS, name="citeulike-a", folder=FOLDER, deals=DEALS, library=LIBRARY)
    data = Libraries.read(run)
    rng = np.random.default_rng(run.seed)
    texts, unseen = data.texts, data.unseen
    model = run.fine_tune(dealt(rng, list(data.library.values()), texts, run.config, deals=DEALS), texts)
    histories = histories_of([rng.permutation(data.library[user]) for user in data.users], LIBRARY, aged=False)
    scores = {
        name: recall(batches, data.wanted, data.first)
        for name, batches in (
            *plain_scores(model, histories, texts, unseen),
            (TUNED, catalogue_scores(model, histories, texts, unseen)),
        )
    }
    return run.conclude(f"recall@{data.first}", scores, least=BAR)


@dataclass(frozen=True, slots=True)
class Libraries:
    """Who saved which papers.

    Attributes:
        texts: The papers' titles.
        library: Papers that each user saved, of those seen in training.
        unseen: The papers that are ranked.
        users: Users with a library who saved one of them.
        wanted: Which of `unseen` each of them saved, as places in it.
        first: Rank at which recall is cut.
    """

    texts: Texts
    library: dict[int, Ints]
    unseen: Ints
    users: list[int]
    wanted: list[Ints]
    first: int

    @classmethod
    def read(cls, run: Run) -> "Libraries":
        """Of the test, or of what is held out of training."""
        folder = run.data / FOLDER
        titles = pl.read_csv(_text(folder / "items.tsv.gz"), separator="\t", quote_char=None).sort("item_id0")["title"]
        train, test = (_pairs(folder / f"cold_{name}.csv.gz") for name in ("train", "test"))
        rows = _text(folder / "cold_test_item_ids.csv.gz").split()
        unseen, first = np.array([int(line.split(b",")[0]) - 1 for line in rows]), 100
        if run.validate:
            papers = np.unique(train[:, 1])
            test_papers = papers[part_of(pl.Series(papers.astype(str)), 10) == 0]
            first = round(first * len(test_papers) / len(unseen))
            out = np.isin(train[:, 1], test_papers)
            train, test, unseen = train[~out], train[out], test_papers
        library, truth = _by_user(train), _by_user(test)
        users = [user for user in truth if user in library]
        position = np.full(len(titles), -1)
        position[unseen] = np.arange(len(unseen))
        wanted = [position[truth[user]] for user in users]
        return cls(Texts.of(titles.fill_null("").to_list()), library, unseen, users, wanted, first)


def recall(batches, wanted: list[Ints], first: int) -> npt.NDArray[np.float64]:
    """Share of what each user wanted that is among the first."""
    recalls = np.zeros(len(wanted))
    for rows, score_BC in batches:
        least = np.partition(score_BC, -first, axis=1)[:, -first]
        for row, score, threshold in zip(rows, score_BC, least, strict=True):
            recalls[row] = (score[wanted[row]] >= threshold).mean()
    return recalls


def _by_user(pairs: Ints) -> dict[int, Ints]:
    order = np.argsort(pairs[:, 0], kind="stable")
    users, starts = np.unique(pairs[order, 0], return_index=True)
    return dict(zip(users.tolist(), np.split(pairs[order, 1], starts[1:]), strict=True))


def _pairs(path: Path) -> Ints:
    """(user, item), both counted from 0."""
    return np.loadtxt(gzip.open(path), delimiter=",", dtype=np.int64)[:, :2] - 1


def _text(path: Path) -> bytes:
    return gzip.decompress(path.read_bytes())


if __name__ == "__main__":
    sys.exit(main())
