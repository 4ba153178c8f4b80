import os
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from features import assemble
from features.assemble import KEYS, Assembler
from features.candidates import union as candidates
from features.config import CalendarConfig, CandidatesConfig
from features.families import registry
from features.families.item import ItemPopularity
from features.families.user import UserActivity
from features.log.event_log import Calendar
from features.signals import cache, similar_users, text_neighbours, top_k
from features.signals.base import Signal
from features.signals.co_visitation import CoVisitation
from features.signals.ease import Ease
from features.signals.family import Plan, Rows
from features.signals.popularity import Popularity, SegmentPopularity

seeds = st.integers(0, 10_000)
CALENDARS = (
    CalendarConfig(),
    CalendarConfig(timezone="Europe/Berlin", cutoff="02:30"),
    CalendarConfig(timezone="America/New_York", cutoff="23:00", ingestion_lag_hours=6),
    CalendarConfig(ingestion_lag_hours=30),
)

BOUNDS = {
    cache: ("_CELLS", "_ROW_BYTES"),
    Signal: ("most_bytes",),
    Ease: ("most_bytes",),
    candidates: ("_CELLS",),
    top_k: ("_BLOCK_ROWS",),
    text_neighbours: ("_BLOCK_CELLS",),
    similar_users: ("_ROWS",),
}
"""What bounds how much is kept, or made side by side."""


def assembled(tables, log=None, **quotas):
    return Assembler(
        log or tables.log(), CandidatesConfig(segment="country", **quotas), tables.text_vectors, tables.plan
    )


def with_few_families(tables):
    config = tables.plan.config.model_copy(update={"families": ("user", "item", "pair")})
    return replace(tables, plan=Plan(config, tables.plan.inventory))


def bits(rows):
    return rows.columns, [rows[name].to_numpy().tobytes() for name in rows.columns]


@settings(max_examples=5, deadline=None, derandomize=True)
@given(seeds, st.integers(0, 45), st.sampled_from(CALENDARS))
def test_nothing_at_or_after_the_as_of_moves_a_feature_or_a_candidate(shop, leak_check, seed, day, calendar):
    tables = shop(seed, n_events=120, calendar=calendar)
    assert leak_check(tables, tables.first_day + day, seed) == set()


class _SeesToday(UserActivity):
    """A family that has `day <= as_of_day` where `day < as_of_day` is due."""

    def compute(self, rows):
        return super().compute(Rows({**rows.columns, "as_of_day": rows.as_of_day + 1}))


def _a_family_sees_today(patch):
    patch.setitem(registry.FAMILIES, "user", _SeesToday)


def _histories_see_today(patch):
    honest = assemble.histories

    def leaky(log, requests, *config):
        tomorrow = requests.with_columns(pl.col("as_of_day") + 1)
        return honest(log, tomorrow, *config).with_columns(pl.col("as_of_day") - 1)

    patch.setattr(assemble, "histories", leaky)


def _the_popular_window_has_today(patch):
    honest = Popularity.fit
    patch.setattr(Popularity, "fit", lambda signal, log, day: honest(signal, log, day + 1))


def _the_segments_window_has_today(patch):
    honest = SegmentPopularity.fit
    patch.setattr(SegmentPopularity, "fit", lambda signal, log, day: honest(signal, log, day + 1))


def _neighbours_are_refreshed_ahead(patch):
    honest = CoVisitation.fit
    patch.setattr(CoVisitation, "fit", lambda signal, log, day: honest(signal, log, day + signal.refresh_days))


def _the_instant_of_the_cut_off_is_yesterday(patch):
    honest = Calendar.days

    def leaky(self, timestamps, **options):
        return honest(self, timestamps - timedelta(microseconds=1), **options)

    patch.setattr(Calendar, "days", leaky)


def _trained_on_the_whole_log(patch):
    """A statistic that knows no time at all."""
    made, honest = ItemPopularity.__init__, ItemPopularity.compute

    def knowing_all(self, log, plan):
        made(self, log, plan)
        self.known = log.engaged.height

    def leaky(self, rows):
        return {**honest(self, rows), "item_events_all": np.full(len(rows), self.known)}

    patch.setattr(ItemPopularity, "__init__", knowing_all)
    patch.setattr(ItemPopularity, "compute", leaky)


