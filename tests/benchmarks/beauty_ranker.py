"""Amazon Beauty, leave-one-out, the full system: the ranker over interest and behaviour, N@10 over the whole catalogue.

    NIGHTRANK_DATA=... python tests/benchmarks/beauty_ranker.py [--validate] [--model FOLDER] [--seed N]

Protocol: statistics, encoder and vocabulary know s[:-2] of each user's sequence s; the ranker learns to rank s[-2]
after s[:-2], and some users stop it; judged on s[-1] after s[:-1] among all 12,101 items but those of the history: a
target that no source proposes is a miss. `--validate` judges on s[-2] of 15 % of the users, who then neither teach
nor stop. There are no clocks but the order: the encoder ended before the item it is asked about, so that nothing
needs cross-fitting. Item codes are shuffled, as in `beauty.py`, whose encoder this is; `--model` keeps it in a
folder, and reads it from there next time. Events of one day stand in ASIN order, which every model of sequences can
learn from; `no order` is the ranker without what tells before from after. Peers that have ranked the same
requests (`make bench-peers`) are among the others that the full system must lie above.
"""

# C items of the catalogue
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import polars as pl
from beauty import FOLDER, NEXT, SETTINGS, read, steps_of
from full_ranking import Run, Texts, tell
from peer_results import peer_results
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer

from encoders.interest import InterestScorer
from encoders.model import InterestModel
from features.tables.hashing import part_of
from features.tables.text import GRID
from ranker.config import RankerConfig
from ranker.lambdamart import LambdaMart
from ranker.listnet_fit import fit_listnet
from ranker.metrics import per_request
from ranker.trees_and_network import TreesAndNetwork

FULL, PEERS = "full system", "beauty"
BAR = 0.060
PARTS = 20  # of the users, by hash
TEST_PARTS, STOP_PARTS = range(3), range(3, 5)  # who is left for the test, who stops the ranker
USERS = 512  # whose candidates are made at a time
PROPOSED = 120  # items, by each source
NEAREST, SHARPNESS = 30, 10.0  # neighbours of an item by text, and how fast their weight falls with the cosine
DECAY = 0.7  # of an item's weight from the user's last to the one before
RANKER = RankerConfig(min_child_samples=100, max_trees=600, patience=60, num_leaves=31, learning_rate=0.05)
SOURCES = ("knn", "next", "smooth", "tuned_near", "zero_near")
TEXT = ("interest", "zero", "tuned", "tfidf", "smooth", "wanted")  # columns that begin so know a text
ORDER = ("next", "before", "smooth_next")  # and these the order
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


def main() -> int:
    """Run and print; the exit status says whether the bar was reached."""
    run = Run.start(
        __doc__,
        SETTINGS,
        name="amazon-beauty",
        folder=FOLDER,
        next=NEXT,
        proposed=PROPOSED,
        ranker=RANKER.model_dump(),
        peers=PEERS,
    )
    peers = {} if run.validate else peer_results(PEERS)
    texts, sequences = read(run.data, np.random.default_rng(run.seed))
    model = run.fine_tune(steps_of(run, texts, sequences), texts)
    signals = Signals.of(model, texts, [s[:-2] for s in sequences], run.config.history_items)
    part = pl.Series(part_of(pl.Series(np.arange(len(sequences)).astype(str)), PARTS))
    taught = lists(signals, [s[:-2] for s in sequences], [s[-2] for s in sequences])
    of_row = part.gather(taught["request"])
    stops = taught.filter(of_row.is_in(list(STOP_PARTS)))
    if run.validate:
        judged, users = taught.filter(of_row.is_in(list(TEST_PARTS))), np.flatnonzero(part.is_in(list(TEST_PARTS)))
        taught = taught.filter(~of_row.is_in([*TEST_PARTS, *STOP_PARTS]))
    else:
        judged, users = (
            lists(signals, [s[:-1] for s in sequences], [s[-1] for s in sequences]),
            np.arange(len(sequences)),
        )
        taught = taught.filter(~of_row.is_in(list(STOP_PARTS)))
    wanted = np.array([sequences[user][-2 if run.validate else -1] for user in users])
    truth = pl.DataFrame({"request_id": users.astype(np.uint32), "item_id": wanted.astype(np.uint32), "label": 1})
    tell(f"wanted among the candidates: {judged['label'].sum() / len(users):.3f}")
    features = tuple(name for name in judged.columns if name not in ("request", "item", "label", "interest"))
    ndcgs = {name: ndcg(judged, judged[name].cast(pl.Float64), truth) for name in ("knn", "zero_shot_top3", "interest")}
    for name, left_out in (("behaviour only", TEXT), ("no order", ORDER), (FULL, ())):
        kept = tuple(feature for feature in features if not feature.startswith(left_out or ("-",)))
        forest = LambdaMart.fit(taught, stops, features=kept, config=RANKER, seed=run.seed)
        network = fit_listnet(taught, features=kept, config=RANKER, seed=run.seed)
        ranker = TreesAndNetwork.of(forest, network, stops, gain=RANKER.gain)
        ndcgs[name] = ndcg(judged, pl.Series(ranker.predict(judged)), truth)
        best = ", ".join(forest.gains()["feature"].head(6))
        tell(f"{name}: {forest.trees} trees, {ranker.share:g} of the network; most gain by {best}")
    ndcgs |= {name: pl.read_parquet(path)["ndcg@10"].to_numpy() for name, path in peers.items()}
    return run.conclude("ndcg@10", ndcgs, least=BAR, ours=FULL, others="best of the others")


