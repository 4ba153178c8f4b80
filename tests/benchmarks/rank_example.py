"""LightGBM's own ranking example by its train.conf: our ranker against `lightgbm.train`, told the same.

    NIGHTRANK_DATA=... python tests/benchmarks/rank_example.py [--validate] [--seed N]

Its train and test parts, its parameters, 100 trees, and its convention that a request without a positive counts as 1.
Theirs is the NDCG that LightGBM prints, ours that of our metric on our scores: equal to the fourth digit. Training
requests that teach nothing are left out by ours, and of theirs. `--validate` scores the training part.
"""

import sys
from pathlib import Path

import lightgbm as lgb
import numpy as np
import numpy.typing as npt
import polars as pl
from outcome import Trial, command_line, data_root, difference, figure, files_sha256, tell
from sklearn.datasets import load_svmlight_file

from ranker.compare import clustered_interval
from ranker.config import RankerConfig
from ranker.lambdamart import LambdaMart
from ranker.metrics import ndcg_at

FOLDER = "lightgbm_rank"
CUTOFFS = (1, 3, 5)
TREES = 100
DIGIT = 5e-5
OTHERS = ("task", "data", "valid_data", "output_model", "machine_list_file", "num_trees", "metric_freq", "label_column")
UNTOLD = {"bagging_freq": 0, "min_sum_hessian_in_leaf": 1e-3}
"""LightGBM's defaults of what `RankerConfig` does not tell it."""


def main() -> int:
    """Run and print; the exit status says whether both are equal."""
    arguments = command_line(__doc__).parse_args()
    folder = data_root() / FOLDER
    conf = read_conf(folder)
    config = ranker_config(conf)
    trial = Trial.start(
        arguments,
        data="lightgbm-rank",
        config={"ranker": config.model_dump(mode="json"), "lightgbm": conf | UNTOLD},
        data_sha256=files_sha256(folder),
    )
    tables = read_tables(folder)
    if arguments.validate:
        tables["test"] = tables["train"]
    ours, theirs, curve = both(tables, conf, config, seed=arguments.seed)
    figures, pairs, bars = {}, {}, {}
    for k in CUTOFFS:
        values = by_its_conventions(ours.predict(tables["test"]), tables["test"], k)
        mean = clustered_interval(values, np.arange(len(values)))
        name, printed = f"ours, ndcg@{k}", curve[f"ndcg@{k}"][-1]
        figures[name] = figure(mean.mean, mean.low, mean.high)
        figures[f"lightgbm.train, ndcg@{k}"] = figure(printed)
        pairs[f"ours over lightgbm.train, ndcg@{k}"] = difference(mean.mean - printed)
        bars[f"{name} = lightgbm.train to the fourth digit"] = abs(mean.mean - printed) <= DIGIT
        tell(f"ndcg@{k}: ours {mean.mean:.6f}, lightgbm.train {printed:.6f}, {theirs.num_trees()} trees")
    return trial.conclude(figures, pairs, others=bars)


def read_tables(folder: Path) -> dict[str, pl.DataFrame]:
    """request, label and the features of both parts."""
    parts = {}
    for name in ("train", "test"):
        features, label = load_svmlight_file(str(folder / f"rank.{name}.gz"), n_features=301)
        group = np.loadtxt(folder / f"rank.{name}.query", dtype=np.int64)
        columns = {f"f{number}": column for number, column in enumerate(features.toarray().T.astype(np.float32))}
        request = np.repeat(np.arange(len(group), dtype=np.uint32), group)
        parts[name] = pl.DataFrame({"request": request, "label": label.astype(np.int32), **columns})
    return parts


def read_conf(folder: Path) -> dict[str, str | int | bool]:
    """The example's parameters, less what only its command line needs."""
    lines = (folder / "train.conf").read_text(encoding="utf-8").splitlines()
    settings = dict(line.replace(" ", "").split("=") for line in lines if "=" in line and not line.startswith("#"))
    return {key: value for key, value in settings.items() if key not in OTHERS} | {
        "deterministic": True,
        "force_row_wise": True,
        "verbosity": -1,
    }


def ranker_config(conf: dict[str, str | int | bool]) -> RankerConfig:
    """The same parameters as ours are called."""
    return RankerConfig(
        num_leaves=int(conf["num_leaves"]),
        learning_rate=float(conf["learning_rate"]),
        min_child_samples=int(conf["min_data_in_leaf"]),
        feature_fraction=float(conf["feature_fraction"]),
        max_trees=TREES,
        patience=TREES,
        l2=0.0,
        truncation=30,
    )


def both(
    tables: dict[str, pl.DataFrame], conf: dict[str, str | int | bool], config: RankerConfig, *, seed: int
) -> tuple[LambdaMart, lgb.Booster, dict[str, list[float]]]:
    """Our ranker, LightGBM's booster of as many trees, and its own NDCG of the test part after each tree."""
    names = tuple(name for name in tables["train"].columns if name.startswith("f"))
    ours = LambdaMart.fit(
        tables["train"], tables["test"], features=names, config=config, seed=seed, stop_at=CUTOFFS[-1]
    )
    (booster,) = ours.boosters
    # ours leaves out the requests that teach nothing; their rows would still count for bins and leaves
    teaching = tables["train"].filter((pl.col("label").max() > 0).over("request"))
    return ours, *trained(tables | {"train": teaching}, conf | UNTOLD | {"seed": seed}, booster.num_trees())


def trained(
    tables: dict[str, pl.DataFrame], params: dict[str, str | int | bool], rounds: int
) -> tuple[lgb.Booster, dict[str, list[float]]]:
    """LightGBM's booster, and its own NDCG of the test part after each tree."""
    data = {
        name: lgb.Dataset(
            table.drop("request", "label").to_numpy(), label=table["label"].to_numpy(), group=group_of(table)
        )
        for name, table in tables.items()
    }
    evaluations: dict[str, dict[str, list[float]]] = {}
    callbacks = [lgb.record_evaluation(evaluations)]
    booster = lgb.train(params, data["train"], rounds, [data["test"]], ["test"], callbacks=callbacks)
    return booster, evaluations["test"]


def by_its_conventions(scores: npt.ArrayLike, table: pl.DataFrame, k: int) -> npt.NDArray[np.float64]:
    """Our NDCG of each request, one without a positive counting as 1 as LightGBM has it."""
    return np.nan_to_num(ndcg_at(scores, table["label"].to_numpy(), group_of(table), k), nan=1.0)


def group_of(table: pl.DataFrame) -> npt.NDArray[np.int64]:
    """Rows of each request."""
    return table.group_by("request", maintain_order=True).len()["len"].to_numpy()


if __name__ == "__main__":
    sys.exit(main())
