"""Upworthy's headline tests: which of two headlines got the higher click rate, by text alone.

    NIGHTRANK_DATA=... python tests/benchmarks/upworthy.py [--validate] [--seed N] [--set KEY=VALUE ...]

Protocol: packages of a test with the same headline are pooled; tests with two distinct headlines or more; a fifth of
the tests, by a hash of their id, is the test part; training tests that share a headline with it are left out. Judged
are the pairs of headlines of a test whose click rates differ significantly (two-sided, 5 %): accuracy, a tie counting
one half, with 95 % intervals by a bootstrap over tests. Only headline, impressions and clicks are read.

With `--validate` the same for five parts of the training tests, the test part untouched: choices are made by it.
The two logistic regressions learn from the significant training pairs (difference of the texts' vectors, no intercept);
their C is chosen by cross-validation within what they learn from.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
from outcome import Trial, changes, command_line, data_root, files_sha256, measured, tell
from scipy import stats
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from encoders.click_model import ClickModel
from encoders.config import ClickModelConfig, EncoderConfig
from encoders.model import InterestModel
from features.tables.hashing import part_of

FOLDER, FILE = "upworthy", "upworthy_packages.csv.gz"
METRIC = "accuracy"
PARTS = 5
LEVEL = 0.05
LEAST = 0.70
STRENGTHS = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
HEAD, TFIDF, FROZEN = "pointwise head", "TF-IDF logistic", "frozen MiniLM logistic"


def read_tests(path: Path) -> pl.DataFrame:
    """group, text, impressions, clicks, part (0 is the test part): one row a distinct headline of a test."""
    packages = pl.read_csv(path, columns=["clickability_test_id", "headline", "impressions", "clicks"])
    rows = packages.group_by(group="clickability_test_id", text="headline").agg(pl.col("impressions", "clicks").sum())
    rows = rows.filter(pl.len().over("group") > 1).sort("group", "text")
    return rows.with_columns(part=pl.Series(part_of(rows["group"], PARTS)))


def split(rows: pl.DataFrame, is_test: pl.Series) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The rows to learn from and those held out; tests that share a headline with these are in neither."""
    heading = pl.col("text").str.to_lowercase().str.strip_chars()
    test_texts = rows.filter(is_test).select(heading)["text"]
    shares = heading.is_in(test_texts.implode()).any().over("group")
    return rows.filter(~is_test).filter(~shares), rows.filter(is_test)


def significant_pairs(rows: pl.DataFrame) -> pl.DataFrame:
    """group, first, second (row numbers) and first_wins of the pairs that are judged (pooled two-proportion z-test)."""
    numbered = rows.with_row_index("first").with_columns(rate=pl.col("clicks") / pl.col("impressions"))
    pairs = numbered.join(numbered.rename({"first": "second"}), on="group").filter(pl.col("first") < pl.col("second"))
    pooled = (pl.col("clicks") + pl.col("clicks_right")) / (pl.col("impressions") + pl.col("impressions_right"))
    error = (pooled * (1 - pooled) * (1 / pl.col("impressions") + 1 / pl.col("impressions_right"))).sqrt()
    z = ((pl.col("rate") - pl.col("rate_right")) / error).fill_nan(0)
    judged = pairs.filter(z.abs() > stats.norm.isf(LEVEL / 2))
    return judged.select("group", "first", "second", first_wins=pl.col("rate") > pl.col("rate_right"))


def correct(score: np.ndarray, pairs: pl.DataFrame) -> np.ndarray:
    """1 for each pair that is ordered as it turned out, 0 for the others, one half for a tie."""
    difference = score[pairs["first"].to_numpy()] - score[pairs["second"].to_numpy()]
    return np.where(difference == 0, 0.5, (difference > 0) == pairs["first_wins"].to_numpy())


