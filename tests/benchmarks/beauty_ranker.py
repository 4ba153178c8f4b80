"""Amazon Beauty, leave-one-out, the full system: a LambdaMART over interest and behaviour, whole catalogue, N@10.

    NIGHTRANK_DATA=... python tests/benchmarks/beauty_ranker.py [--validate] [--model FOLDER] [--seed N]

Protocol: statistics, encoder and vocabulary know s[:-2] of each user's sequence; the ranker learns to rank s[-2] after
s[:-2], and 15 % of the users stop it; judged on s[-1] after s[:-1] among all 12,101 items but those of the history, a
target that no generator proposes being a miss. `--validate` judges on s[-2] of those 15 %. There are no clocks but the
order: the encoder ended before the item it is asked about, so that nothing needs cross-fitting. Item codes are
shuffled, as in `beauty.py`, whose encoder this is; `--model` keeps it in a folder and reads it from there next time.
"""

# B users of a batch, H history items, C items of the catalogue, F features
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from beauty import NEXT, SETTINGS, read
from full_ranking import Run, Texts, histories_of, positives_only, tell
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer

from encoders.data import Histories
from encoders.interest import InterestScorer, pooled_similarity
from encoders.model import InterestModel
from features.candidates import GRID
from features.partition import part_of
from ranker.config import RankerConfig
from ranker.lambdamart import LambdaMart