@dataclass(frozen=True, slots=True)
class Signals:
    """What is known of the catalogue from the users' items.

    Attributes:
        scorer: The interest columns.
        near: CSR (C, C) weights of each item's neighbours by text, by the encoder that finds them.
        cosine: CSR (C, C) cosine of who had both.
        following: CSR (C, C): how often the column came next after the row, over the root of both counts.
        words: CSR (C, words) TF-IDF of the titles.
        had: CSR (users, C) who had what.
    """

    scorer: InterestScorer
    near: dict[str, sparse.csr_array]
    cosine: sparse.csr_array
    following: sparse.csr_array
    words: sparse.csr_array
    had: sparse.csr_array

    @classmethod
    def of(cls, model: InterestModel, texts: Texts, sequences: Sequence[Ints], history_items: int) -> Self:
        """From the users' items in order; so many of the latest are what interest looks at."""
        tokenised, items = model.tokenise(texts.distinct), len(texts.of_item)
        tuned, zero = (model.embed(which, tokenised)[texts.of_item] for which in ("tuned", "zero_shot"))
        had = incidence(sequences, items)
        scale = sparse.diags_array(1 / np.sqrt(np.maximum(np.asarray(had.sum(0)).ravel(), 1)))
        cosine = sparse.csr_array(scale @ (had.T @ had) @ scale)
        cosine.setdiag(0)
        cosine.eliminate_zeros()
        pairs = np.concatenate([np.stack([s[:-1], s[1:]]) for s in sequences], 1)
        after = sparse.csr_array((np.ones(pairs.shape[1]), tuple(pairs)), (items, items))
        words = TfidfVectorizer(sublinear_tf=True, min_df=2).fit_transform(texts.distinct)[texts.of_item]
        return cls(
            scorer=InterestScorer(model.user_tower, tuned, zero, history_items),
            near={"tuned_near": nearest(tuned), "zero_near": nearest(zero)},
            cosine=cosine.astype(np.float32),
            following=sparse.csr_array(scale @ after @ scale).astype(np.float32),
            words=sparse.csr_array(words).astype(np.float32),
            had=had,
        )

    def scores(self, histories: Sequence[Ints]) -> dict[str, Floats]:
        """What speaks for each item of the catalogue (users, C), by name."""
        items = self.had.shape[1]
        recent, alike = incidence(histories, items, DECAY), incidence(histories, items)
        last = incidence([s[-1:] for s in histories], items)
        users = sparse.csr_array(recent @ self.had.T)
        users.data **= 2
        columns = {
            "knn": recent @ self.cosine,
            "knn_all": alike @ self.cosine,
            "knn_last": last @ self.cosine,
            "users_alike": users @ self.had,
            "next": last @ self.following,
            "next_decayed": recent @ self.following,
            "before": last @ self.following.T,
            "smooth": recent @ self.cosine @ self.near["tuned_near"],
            "smooth_next": recent @ self.following @ self.near["tuned_near"],
            "tuned_near_knn": recent @ self.near["tuned_near"] @ self.cosine,
            "tfidf_last": last @ self.words @ self.words.T,
            "tfidf_mean": alike @ self.words @ self.words.T,
        } | {name: recent @ near for name, near in self.near.items()}
        return {name: np.asarray(score.toarray(), np.float32) for name, score in columns.items()}


