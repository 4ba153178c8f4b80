"""citeulike-a, item-cold: unseen papers by title alone, R@100 of the fine-tuned towers against zero-shot text.

    NIGHTRANK_DATA=... python tests/benchmarks/citeulike.py [--validate] [--seed N] [--set KEY=VALUE ...]

Protocol (DropoutNet's split): train on the users' libraries without 3,396 papers, rank those papers for each user who
saved one of them; recall@100 is the mean over users of the share of their unseen papers in the first hundred. There are
no clocks: each library is dealt into a history and what was taken, several times over. `--validate` holds out a tenth
of the training papers by hash instead, and counts the first k of them in the same proportion.
"""

import gzip
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
from full_ranking import Run, Texts, catalogue_scores, dealt, histories_of, plain_scores

from features.partition import part_of

BAR, AIM = 0.64, 0.70
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
    run = Run.start(__doc__, SETTINGS)
    folder = run.data / "citeulike_a"
    titles = pl.read_csv(_text(folder / "items.tsv.gz"), separator="\t", quote_char=None).sort("item_id0")["title"]
    texts = Texts.of(titles.fill_null("").to_list())
    train, test = (_pairs(folder / f"cold_{name}.csv.gz") for name in ("train", "test"))
    unseen = np.array([int(line.split(b",")[0]) - 1 for line in _text(folder / "cold_test_item_ids.csv.gz").split()])
    first = 100
    if run.validate:
        papers = np.unique(train[:, 1])
        held = papers[part_of(pl.Series(papers.astype(str)), 10) == 0]
        first = round(first * len(held) / len(unseen))
        out = np.isin(train[:, 1], held)
        train, test, unseen = train[~out], train[out], held
    library, truth = _by_user(train), _by_user(test)
    rng = np.random.default_rng(run.seed)
    model = run.fine_tune(dealt(rng, list(library.values()), texts, run.config, deals=DEALS), texts)
    users = [user for user in truth if user in library]
    asked = histories_of([rng.permutation(library[user]) for user in users], LIBRARY, aged=False)
    place = np.full(len(texts.of_item), -1)
    place[unseen] = np.arange(len(unseen))
    wanted = [place[truth[user]] for user in users]
    found = {
        name: _recall(batches, wanted, first)
        for name, batches in (
            *plain_scores(model, asked, texts, unseen),
            ("fine-tuned", catalogue_scores(model, asked, texts, unseen)),
        )
    }
    return run.conclude(f"R@{first}", found, bar=BAR, aim=AIM)


def _recall(batches, wanted: list[Ints], first: int) -> npt.NDArray[np.float64]:
    found = np.zeros(len(wanted))
    for rows, score_BC in batches:
        least = np.partition(score_BC, -first, axis=1)[:, -first]
        for row, score, threshold in zip(rows, score_BC, least, strict=True):
            found[row] = (score[wanted[row]] >= threshold).mean()
    return found


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
