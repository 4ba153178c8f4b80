"""What `max_memory_gb` bounds: sizes by hand, refusals before anything is read, and a training's measured peak."""

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

from features.errors import ConfigError
from features.shop.simulator import ShopConfig
from pipelines.base.config import Config
from pipelines.training.chain import Chain
from pipelines.training.memory import Memory
from pipelines.verbs.datasets import simulated
from pipelines.verbs.project import write_dataset


def config_of(memory, **keys):
    tables = {name: {"path": f"{name}.parquet"} for name in ("items", "events")}
    return Config.model_validate({"data": tables, "max_memory_gb": memory, **keys})


def log_of(event_bytes, items=0, item_bytes=0, cells=0, file_rows=0, users=0):
    labels = SimpleNamespace(memory_bytes=event_bytes, file_rows=file_rows)
    cells = SimpleNamespace(nbytes=20 * cells, counts=np.ones(cells, np.int32))
    table = SimpleNamespace(estimated_size=lambda: item_bytes, height=items)
    user_ids = pl.Series("user_id", range(users))
    labels = labels if event_bytes else None
    return SimpleNamespace(labels=labels, raw=None, cells=cells, items=table, user_ids=user_ids)


def test_what_is_left_is_what_libraries_log_and_vectors_do_not_take():
    # 1 GB of libraries, the label events that are held, 200 bytes a row of the largest file, 20 bytes of each cell and
    # 28 of what is made of it, of an item four vectors of 384 numbers of two bytes, and a fit of EASE: 34 bytes of each
    # two of 5,000 items.
    log = log_of(10**9, items=100_000, item_bytes=10**8, cells=4_000_000, file_rows=10**6)
    left = 8e9 - 1e9 - 1e9 - 2e8 - 4_000_000 * 48 - 1e8 - 100_000 * 3072 - 25_000_000 * 34
    assert Memory.of(log, config_of(8)).spare == pytest.approx(left)


@pytest.mark.parametrize(
    ("users", "items", "fit"),
    [
        (10, 1000, 1000**2 * 34),  # few have any two items: EASE is the larger fit
        (1700, 1000, 1700 * 24**2 * 50),  # each of them has 24 by 24 pairs
        (100_000, 1000, 1000**2 * 50),  # there are no more than all pairs
    ],
)
def test_fits_take_what_pairs_of_items_take_however_long_the_log(users, items, fit):
    spare = Memory.of(log_of(0, items=items, users=users), config_of(8, candidates={"history_items": 24})).spare
    assert spare == pytest.approx(8e9 - 1e9 - items * 3072 - fit)


def test_a_file_whose_reading_takes_more_than_all_that_follows_is_what_is_counted():
    # 0.3 GB of libraries, 600 bytes a row of the largest file, and twice the 20 bytes of each cell.
    log = log_of(1, cells=4_000_000, file_rows=10**7)
    assert Memory.of(log, config_of(8)).spare == pytest.approx(8e9 - 3e8 - 6e9 - 2 * 8e7)


@pytest.mark.parametrize(
    ("gb", "candidates", "requests"), [(8, 300, 1000), (2, 300, 307), (2, 3000, 46), (1.31, 10_000, 20)]
)
def test_portions_are_as_large_as_a_third_of_it_allows(gb, candidates, requests):
    """A request takes 0.4 MB and 12 bytes for each of 190 features of a candidate."""
    config = config_of(gb, candidates={"max_per_request": candidates})
    assert Memory.of(log_of(0), config).requests_at_once(190) == requests


def test_the_ranker_learns_from_as_many_lists_as_half_of_it_holds():
    """A list stands for 2.5 lists of candidates, of 80 bytes a row beside one a feature."""
    assert Memory.of(log_of(0), config_of(2)).lists(170) == int(0.5e9 / (250 * 2.5 * 300))
    assert Memory.of(log_of(0), config_of(100)).lists(170) == 8000
    few = config_of(1.31, candidates={"max_per_request": 10_000})
    with pytest.raises(ConfigError, match=r"max_memory_gb: 1\.31 GB leave room for 24 lists of 10000 candidates"):
        Memory.of(log_of(0), few).lists(170)


