"""A ranker of clicks that positions bias, debiased, against one of clicks that they do not: the simulated shop.

    python tests/benchmarks/position_bias.py [--users 600] [--validate] [--seed N]

The shop shows lists in an order of its own and its users look at place r with probability 1 / r. Three rankers read the
same features of the same lists: of the logged clicks as they are, of the logged clicks with `ranker.position_debias`,
and of clicks drawn for these lists from the shop's truth as if every place was looked at. They are judged on later
lists by clicks of the last kind. Reached if the debiased ranker gets 95 % of the NDCG@10 of the unbiased one, and more
than the one of clicks as they are. Seeds draw the shop too; `--validate` takes other shops than the test.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
from outcome import Trial, command_line, measured, tables_sha256, tell

from encoders.model import InterestModel
from features.simulate import ShopConfig, simulate
from features.split import Span, Split
from pipelines.chain import Chain
from pipelines.check import read_inputs
from pipelines.config import Config, load_config
from pipelines.datasets import simulated
from pipelines.features import plan_of
from pipelines.project import write_dataset
from pipelines.train import label
from ranker.lambdamart import LambdaMart
from ranker.metrics import ndcg_at

BAR = 0.95
METRIC = "ndcg@10"
OTHERS = 1000  # added to the seeds of validation
OVERRIDES = ("requests.source=logged", "candidates.source=logged", "encoder.train={last: 0}")


def main() -> int:
    """Run and print; the exit status says whether the bar was reached."""
    parser = command_line(__doc__)
    parser.add_argument("--users", type=int, default=600)
    arguments = parser.parse_args()
    shop = ShopConfig(users=arguments.users, items=800, days=80, seed=arguments.seed + OTHERS * arguments.validate)
    dataset = simulated(shop)
    with tempfile.TemporaryDirectory(prefix="nightrank-positions-") as folder:
        config = load_config(write_dataset(dataset, Path(folder)), [*OVERRIDES, *arguments.overrides])
        first = simulated(shop.model_copy(update={"seed": 0}))
        trial = Trial.start(
            arguments,
            data="simulated-shop",
            config={"shop": shop.model_dump(mode="json", exclude={"seed"}), **config.portable()},
            data_sha256=tables_sha256(first.items.select(pl.exclude(pl.List)), first.events),
        )
        found, users = judged(shop, config)
    figures, pairs = measured(found, users, METRIC)
    share = figures[f"debiased, {METRIC}"].mean / figures[f"unbiased, {METRIC}"].mean
    tell(f"debiased / unbiased {share:.3f}")
    return trial.conclude(
        figures,
        pairs,
        others={
            f"debiased, {METRIC} >= {BAR} of unbiased": share >= BAR,
            f"debiased over biased, {METRIC}: mean > 0": pairs[f"debiased over biased, {METRIC}"].difference > 0,
        },
    )


def judged(shop: ShopConfig, config: Config) -> tuple[dict[str, npt.NDArray[np.float64]], npt.NDArray[np.int64]]:
    """NDCG@10 of each ranker and of the order as shown, by test list with something wanted; and each list's user."""
    log = read_inputs(config).log
    split = Split.of(log, config.timeline, config.labels)
    chain = Chain(log, config, InterestModel.start(config.encoder), plan_of(log, config).supply)
    truth, rng = simulate(shop).truth, np.random.default_rng(shop.seed)

    def lists(span: Span, name: str) -> pl.DataFrame:
        labelled = label(chain, config, span, name=name, encoder_day=split.warm_up.start)
        asked = labelled.requests.select("request", "query", timestamp="requested_at")
        pairs = labelled.rows.join(asked, on="request", how="left", maintain_order="left").with_columns(
            user_id=log.user_ids.gather(labelled.rows["user"]),
            item_id=log.items["item_id"].gather(labelled.rows["item"]),
        )
        drawn = rng.random(pairs.height) < truth.affinity(pairs).to_numpy()
        return labelled.rows.with_columns(
            clicked=(pl.col("label") > 0).cast(pl.Int32), wanted=pl.Series(drawn).cast(pl.Int32)
        )

    train = lists(Span(split.blocks[0].start, split.blocks[-1].end, split.blocks[-1].closed_end), "Training")
    valid, test = lists(split.valid, "Validation"), lists(split.test, "Test")
    sizes = test["request"].rle().struct.field("len").to_numpy()
    found = {}
    for name, kind, debias in (
        ("debiased", "clicked", True),
        ("biased", "clicked", False),
        ("unbiased", "wanted", False),
    ):
        ranker = LambdaMart.fit(
            train.with_columns(label=kind),
            valid.with_columns(label=kind),
            features=chain.features,
            config=config.ranker.model_copy(update={"position_debias": debias}),
            seed=shop.seed,
        )
        found[name] = ndcg_at(ranker.predict(test), test["wanted"].to_numpy(), sizes, 10)
        tell(f"{name}: {ranker.trees} trees")
    found["as shown"] = ndcg_at(-test["position"].to_numpy().astype(float), test["wanted"].to_numpy(), sizes, 10)
    some = np.isfinite(found["as shown"])
    users = test["user"].gather(np.cumsum(sizes) - sizes).to_numpy()
    return {name: values[some] for name, values in found.items()}, users[some]


if __name__ == "__main__":
    sys.exit(main())
