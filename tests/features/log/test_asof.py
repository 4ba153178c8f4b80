import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from features.log.asof import NEVER, AsOfIndex, summed

START = 19_800
keys, days = st.integers(0, 4), st.integers(START, START + 30)
logs = st.lists(st.tuples(keys, days, st.integers(0, 5)), max_size=40)
questions = st.lists(st.tuples(st.integers(0, 6), st.integers(START - 3, START + 40)), min_size=1, max_size=10)


def frame_of(log):
    schema = {"key": pl.UInt32, "day": pl.Int32, "amount": pl.Int32}
    return pl.DataFrame(log, schema=schema, orient="row")


def arrays(asked):
    key, day = zip(*asked, strict=True)
    return np.array(key, np.int64), np.array(day, np.int64)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(logs, questions, st.integers(1, 40))
def test_answers_are_those_of_a_scan(log, asked, window):
    index = AsOfIndex.build(pl.col("key"), frame_of(log), total=pl.col("amount"))
    known = [[(day, n) for key, day, n in log if key == wanted and day < as_of] for wanted, as_of in asked]
    as_ofs = [as_of for _, as_of in asked]
    assert index.total(*arrays(asked)).tolist() == [sum(n for _, n in rows) for rows in known]
    assert index.total(*arrays(asked), window_days=window).tolist() == [
        sum(n for day, n in rows if as_of - window <= day) for rows, as_of in zip(known, as_ofs, strict=True)
    ]
    assert index.active_days(*arrays(asked)).tolist() == [len({day for day, _ in rows}) for rows in known]
    assert index.days_since_last(*arrays(asked)).tolist() == [
        as_of - max(day for day, _ in rows) if rows else NEVER for rows, as_of in zip(known, as_ofs, strict=True)
    ]
    assert index.days_since_first(*arrays(asked)).tolist() == [
        as_of - min(day for day, _ in rows) if rows else NEVER for rows, as_of in zip(known, as_ofs, strict=True)
    ]


@settings(max_examples=25, deadline=None, derandomize=True)
@given(logs, questions, st.randoms(use_true_random=False))
def test_order_of_rows_and_of_questions_does_not_matter(log, asked, random):
    counted = AsOfIndex.build(pl.col("key"), frame_of(log))
    shuffled = AsOfIndex.build(pl.col("key"), frame_of(random.sample(log, len(log))))
    together = counted.total(*arrays(asked)).tolist()
    assert shuffled.total(*arrays(asked)).tolist() == together
    assert [counted.total(*arrays([question])).item() for question in asked] == together


def test_rows_are_counted_where_no_total_is_named():
    index = AsOfIndex.build(pl.col("key"), frame_of([(1, START, 9), (1, START, 9), (1, START + 1, 9)]))
    assert index.total(*arrays([(1, START), (1, START + 1), (1, START + 2)])).tolist() == [0, 2, 3]


def test_the_day_before_is_one_day_ago_and_the_window_ends_with_it():
    index = AsOfIndex.build(pl.col("key"), frame_of([(1, START, 4), (1, START + 6, 2)]))
    asked = arrays([(1, START + 7)])
    assert index.days_since_last(*asked).tolist() == [1]
    assert index.days_since_first(*asked).tolist() == [7]
    assert index.total(*asked, window_days=7).tolist() == [2]
    assert index.total(*asked, window_days=6).tolist() == [1]


def test_an_empty_index_knows_nothing():
    index = AsOfIndex.build(pl.col("key"), frame_of([]))
    asked = arrays([(0, START), (3, START)])
    assert index.total(*asked).tolist() == [0, 0]
    assert index.total(*asked, window_days=7).tolist() == [0, 0]
    assert index.active_days(*asked).tolist() == [0, 0]
    assert index.days_since_last(*asked).tolist() == [NEVER, NEVER]
    assert index.days_since_first(*asked).tolist() == [NEVER, NEVER]


def test_keys_of_neighbouring_numbers_and_of_great_size_stay_apart():
    great = 2**46 - 1
    log = [(great, START, 1), (great - 1, 100_000, 1), (0, START, 1)]
    frame = pl.DataFrame(log, schema={"key": pl.Int64, "day": pl.Int32, "amount": pl.Int32}, orient="row")
    index = AsOfIndex.build(pl.col("key"), frame)
    asked = arrays([(great, START), (great, START + 1), (great - 1, 100_001), (0, 10), (1, 100_000)])
    assert index.total(*asked).tolist() == [0, 1, 1, 0, 0]
    assert index.days_since_last(*asked).tolist() == [NEVER, 1, 1, NEVER, NEVER]


