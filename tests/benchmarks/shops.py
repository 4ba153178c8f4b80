"""What the benchmarks of the whole product share: a log as a project of its own, as their command line asks."""

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from outcome import Trial, tables_sha256
from peer_results import peers_json

from pipelines.base.config import Config, load_config
from pipelines.verbs.datasets import Dataset, complete_journey, load_dataset
from pipelines.verbs.project import write_dataset

LOGS = ("online-retail", "complete-journey", "ifdb", "wikispeedia")
JOURNEY = {
    "candidates": {
        "popular": 300,
        "popular_days": 5,
        "similar_users": 300,
        "ease": 300,
        "max_per_request": 360,
        "new_share": 2 / 3,
    },
    "features": {"attributes": {"items": ["product_type", "manufacturer_id"]}},
    "encoder": {"max_tokens": 32},
    "timeline": {"test_days": 28, "valid_days": 14, "ranker_days": 56},
}
"""For the Complete Journey, where a basket holds seven products that are new to the household, of 68,509.

Chosen on the days before its test: the lists hold more of the new purchases than the defaults' (the results file has
the candidates' recall). The shorter time for the ranker pays for their length.
"""


@contextmanager
def project(
    parser: argparse.ArgumentParser, *, name: str = "{}", peers: bool = False
) -> Iterator[tuple[Config, Trial]]:
    """The configuration of a log that was written to `--to`, by default a folder that does not outlive the run.

    With `--validate` the log ends where the test begins, so that the 28 days before that are scored in its place.

    Args:
        parser: Of `outcome.command_line`; `data` and `households` are among its arguments or defaults.
        name: Of the benchmark, where it is not the data set's.
        peers: Whether the test is compared with what peers made of it.
    """
    parser.add_argument("--to", type=Path, default=None)
    arguments = parser.parse_args()
    dataset = dataset_of(arguments.data, arguments.households)
    beside = peers_json(arguments.data) if peers and not arguments.validate else {}
    until = dataset.span[1].date() + timedelta(days=1 - dataset.config["timeline"]["test_days"])
    with tempfile.TemporaryDirectory(prefix=f"nightrank-{arguments.data}-") as passing:
        path = write_dataset(dataset, arguments.to or Path(passing), until=until if arguments.validate else None)
        config = load_config(path, [f"seed={arguments.seed}", *arguments.overrides])
        trial = Trial.start(
            arguments,
            data=name.format(arguments.data),
            config={key: value for key, value in config.portable().items() if key != "seed"} | beside,
            data_sha256=tables_sha256(*(t for t in (dataset.items, dataset.events, dataset.offers) if t is not None)),
        )
        yield config, trial


def dataset_of(name: str, households: int | None = None) -> Dataset:
    """A log as its benchmark configures it; of the Complete Journey so many households."""
    if name != "complete-journey":
        return load_dataset(name)
    dataset = complete_journey(households=households)
    return replace(dataset, config=dataset.config | JOURNEY)
