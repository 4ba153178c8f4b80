"""The contract of every table that crosses a package boundary, one class each.

Ids (`dy.Any`) are strings or integers, as their owner has them; all else has one dtype, to which input is
cast. A row that breaks a rule is set aside with the rule's name; a missing column or an impossible dtype is
an error.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import dataframely as dy
import polars as pl

__all__ = ["Clicks", "Events", "Items", "Offers", "Rankings", "SuppliedCandidates", "TrainingTable", "Users"]


# What lies outside is a missing value in disguise (the epoch, 1900) or another unit of time.
_FIRST, _LAST = datetime(1971, 1, 1, tzinfo=UTC), datetime(2300, 1, 1, tzinfo=UTC)


def _rule(make: Callable[[], pl.Expr]) -> Any:  # noqa: ANN401 - dataframely's rule type is private
    """A rule made from an expression that does not depend on the schema."""
    return dy.rule()(lambda _: make())


def _present(column: str) -> Any:  # noqa: ANN401 - dataframely's rule type is private
    """Rule: an id is neither null nor an empty text."""
    return _rule(lambda: pl.col(column).cast(pl.String).str.len_bytes().fill_null(0) > 0)


def _unique(*columns: str) -> Any:  # noqa: ANN401 - dataframely's rule type is private
    """Rule: one row a key; rows that disagree about a key are all set aside. A null is no key."""
    return _rule(
        lambda: ~pl.struct(columns).is_duplicated() | pl.any_horizontal(pl.col(name).is_null() for name in columns)
    )


class Items(dy.Schema):
    """The catalogue: one row an item. Text fields and attributes are named by the configuration."""

    item_id = dy.Any()
    category = dy.String(nullable=True)
    price = dy.Float64(nullable=True, min=0.0)
    available_from = dy.Datetime(nullable=True, time_unit="us", time_zone="UTC")
    available_until = dy.Datetime(nullable=True, time_unit="us", time_zone="UTC")

    item_id_present = _present("item_id")

    item_id_unique = _unique("item_id")


class Events(dy.Schema):
    """The log: what a user did with an item, and when (UTC)."""

    event_id = dy.Any()
    user_id = dy.Any()
    item_id = dy.Any()
    event = dy.String(nullable=False, min_length=1, max_length=200)
    timestamp = dy.Datetime(nullable=False, min=_FIRST, max_exclusive=_LAST, time_unit="us", time_zone="UTC")
    request_id = dy.Any()
    position = dy.Int32(nullable=True, min=1)
    propensity = dy.Float64(nullable=True, min_exclusive=0.0, max=1.0)
    value = dy.Float64(nullable=True)
    query = dy.String(nullable=True)
    text = dy.String(nullable=True)
    extracted_at = dy.Datetime(nullable=True, time_unit="us", time_zone="UTC")

    user_id_present = _present("user_id")
    item_id_present = _present("item_id")

    event_id_unique = _unique("event_id")

    # An extract holds nothing from after its own time.
    timestamp_after_extract = _rule(lambda: pl.col("timestamp") <= pl.col("extracted_at"))


class Users(dy.Schema):
    """One row a user, with whatever attributes the configuration names."""

    user_id = dy.Any()

    user_id_present = _present("user_id")

    user_id_unique = _unique("user_id")


class SuppliedCandidates(dy.Schema):
    """Candidates of the user's own: items for a user, from the batch of `day` on until the user's next day."""

    user_id = dy.Any()
    item_id = dy.Any()
    day = dy.Date(nullable=True)
    score = dy.Float64(nullable=True)

    user_id_present = _present("user_id")
    item_id_present = _present("item_id")

    # NOTE: a null day is a key of its own: the row counts for every day.
    row_unique = _rule(lambda: ~pl.struct("user_id", "item_id", "day").is_duplicated())


class Offers(dy.Schema):
    """Offers of items: an offer of some kind is in force from its first day to its last, if it has one."""

    item_id = dy.Any()
    offer = dy.String(nullable=False, min_length=1)
    first_day = dy.Date(nullable=False, min=_FIRST.date(), max_exclusive=_LAST.date())
    last_day = dy.Date(nullable=True, min=_FIRST.date(), max_exclusive=_LAST.date())
    reach = dy.Float64(nullable=True, min_exclusive=0.0, max=1.0)

    item_id_present = _present("item_id")

    ends_after_it_begins = _rule(lambda: pl.col("first_day") <= pl.col("last_day"))


class Clicks(dy.Schema):
    """Texts that were shown against each other: one row a package; a text that a group has twice is pooled."""

    group = dy.Any()
    text = dy.String(nullable=False, min_length=1)
    impressions = dy.Int64(nullable=False, min=1)
    clicks = dy.Int64(nullable=False, min=0)

    group_present = _present("group")

    clicks_at_most_impressions = _rule(lambda: pl.col("clicks") <= pl.col("impressions"))
    # A group of one text compares nothing.
    group_has_two_texts = _rule(lambda: pl.col("text").n_unique().over("group") > 1)


class TrainingTable(dy.Schema):
    """What the ranker learns from: features (not listed here), interest columns, label and their times."""

    request_id = dy.Any()
    item_id = dy.Any()
    label = dy.Int32(nullable=False, min=0, max=30)
    as_of = dy.Datetime(nullable=False, time_unit="us", time_zone="UTC")
    encoder_digest = dy.String(nullable=False)
    encoder_cutoff = dy.Datetime(nullable=False, time_unit="us", time_zone="UTC")

    # No row carries a score of an encoder that saw anything at or after the row's as-of.
    encoder_ended_before = _rule(lambda: pl.col("encoder_cutoff") <= pl.col("as_of"))


class Rankings(dy.Schema):
    """What a night publishes: for each user the best items, rank 1 first; with `night.reasons` also `reasons`."""

    user_id = dy.Any()
    rank = dy.Int32(nullable=False, min=1)
    item_id = dy.Any()
    score = dy.Float64(nullable=False)
    model_version = dy.String(nullable=False)

    item_unique = _unique("user_id", "item_id")
    rank_unique = _unique("user_id", "rank")

    # Ranks of a user are 1..n without a gap.
    ranks_run_from_one = _rule(lambda: pl.col("rank") <= pl.len().over("user_id"))
