import math
import tracemalloc
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.errors import ContractError
from features.log.asof import NEVER
from features.log.engagements import KEPT_BY_DAY, Engagements, Interactions, fold_events
from features.log.event_log import EventLog
from features.log.packed_values import pack_values, unpack_values

GAINS = {"click": 1, "cart": 2, "purchase": 3}
KINDS = ("a", "b", "c")
N_ITEMS = 7
DAY = 19_800

codes = st.tuples(st.integers(0, 5), st.integers(0, N_ITEMS - 1), st.integers(DAY, DAY + 4), st.integers(0, 2))
logs = st.lists(codes, max_size=40)


def daily_of(log):
    user, item, day, kind = (np.array([row[n] for row in log], np.int64) for n in range(4))
    cells = Engagements.cell(user, item, day, kind, n_items=N_ITEMS, n_kinds=len(KINDS))
    return folded(cells, kind, day, n_items=N_ITEMS, kinds=KINDS)


def folded(cells, kind, day, **told):
    """Events that are worth something, but for those of the first type."""
    worth = np.where(kind > 0, (1 << 42) + day - DAY, 0)
    return Engagements.fold(cells, counts=np.ones(len(cells), np.int64), values=worth, **told)


def same(one, other):
    for name in ("cells", "counts"):
        assert getattr(one, name).tolist() == getattr(other, name).tolist()
    assert worth_of(one) == worth_of(other)
    assert (one.n_items, one.kinds) == (other.n_items, other.kinds)


def worth_of(cells):
    return [0] * len(cells.cells) if cells.values is None else cells.values.tolist()


def folded_log(log: EventLog) -> EventLog:
    """The log as a night has it: cells alone, its event types numbered in another order."""
    kinds = tuple(log.events["kind"].unique().sort(descending=True))
    numbered = log.events["kind"].replace_strict(dict(zip(kinds, range(len(kinds)), strict=True)))
    arrays = [series.cast(pl.Int64).to_numpy() for series in (*log.events.select("user", "item", "day"), numbered)]
    cells = Engagements.cell(*arrays, n_items=log.items.height, n_kinds=len(kinds))
    worth = log.events.select(pack_values(pl.col("value"))).to_series().to_numpy().copy()
    counts = np.ones(len(cells), np.int64)
    told = Engagements.fold(cells, n_items=log.items.height, kinds=kinds, counts=counts, values=worth)
    return EventLog(cells=told, gains=GAINS, user_ids=log.user_ids, items=log.items, calendar=log.calendar)


def rows_of(found: Interactions) -> list[tuple[int, ...]]:
    return found.frame.rows()


@settings(max_examples=60, deadline=None, derandomize=True)
@given(logs)
def test_cells_hold_what_a_count_finds(log):
    counts = Counter((user, item, day, KINDS[kind]) for user, item, day, kind in log)
    found = {tuple(row[:4]): row[4] for row in daily_of(log).frame().iter_rows()}
    assert found == counts
    assert list(found) == sorted(counts, key=lambda key: (*key[:3], KINDS.index(key[3])))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(logs, st.integers(0, 40))
def test_folding_in_two_steps_is_folding_at_once(log, cut):
    same(daily_of(log[:cut]).plus(daily_of(log[cut:])), daily_of(log))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(logs)
def test_folding_day_by_day_in_any_order_is_folding_at_once(log):
    for days in (range(DAY, DAY + 5), range(DAY + 4, DAY - 1, -1)):
        step = daily_of([])
        for day in days:
            step = step.plus(daily_of([row for row in log if row[2] == day]))
        same(step, daily_of(log))


MOST = 2**31 - 1


def cell_of(count, values=0, day=DAY):
    cells = Engagements.cell(*(np.array([number]) for number in (1, 2, day, 0)), n_items=N_ITEMS, n_kinds=len(KINDS))
    counts, worths = np.array([count], np.int64), np.array([values], np.int64)
    return Engagements.fold(cells, n_items=N_ITEMS, kinds=KINDS, counts=counts, values=worths)


def test_counts_take_four_bytes_until_one_does_not_fit():
    assert (cell_of(MOST).counts.dtype, cell_of(MOST).counts.tolist()) == (np.int32, [MOST])
    assert (cell_of(MOST + 1).counts.dtype, cell_of(MOST + 1).counts.tolist()) == (np.int64, [MOST + 1])
    for more in (cell_of(MOST).plus(cell_of(1)), cell_of(1).plus(cell_of(MOST)), cell_of(5).plus(cell_of(MOST - 4))):
        assert (more.counts.dtype, more.counts.tolist()) == (np.int64, [MOST + 1])
    beside = cell_of(3).plus(cell_of(MOST + 1, day=DAY + 1))
    assert beside.counts.tolist() == [3, MOST + 1]
    assert cell_of(3).plus(cell_of(4)).counts.dtype == np.int32