BAR, AIM = 0.060, 0.068
BATCH, PROPOSED, NEAREST, DECAY = 128, 150, 20, 0.7
RANKER = RankerConfig(min_child_samples=100, max_trees=600, patience=60, num_leaves=31, ensemble=3)
SOURCES = ("interest", "knn", "next", "smooth", "zero_top3")
TEXT = ("interest", "tuned", "zero", "tfidf", "smooth", "wanted")  # what such columns begin with knows a text
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of the catalogue from s[:-2].

    Attributes:
        model: The interest model.
        tuned: (C, D) unit vectors of the tuned tower.
        zero: (C, D) of the encoder as it came.
        wanted: (C,) what everybody wants.
        cosine: CSR (C, C) of who had both.
        following: CSR (C, C) of how often the column came next after the row, over the root of both counts.
        words: CSR (C, T) TF-IDF of the titles.
        near: CSR (C, C) weights of the items with the nearest tuned vectors.
        count: (C,) users who had the item.
    """

    model: InterestModel
    tuned: torch.Tensor
    zero: torch.Tensor
    wanted: Floats
    cosine: sparse.csr_matrix
    following: sparse.csr_matrix
    words: sparse.csr_matrix
    near: sparse.csr_matrix
    count: Floats

    @classmethod
    def of(cls, model: InterestModel, texts: Texts, sequences: Sequence[Ints]) -> Self:
        """From the users' items in order, the last two left out already."""
        tokenised, items = model.tokenise(texts.distinct), len(texts.of_item)
        tuned, zero = (model.embed(which, tokenised)[texts.of_item] for which in ("tuned", "zero_shot"))
        wanted = InterestScorer(model.user_tower, tuned, tuned, 1).wanted()
        rows = np.repeat(np.arange(len(sequences)), [len(s) for s in sequences])
        shape = (len(sequences), items)
        had = sparse.csr_matrix((np.ones(len(rows), np.float32), (rows, np.concatenate(sequences))), shape)
        had.data[:] = 1
        count = np.asarray(had.sum(0)).ravel()
        scale = sparse.diags(1 / np.sqrt(np.maximum(count, 1)))
        cosine = sparse.csr_matrix(scale @ (had.T @ had) @ scale)
        cosine.setdiag(0)
        pairs = np.concatenate([np.stack([s[:-1], s[1:]]) for s in sequences], 1)
        after = sparse.csr_matrix((np.ones(pairs.shape[1], np.float32), tuple(pairs)), (items, items))
        words = TfidfVectorizer(sublinear_tf=True, min_df=2).fit_transform(texts.distinct)[texts.of_item]
        wide = tuned.astype(np.float32) / GRID
        similar = wide @ wide.T
        np.fill_diagonal(similar, -1)
        best = np.argpartition(-similar, NEAREST, axis=1)[:, :NEAREST]
        weight = np.exp(10 * np.take_along_axis(similar, best, 1))
        weight /= weight.sum(1, keepdims=True)
        near = sparse.csr_matrix((weight.ravel(), (np.repeat(np.arange(items), NEAREST), best.ravel())), (items, items))
        return cls(
            model=model,
            tuned=torch.from_numpy(wide),
            zero=torch.from_numpy(zero.astype(np.float32) / GRID),
            wanted=wanted,
            cosine=cosine.astype(np.float32),
            following=sparse.csr_matrix(scale @ after @ scale).astype(np.float32),
            words=words.astype(np.float32),
            near=near.astype(np.float32),
            count=count.astype(np.float32),
        )

    def scores(self, asked: Histories) -> dict[str, Floats]:
        """What speaks for each item of the catalogue (B, C), by name."""
        item_BH, mask_BH = asked.item_RH, asked.item_RH >= 0
        items, weight_BH = len(self.count), np.where(mask_BH, DECAY ** np.arange(mask_BH.shape[1]), 0)
        rows = np.repeat(np.arange(len(item_BH)), item_BH.shape[1])
        shape = (len(item_BH), items)
        held = mask_BH.ravel()
        at = (rows[held], item_BH.ravel()[held])
        recent = sparse.csr_matrix((weight_BH.ravel()[held].astype(np.float32), at), shape)
        equal = sparse.csr_matrix((np.ones(held.sum(), np.float32), at), shape)
        last = sparse.csr_matrix((np.ones(len(item_BH), np.float32), (np.arange(len(item_BH)), item_BH[:, 0])), shape)
        found = {"knn": dense(recent @ self.cosine), "knn_all": dense(equal @ self.cosine)}
        found |= {"next": dense(last @ self.following), "next_decayed": dense(recent @ self.following)}
        found["before"] = dense(last @ self.following.T)
        found["smooth"] = dense(self.near @ sparse.csr_matrix(recent @ self.cosine).T).T
        found["smooth_next"] = dense(self.near @ sparse.csr_matrix(recent @ self.following).T).T
        found["tfidf_last"] = dense((last @ self.words) @ self.words.T)
        found["tfidf_mean"] = dense((equal @ self.words) @ self.words.T) / mask_BH.sum(1, keepdims=True)
        found["count"] = np.broadcast_to(self.count, shape)
        found["wanted"] = np.broadcast_to(self.wanted, shape)
        found["history"] = np.broadcast_to(mask_BH.sum(1, keepdims=True).astype(np.float32), shape)
        age_BH, gain_BH = torch.from_numpy(asked.age_RH), torch.from_numpy(asked.gain_RH)
        mask_BHC = torch.from_numpy(mask_BH).unsqueeze(-1).expand(-1, -1, items)
        with torch.inference_mode():
            for name, vectors in (("tuned", self.tuned), ("zero", self.zero)):
                known, place = np.unique(np.maximum(item_BH, 0), return_inverse=True)
                similar_BHC = (vectors[known] @ vectors.T)[torch.from_numpy(place.reshape(item_BH.shape))]
                if name == "tuned":
                    match = self.model.user_tower(similar_BHC, age_BH, gain_BH, mask_BHC)
                    found["interest"] = match.numpy() + self.wanted
                found[f"{name}_last"] = similar_BHC[:, 0].numpy()
                for pooling in ("nearest", "top3", "mean", "decayed"):
                    found[f"{name}_{pooling}"] = pooled_similarity(similar_BHC, age_BH, mask_BHC, pooling).numpy()
        return found


def main() -> int:
    """Run and print; the exit status says whether the bar was reached."""
    folder = Path(sys.argv.pop(sys.argv.index("--model") + 1)) if "--model" in sys.argv else None
    sys.argv = [argument for argument in sys.argv if argument != "--model"]
    run = Run.start(__doc__, SETTINGS)
    texts, sequences = read(run.data, np.random.default_rng(run.seed))
    model = encoder(run, texts, sequences, folder)
    known = Known.of(model, texts, [s[:-2] for s in sequences])
    held = part_of(pl.Series(np.arange(len(sequences)).astype(str)), 20) < 3
    tables = [lists(known, [s[:-2] for s in sequences], [s[-2] for s in sequences], run.config.history_items)]
    if not run.validate:
        judged = lists(known, [s[:-1] for s in sequences], [s[-1] for s in sequences], run.config.history_items)
        tables.append(judged)
    taught = tables[0].filter(pl.col("request").is_in(np.flatnonzero(~held)))
    stops = tables[0].filter(pl.col("request").is_in(np.flatnonzero(held)))
    test, many = (stops, np.flatnonzero(held)) if run.validate else (tables[1], np.arange(len(sequences)))
    columns = tuple(name for name in taught.columns if name not in ("request", "item", "label"))
    behaviour = tuple(name for name in columns if not name.startswith(TEXT))
    tell(f"target among the candidates: {test['label'].sum() / len(many):.3f}")
    found = {}
    for name in ("knn", "zero_top3", "interest"):
        found[name.replace("interest", "towers alone")] = ndcg(test, test[name].to_numpy(), many)
    for name, features in (("behaviour only", behaviour), ("fine-tuned", columns)):
        ranker = LambdaMart.fit(taught, stops, features=features, config=RANKER, seed=run.seed)
        tell(f"{name}: {ranker.trees} trees; {dict(ranker.gains().head(8).iter_rows())}")
        found[name] = ndcg(test, ranker.predict(test), many)
    return run.conclude("N@10", found, bar=BAR, aim=AIM)


