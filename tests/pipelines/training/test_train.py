"""Training: where it keeps what it computes, and in which precision, decides no result."""

import errno
import json
import os

import polars as pl
import pytest
import torch

import pipelines.training.block_training
from encoders.data import Examples
from encoders.model import InterestModel
from features.candidates.union import histories
from features.errors import TryAgainError
from features.requests.engaged import requests_between, truth_of
from pipelines.inputs.check import read_inputs
from pipelines.registry.registry import Registry
from pipelines.stores.rows import kept_rows
from pipelines.stores.storage import read_json
from pipelines.training.block_training import BlockTrainer, settle_precision, spill_file
from pipelines.training.chain import Catalogue
from pipelines.training.draw import in_hash_order
from pipelines.training.train import train


@pytest.mark.slow
def test_hidden_states_kept_in_a_file_train_the_same_version_and_leave_no_file(trained_project, shop_project, tmp_path):
    project = shop_project.copy(tmp_path / "project")
    project.change(encoder={"cache_gb": 0})
    trained = train(read_inputs(project.config).log, project.config)
    registry = Registry(trained_project.config)
    manifest = read_json(registry.bundle_folder(registry.version("1")) / "manifest.json", what="bundle")
    assert trained.model.digest("tuned") == manifest["encoder"]["tuned"]
    assert {path.name for path in (project.folder / "out").iterdir()} <= {"vectors", "quarantine", "state", "training"}
    assert [path.suffix for path in (project.folder / "out/training").iterdir()] == [".parquet"]


def test_rows_bring_the_scores_that_hard_negatives_are_mined_from(trained_project, shop_project, tmp_path):
    project = shop_project.copy(tmp_path / "project")
    project.change(encoder={"hard_negatives": 0.5})
    trained = train(read_inputs(project.config).log, project.config)
    before = trained_project.trained
    for mined, plain in zip(trained.block_trainings, before.block_trainings, strict=True):
        assert mined.losses != plain.losses  # of the first block too: the untrained encoder scored it


def test_a_file_is_opened_only_where_memory_is_not_to_hold_it(shop_project, tmp_path):
    project = shop_project.copy(tmp_path / "project")
    project.change(encoder={"cache_gb": 1e-6})
    with spill_file(1000, project.config) as file:
        assert file is None
    with spill_file(1001, project.config) as file:
        assert file is not None


def test_a_disk_that_cannot_hold_the_hidden_states_is_said_with_the_remedy(shop_project, tmp_path):
    project = shop_project.copy(tmp_path / "project")
    project.change(encoder={"cache_gb": 0})
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with (
        pytest.raises(TryAgainError, match=r"cannot hold 3\.0 GB.*No space left.*encoder\.cache_gb"),
        spill_file(3 * 10**9, project.config),
    ):
        raise full


@pytest.mark.parametrize(
    ("least", "precision", "bf16"), [(1.1, "auto", False), (0.5, "auto", True), (1.1, "bf16", True)]
)
def test_auto_leaves_bf16_where_vectors_would_move_too_far(shop_project, tmp_path, monkeypatch, least, precision, bf16):
    project = shop_project.copy(tmp_path / "project")
    project.change(encoder={"precision": precision})
    model = InterestModel.start(project.config.encoder)
    model.bf16 = True  # as on a processor that has it
    monkeypatch.setattr(pipelines.training.block_training, "LEAST_AGREEMENT", least)
    settle_precision(model, model.tokenise(["red mug", "blue kettle", "lamp"]), project.config.encoder)
    assert model.bf16 is bf16


class Crowded:
    """Memory that in training does not suffice for some of the layers' passes: what they ask, torch itself refuses."""

    def __init__(self, refused: set[int]) -> None:
        self.refused = refused
        self.passes = 0

    def __call__(self, layer, *_) -> None:
        if layer.training:
            self.passes += 1
            if self.passes in self.refused:
                torch.empty(1 << 60)


@pytest.fixture
def fit(shop_project, tmp_path):
    """Train one block of a small shop under a hook; the losses and the digest afterwards."""
    log = read_inputs(shop_project.config).log
    config = shop_project.config.model_copy(update={"output": str(tmp_path)})

    def run(hook, watch=None) -> tuple[list[float], str]:
        model = InterestModel.start(config.encoder)
        catalogue = Catalogue.of(log, config.data.items.text)
        trainer = BlockTrainer(model, catalogue, config, watch)
        requests = requests_between(log, log.first_day + 20, log.first_day + 40)
        history = histories(log, requests, config.candidates)
        rows = requests.select("request").join(log.items.select("item"), how="cross")
        rows = rows.join(truth_of(requests, log, config.labels), on=["request", "item"], how="left")
        rows = rows.with_columns(pl.col("label").fill_null(0))
        examples = Examples.of(requests, history, rows, catalogue.text_of_item, config.encoder)
        trainer.forget()
        with model.tuned.upper[0].register_forward_pre_hook(hook):
            trainer.teach(examples)
        return trainer.trainings[0].losses, model.digest("tuned")

    return run


def test_a_block_that_runs_out_of_memory_is_trained_again_to_the_same_bits(fit, capfd):
    undisturbed = Crowded(set())
    expected = fit(undisturbed)
    assert undisturbed.passes > 0
    assert "out of memory" not in capfd.readouterr().err
    assert fit(Crowded({undisturbed.passes})) == expected
    assert "out of memory" in capfd.readouterr().err