@pytest.mark.parametrize(
    ("plant", "betrayed"),
    [
        (_a_family_sees_today, "user_events_7d"),
        (_histories_see_today, "history count"),
        (_the_popular_window_has_today, "popular_score"),
        (_the_segments_window_has_today, "popular_in_segment_score"),
        (_neighbours_are_refreshed_ahead, "co_visited_score"),
        (_the_instant_of_the_cut_off_is_yesterday, "item_events_7d"),
        (_trained_on_the_whole_log, "item_events_all"),
    ],
)
def test_the_leak_check_catches_a_planted_leak(shop, leak_check, monkeypatch, plant, betrayed):
    tables = with_few_families(shop(4))
    assert leak_check(tables, tables.first_day + 25) == set()
    plant(monkeypatch)
    assert betrayed in leak_check(tables, tables.first_day + 25)


@settings(max_examples=5, deadline=None, derandomize=True)
@given(seeds, st.integers(0, 45), st.sampled_from(CALENDARS))
def test_the_whole_log_gives_what_the_night_gets(shop, portion_differences, seed, day, calendar):
    tables = shop(seed, n_events=120, calendar=calendar)
    log, requests = tables.log(), tables.requests_on(day)
    night = log.before(tables.first_day + day)
    whole, known = (assembled(tables, some).portion(requests) for some in (log, night))
    assert portion_differences(whole, known) == set()


@settings(max_examples=5, deadline=None, derandomize=True)
@given(seeds, st.randoms(use_true_random=False), st.integers(1, 20))
def test_a_request_gets_the_same_rows_whatever_stands_beside_it(shop, seed, random, size):
    tables = shop(seed, n_events=120)
    requests = tables.requests_on(5, 18, 30)
    together = assembled(tables).portion(requests).rows
    parts = pl.concat([portion.rows for portion in assembled(tables).portions(requests, size=size)])
    assert bits(parts) == bits(together)
    some = random.sample(range(requests.height), k=min(size, requests.height))  # in any order
    portion = assembled(tables).portion(requests[some])
    chosen = together.filter(pl.col("request").is_in(some))
    assert bits(portion.rows) == bits(chosen)
    assert portion.requests.equals(requests[some])


def test_many_requests_are_the_same_as_few(shop):
    tables = shop(11, n_users=300, n_items=120, n_events=9000)
    requests = tables.requests_on(20, 33)
    assembler = assembled(tables)
    together = assembler.portion(requests).rows
    some = sorted(np.random.default_rng(0).choice(requests.height, 40, replace=False).tolist())
    alone = pl.concat([assembler.portion(requests[n : n + 1]).rows for n in some])
    assert bits(alone) == bits(together.filter(pl.col("request").is_in(some)))


def test_candidates_are_the_keys_of_a_portion_with_its_histories(shop):
    tables = shop(11, n_events=120)
    requests, assembler = tables.requests_on(5, 18, 30), assembled(tables)
    portion, bare = assembler.portion(requests), assembler.candidates(requests)
    assert bare.rows.equals(portion.rows.select(KEYS))
    assert bare.history.equals(portion.history)
    parts = list(assembler.portions(requests, size=7, features=False))
    assert [part.requests.height for part in parts[:-1]] == [7] * (len(parts) - 1)
    assert pl.concat([part.rows for part in parts]).equals(bare.rows)


def test_rows_are_made_where_what_is_asked_for_is_among_the_candidates(shop):
    tables = shop(11, n_events=120)
    requests, assembler = tables.requests_on(5, 18, 30), assembled(tables)
    whole = assembler.portion(requests).rows
    held = whole.filter(pl.col("request") % 3 == 1).group_by("request").agg(pl.col("item").last())
    nowhere = pl.DataFrame({"request": requests["request"][:1], "item": [tables.items.height]}, schema=held.schema)
    portion = assembler.portion(requests, pl.concat([held, nowhere]))
    assert bits(portion.rows) == bits(whole.filter(pl.col("request").is_in(held["request"].implode())))
    assert portion.requests.equals(requests)
    assert assembler.portion(requests, nowhere).rows.equals(whole.clear())


IN_A_PROCESS = """
import sys
from pathlib import Path

import numpy as np
import polars as pl
from features.assemble import Assembler
from features.config import CalendarConfig, CandidatesConfig, FeaturesConfig
from features.signals.family import Plan
from features.log.inventory import FeatureInventory
from features.log.offers import coded_offers
from features.log.event_log import Calendar, EventLog

folder, threads = sys.argv[1:]
assert pl.thread_pool_size() == int(threads)
read = {name: pl.read_parquet(f"{folder}/{name}.parquet") for name in ("events", "items", "users", "offers", "asked")}
log = EventLog.build(events=read["events"], items=read["items"], users=read["users"],
    calendar=Calendar(CalendarConfig()), gains={"click": 1, "cart": 2, "purchase": 3}, keep=["query", "text", "mood"])
log = log.with_tables(offers=coded_offers(read["offers"], log))
config = FeaturesConfig.model_validate_json(Path(f"{folder}/config.json").read_bytes())
inventory = FeatureInventory.model_validate_json(Path(f"{folder}/inventory.json").read_bytes())
plan = Plan(config, inventory)
assembler = Assembler(log, CandidatesConfig(segment="country"), np.load(f"{folder}/vectors.npy"), plan)
pl.concat([part.rows for part in assembler.portions(read["asked"], size=200)]).write_ipc(
    f"{folder}/rows{threads}.arrow")
"""