def encoder(run: Run, texts: Texts, sequences: Sequence[Ints], folder: Path | None) -> InterestModel:
    """That of `beauty.py`, from the folder where it was kept."""
    if folder is not None and folder.exists():
        return InterestModel.load(folder)
    cuts = [(s, at) for s in sequences for at in range(1, len(s) - 2)]
    histories = histories_of([s[:at] for s, at in cuts], run.config.history_items)
    taken = [s[at : min(at + NEXT, len(s) - 2)] for s, at in cuts]
    model = run.fine_tune(positives_only(histories, taken, texts), texts)
    if folder is not None:
        folder.mkdir(parents=True)
        model.save(folder)
    return model


def lists(known: Known, histories: Sequence[Ints], targets: Sequence[int], most: int) -> pl.DataFrame:
    """Candidates of each user with their features, `label` and `request`; the history is no candidate."""
    return pl.concat(_lists(known, histories, targets, most)).sort("request", maintain_order=True)


def _lists(known: Known, histories: Sequence[Ints], targets: Sequence[int], most: int) -> Iterator[pl.DataFrame]:
    order = np.argsort([len(s) for s in histories], kind="stable")
    for start in range(0, len(order), BATCH):
        rows = order[start : start + BATCH]
        mine = [histories[row] for row in rows]
        scores = known.scores(histories_of(mine, min(most, max(len(s) for s in mine))))
        had = np.zeros((len(rows), len(known.count)), bool)
        for at, s in enumerate(mine):
            had[at, s] = True
        chosen = np.zeros_like(had)
        ranks = {}
        for name in SOURCES:
            score = np.where(had, -np.inf, scores[name])
            best = np.argpartition(-score, PROPOSED, axis=1)[:, :PROPOSED]
            np.put_along_axis(chosen, best, np.take_along_axis(score, best, 1) > -np.inf, axis=1)
            ordered = np.sort(np.take_along_axis(score, best, 1), axis=1)
            ranks[f"{name}_rank"] = (ordered, score)
        request, item = np.nonzero(chosen)
        columns = {name: np.ascontiguousarray(score[request, item], np.float32) for name, score in scores.items()}
        for name, (ordered, score) in ranks.items():
            own = score[request, item]
            rank = np.concatenate(
                [PROPOSED - np.searchsorted(ordered[at], own[request == at], side="right") for at in range(len(rows))]
            )
            columns[name] = rank.astype(np.float32)
        target = np.array([targets[row] for row in rows])
        yield pl.DataFrame(
            {
                "request": rows[request].astype(np.uint32),
                "item": item.astype(np.uint32),
                "label": (item == target[request]).astype(np.int32),
                **columns,
            }
        )


def ndcg(table: pl.DataFrame, score: npt.NDArray[np.float64], requests: Ints) -> npt.NDArray[np.float64]:
    """NDCG@10 of each request: 1 / log2(rank + 1), 0 where the target is no candidate; ties by their expectation."""
    scored = table.select("request", "label").with_columns(pl.Series("score", score))
    target = scored.filter(pl.col("label") > 0).select("request", own="score")
    places = (
        scored.join(target, on="request")
        .group_by("request")
        .agg(better=(pl.col("score") > pl.col("own")).sum(), equal=(pl.col("score") == pl.col("own")).sum())
    )
    gains = np.concatenate([1 / np.log2(np.arange(2, 12)), np.zeros(1)])
    found = np.zeros(int(requests.max()) + 1)
    for request, better, equal in places.iter_rows():
        found[request] = gains[np.minimum(np.arange(better, better + equal), 10)].mean()
    return found[requests]


def dense(matrix: sparse.spmatrix) -> Floats:
    """As an array."""
    return np.asarray(matrix.toarray(), np.float32)


if __name__ == "__main__":
    sys.exit(main())