def test_questions_about_no_rows_have_no_answers():
    index = AsOfIndex.build(pl.col("key"), frame_of([(1, START, 4)]))
    none = np.empty(0, np.int64)
    assert index.total(none, none).tolist() == []
    assert index.days_since_last(none, none).tolist() == []


amounts = st.one_of(st.integers(0, 5), st.integers(-5, 5), st.integers(-(2**50), 2**50))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.data(), st.sampled_from([1, 97, 2**40]), st.booleans())
def test_every_way_to_sum_gives_the_sums_of_a_count(data, spread, counted):
    rows = data.draw(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9), amounts), max_size=60))
    stamps = np.array([key * spread << 17 | START + day for key, day, _ in rows], np.int64)
    wanted = {}
    for stamp, (*_, amount) in zip(stamps.tolist(), rows, strict=True):
        wanted[stamp] = wanted.get(stamp, 0) + (1 if counted else amount)
    given_amounts = None if counted else np.array([amount for *_, amount in rows], np.int64)
    distinct, totals = summed(stamps, given_amounts)
    assert distinct.tolist() == sorted(wanted)
    assert totals.tolist() == [wanted[stamp] for stamp in sorted(wanted)]


@settings(max_examples=50, deadline=None, derandomize=True)
@given(logs, questions, st.integers(1, 40))
def test_questions_that_share_a_search_have_the_same_answers(log, asked, window):
    index = AsOfIndex.build(pl.col("key"), frame_of(log), total=pl.col("amount"))
    known = index.at(*arrays(asked))
    assert known.total().tolist() == index.total(*arrays(asked)).tolist()
    assert known.total(window_days=window).tolist() == index.total(*arrays(asked), window_days=window).tolist()
    assert known.days_since_last().tolist() == index.days_since_last(*arrays(asked)).tolist()
    assert known.days_since_first().tolist() == index.days_since_first(*arrays(asked)).tolist()
    assert known.active_days().tolist() == index.active_days(*arrays(asked)).tolist()


@settings(max_examples=60, deadline=None, derandomize=True)
@given(logs, questions, st.integers(1, 40), st.sampled_from([1, 97, 2**40]))
def test_series_side_by_side_have_the_totals_of_each_alone(log, asked, window, spread):
    stamps = np.array([key * spread << 17 | day for key, day, _ in log], np.int64)
    amounts = np.array([(n, -3 * n) for *_, n in log], np.int64).reshape(len(log), 2)
    alone = [AsOfIndex.of(stamps, series) for series in amounts.T]
    key, day = arrays(asked)
    found = AsOfIndex.of(stamps, amounts).at(key * spread, day)
    for days in (None, window):
        wanted = [index.total(key * spread, day, window_days=days).tolist() for index in alone]
        assert found.total(days).T.tolist() == wanted


@settings(max_examples=50, deadline=None, derandomize=True)
@given(logs, logs, questions, st.integers(1, 40))
def test_a_question_to_another_index_has_its_answer(one, other, asked, window):
    first, second = (AsOfIndex.build(pl.col("key"), frame_of(log)) for log in (one, other))
    doubled = AsOfIndex(first.stamps, first.running * 2)
    found = first.at(*arrays(asked))
    assert found.over(second).total(window).tolist() == second.total(*arrays(asked), window_days=window).tolist()
    assert found.over(doubled).total(window).tolist() == [2 * n for n in found.total(window).tolist()]


def test_sums_that_do_not_fit_into_32_bits_take_64():
    most = 2**31 - 1
    for amounts, width in (([most - 1, 1], np.int32), ([most, 1], np.int64), ([-(2**31), most], np.int32)):
        index = AsOfIndex.of(np.array([START, START + 1]), np.array(amounts))
        assert index.running.dtype == width
        found = index.at(np.array([0]), np.array([START + 2]))
        assert found.total().tolist() == [sum(amounts)]
        assert found.total(1).tolist() == amounts[1:]
        assert found.total().dtype == np.int64
