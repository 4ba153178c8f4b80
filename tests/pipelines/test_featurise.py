"""Features of a table of questions, the same to the bit in whatever parts, on disk or in memory."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from features.config import FeaturesConfig
from features.errors import ConfigError
from features.families.base import Plan
from features.families.registry import FeatureSet
from features.families.supply import Supply
from features.timeline import EventLog
from pipelines.featurise import Log, featurise, parts_needed

GAINS = {"click": 1, "cart": 2, "purchase": 3}


def questions(tables, seed=0, count=300):
    rng = np.random.default_rng(seed)
    days = tables.first_day + rng.integers(-1, 45, count)
    return pl.DataFrame(
        {
            "user_id": tables.users["user_id"].gather(rng.integers(0, tables.users.height, count)),
            "item_id": tables.items["item_id"].gather(rng.integers(0, tables.items.height, count)),
            "as_of": pl.Series([tables.calendar.as_of(int(day)) for day in days], dtype=pl.Datetime("us", "UTC")),
        }
    )


def numbered(frame, spread):
    """Ids as integers, close together or far apart."""
    ids = [
        pl.col(name).str.slice(1).cast(pl.Int64) * spread for name in ("user_id", "item_id") if name in frame.columns
    ]
    return frame.with_columns(ids)


def wanted(tables, rows):
    """The in-memory path, as the assembler takes it, over the events that count."""
    log = EventLog.build(
        events=tables.events.filter(pl.col("event").is_in(list(GAINS))),
        items=tables.items,
        users=tables.users,
        calendar=tables.calendar,
        gains=GAINS,
    )
    users = log.user_ids.to_frame("user_id").with_row_index("user")
    coded = rows.join(users, on="user_id", maintain_order="left", how="left").join(
        log.items.select("item", "item_id"), on="item_id", maintain_order="left", how="left"
    )
    config = FeaturesConfig(families=("user", "item", "pair"))
    asked = coded.select("user", "item", pl.Series("as_of_day", tables.calendar.days(rows["as_of"])))
    return FeatureSet(log, Plan(config, Supply.of(log, config))).compute(asked)


def made(tables, rows, to, **how):
    folder = to / "events"
    folder.mkdir(exist_ok=True)
    for number, start in enumerate(range(0, tables.events.height, 100)):
        tables.events[start : start + 100].write_parquet(folder / f"{number}.parquet")
    log = Log(pl.scan_parquet(folder / "*.parquet"), tables.items, tables.calendar, GAINS)
    done = featurise(log, rows.lazy(), to / "table", max_memory_gb=4.0, **how)
    assert sorted((to / "table").iterdir()) == sorted(done.files)  # nothing of the work is left
    assert done.events == tables.events.height
    return done, pl.concat([pl.read_parquet(file) for file in done.files])


@pytest.mark.parametrize("spread", [0, 1, 1_000_003])
@pytest.mark.parametrize(
    "how", [{"threads": 1}, {"threads": 2}, {"parts": 3, "threads": 1}, {"parts": 2, "threads": 2}]
)
def test_every_way_gives_the_features_of_the_assembler_to_the_bit(shop, tmp_path, spread, how):
    tables = shop(4, n_users=23, n_events=900)
    rows = questions(tables)
    if spread:
        named = {name: numbered(getattr(tables, name), spread) for name in ("events", "items", "users")}
        tables, rows = replace(tables, **named), numbered(rows, spread)
    done, found = made(tables, rows, tmp_path, **how)
    assert done.parts == how.get("parts", 1) * how["threads"]
    assert done.spilled == (how.get("parts", 1) > 1)
    ordered = found.sort("row")
    assert ordered["row"].to_list() == list(range(rows.height))
    assert ordered.select(rows.columns).equals(rows)
    expected = wanted(tables, rows)
    for name in expected.columns:
        assert ordered[name].to_numpy().tobytes() == expected[name].to_numpy().tobytes(), name


def test_each_part_holds_its_users_whole_and_in_the_order_of_the_questions(shop, tmp_path):
    tables = shop(4, n_users=23)
    rows = questions(tables)
    done, _ = made(tables, rows, tmp_path, parts=4, threads=1)
    parts = [pl.read_parquet(file) for file in done.files]
    users = [set(part["user_id"]) for part in parts]
    assert sum(map(len, users)) == len(set().union(*users)) == rows["user_id"].n_unique()
    assert all(part["row"].is_sorted() for part in parts)


def test_events_of_unknown_items_and_without_a_gain_count_for_nothing(shop, tmp_path):
    tables = shop(2)
    rows = questions(tables)
    _, clean = made(tables, rows, tmp_path, threads=1)
    stray = tables.events.head(40).with_columns(item_id=pl.lit("nothing"))
    shown = tables.events.head(40).with_columns(event=pl.lit("impression"))
    _, noisy = made(replace(tables, events=pl.concat([stray, tables.events, shown])), rows, tmp_path, threads=1)
    assert noisy.equals(clean)


def test_questions_about_nobody_and_no_questions(shop, tmp_path):
    tables = shop(2)
    nobody = questions(tables).with_columns(user_id=pl.lit("nobody"))
    _, found = made(tables, nobody, tmp_path, threads=1)
    assert (found["user_events_all"] == 0).all()
    assert found["item_events_all"].sum() > 0
    _, none = made(tables, questions(tables).head(0), tmp_path, threads=1)
    assert none.height == 0
    assert none.columns == found.columns


def test_parts_follow_from_the_memory():
    sizes = {"rows": 2_000_000, "item_days": 9_000_000, "kinds": 3}
    assert parts_needed(5_000_000, **sizes, max_memory_gb=4.0) == 1
    large = parts_needed(100_000_000, **sizes, max_memory_gb=4.0)
    assert large > 3
    assert parts_needed(100_000_000, **sizes, max_memory_gb=16.0) == 1
    assert parts_needed(1_000_000_000, **sizes, max_memory_gb=4.0) > 8 * large
    assert parts_needed(100_000_000, **{**sizes, "kinds": 6}, max_memory_gb=4.0) > large
    assert parts_needed(0, 0, 0, kinds=1, max_memory_gb=1.0) == 1


def test_a_memory_that_cannot_do_says_what_would():
    with pytest.raises(ConfigError, match=r"max_memory_gb: 1 GiB is too little for 100000000 events .* allow 13\.9\."):
        parts_needed(100_000_000, 0, 50_000_000, kinds=3, max_memory_gb=1.0)


def test_a_family_that_needs_the_whole_log_is_refused_before_anything_is_read(shop, tmp_path):
    tables = shop(2)
    log = Log(
        pl.scan_parquet(tmp_path / "nothing.parquet"),
        tables.items,
        tables.calendar,
        GAINS,
        features=FeaturesConfig(families=("pair", "exposure")),
    )
    with pytest.raises(ConfigError, match="'exposure' cannot be computed in parts"):
        featurise(log, questions(tables).lazy(), tmp_path / "table", max_memory_gb=4.0)
    assert not (tmp_path / "table").exists()
