import polars as pl
import pytest

from features.candidates.recall import recall_by_source
from features.candidates.union import SOURCES
from features.requests.engaged import SLICES


def proposals(rows):
    """request, item, popular_rank, bought_before_rank, score; other sources propose nothing."""
    schema = {"request": pl.UInt32, "item": pl.UInt32, "popular_rank": pl.Int32, "bought_before_rank": pl.Int32}
    frame = pl.DataFrame(rows, schema={**schema, "score": pl.Float64}, orient="row")
    absent = [f"{source}_rank" for source in SOURCES if f"{source}_rank" not in schema]
    frame = frame.with_columns(pl.lit(None, pl.Int32).alias(name) for name in absent)
    return frame.select("request", "item", *(f"{source}_rank" for source in SOURCES), "score")


def pairs(*rows):
    return pl.DataFrame(rows, schema={"request": pl.UInt32, "item": pl.UInt32}, orient="row")


REQUESTS = pl.DataFrame(
    {"request": [0, 1, 2], "user": [0, 1, 2], "as_of_day": [9, 9, 9]},
    schema={"request": pl.UInt32, "user": pl.UInt32, "as_of_day": pl.Int32},
)
PROPOSED = proposals(
    [(0, 1, 1, None, 0.1), (0, 2, 2, 1, 0.9), (0, 3, None, 2, 0.5), (1, 1, 1, None, 0.2), (1, 4, None, 1, 0.2)]
)
TRUTH = pairs((0, 1), (0, 2), (0, 8), (1, 4))
HISTORY = pairs((0, 2), (0, 3), (1, 4))


def recalls(**given):
    table = recall_by_source(REQUESTS, HISTORY, PROPOSED, TRUTH, (1, 2), **given)
    return {(source, name, k): recall for source, name, k, recall, _ in table.rows()}


def test_recall_is_the_mean_over_requests_that_have_a_positive():
    found = recalls()
    assert found["popular", "all", 1] == pytest.approx((1 / 3 + 0) / 2)
    assert found["popular", "all", 2] == pytest.approx((2 / 3 + 0) / 2)
    assert found["bought_before", "all", 1] == pytest.approx((1 / 3 + 1) / 2)
    assert found["co_visited", "all", 2] == 0


def test_together_counts_exactly_k_by_score_ties_by_item():
    found = recalls()
    assert found["together", "all", 1] == pytest.approx((1 / 3 + 0) / 2)  # items 2; 1 before 4
    assert found["together", "all", 2] == pytest.approx((1 / 3 + 1) / 2)  # items 2 and 3; 1 and 4


def test_slices_part_repeats_from_what_is_new_and_cold():
    found = recalls(seen=pl.Series([1, 2, 3, 4], dtype=pl.UInt32))
    assert found["bought_before", "repeat", 1] == pytest.approx((1 + 1) / 2)
    assert found["popular", "new-to-user", 1] == pytest.approx(1 / 2)  # request 1 has nothing new
    assert found["popular", "cold item", 2] == 0  # item 8, which nothing proposed
    assert recalls()["popular", "cold item", 2] is None


def test_the_table_has_a_row_for_each_source_slice_and_cutoff():
    table = recall_by_source(REQUESTS, HISTORY, PROPOSED, TRUTH, (1, 2))
    assert table.select("source", "slice", "k").rows() == [
        (source, name, k) for source in (*SOURCES, "together") for name in SLICES for k in (1, 2)
    ]
    assert table.filter(pl.col("slice") == "all")["requests"].unique().to_list() == [2]
