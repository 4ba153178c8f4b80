"""Where there is nothing to learn nothing is found; no row knows its future; the same seed gives the same figures."""

import multiprocessing

import numpy as np
import polars as pl
import pytest

from features.errors import ContractError
from pipelines.evaluation.evaluate import evaluate, version_lists
from pipelines.inputs.check import read_inputs
from pipelines.training import train as training
from pipelines.training.labelled import label, label_block
from pipelines.training.train import train
from ranker.config import RankerConfig
from ranker.lambdamart import LambdaMart
from ranker.metrics import per_request


@pytest.fixture
def rows(trained_project):
    """Labelled rows of the blocks, of validation and of test, under the final model."""
    trained, config = trained_project.trained, trained_project.config
    first, last = trained.split.blocks[0], trained.split.blocks[-1]
    spans = (type(first)(first.start, last.end, last.closed_end), trained.split.valid, trained.split.test)
    return [label(trained.chain, config, span, name="rows", encoder_day=span.start).rows for span in spans]


def shuffled(table, seed):
    """The labels of each request dealt anew among its rows."""
    dealt = table.with_columns(key=pl.Series(np.random.default_rng(seed).random(table.height)))
    labels = dealt.sort("request", "key")["label"]
    return table.with_columns(labels)


def test_a_ranker_of_shuffled_labels_is_as_good_as_chance(rows, trained_project):
    fitting, valid = (shuffled(table, seed) for seed, table in enumerate(rows[:2]))
    test = rows[2]
    config = RankerConfig(max_trees=30, min_child_samples=20, num_leaves=7)
    ranker = LambdaMart.fit(fitting, valid, features=trained_project.trained.chain.features, config=config, seed=0)
    assert ranker.trees > 0
    names = {"request": "request_id", "item": "item_id"}
    lists = test.select("request", "item").rename(names)
    scores = ranker.predict(test)

    def lift(deal):
        dealt = shuffled(test, 100 + deal)
        truth = dealt.filter(pl.col("label") > 0).select("request", "item", "label").rename(names)
        found, chance = (
            per_request(lists.with_columns(score=pl.Series(values)), truth)["ndcg@10"]
            for values in (scores, np.zeros(test.height))
        )
        assert len(found) > 50
        return (found - chance).mean()

    lifts = np.array([lift(deal) for deal in range(30)])
    error = lifts.std(ddof=1) / np.sqrt(len(lifts))
    assert abs(lifts.mean()) < 4 * error
    assert 4 * error < 0.05  # or else anything would pass


def test_every_row_is_scored_by_an_encoder_that_ended_before_it(trained_project, monkeypatch):
    seen = []
    contract = training.TrainingTable.filter
    monkeypatch.setattr(training.TrainingTable, "filter", lambda table: (seen.append(table), contract(table))[1])
    trained = train(trained_project.inputs.log, trained_project.config)
    (table,) = seen
    assert (table["encoder_cutoff"] <= table["as_of"]).all()
    assert table["encoder_digest"].n_unique() == len(trained.split.blocks)
    calendar = trained_project.inputs.log.calendar
    opens = [calendar.as_of(block.start) for block in trained.split.blocks]
    assert table["encoder_cutoff"].unique().sort().to_list() == opens
    assert table["as_of"].max() < calendar.as_of(trained.split.valid.start)


def test_an_encoder_that_saw_a_day_of_its_block_is_caught(trained_project, monkeypatch):
    def leaking(*arguments, encoder_day, **options):
        return label_block(*arguments, encoder_day=encoder_day + 1, **options)

    monkeypatch.setattr(training, "label_block", leaking)
    with pytest.raises(ContractError, match="encoder_ended_before"):
        train(trained_project.inputs.log, trained_project.config)


def retrained(shop_project, folder):
    """Another training of the same project, and its evaluation."""
    project = shop_project.copy(folder)
    log, config = read_inputs(project.config).log, project.config
    trained = train(log, config)
    test = trained.split.test
    asked = label(trained.chain, config, test, name="test", encoder_day=trained.encoder_day)
    lists = version_lists(asked, trained.ranker, trained.behaviour_ranker, trained.pooling)
    vectors = trained.chain.zero_shot
    return trained, evaluate(log, config, asked, lists=lists, first_day=test.start, vectors=vectors)


def same(project, other):
    trained, (again, evaluation) = project.trained, other
    assert again.block_trainings == trained.block_trainings
    assert again.valid_ndcg == trained.valid_ndcg
    assert again.model.digest("tuned") == trained.model.digest("tuned")
    assert again.ranker.files() == trained.ranker.files()
    assert evaluation.as_json() == project.registered.evaluation.as_json()


def test_the_same_seed_gives_the_same_models_and_figures(shop_project, trained_project, tmp_path):
    same(trained_project, retrained(shop_project, tmp_path / "again"))


@pytest.mark.slow
def test_another_seed_gives_another_model(shop_project, trained_project, tmp_path):
    project = shop_project.copy(tmp_path / "other")
    project.change(seed=1)
    trained = train(read_inputs(project.config).log, project.config)
    assert trained.model.digest("tuned") != trained_project.trained.model.digest("tuned")
    assert trained.model.digest("zero_shot") == trained_project.trained.model.digest("zero_shot")


def _spin() -> None:
    while True:
        pass


@pytest.mark.slow
def test_the_same_seed_gives_the_same_figures_beside_a_busy_process(shop_project, trained_project, tmp_path):
    rival = multiprocessing.get_context("spawn").Process(target=_spin, daemon=True)
    rival.start()
    try:
        again = retrained(shop_project, tmp_path / "busy")
    finally:
        rival.terminate()
        rival.join()
    same(trained_project, again)


@pytest.mark.slow
def test_more_blocks_than_days_train_all_the_same(shop_project, tmp_path):
    """Blocks without a request teach nothing, and break nothing."""
    project = shop_project.copy(tmp_path / "project")
    project.change(timeline={"ranker_days": 3, "blocks": 5})
    trained = train(read_inputs(project.config).log, project.config)
    assert [block.end - block.start for block in trained.split.blocks] == [0, 1, 0, 1, 1]
    assert [bool(training.losses) for training in trained.block_trainings] == [True, False, True, False, True, True]