def test_events_of_one_cell_that_fit_no_longer_together_are_counted():
    cells = np.repeat(cell_of(1).cells, 3)
    counts = np.array([MOST, 2, 5], np.int32)
    told = Engagements.fold(cells, n_items=N_ITEMS, kinds=KINDS, counts=counts)
    assert told.counts.tolist() == [MOST + 7]
    assert told.of_kinds(["a"]).n.tolist() == [MOST + 7]


def test_types_of_one_day_that_fit_no_longer_together_are_counted():
    keys = (np.array([number, number]) for number in (1, 2, DAY))
    cells = Engagements.cell(*keys, np.array([0, 1]), n_items=N_ITEMS, n_kinds=len(KINDS))
    told = Engagements.fold(cells, n_items=N_ITEMS, kinds=KINDS, counts=np.array([MOST, MOST], np.int32))
    assert told.counts.dtype == np.int32
    assert told.of_kinds(["a", "b"]).n.tolist() == [2 * MOST]
    assert told.of_kinds(["b"]).frame["n"].to_list() == [MOST]


def test_a_log_without_values_holds_no_worth():
    bare, valued = cell_of(2), cell_of(1, values=1 << 42, day=DAY + 1)
    assert (bare.values, bare.nbytes, valued.nbytes) == (None, 12, 20)
    assert len(bare.values_of({"a": 1})) == 0
    assert unpack_values(bare.values_of({"a": 1}).n).tolist() == []
    for both in (bare.plus(valued), valued.plus(bare)):
        assert both.values.tolist() == [0, 1 << 42]
        assert both.values_of({"a": 1}).frame.rows() == [(1, 2, DAY + 1, 1 << 42)]
    assert bare.plus(bare).values is None


def test_what_is_held_of_a_log_takes_few_bytes_a_cell(shop):
    log = shop(3).log()
    done, cells = log.interactions, log.cells
    assert cells.nbytes == 20 * len(cells.cells)
    assert sum(part.nbytes for part in (done.user, done.item, done.day, done.n)) == 16 * len(done)
    assert done.by_day.nbytes + log.history.order.nbytes == 8 * len(done)
    assert log.item_index.running.dtype == np.int32


def test_one_kind_needs_no_bits_and_many_do():
    user = np.array([3, 3])
    one = Engagements.cell(user, user, user, np.array([0, 0]), n_items=9, n_kinds=1)
    assert one.tolist() == [((3 * 9 + 3) << 17) | 3] * 2
    many = Engagements.cell(user, user, user, np.array([0, 32]), n_items=9, n_kinds=33)
    assert np.diff(many).tolist() == [32]


def test_a_log_of_too_many_pairs_is_refused():
    last = np.array([2**30])
    with pytest.raises(ContractError, match="1073741825 users times 4000000 items times 3 event types"):
        Engagements.cell(last, last, last, last, n_items=4_000_000, n_kinds=3)


def test_events_fold_by_their_ids_and_days(shop):
    tables = shop(0, n_events=400)
    events = tables.events
    found = fold_events(events, tables.calendar)
    days = tables.calendar.days(events["timestamp"])
    ids = events.select("user_id", "item_id", "event").iter_rows()
    wanted = Counter((*row, int(day)) for row, day in zip(ids, days, strict=True))
    assert {tuple(row[:4]): row[4] for row in found.iter_rows()} == wanted
    assert [tuple(row[:4]) for row in found.iter_rows()] == sorted(wanted)
    worth = events.select(pack_values(pl.col("value"))).to_series()
    assert found["worth"].sum() == worth.sum() > 0


@settings(max_examples=10, deadline=None, derandomize=True)
@given(st.integers(0, 10_000), st.integers(-1, 45))
def test_cells_from_events_are_cells_from_a_night(shop, seed, after):
    tables = shop(seed)
    day = tables.first_day + after
    log, folded = tables.log(), folded_log(tables.log())
    keys = ["user", "item", "day", "kind"]
    text = pl.col("kind").cast(pl.String)
    assert folded.cells.frame().with_columns(text).sort(keys).equals(log.cells.frame().with_columns(text).sort(keys))
    for one, other in ((log, folded), (log.before(day), folded.before(day))):
        assert rows_of(other.interactions) == rows_of(one.interactions)
        assert rows_of(other.cells.values_of(other.gains)) == rows_of(one.cells.values_of(one.gains))
        assert other.first_meetings.equals(one.first_meetings)
        assert {*other.kinds} == {*one.kinds} == {*one.events["kind"]}
        assert other.has_values == one.has_values
        assert other.latest_day == one.latest_day == one.events["day"].max()
        assert other.active_users.equals(one.active_users)
        assert one.active_users.equals(one.events["user"].unique().sort())
    supplied = pl.DataFrame({"user": [0]})
    assert folded.with_tables(supplied=supplied).before(day).supplied.equals(supplied)
    assert folded.supplied is None


