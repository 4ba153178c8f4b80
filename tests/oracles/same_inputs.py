"""Whether tables that were read in two ways are the same: what was found and is known, and what labels are made of."""

import numpy as np
import polars as pl

from features.config import FeaturesConfig, LabelsConfig
from features.families.registry import FeatureSet
from features.log.event_parts import OPEN_END
from features.log.inventory import FeatureInventory
from features.requests.engaged import requests_between, truth_of
from features.signals.family import Plan

__all__ = ["BY_DAY", "assert_all_the_same", "assert_same", "assert_same_events", "assert_same_features"]

BY_DAY = FeaturesConfig(
    families=(
        *(
            "user",
            "item",
            "exposure",
            "pair",
            "pair_exposure",
            "user_category",
            "user_item_attribute",
            "item_attribute",
        ),
        *("profile_attribute", "text_title", "text_words", "text_phrases", "vectors"),
    ),
    attributes={"items": ("title",), "users": ("age",)},
)
"""All families that counts by day are enough for."""


def assert_same(actual, full):
    assert actual.fingerprints == full.fingerprints
    assert actual.quarantine.keys() == full.quarantine.keys()
    one, other = actual.tables["events"], full.tables["events"]
    assert (one.n_rows, one.n_duplicates) == (other.n_rows, other.n_duplicates)
    assert set(one.ignored) == set(other.ignored)
    assert one.rules.equals(other.rules)
    wanted = other.bad.sort("row", "rules")
    assert one.bad.height == wanted.height
    assert not wanted.height or one.bad.sort("row", "rules").select(wanted.columns).equals(wanted)
    others = [name for name in one.bad.columns if name not in wanted.columns]
    assert all(one.bad[name].is_null().all() for name in others)
    assert actual.log.user_ids.equals(full.log.user_ids)
    assert actual.log.items.equals(full.log.items)
    assert (actual.log.users is None) == (full.log.users is None)
    assert actual.log.users is None or actual.log.users.equals(full.log.users)
    keys = ["user", "item", "day", "kind"]
    cells = [
        log.cells.frame().with_columns(pl.col("kind").cast(pl.String)).sort(keys) for log in (actual.log, full.log)
    ]
    assert cells[0].equals(cells[1])
    assert actual.log.interactions.frame.equals(full.log.interactions.frame)
    assert actual.log.latest_day == full.log.latest_day
    assert actual.log.active_users.equals(full.log.active_users)


def assert_same_features(actual, full):
    """What counts by day are enough for, of all pairs on the day after the log."""
    day = full.log.last_day + 1
    users, items = full.log.user_ids.len(), full.log.items.height
    rows = pl.DataFrame({"user": np.repeat(np.arange(users), items), "item": np.tile(np.arange(items), users)})
    requests = rows.with_columns(as_of_day=pl.lit(day))
    plan = Plan(BY_DAY, FeatureInventory.of(full.log, BY_DAY))
    one, other = (FeatureSet(log, plan).compute(requests) for log in (actual.log, full.log))
    assert [one[name].to_numpy().tobytes() for name in one.columns] == [
        other[name].to_numpy().tobytes() for name in other.columns
    ]


def assert_all_the_same(actual, full):
    """Also what labels and features need of single events."""
    assert_same(actual, full)
    one, other = actual.tables["events"], full.tables["events"]
    assert (one.n_good, other.n_good) == (other.good.height, other.good.height)
    assert (dict(one.as_missing), dict(one.cut)) == (other.as_missing, other.cut)
    assert one.files == other.files
    assert_same_events(actual.log, full.log)


def assert_same_events(one, other):
    """Single events of two logs."""
    assert one.label_events.ends == other.label_events.ends
    assert one.last_day == other.last_day
    assert one.event_counts == other.event_counts
    tables = [log.label_events.between(0, OPEN_END) for log in (one, other)]
    assert tables[0].sort(tables[0].columns).equals(tables[1].sort(tables[0].columns))
    assert (one.raw is None) == (other.raw is None)
    if one.raw is not None:
        assert one.raw.further == other.raw.further
        rows = [log.raw.rows for log in (one, other)]
        assert rows[0].sort(rows[0].columns).equals(rows[1].sort(rows[0].columns))
    requests = [requests_between(log, log.first_day, log.last_day + 1) for log in (one, other)]
    assert requests[0].equals(requests[1])
    truths = [truth_of(requests[0], log, LabelsConfig(horizon_days=2)) for log in (one, other)]
    assert truths[0].equals(truths[1])
