"""What a ranker learns from: the first lists of the latest span, and of the rest what is new."""

from types import SimpleNamespace

import polars as pl
import pytest

from pipelines.training.labelled import Lists, latest_lists
from ranker.groups import with_a_positive


def labelled(*lists):
    """Rows of requests 0, 1, ...: each a list of (item, how often the user had it, label)."""
    rows = [(request, *row) for request, some in enumerate(lists) for row in some]
    kinds = {"request": pl.UInt32, "item": pl.UInt32, "pair_events_all": pl.Float32, "label": pl.Int32}
    return with_a_positive(pl.DataFrame(rows, schema=kinds, orient="row"))


OLD_WANTED, NEW_WANTED = [(1, 3, 1), (2, 0, 0)], [(3, 2, 0), (4, 0, 1), (5, 0, 0)]
NEITHER = [(6, 1, 0), (7, 0, 0)]


@pytest.fixture
def config(tmp_path):
    return SimpleNamespace(output=str(tmp_path))


def items_of(rows):
    return rows.group_by("request", maintain_order=True).agg("item")["item"].to_list()


@pytest.mark.parametrize(
    ("most", "kept"),
    [
        (1, {2: [4, 5], 3: [4, 5], 5: [1, 2]}),  # the latest list, and the two latest of new items
        (2, {1: [4, 5], 2: [4, 5], 3: [3, 4, 5], 5: [1, 2]}),
        (9, {0: [1, 2], 1: [3, 4, 5], 2: [3, 4, 5], 3: [3, 4, 5], 5: [1, 2]}),
    ],
)
def test_of_lists_too_old_to_be_kept_whole_the_new_items_stay(most, kept, config):
    rows = labelled(OLD_WANTED, NEW_WANTED, NEW_WANTED, NEW_WANTED, NEITHER, OLD_WANTED)
    found = latest_lists([Lists.latest_first(rows)], most, config)
    assert items_of(found) == list(kept.values())
    for cut in (2, 4):  # as it comes in blocks
        parts = [rows.filter(pl.col("request") < cut), rows.filter(pl.col("request") >= cut)]
        again = latest_lists([Lists.latest_first(part) for part in parts], most, config)
        assert again.drop("request").equals(found.drop("request"))
        assert again["request"].rle_id().equals(found["request"].rle_id())


def test_within_a_span_the_order_decides_which_lists_are_kept(config):
    rows = labelled(OLD_WANTED, NEW_WANTED, OLD_WANTED)
    order = pl.DataFrame({"request": [0, 1, 2], "order": [7, 3, 5]}, schema_overrides={"request": pl.UInt32})
    found, used = Lists(rows, order).first(SimpleNamespace(whole=1, new=0), config)
    assert found["request"].unique().to_list() == [1]
    assert (used.whole, used.new) == (1, 0)


def test_lists_that_all_stay_are_not_copied(config):
    rows = labelled(OLD_WANTED, NEW_WANTED)
    found, used = Lists.latest_first(rows).first(SimpleNamespace(whole=2, new=0), config)
    assert found is rows
    assert (used.whole, used.new) == (2, 0)
