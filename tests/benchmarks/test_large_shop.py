"""The shop of the scale benchmarks, where their time goes, and what they make of it."""

import json
from datetime import date
from types import SimpleNamespace

import polars as pl
import pytest
import stages as stages_module
from large_shop import LargeShop, events_of, write_crowds, write_project
from night_scale import figures, judged
from stages import OTHER, Spent, Stages, by_stage, memory_bytes
from train_scale import judged as judged_trainings
from train_scale import seconds_beyond

from features.shop.simulator import simulate
from pipelines.base.config import load_config
from pipelines.inputs.check import read_inputs

SHOP = LargeShop(visits_a_day=0.5, users_a_crowd=20, items=60, days=16)


def test_a_larger_shop_has_the_users_of_a_smaller_one_who_do_the_same(tmp_path):
    small, large = (read_inputs(load_config(write_project(SHOP, tmp_path, users, {}))) for users in (20, 60))
    assert (small.tables["users"].n_rows, large.tables["users"].n_rows) == (20, 60)
    assert small.tables["items"].good.equals(large.tables["items"].good)
    mine, theirs = (inputs.tables["events"].good for inputs in (small, large))
    firsts = mine["user_id"].unique().sort()
    same = theirs.filter(pl.col("user_id").is_in(firsts.implode())).sort("event_id")
    columns = ["event_id", "user_id", "item_id", "event", "timestamp", "value"]
    assert same.select(columns).equals(mine.sort("event_id").select(columns))
    others = theirs.filter(pl.col("user_id").str.starts_with("u001"))
    assert 1 <= others["user_id"].n_unique() <= 20


def test_events_lie_on_their_days_each_once(tmp_path):
    project = write_project(SHOP, tmp_path, 40, {}).parent
    files = sorted((project / "events").glob("date=*/events.parquet"))
    assert len(files) > 1
    tables = {file.parent.name.removeprefix("date="): pl.read_parquet(file) for file in files}
    assert all((table["timestamp"].dt.date() == date.fromisoformat(day)).all() for day, table in tables.items())
    events = pl.concat(tables.values())
    simulated = sum(simulate(SHOP.config, crowd=crowd).events.height for crowd in range(2))
    assert events.height == events["event_id"].n_unique() == simulated == events_of(project)


def test_what_is_there_is_not_made_again(tmp_path):
    config = write_project(SHOP, tmp_path, 20, {"output": "out"})
    made = config.parent / "events"
    stamps = {file: file.stat().st_mtime_ns for file in made.rglob("*.parquet")}
    write_project(SHOP, tmp_path, 20, {"output": "out"})
    assert stamps == {file: file.stat().st_mtime_ns for file in made.rglob("*.parquet")}


@pytest.mark.parametrize("users", [0, 30])
def test_users_that_make_no_whole_crowds_are_refused(tmp_path, users):
    with pytest.raises(ValueError, match=f"{users} users are no multiple of 20"):
        write_crowds(SHOP, tmp_path, users)


def test_a_stage_is_charged_what_no_inner_one_is(monkeypatch):
    clock = SimpleNamespace(now=100.0)
    clock.perf_counter = lambda: clock.now
    clock.process_time = lambda: 2 * clock.now
    monkeypatch.setattr(stages_module, "time", clock)

    class Work:
        name = "inner"

        def outer(self):
            clock.now += 2
            self.inner()
            clock.now += 1

        def inner(self):
            clock.now += 5

        @classmethod
        def made(cls):
            return cls()

    stages = Stages()
    stages.wrap(Work, "outer", "outer")
    stages.wrap(Work, "inner", lambda work: f"outer/{work.name}")
    stages.wrap(Work, "made", "made")
    with stages.running():
        Work.made().outer()
        clock.now += 4
    spent = {name: (of.seconds, of.cpu_seconds, of.calls) for name, of in stages.spent.items()}
    assert spent == {OTHER: (4, 8, 1), "made": (0, 0, 1), "outer": (3, 6, 1), "outer/inner": (5, 10, 1)}