def test_the_number_of_threads_changes_no_bit(shop, tmp_path, pytestconfig):
    tables = shop(12, n_users=300, n_items=120, n_events=9000)
    for name in ("events", "items", "users", "offers"):
        getattr(tables, name).write_parquet(tmp_path / f"{name}.parquet")
    tables.requests_on(33).write_parquet(tmp_path / "asked.parquet")
    np.save(tmp_path / "vectors.npy", tables.text_vectors)
    for name in ("config", "inventory"):
        (tmp_path / f"{name}.json").write_text(getattr(tables.plan, name).model_dump_json(), encoding="utf-8")
    for threads in ("1", "2"):
        command = [sys.executable, "-c", IN_A_PROCESS, str(tmp_path), threads]
        subprocess.run(
            command,
            check=True,
            env=os.environ | {"POLARS_MAX_THREADS": threads, "PYTHONPATH": str(pytestconfig.rootpath)},
        )
    one, two = (pl.read_ipc(tmp_path / f"rows{threads}.arrow") for threads in "12")
    assert one.height > 10_000
    assert bits(one) == bits(two)


def test_rows_stand_in_order_with_every_feature_as_float32(shop):
    tables = shop(0)
    requests = tables.requests_on(10, 30, after=100)
    assembler = assembled(tables)
    portion, names = assembler.portion(requests), assembler.features
    assert portion.rows.columns == [*KEYS, *names]
    assert set(portion.rows.select(names).dtypes) == {pl.Float32}
    assert portion.rows.select(names).null_count().sum_horizontal().item() == 0
    keys = portion.rows.select("request", "item").rows()
    assert keys == sorted(set(keys))
    asked = portion.rows.select("request", "user", "as_of_day").unique(maintain_order=True)
    assert_frame_equal(asked, requests.join(asked, on="request", how="semi", maintain_order="left"))


def test_a_source_that_did_not_propose_the_item_is_undefined(shop):
    tables = shop(0)
    assembler, requests = assembled(tables, popular=0), tables.requests_on(30)
    rows = assembler.portion(requests).rows
    assert rows["popular_rank"].is_nan().all()
    assert not rows["bought_before_rank"].is_nan().all()
    without_text = Assembler(assembler.log, CandidatesConfig(), None).portion(requests).rows
    assert without_text["text_neighbours_score"].is_nan().all()


def test_portions_cover_all_requests_in_order(shop):
    tables = shop(0)
    requests = tables.requests_on(10, 30)
    portions = list(assembled(tables).portions(requests, size=4))
    assert [portion.requests.height for portion in portions] == [4, 4, 4, 2]
    assert pl.concat([portion.requests for portion in portions]).equals(requests)
    for portion in portions:
        assert set(portion.history["request"]) <= set(portion.requests["request"])
    assert list(assembled(tables).portions(requests.head(0))) == []


def test_after_a_portion_that_fails_no_further_one_is_made(shop, monkeypatch):
    tables, asked = shop(0), []
    requests = tables.requests_on(20)

    def fails(_, some, **told):  # noqa: ARG001 - one signature
        asked.append(some.height)
        raise MemoryError

    monkeypatch.setattr(Assembler, "portion", fails)
    with pytest.raises(MemoryError):
        next(assembled(with_few_families(tables)).portions(requests, size=2))
    assert asked == [2]


@pytest.mark.parametrize("seed", range(3))
def test_however_little_is_held_or_made_at_a_time_every_bit_is_the_same(shop, monkeypatch, seed):
    tables = shop(seed)
    requests = tables.requests_on(39, 25, 31, 4).sort("as_of_day", descending=True)
    whole = assembled(tables).portion(requests)
    for owner, bounds in BOUNDS.items():
        for bound in bounds:
            monkeypatch.setattr(owner, bound, 1)
    lean = assembled(tables)
    for _ in range(2):
        found = lean.portion(requests)
        assert bits(found.rows) == bits(whole.rows)
        assert found.history.equals(whole.history)
