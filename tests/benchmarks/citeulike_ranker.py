"""citeulike-a, item-cold: a LambdaMART over interest scores that are cross-fitted by item, R@100; titles only.

    NIGHTRANK_DATA=... python tests/benchmarks/citeulike_ranker.py [--validate] [--seed N] [--set KEY=VALUE ...]

Protocol and encoder as in `citeulike.py`. The ranker is to rank papers that the encoder never saw, so it is taught on
such: the training papers are dealt into folds by hash, and each fold's papers are scored by an encoder that has met
them in no role. Beside the interest score it reads similarities of titles (tuned, zero-shot, TF-IDF), and what users
with like libraries saved of the seen papers with the nearest titles. Judged against the fine-tuned towers alone and
against the same ranker taught on in-sample scores.
"""

import sys
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import polars as pl
from citeulike import AIM, BAR, DEALS, LIBRARY, SETTINGS, Libraries, recall
from full_ranking import Run, Scored, Texts, catalogue_scores, dealt, histories_of, plain_scores, steps_told, tell
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer

from encoders.crossfit import cross_fit
from encoders.fit import ReadTexts, fit_block
from encoders.interest import InterestScorer
from encoders.model import InterestModel
from features.partition import part_of
from ranker.config import RankerConfig
from ranker.lambdamart import LambdaMart

FOLDS, NEGATIVES, NEAREST = 3, 60, 20
HELD = 10  # one in so many users stops the ranker
RANKER = RankerConfig(min_child_samples=100, truncation=50, max_trees=300, patience=50)
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


def main() -> int:
    """Run and print; the exit status says whether the bar was reached."""
    run = Run.start(__doc__, SETTINGS)
    data = Libraries.read(run)
    texts, rng = data.texts, np.random.default_rng(run.seed)
    examples = dealt(rng, list(data.library.values()), texts, run.config, deals=DEALS)
    model = InterestModel.start(run.config)
    tokenised = model.tokenise(texts.distinct)
    lower = model.read_lower(tokenised)
    read = ReadTexts(tokenised, lower, model.pool("tuned", tokenised, lower=lower))
    seen = np.unique(np.concatenate(list(data.library.values())))
    fold = part_of(pl.Series(np.arange(len(texts.of_item)).astype(str)), FOLDS)
    taught: dict[str, list[pl.DataFrame]] = {"cross-fitted": [], "in-sample": []}

    def teach(name: str, number: int) -> None:
        candidates = seen[fold[seen] == number]
        taught[name].append(lists(model, data, candidates, number, run.seed))
        tell(f"fold {number}, {name}: {taught[name][-1].height} rows")

    told = {"config": run.config, "report": steps_told()}
    for number, _ in cross_fit(model, examples, fold, by="item", read=read, seed=run.seed, **told):
        teach("cross-fitted", number)
    fit_block(model, examples, read, seed=run.seed, **told)
    for number in range(FOLDS):
        teach("in-sample", number)
    libraries = [data.library[user] for user in data.users]
    columns = dict(columns_of(model, texts, libraries, list(data.library.values()), data.unseen, run.seed))
    found = {"towers alone": recall(iter([whole(columns["interest_z"])]), data.wanted, data.first)}
    names = tuple(columns)
    for name, rows in taught.items():
        ranker = fit(rows, names, run.seed)
        tell(f"ranker of {name} scores: {ranker.trees} trees, NDCG@10 {ranker.best_ndcg:.4f}")
        for feature, gain in ranker.gains().head(6).iter_rows():
            tell(f"    {feature:24}{gain:12.0f}")
        key = "fine-tuned" if name == "cross-fitted" else name
        found[key] = recall(iter([whole(predicted(ranker, columns))]), data.wanted, data.first)
    return run.conclude(f"R@{data.first}", found, bar=BAR, aim=AIM)


def lists(model: InterestModel, data: Libraries, candidates: Ints, number: int, seed: int) -> pl.DataFrame:
    """Rows of the users who saved some of the candidates: those, and others drawn; the candidates are no history."""
    rng = np.random.default_rng([seed, number])
    is_candidate = np.zeros(len(data.texts.of_item), bool)
    is_candidate[candidates] = True
    known = [saved[~is_candidate[saved]] for saved in data.library.values()]
    asking = [at for at, saved in enumerate(data.library.values()) if 0 < len(known[at]) < len(saved)]
    place = np.cumsum(is_candidate) - 1
    positives = [place[saved[is_candidate[saved]]] for saved in data.library.values()]
    row, column, label = [], [], []
    for request, at in enumerate(asking):
        others = np.setdiff1d(rng.choice(len(candidates), NEGATIVES, replace=False), positives[at])
        drawn = np.concatenate([positives[at], others])
        row.append(np.full(len(drawn), request))
        column.append(drawn)
        label.append(np.arange(len(drawn)) < len(positives[at]))
    rows, at_column = np.concatenate(row), np.concatenate(column)
    table = {"request": rows + number * len(data.library), "label": np.concatenate(label).astype(np.int32)}
    histories = [known[at] for at in asking]
    for name, score_UC in columns_of(model, data.texts, histories, known, candidates, seed):
        table[name] = score_UC[rows, at_column]
    return pl.DataFrame(table).with_columns(pl.col("request").cast(pl.UInt32))


