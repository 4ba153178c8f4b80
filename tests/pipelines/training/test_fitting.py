"""What a ranker is taught beside the lists as they are: by hand."""

import polars as pl
import pytest

from encoders.interest import ZERO_SHOT
from pipelines.base.config import Config
from pipelines.training.fitting import new_item_lists, with_new_item_lists
from pipelines.training.labelled import Labelled
from pipelines.training.train import best_pooling, ndcg_of_new_items

NAN = float("nan")


def lists(*rows):
    """(request, item, label, how often the user had the item) of each row."""
    told = pl.DataFrame(rows, schema=["request", "item", "label", "pair_events_all"], orient="row")
    return told.cast({"request": pl.UInt32, "item": pl.UInt32, "label": pl.Int32, "pair_events_all": pl.Float32})


MIXED = [(0, 1, 1, 0.0), (0, 2, 0, 0.0), (0, 3, 1, 2.0)]  # a new positive, a new negative, one that the user had
KNOWN = [(1, 1, 1, 4.0), (1, 2, 0, 0.0)]  # the positive is none that is new
ALL_NEW = [(2, 1, 1, 0.0), (2, 2, 0, 0.0)]


def test_the_second_list_is_of_new_items_where_one_of_them_is_positive_and_others_are_beside_them():
    found = new_item_lists(lists(*MIXED, *KNOWN, *ALL_NEW))
    assert found.select("request", "item", "label").rows() == [(0, 1, 1), (0, 2, 0)]


def test_second_lists_stand_after_all_first_ones_as_requests_of_their_own(tmp_path):
    config = Config.model_validate(
        {"data": {name: {"path": f"{name}.parquet"} for name in ("items", "events")}, "output": str(tmp_path)}
    )
    found = with_new_item_lists(lists(*MIXED, *KNOWN), config)
    assert found["request"].to_list() == [0, 0, 0, 1, 1, 2, 2]
    assert found["item"].to_list() == [1, 2, 3, 1, 2, 1, 2]


def labelled(**scores):
    """Two requests: of the first the second item is true, of the second none that is new."""
    rows = lists((0, 1, 0, 0.0), (0, 2, 1, 0.0), (0, 3, 1, 5.0), (1, 3, 1, 5.0), (1, 4, 0, 0.0))
    rows = rows.with_columns(pl.Series(name, values, dtype=pl.Float32) for name, values in scores.items())
    truth = pl.DataFrame(
        {"request": [0, 0, 1], "item": [2, 3, 3], "label": [1, 1, 1], "is_new": [True, False, False]},
        schema_overrides={"request": pl.UInt32, "item": pl.UInt32, "label": pl.Int32},
    )
    return Labelled(pl.DataFrame({"request": [0, 1]}), truth, rows)


@pytest.mark.parametrize(
    ("scores", "ndcg"),
    [
        ([0.1, 0.9, 0.0, 0.0, 0.0], 1.0),  # first of the two new items, whatever the known one scores
        ([0.9, 0.1, 0.5, 0.0, 0.0], 0.6309),  # second: 1 / log2(3)
        ([0.1, NAN, 0.5, 0.0, 0.0], 0.6309),  # what has no score is last
    ],
)
def test_new_items_are_judged_among_themselves(scores, ndcg):
    assert ndcg_of_new_items(labelled(text=scores), "text") == pytest.approx(ndcg, abs=1e-4)


@pytest.mark.parametrize("best", ZERO_SHOT)
def test_the_pooling_that_ranks_new_items_best_is_chosen(best):
    good, bad = [0.1, 0.9, 0.0, 0.0, 0.0], [0.9, 0.1, 1.0, 0.0, 1.0]
    assert best_pooling(labelled(**{name: good if name == best else bad for name in ZERO_SHOT})) == best


def test_of_poolings_that_rank_alike_the_first_is_chosen():
    assert best_pooling(labelled(**{name: [0.1, 0.9, 0.0, 0.0, 0.0] for name in ZERO_SHOT})) == ZERO_SHOT[0]