def test_a_training_step_may_take_three_quarters_of_what_is_left_while_nothing_is_fitted():
    # Of 3 GB: 1 GB of libraries, four vectors of 384 numbers of two bytes of each item; EASE's fit is over.
    assert Memory.of(log_of(0, items=1000), config_of(3)).batch_bytes == pytest.approx((2e9 - 1000 * 3072) * 0.75)


@pytest.mark.parametrize("verb", [("train",), ("evaluate", "--version", "1"), ("score", "--date", "2024-02-25")])
def test_too_little_for_the_log_is_refused_before_anything_is_computed(verb, trained_project, tmp_path, command):
    project = trained_project.copy(tmp_path / "project")
    ended = command(project, *verb, "--set", "max_memory_gb=1.0")
    assert ended.code == 2
    assert "max_memory_gb: 1 GB are too few for" in ended.err
    assert "Raise it to 1.3 or more" in ended.err
    assert not [line for line in ended.err.splitlines() if "Fine-tuning" in line or "Scoring" in line]


def test_a_chain_works_in_portions_of_that_size(trained_project):
    config = trained_project.config.model_copy(update={"max_memory_gb": 1.31})
    trained = trained_project.trained
    chain = Chain(trained_project.inputs.log, config, trained.model, cut=trained.chain.cut)
    size = chain.memory.requests_at_once(len(chain.features))
    assert size < 100
    span = trained.split.test
    requests = chain.request_source.between(span.start, span.closed_end)
    portions = list(chain.portions(requests, name="some"))
    assert [portion.requests.height for portion, _ in portions][:-1] == [size] * (requests.height // size)
    ((_, together),) = trained.chain.portions(requests, name="all")
    assert pl.concat(rows for _, rows in portions).equals(together)


IN_A_PROCESS = """
import json
import sys
import threading
import time
from pathlib import Path

from pipelines.inputs.read import read_events
from pipelines.base.config import load_config
from pipelines.evaluation.evaluate import judge_trained
from pipelines.training.train import train

peak = 0


def watch():
    global peak
    while True:
        told = Path("/proc/self/status").read_text().split("RssAnon:")[1]
        peak = max(peak, int(told.split()[0]) * 1024)
        time.sleep(0.02)


threading.Thread(target=watch, daemon=True).start()
config = load_config(Path(sys.argv[1]), sys.argv[2:])
trained = train(read_events(config).log, config)
_, evaluation = judge_trained(trained, config)
print(json.dumps({"peak": peak, "ndcg": evaluation.judged.row("full system", "all", "ndcg@10")["mean"]}))
"""


@pytest.mark.slow
def test_a_training_and_its_evaluation_stay_below_what_they_are_allowed(tiny_encoder, tmp_path, pytestconfig):
    """The peak of this process's own memory, measured every 20 ms from its first import on."""
    shop = ShopConfig(users=900, items=1500, days=72, requests_per_user_per_day=0.3)
    path = write_dataset(simulated(shop), tmp_path / "project")
    told = [
        f"encoder.model={tiny_encoder}",
        *("encoder.max_tokens=16", "encoder.steps=2", "encoder.head_steps=10", "encoder.precision=fp32"),
        *("ranker.max_trees=10", "ranker.max_requests=400", "evaluation.resamples=100"),
        "timeline={test_days: 7, valid_days: 7, ranker_days: 21, blocks: 2}",
        "max_memory_gb=1.6",
    ]
    done = subprocess.run(
        [sys.executable, "-c", IN_A_PROCESS, str(path), *told],
        check=True,
        capture_output=True,
        env=os.environ | {"PYTHONPATH": str(pytestconfig.rootpath)},
    )
    found = json.loads(done.stdout.splitlines()[-1])
    assert 0 < found["ndcg"] < 1
    assert 0.3e9 < found["peak"] < 1.6e9