def incidence(sequences: Sequence[Ints], items: int, decay: float = 1.0) -> sparse.csr_array:
    """CSR (sequences, items): each item's weight, 1 for the last of a sequence and `decay` of it each step back."""
    length = np.array([len(s) for s in sequences])
    weight = np.concatenate([decay ** np.arange(n)[::-1] for n in length]).astype(np.float32)
    rows = np.repeat(np.arange(len(sequences)), length)
    return sparse.coo_array((weight, (rows, np.concatenate(sequences))), (len(sequences), items)).tocsr()


def nearest(vectors: npt.NDArray[np.int16]) -> sparse.csr_array:
    """CSR (C, C) weights of each item's neighbours by cosine, summing up to 1."""
    wide = vectors.astype(np.float32) / GRID
    similar = wide @ wide.T
    np.fill_diagonal(similar, -1)
    best = np.argpartition(-similar, NEAREST, axis=1)[:, :NEAREST]
    weight = np.exp(SHARPNESS * np.take_along_axis(similar, best, 1))
    weight /= weight.sum(1, keepdims=True)
    rows = np.repeat(np.arange(len(wide)), NEAREST)
    return sparse.csr_array((weight.ravel(), (rows, best.ravel())), similar.shape).astype(np.float32)


def lists(signals: Signals, histories: Sequence[Ints], targets: Sequence[int]) -> pl.DataFrame:
    """Candidates of each user: request, item, label and the features; what the history holds is none."""
    starts = range(0, len(histories), USERS)
    table = pl.concat(
        _lists(signals, histories[start : start + USERS], targets[start : start + USERS], start) for start in starts
    )
    rank = pl.col(SOURCES).rank("min", descending=True).over("request").cast(pl.Float32)
    return table.with_columns(rank.name.suffix("_rank"))


def _lists(signals: Signals, histories: Sequence[Ints], targets: Sequence[int], first: int) -> pl.DataFrame:
    scores = signals.scores(histories)
    had = incidence(histories, signals.had.shape[1]).toarray() > 0
    chosen = np.zeros_like(had)
    for name in SOURCES:
        score = np.where(had, 0, scores[name])
        best = np.argpartition(-score, PROPOSED, axis=1)[:, :PROPOSED]
        np.put_along_axis(chosen, best, np.take_along_axis(score, best, 1) > 0, axis=1)
    row, item = np.nonzero(chosen & ~had)
    rows = pl.DataFrame({"request": (row + first).astype(np.uint32), "item": item.astype(np.uint32)})
    length = np.array([len(s) for s in histories])
    history = pl.DataFrame(
        {
            "request": np.repeat(np.arange(len(length)) + first, length).astype(np.uint32),
            "item": np.concatenate([s[::-1] for s in histories]).astype(np.uint32),
            "as_of_day": 0,
            "last_day": np.concatenate([-np.arange(1, n + 1) for n in length]),
            "gain": 1,
            "event_type": np.zeros(length.sum(), np.uint16),
        }
    )
    requests = pl.DataFrame({"request": (np.arange(len(length)) + first).astype(np.uint32)})
    columns = {name: score[row, item] for name, score in scores.items()}
    columns |= {"wanted": signals.scorer.wanted()[item], "history": length[row].astype(np.float32)}
    label = (item == np.array(targets)[row]).astype(np.int32)
    return pl.concat(
        [rows.with_columns(label=label, **columns), signals.scorer.columns(requests, history, rows)], how="horizontal"
    )


def ndcg(table: pl.DataFrame, score: pl.Series, truth: pl.DataFrame) -> npt.NDArray[np.float64]:
    """NDCG@10 of each user, by the project's own metric."""
    ranked = table.select(request_id="request", item_id="item", score=score)
    return per_request(ranked, truth, cutoffs=(10,)).sort("request_id")["ndcg@10"].to_numpy()


if __name__ == "__main__":
    sys.exit(main())