def test_functions_that_are_gone_are_named():
    stages = Stages()
    stages.time({"json:dumps.nothing": "a", "json:no_such": "b", "json:NoClass.method": "c"})
    assert stages.missing == ["json:dumps.nothing", "json:no_such", "json:NoClass.method"]
    assert json.dumps([1]) == "[1]"


def spent(**seconds):
    """Stages of so many seconds, each of twice the processor time, in one gigabyte of which half is anonymous."""
    return {
        name.replace("__", "/"): {
            "seconds": took,
            "cpu_seconds": 2 * took,
            "calls": 1,
            "peak_rss": 1e9,
            "peak_anon": 0.5e9,
        }
        for name, took in seconds.items()
    }


def test_parts_of_a_stage_add_up_and_its_peak_is_the_largest():
    parts = spent(fits__ease=3.0, fits=1.0, trees=2.0)
    parts["fits/ease"]["peak_rss"] = 7e9
    stages = by_stage(parts)
    assert stages["fits"] == {"seconds": 4.0, "cpu_seconds": 8.0, "calls": 2, "peak_rss": 7e9, "peak_anon": 0.5e9}
    assert stages["trees"]["seconds"] == 2.0
    assert list(Spent.__slots__) == list(stages["trees"])


def night(users, **seconds):
    """A night of 100 rows a user, beside which bare prediction made 1,000 rows in 0.01 s."""
    bare = {"bare_rows": 1000, "bare_seconds": 0.01, "bare_cpu_seconds": 0.02}
    return {
        "spent": spent(**seconds),
        "ranked": users,
        "rows": 100 * users,
        "peak_rss": 5e9,
        "missing": [],
        "model": {},
        **bare,
    }


def test_figures_of_a_night_leave_out_what_the_benchmark_did():
    measured = figures(1000, night(1000, reading=1.0, candidates=3.0, bare=2.0))
    assert measured["seconds"] == 4.0
    assert measured["cpu_seconds"] == 8.0
    assert measured["ms_a_user"] == 4.0
    assert measured["rows_a_second"] == 25_000
    assert measured["share_of_bare"] == measured["cpu_share_of_bare"] == 0.25
    assert (measured["peak_rss"], measured["peak_anon"]) == (5e9, 0.5e9)


def test_a_whole_night_is_reckoned_from_a_part_of_its_users():
    measured = figures(4000, night(1000, reading=1.0, fits__ease=2.0, candidates=3.0, bare=9.0))
    assert measured["seconds"] == 1.0 + 2.0 + 4 * 3.0
    assert measured["rows_a_second"] == 400_000 / 15


def test_bars_of_nights():
    few, many = night(10_000, candidates=40.0), night(1_000_000, candidates=4000.0)
    assert list(judged({10_000: few}).values()) == [True]
    assert judged({10_000: few, 1_000_000: many}) == {
        "25.0% of bare predict >= 20% (aim 35%)": True,
        "time a user from 10000 to 1000000 users: 1.00x <= 1.3x": True,
        "1000000 users in 66.7 minutes <= 60": False,
        "1000000 users in 5.00 GB <= 6 GB": True,
    }


def test_bars_of_trainings_leave_out_reading_and_fits():
    few = {"spent": spent(reading=1.0, fits__ease=1.0, ranker=10.0, other=1.0), "peak_rss": 2e9}
    many = {"spent": spent(reading=50.0, fits__ease=50.0, ranker=14.0, other=1.4), "peak_rss": 9e9}
    assert (seconds_beyond(few), seconds_beyond(many)) == (11.0, 15.4)
    assert judged_trainings({10_000_000: few, 100_000_000: many}) == {
        "time beyond reading, folding and fits: 1.40x <= 1.3x": False,
        "100000000 events in 9.00 GB <= 8 GB": False,
    }


def test_memory_is_read_in_bytes():
    assert memory_bytes("Name:\tpython\nVmRSS:\t     12 kB\nRssAnon:\t 3 kB\nThreads:\t1\n") == {
        "VmRSS": 12 * 1024,
        "RssAnon": 3 * 1024,
    }