def test_a_view_of_earlier_days_copies_no_cell(shop):
    log = shop(0).log()
    assert log.before(log.first_day + 3).cells is log.cells
    assert log.before(log.first_day + 3).interactions is log.interactions


def test_some_users_of_two_views_share_cells_and_end_each_on_its_own_day(shop):
    log, some = shop(0).log(), np.array([1, 3])
    early = log.before(log.first_day + 3)
    assert early.only(some).end_day == early.end_day
    assert log.only(some).end_day == log.end_day > early.end_day
    assert log.only(some).history is early.only(some).history
    assert early.only(some).latest_day < log.only(some).latest_day


def test_a_log_may_lose_all_its_events(shop):
    log = shop(0).log()
    empty = log.until(log.first_day)
    assert empty.interactions.frame.is_empty()
    assert (len(empty.kinds), len(empty.active_users), empty.latest_day, empty.has_values) == (0, 0, None, False)


def test_interactions_and_first_meetings_are_what_a_count_finds(shop):
    log = shop(3).log()
    keys = ["user", "item", "day"]
    counted = log.engaged.group_by(keys).agg(n=pl.len().cast(pl.Int64)).sort(keys)
    assert log.interactions.frame.equals(counted)
    met = log.engaged.group_by("user", "item").agg(pl.col("day").min()).sort("user", "item")
    assert log.first_meetings.equals(met)


def test_interactions_by_user_and_by_day(shop):
    done = shop(3).log().interactions
    rows = done.frame.rows()
    users = np.array([4, 0, 99])
    places, begins = done.of_users(users)
    held = [[rows[place] for place in places[first:end]] for first, end in pairwise(begins)]
    assert held == [[row for row in rows if row[0] == user] for user in users]
    first, end = rows[0][2] - 2, rows[0][2] + 5
    wanted = sorted((row for row in rows if first <= row[2] < end), key=lambda row: row[2])
    assert [rows[place] for place in done.between(first, end)] == wanted
    assert not len(done.between(end, first))


def test_what_is_asked_of_some_days_or_users_copies_no_column():
    n = 200_000
    codes, day = np.arange(n, dtype=np.uint32), np.repeat(np.arange(DAY, DAY + 200, dtype=np.int32), n // 200)
    done = Interactions(codes, codes, day, np.ones(n, np.int64))
    done.between(DAY, DAY)  # the order of days is made once
    tracemalloc.start()
    places, (users, _) = done.between(DAY + 1, DAY + 2), done.of_users(np.array([3, 7]))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (len(places), users.tolist()) == (1000, [3, 7])
    assert most < n  # a byte a row


def test_worth_counts_and_sums_the_logarithms_of_what_has_a_value():
    told = [0.0, 1.5, -3.0, None, math.inf, math.nan, 1e308]
    worth = pl.DataFrame({"value": told}).select(pack_values(pl.col("value"))).to_series().to_numpy()
    logarithms = [round(math.log1p(value) * 1024) for value in (0.0, 1.5, 0.0, 1e308)]
    assert unpack_values(worth).tolist() == [
        [logarithms[0], 1],
        [logarithms[1], 1],
        [0, 1],
        *[[0, 0]] * 3,
        [logarithms[3], 1],
    ]
    assert unpack_values(np.array([worth.sum()])).tolist() == [[sum(logarithms), 4]]
    most = np.array([int(worth[-1]) * (2**21 - 1)])  # of what a cell can hold
    assert unpack_values(most).tolist() == [[logarithms[3] * (2**21 - 1), 2**21 - 1]]


def test_single_events_of_a_night_have_what_the_cells_tell(shop):
    log = shop(0).log()
    keys = ["day", "user", "item", "kind", "gain"]
    for whole, night in (
        (log, folded_log(log)),
        (log.before(log.first_day + 9), folded_log(log).before(log.first_day + 9)),
    ):
        assert night.events["day"].is_sorted()
        assert night.events.sort(keys).equals(whole.events.select(night.events.columns).sort(keys))
        assert sorted(night.engaged.select(keys).rows()) == sorted(whole.engaged.select(keys).rows())
    assert set(folded_log(log).events.columns) == {*KEPT_BY_DAY}


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    logs,
    st.sets(st.integers(0, 5)),
    st.sets(st.integers(0, N_ITEMS - 1)),
    st.integers(1, 3),
    st.integers(1, 3),
    st.sampled_from([0, 1, 6]),
)
def test_new_codes_in_the_same_order_keep_the_cells_in_order(log, users, items, user_step, step, more):
    def moved(gone, count, step):
        new = np.arange(count) * step + step - 1
        new[sorted(gone)] = -1
        return new

    new_user, new_item = moved(users, 6, user_step), moved(items, N_ITEMS, step)
    kinds = (*KINDS, *(f"more-{n}" for n in range(more)))
    found = daily_of(log).recoded(new_user, new_item, n_items=N_ITEMS * step, kinds=kinds)
    kept = [
        (int(new_user[user]), int(new_item[item]), *rest)
        for user, item, *rest in log
        if user not in users and item not in items
    ]
    arrays = [np.array([row[n] for row in kept], np.int64) for n in range(4)]
    cells = Engagements.cell(*arrays, n_items=N_ITEMS * step, n_kinds=len(kinds))
    same(found, folded(cells, arrays[3], arrays[2], n_items=N_ITEMS * step, kinds=kinds))


