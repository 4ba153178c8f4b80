"""A ranker of clicks that positions bias, debiased, against one of clicks that they do not: the simulated shop.

    python tests/benchmarks/position_bias.py [--users 600] [--seeds 0 1 2]

The shop shows lists in an order of its own and its users look at place r with probability 1 / r. Three rankers read the
same features of the same lists: of the logged clicks as they are, of the logged clicks with `ranker.position_debias`,
and of clicks drawn for these lists from the shop's truth as if every place was looked at. They are judged on later
lists by clicks of the last kind. Reached if on average over the seeds the debiased ranker gets 95 % of the NDCG@10 of
the unbiased one, and more than the one of clicks as they are.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import polars as pl

from encoders.model import InterestModel
from features.simulate import ShopConfig, simulate
from features.split import Span, Split
from pipelines.chain import Chain
from pipelines.check import read_inputs
from pipelines.config import load_config
from pipelines.datasets import simulated
from pipelines.features import plan_of
from pipelines.project import write_dataset
from pipelines.train import label
from ranker.lambdamart import LambdaMart
from ranker.metrics import ndcg_at

BAR = 0.95
OVERRIDES = ("requests.source=logged", "candidates.source=logged", "encoder.train={last: 0}")


def main() -> int:
    """Run and print; the exit status says whether the bar was reached."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=600)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    found = [judged(ShopConfig(users=arguments.users, items=800, days=80, seed=seed)) for seed in arguments.seeds]
    mean = {name: float(np.mean([each[name] for each in found])) for name in found[0]}
    share = mean["debiased"] / mean["unbiased"]
    reached = share >= BAR and mean["debiased"] > mean["biased"]
    sys.stderr.write(f"{'reached' if reached else 'MISSED '}  debiased / unbiased {share:.3f} >= {BAR}; {mean}\n")
    sys.stdout.write(json.dumps({"seeds": found, "mean": mean, "share": share}) + "\n")
    return 0 if reached else 1


def judged(shop: ShopConfig) -> dict[str, float]:
    """NDCG@10 of each ranker over the test lists."""
    with tempfile.TemporaryDirectory(prefix="nightrank-positions-") as folder:
        config = load_config(write_dataset(simulated(shop), Path(folder)), OVERRIDES)
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
        ("biased", "clicked", False),
        ("debiased", "clicked", True),
        ("unbiased", "wanted", False),
    ):
        ranker = LambdaMart.fit(
            train.with_columns(label=kind),
            valid.with_columns(label=kind),
            features=chain.features,
            config=config.ranker.model_copy(update={"position_debias": debias}),
            seed=shop.seed,
        )
        values = ndcg_at(ranker.predict(test), test["wanted"].to_numpy(), sizes, 10)
        found[name] = float(np.nanmean(values))
        sys.stderr.write(f"seed {shop.seed}: {name:10}NDCG@10 {found[name]:.4f}, {ranker.trees} trees\n")
    as_shown = ndcg_at(-test["position"].to_numpy().astype(float), test["wanted"].to_numpy(), sizes, 10)
    return found | {"as shown": float(np.nanmean(as_shown))}


if __name__ == "__main__":
    sys.exit(main())