def test_where_memory_never_suffices_training_names_what_to_make_smaller(fit):
    with pytest.raises(TryAgainError, match=r"training batch.*encoder\.requests_per_batch"):
        fit(Crowded(set(range(1000))))


def test_losses_are_told_while_a_block_is_learned(fit):
    told = []
    losses, _ = fit(Crowded(set()), lambda name, values: told.append((name, list(values))))
    assert told == [("encoder.block_0.loss", losses[: step + 1]) for step in range(len(losses))]
    assert len(losses) == 12


def test_vectors_handed_over_in_memory_are_those_of_the_store(trained_project):
    chain, split = trained_project.trained.chain, trained_project.trained.split
    requests = chain.request_source.between(split.test.start, split.test.end).head(20)
    portion = next(iter(chain.assembler.portions(requests)))
    in_memory, encoded = chain.interest_of(portion), dict(chain.encoded)
    chain.refresh()  # from the store
    assert chain.interest_of(portion).equals(in_memory, null_equal=True)
    assert chain.encoded == encoded  # it lacked none


def test_holdout_learns_the_warm_up_alone(trained_project, shop_project, tmp_path):
    """As cheap as one block: the encoder is the one that the prequential schedule has after the first."""
    project = shop_project.copy(tmp_path / "project")
    project.change(encoder={"schedule": "holdout"})
    trained = train(read_inputs(project.config).log, project.config)
    assert len(trained.block_trainings) == 1
    assert trained.block_trainings[0].losses == trained_project.trained.block_trainings[0].losses
    assert trained.encoder_day == trained.split.blocks[0].start < trained_project.trained.encoder_day
    assert trained.valid_ndcg[0] == trained_project.trained.valid_ndcg[0]


def test_of_a_large_log_no_more_is_computed_than_is_learned_from(shop_project, tmp_path, capfd):
    """Small quotas stand for a large log: requests of the earlier block are computed for their new items alone."""
    project = shop_project.copy(tmp_path / "project")
    project.change(ranker={"max_requests": 12}, encoder={"max_requests": 10}, validation={"max_requests": 30})
    config = project.config
    log = read_inputs(config).log
    trained = train(log, config)
    told = [json.loads(line) for line in capfd.readouterr().err.splitlines() if line.startswith("{")]
    earlier, later, valid = (line for line in told if "of" in line and line["event"].startswith("Scoring"))
    assert 30 <= valid["requests"] < valid["of"]
    assert later["lists"] >= 12
    assert later["requests"] < later["of"]
    assert earlier["requests"] < earlier["of"]
    assert min(earlier["taught"], later["taught"]) >= 10

    rows = kept_rows(trained.rows, log, config)
    had = pl.col("pair_events_all") > 0
    lists = rows.group_by("request").agg(had=had.any(), day=pl.col("as_of_day").first(), user=pl.col("user").first())
    first = trained.split.blocks[1].start
    assert lists.filter("had").height <= 12
    assert lists.filter("had")["day"].min() >= first  # whole lists are of the latest block
    # And within the block those that come first in the order of drawing, of all that could be learned from.
    block = trained.split.blocks[1]
    asked = requests_between(log, block.start, block.closed_end)
    order = in_hash_order(asked, log).with_row_index("place").select("user", "place", day="as_of_day")
    kept = lists.filter("had").join(order, on=["user", "day"])["place"].max()
    assert kept < asked.height / 2


@pytest.mark.slow
def test_replay_says_what_earlier_requests_lost(shop_project, tmp_path, capfd):
    project = shop_project.copy(tmp_path / "project")
    project.change(encoder={"replay_share": 0.3, "start_weight": 0.1})
    trained = train(read_inputs(project.config).log, project.config)
    assert [training.old_before is not None for training in trained.block_trainings] == [False] + [True] * (
        len(trained.block_trainings) - 1
    )
    assert all(0 < training.old_after <= 1 for training in trained.block_trainings[1:])
    assert capfd.readouterr().err.count("ndcg_at_10_before") == len(trained.block_trainings) - 1


def test_a_monotone_feature_that_is_none_stops_the_training_before_it_begins(shop_project, tmp_path, command):
    project = shop_project.copy(tmp_path / "project")
    ended = command(project, "train", "--set", "ranker.monotone={interest_y: 1}")
    assert ended.code == 2
    assert "ranker.monotone names what is no feature: 'interest_y'. Did you mean 'interest_z'?" in ended.err
    assert "Fine-tuning" not in ended.err


@pytest.mark.slow
def test_labels_by_value_are_learned_from_and_judged_beside_the_plain_ones(shop_project, tmp_path, command):
    project = shop_project.copy(tmp_path / "project")
    ended = command(project, "train", "--set", "labels.value_gain={unit: 10, most: 3}")
    assert ended.code == 0, ended.err
    metrics = {row["metric"] for row in ended.facts["systems"]}
    assert metrics == {"ndcg@5", "ndcg@10", "recall@5", "recall@10", "ndcg@5 (value)", "ndcg@10 (value)"}
    assert "all (value)" in ended.err
    (path,) = (project.folder / "out/training").glob("*.parquet")
    labels = set(pl.read_parquet(path)["label"].unique())
    assert max(labels) > 3  # a purchase alone counts 3
    assert max(labels) <= 6