@pytest.mark.parametrize("n_items", [N_ITEMS, N_ITEMS + 3])
def test_users_that_came_in_between_move_the_later_ones(n_items):
    log = [(0, 1, DAY, 2, 5), (2, 0, DAY, 0, 5), (2, N_ITEMS - 1, DAY + 1, 1, 5), (3, 2, DAY, 2, 5)]
    users = np.array([1, -1, 2, 7])  # nothing is known of user 1, who went
    found = daily_of(log).recoded(users, np.arange(N_ITEMS), n_items=n_items, kinds=KINDS)
    moved = np.array([(users[user], *rest) for user, *rest in log], np.int64)
    cells = Engagements.cell(*moved.T[:4], n_items=n_items, n_kinds=len(KINDS))
    same(found, folded(cells, moved.T[3], moved.T[2], n_items=n_items, kinds=KINDS))
    with pytest.raises(ContractError, match="1099511627777 users times"):
        daily_of(log).recoded(users * 0 + (1 << 40), np.arange(N_ITEMS), n_items=1 << 20, kinds=KINDS)


def test_where_the_cells_of_users_begin():
    log = [(0, 1, DAY, 2, 5), (2, 0, DAY, 0, 5), (2, 1, DAY, 0, 5), (4, 2, DAY, 2, 5)]
    assert daily_of(log).cells_of_users(6).tolist() == [1, 0, 2, 0, 1, 0]
    assert daily_of(log).starts(6).tolist() == [0, 1, 1, 3, 3, 4, 4]
    assert daily_of([]).starts(2).tolist() == [0, 0, 0]
    item, day, kind = daily_of(log).taken(np.array([3, 0]))
    assert (item.tolist(), day.tolist(), kind.tolist()) == ([2, 1], [DAY, DAY], [2, 2])


def test_the_event_types_that_occur():
    daily = daily_of([(0, 1, DAY, 2), (3, 1, DAY, 0), (3, 2, DAY, 2)])
    assert daily.present.to_list() == ["a", "c"]
    assert daily_of([]).present.to_list() == []


def test_a_folded_log_has_the_same_far_days_as_its_events(shop):
    tables = shop(0, n_events=600, n_days=20)
    first = tables.events.head(1).with_columns(pl.col("timestamp").dt.offset_by("30y"), event_id=pl.lit("far"))
    tables = replace(
        tables, events=pl.concat([tables.events, first.select(tables.events.columns)], how="vertical_relaxed")
    )
    log = tables.log()
    whole, folded = log.without_far_days(), folded_log(log).without_far_days()
    assert folded.far == whole.far
    assert whole.far.events == 1
    assert folded.latest_day == whole.latest_day == whole.far.last_day
    assert rows_of(folded.interactions) == rows_of(whole.interactions)
    assert folded.before(whole.latest_day).far == whole.far
    assert all((one == other).all() for one, other in zip(folded.events_a_day, whole.events_a_day, strict=True))


def test_the_first_day_of_a_pair_is_found_and_never_where_there_is_none(shop):
    log = shop(2).log()
    users, items = (part.ravel() for part in np.meshgrid(range(log.user_ids.len() + 1), range(log.items.height)))
    met = {(user, item): day for user, item, day in log.first_meetings.rows()}
    found = log.interactions.first_days(users, items).tolist()
    assert found == [met.get(pair, NEVER) for pair in zip(users.tolist(), items.tolist(), strict=True)]
    assert {*met.values()} < {*found}