def logistic(vectors: Callable, train: pl.DataFrame, test: pl.DataFrame) -> np.ndarray:
    """Scores of the test's texts by a logistic regression on the significant pairs of training."""
    pairs = significant_pairs(train)
    fitted, predicted = vectors(train["text"].to_list(), test["text"].to_list())
    contrasts = fitted[pairs["first"].to_numpy()] - fitted[pairs["second"].to_numpy()]
    won, part = pairs["first_wins"].to_numpy(), part_of(pairs["group"] + "/inner", PARTS)

    def fit(strength: float, rows: np.ndarray) -> np.ndarray:
        model = LogisticRegression(C=strength, fit_intercept=False, max_iter=2000)
        return model.fit(contrasts[rows], won[rows]).coef_[0]

    def accuracy(strength: float) -> float:
        right = [(contrasts[part == out] @ fit(strength, part != out) > 0) == won[part == out] for out in range(PARTS)]
        return float(np.concatenate(right).mean())

    return predicted @ fit(max(STRENGTHS, key=accuracy), np.ones(len(won), bool))


def tfidf(train: list[str], test: list[str]) -> tuple:
    """TF-IDF over words and pairs of them, the vocabulary of the training texts."""
    vectoriser = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
    return vectoriser.fit_transform(train), vectoriser.transform(test)


def embedded(encoder: InterestModel) -> Callable:
    """Vectors of the encoder as it came."""

    def vectors(train: list[str], test: list[str]) -> tuple:
        made = encoder.embed("zero_shot", encoder.tokenise(train + test)).astype(np.float64)
        made /= np.linalg.norm(made, axis=1, keepdims=True)
        return made[: len(train)], made[len(train) :]

    return vectors


def judge(train: pl.DataFrame, test: pl.DataFrame, config: ClickModelConfig, seed: int) -> tuple[pl.DataFrame, dict]:
    """The test's pairs, and which of them each system orders rightly."""
    encoder = InterestModel.start(EncoderConfig())
    pairs = significant_pairs(test)
    model = ClickModel.fit(
        train, encoder=encoder, config=config, seed=seed, report=lambda k, losses: tell(f"member {k}: {losses}")
    )
    scores = {
        HEAD: model.predict(test["text"].to_list()),
        TFIDF: logistic(tfidf, train, test),
        FROZEN: logistic(embedded(encoder), train, test),
    }
    return pairs, {system: correct(score, pairs) for system, score in scores.items()}


def main() -> int:
    """Run and print; the exit status says whether all bars were reached."""
    parser = command_line(__doc__)
    parser.add_argument("--folds", type=int, default=PARTS, help="of validation, only the first so many")
    arguments = parser.parse_args()
    config = ClickModelConfig(**changes(arguments.overrides))
    folder = data_root() / FOLDER
    trial = Trial.start(
        arguments,
        data="upworthy",
        config={"click_model": config.model_dump(mode="json"), "encoder": EncoderConfig().model_dump(mode="json")},
        data_sha256=files_sha256(folder),
    )
    rows = read_tests(folder / FILE)
    train, test = split(rows, rows["part"] == 0)
    if arguments.validate:
        fold = pl.Series(part_of(train["group"] + "/fold", PARTS))
        judged = [judge(*split(train, fold == k), config, arguments.seed) for k in range(arguments.folds)]
    else:
        judged = [judge(train, test, config, arguments.seed)]
    pairs = pl.concat([pairs for pairs, _ in judged])
    accuracy = {system: np.concatenate([right[system] for _, right in judged]) for system in (HEAD, TFIDF, FROZEN)}
    tell(f"{len(pairs):,} pairs of {pairs['group'].n_unique():,} tests")
    return trial.conclude(
        *measured(accuracy, pairs["group"], METRIC),
        least={f"{HEAD}, {METRIC}": LEAST},
        above_zero=[f"{HEAD} over {TFIDF}, {METRIC}"],
    )


if __name__ == "__main__":
    sys.exit(main())