def fit(rows: list[pl.DataFrame], names: tuple[str, ...], seed: int) -> LambdaMart:
    """A ranker of the lists, stopped by some of the users."""
    table = pl.concat(rows)
    held = pl.col("request") % HELD == 0
    return LambdaMart.fit(table.filter(~held), table.filter(held), features=names, config=RANKER, seed=seed)


def predicted(ranker: LambdaMart, columns: dict[str, Floats]) -> Floats:
    """The ranker's scores (U, C)."""
    some = next(iter(columns.values()))
    return np.stack(
        [
            ranker.predict(pl.DataFrame({name: column[row] for name, column in columns.items()}))
            for row in range(len(some))
        ]
    ).astype(np.float32)


def columns_of(
    model: InterestModel, texts: Texts, histories: list[Ints], libraries: list[Ints], candidates: Ints, seed: int
) -> Iterator[tuple[str, Floats]]:
    """What the ranker reads: names and values (U, C), each relative to the user's others.

    Args:
        model: The interest model.
        texts: The titles.
        histories: What each user who asks had saved.
        libraries: What every user had saved.
        candidates: The papers that are ranked, of which nobody is known to have saved one.
        seed: Of which papers of a long library are looked at.
    """
    rng = np.random.default_rng([seed, 1])
    asked = histories_of([rng.permutation(saved) for saved in histories], LIBRARY, aged=False)
    shape = (len(histories), len(candidates))
    yield "interest_z", relative(gathered(catalogue_scores(model, asked, texts, candidates), shape))
    for which in ("tuned", "zero_shot"):
        for name, batches in plain_scores(model, asked, texts, candidates, which):
            if not name.endswith("decayed"):  # all are of one age
                yield f"{name}_z", relative(gathered(batches, shape))
    words = TfidfVectorizer(sublinear_tf=True, min_df=2, stop_words="english").fit_transform(texts.distinct)
    words = words[texts.of_item].astype(np.float32)
    user = _saved(histories, len(texts.of_item))
    similar = words @ words[candidates].T
    yield "tfidf mean_z", relative((user @ similar).toarray())
    yield "tfidf nearest_z", relative(np.stack([_most(similar, saved) for saved in histories]))
    vectors = model.embed("tuned", model.tokenise(texts.distinct))[texts.of_item]
    wanted = InterestScorer(model.user_tower, vectors, vectors, 1).wanted()[candidates]
    yield "wanted_z", relative(np.broadcast_to(wanted, shape))
    near = nearest(vectors, np.unique(np.concatenate(libraries)), candidates)
    everyone = _saved(libraries, len(texts.of_item))
    saved = np.asarray((everyone > 0).sum(0)).ravel()
    yield "neighbours saved_z", relative(np.broadcast_to((near @ np.log1p(saved)).astype(np.float32), shape))
    unit = sparse.csr_matrix((everyone > 0) @ sparse.diags(1 / np.sqrt(np.maximum(saved, 1)))).astype(np.float32)
    by_paper = unit @ near.T  # what each user saved near each candidate
    yield "collaborative_z", relative(np.asarray(((user @ unit.T) @ by_paper).toarray(), np.float32))
    yield "library", np.broadcast_to(np.array([[len(own)] for own in histories], np.float32), shape)


def nearest(vectors: npt.NDArray[np.int16], seen: Ints, candidates: Ints) -> sparse.csr_matrix:
    """(C, papers) weights of the seen papers whose titles are nearest to each candidate's; they add up to 1."""
    wide = vectors.astype(np.float32)
    wide /= np.linalg.norm(wide, axis=1, keepdims=True)
    similar = wide[candidates] @ wide[seen].T
    best = np.argpartition(-similar, NEAREST, axis=1)[:, :NEAREST]
    weight = np.exp(10 * np.take_along_axis(similar, best, 1))
    weight /= weight.sum(1, keepdims=True)
    rows = np.repeat(np.arange(len(candidates)), NEAREST)
    return sparse.csr_matrix((weight.ravel(), (rows, seen[best].ravel())), shape=(len(candidates), len(vectors)))


def gathered(batches: Scored, shape: tuple[int, int]) -> Floats:
    """Scores of all batches."""
    found = np.empty(shape, np.float32)
    for rows, score_BC in batches:
        found[rows] = score_BC
    return found


def relative(score_UC: Floats) -> Floats:
    """Distance from each user's mean in standard deviations."""
    spread = score_UC.std(1, keepdims=True)
    found: Floats = ((score_UC - score_UC.mean(1, keepdims=True)) / np.where(spread > 0, spread, 1)).astype(np.float32)
    return found


def whole(score_UC: Floats) -> tuple[Ints, Floats]:
    """All users as one batch."""
    return np.arange(len(score_UC)), score_UC


def _saved(histories: list[Ints], papers: int) -> sparse.csr_matrix:
    """(users, papers): 1 / size of the library where a user saved a paper."""
    size = np.array([len(saved) for saved in histories])
    rows = np.repeat(np.arange(len(histories)), size)
    shape = (len(histories), papers)
    return sparse.csr_matrix(
        (np.repeat(1 / np.maximum(size, 1), size).astype(np.float32), (rows, np.concatenate(histories))), shape
    )


def _most(similar: sparse.csr_matrix, saved: Ints) -> Floats:
    return np.asarray(similar[saved].max(axis=0).toarray(), np.float32).ravel()


if __name__ == "__main__":
    sys.exit(main())
