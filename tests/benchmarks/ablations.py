"""What parts of the design are worth: text, behaviour, prequential scores, a field less; and what typos cost.

    NIGHTRANK_DATA=... python tests/benchmarks/ablations.py online-retail|simulated [--to FOLDER] [--set KEY=VALUE ...]

One training, one window.

- *without text*, *without behaviour*: the ranker is trained anew without the columns that know a text, or without all
  others; candidates stay.
- *without prequential*: the ranker is trained on scores of the final encoder, which has seen those very purchases; all
  else is as it was. This is what the blocks of the timeline avoid.
- *typos*: one letter of each title is swapped with the next, lost, doubled or replaced, in the catalogue that
  candidates, features and encoder read; nothing is trained again.
- *without field:FIELD*: the same with a text field emptied, where there are several.

Differences are paired on the same test requests, with 95 % intervals by users.
"""

import argparse
import dataclasses
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import polars as pl

from features.log.event_log import EventLog
from features.shop.simulator import ShopConfig
from pipelines.base import report
from pipelines.base.config import load_config
from pipelines.evaluation.ablate import BEHAVIOUR, FIELD, PREQUENTIAL, TEXT, Whole, without
from pipelines.evaluation.evaluate import FULL, evaluate, ranked
from pipelines.inputs.check import read_inputs
from pipelines.training.labelled import label
from pipelines.training.train import train
from pipelines.verbs.datasets import load_dataset, simulated
from pipelines.verbs.project import write_dataset

TYPOS = "typos"
MAIN = (TEXT, BEHAVIOUR, PREQUENTIAL)
SLICES = ("all", "new-to-user")
SHOP = ShopConfig(users=1000, items=1500, days=96)
MOST_LOST = 0.05  # of NDCG@10, by a typo a title
LETTERS = np.array(list("abcdefghijklmnopqrstuvwxyz"))


def main() -> int:
    """Run and print; the exit status says whether typos cost no more than the bar and each main part pays."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", choices=("online-retail", "simulated"))
    parser.add_argument("--to", type=Path, default=None)
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="KEY=VALUE")
    arguments = parser.parse_args()
    folder = arguments.to or Path(tempfile.mkdtemp(prefix=f"nightrank-{arguments.data}-"))
    dataset = simulated(SHOP) if arguments.data == "simulated" else load_dataset(arguments.data)
    config = load_config(write_dataset(dataset, folder), arguments.overrides)
    log = read_inputs(config).log
    trained = train(log, config)
    span = trained.split.test
    window = label(trained.chain, config, span, name="Test window", encoder_day=trained.encoder_day)
    whole = Whole.of(trained, config)
    first, *others = config.data.items.text_fields
    parts = [*MAIN, *(f"{FIELD}{field}" for field in others)]
    lists = {FULL: ranked(trained.ranker, window.rows), **whole.lists(parts, window)}
    lists[TYPOS] = ranked(trained.ranker, whole.scored(with_typos(log, first), window, name=TYPOS))
    evaluation = evaluate(log, config, window, lists=lists, first_day=span.start, chosen=", ".join(lists))
    return conclude(evaluation.judged, [name for name in lists if name != FULL])


def conclude(judged, names: list[str]) -> int:
    """Print what each change costs, and whether the bars are reached."""
    facts: dict[str, dict[str, float]] = {}
    for name in names:
        for slice_name in SLICES:
            pair = judged.pair(FULL, name, slice_name, "ndcg@10")
            full = judged.row(FULL, slice_name, "ndcg@10")["mean"]
            interval = f"{pair['difference']:+.4f} [{pair['low']:+.4f}, {pair['high']:+.4f}]"
            report.show(f"{name:26}{slice_name:14}loses {interval} of {full:.4f} ({pair['difference'] / full:+.1%})")
            facts[f"{name}, {slice_name}"] = {key: pair[key] for key in ("difference", "low", "high")} | {"full": full}
    lost = facts[f"{TYPOS}, all"]["difference"] / facts[f"{TYPOS}, all"]["full"]
    bars = {f"typos lose {lost:.1%} <= {MOST_LOST:.0%}": lost <= MOST_LOST} | {
        f"{without(part)} loses, an interval above 0": max(
            facts[f"{without(part)}, {slice_name}"]["low"] for slice_name in SLICES
        )
        > 0
        for part in MAIN
    }
    for name, reached in bars.items():
        report.show(f"{'reached' if reached else 'MISSED '}  {name}")
    sys.stdout.write(json.dumps({"lost": facts, "bars": bars}) + "\n")
    return 0 if all(bars.values()) else 1


def with_typos(log: EventLog, field: str) -> EventLog:
    """The log with one typo in each text of a field that has a letter pair."""
    rng = np.random.default_rng(0)
    texts = [None if text is None else typo(text, rng) for text in log.items[field]]
    return dataclasses.replace(log, items=log.items.with_columns(pl.Series(field, texts, dtype=pl.String)))


def typo(text: str, rng: np.random.Generator) -> str:
    """The text with two neighbouring letters swapped, or one lost, doubled or replaced."""
    starts = [at for at in range(len(text) - 1) if text[at : at + 2].isalpha()]
    if not starts:
        return text
    at = int(rng.choice(starts))
    letter = str(rng.choice(LETTERS))
    middle = (text[at + 1] + text[at], text[at + 1], text[at] * 2 + text[at + 1], letter + text[at + 1])
    return text[:at] + middle[int(rng.integers(4))] + text[at + 2 :]


if __name__ == "__main__":
    sys.exit(main())
