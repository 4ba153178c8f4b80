"""Reasons are the families whose features lifted a row's score most."""

import numpy as np
import polars as pl
import pytest

from ranker.config import RankerConfig
from ranker.explain import reasons
from ranker.lambdamart import LambdaMart


def test_families_are_named_by_the_sum_of_their_parts_largest_first():
    contribution = np.array(
        [
            [0.5, 0.1, 0.25, -0.25],  # pair 0.6, text 0, time 0.25 - 0.25
            [-1.0, 0.5, 0.25, 0.5],  # pair -0.5, text 0.25 + 0.5
            [-1.0, -0.5, -0.25, -0.5],
            [0.125, 0.125, 0.25, 0.0],  # a tie
        ]
    )
    told = reasons(contribution, ("pair", "pair", "text", "text"), 2)
    assert told.to_list() == [["pair"], ["text"], [], ["pair", "text"]]
    assert reasons(contribution, ("pair", "pair", "text", "text"), 1).to_list()[3] == ["pair"]
    assert reasons(contribution[:0], ("pair", "pair", "text", "text"), 2).dtype == pl.List(pl.String)


def test_families_must_be_those_of_the_features():
    with pytest.raises(ValueError, match="3 families for 4 features"):
        reasons(np.zeros((1, 4)), ("a", "b", "c"), 1)


def test_contributions_and_the_mean_add_up_to_the_score_whatever_rows_stand_beside():
    rng = np.random.default_rng(0)
    table = pl.DataFrame(
        {
            "request": np.repeat(np.arange(60, dtype=np.uint32), 10),
            "a": rng.normal(size=600),
            "b": rng.normal(size=600),
            "label": rng.integers(0, 2, 600).astype(np.int32),
        }
    ).with_columns(label=((pl.col("a") + pl.col("label")) > 1).cast(pl.Int32))
    config = RankerConfig(num_leaves=5, min_child_samples=5, max_trees=15, ensemble=2)
    model = LambdaMart.fit(table, table, features=("a", "b"), config=config, seed=0)
    found, score = model.contributions(table), model.predict(table)
    rest = score - found.sum(1)
    assert rest == pytest.approx(np.full(600, rest[0]), abs=1e-9)
    assert np.array_equal(model.contributions(table[100:107]), found[100:107])
    assert model.contributions(table[:0]).shape == (0, 2)
    lifted = reasons(found, ("first", "second"), 1).to_list()
    high = table["a"].to_numpy() > 1
    assert np.mean([row == ["first"] for row, is_high in zip(lifted, high, strict=True) if is_high]) > 0.9
