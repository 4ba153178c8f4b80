"""What a block teaches, and in which batches."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from pydantic import ValidationError

from encoders.data import FINE_TUNED, QUERY, BlockBatches, BlockData, Examples, Histories, WholeLists, _by_length


def history_of(*rows) -> pl.DataFrame:
    """Rows of (request, item, last_day, gain) as of day 100, most recent first; the type's code is its gain."""
    schema = {"request": pl.UInt32, "item": pl.UInt32, "last_day": pl.Int32, "gain": pl.Int64}
    table = pl.DataFrame(rows, schema=schema, orient="row").with_columns(as_of_day=pl.lit(100, pl.Int32))
    return table.with_columns(event_type=pl.col("gain").cast(pl.UInt16))


def labelled(*rows) -> pl.DataFrame:
    return pl.DataFrame(rows, schema={"request": pl.UInt32, "item": pl.UInt32, "label": pl.Int64}, orient="row")


def requests_of(*numbers) -> pl.DataFrame:
    return pl.DataFrame({"request": pl.Series(numbers, dtype=pl.UInt32)})


def test_histories_by_hand():
    history = history_of((3, 8, 99, 1), (3, 5, 90, 3), (3, 6, 40, 2), (7, 1, 93, 2))
    found = Histories.of(requests_of(7, 5, 3), history, 2)
    assert found.item_RH.tolist() == [[1, -1], [-1, -1], [8, 5]]  # in the order of requests; the third item is cut
    assert found.age_RH.tolist() == [[7, 1], [1, 1], [1, 10]]
    assert found.gain_RH.tolist() == [[2, 1], [1, 1], [1, 3]]
    assert found.event_type_RH.tolist() == [[2, 0], [0, 0], [1, 3]]
    assert (found.age_RH.dtype, found.gain_RH.dtype) == (np.float32, np.float32)


def test_histories_without_any_event():
    found = Histories.of(requests_of(1, 2), history_of(), 3)
    assert (found.item_RH == -1).all()
    assert found.item_RH.shape == (2, 3)


def test_examples_leave_out_what_is_known_and_what_teaches_nothing(tiny_config):
    requests = requests_of(1, 2, 3, 4, 5)
    history = history_of((1, 9, 99, 1), (2, 9, 99, 1), (3, 9, 99, 1), (4, 0, 99, 1), (4, 7, 98, 3))
    rows = labelled(
        (1, 2, 0), (1, 3, 1), (1, 4, 3), (1, 5, 0), (1, 9, 3),  # item 9 is known
        (2, 2, 0), (2, 9, 3),  # no positive is left
        (3, 2, 1), (3, 3, 2),  # no negative
        (4, 6, 2), (4, 8, 0), (4, 0, 0),  # item 0 is known
        (5, 2, 0), (5, 3, 1),  # no history
    )  # fmt: skip
    found = Examples.of(requests, history, rows, np.arange(10), tiny_config(history_items=2))
    assert len(found) == 2
    assert found.item.tolist() == [4, 3, 2, 5, 6, 8]  # by gain, then by item code
    assert found.gain.tolist() == [3, 1, 0, 0, 2, 0]
    assert found.starts.tolist() == [0, 4, 6]
    assert found.positives.tolist() == [2, 1]
    assert found.histories.item_RH.tolist() == [[9, -1], [0, 7]]


def test_examples_do_not_depend_on_the_order_of_rows(tiny_config):
    rows = labelled(*((r, i, int(i % 4 == r % 4)) for r in range(6) for i in range(9)))
    history = history_of(*((r, 20 + r, 99, 1) for r in range(6)))
    one, two = (
        Examples.of(requests_of(*range(6)), history, table, np.arange(30), tiny_config())
        for table in (rows, rows.sample(fraction=1, shuffle=True, seed=3))
    )
    assert one.item.tolist() == two.item.tolist()
    assert one.gain.tolist() == two.gain.tolist()


def test_nothing_to_learn_is_no_batch(tiny_config):
    nothing = Examples.of(requests_of(1), history_of(), labelled((1, 2, 1)), np.arange(3), tiny_config())
    assert len(nothing) == 0
    assert len(BlockBatches(nothing, tiny_config(), seed=1)) == 0


@pytest.fixture(scope="module")
def examples(tiny_config):
    """11 requests, request r with r % 4 + 1 positives of gain 3 among 12 new items; three items share a text."""
    rows = labelled(*((r, i, 3 * int(i <= r % 4)) for r in range(11) for i in range(12)))
    history = history_of(*((r, 12 + (r + d) % 6, 99 - d, 2) for r in range(11) for d in range(r % 3 + 1)))
    return Examples.of(requests_of(*range(11)), history, rows, np.arange(18) // 3, tiny_config(history_items=3))


def batches_of(examples, config, seed=4):
    return BlockBatches(examples, config, seed=seed)


def same(one, other) -> bool:
    names = set(one._fields) - {"by_length", "shared"}
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in names)


def test_a_batch_is_a_function_of_seed_and_step_only(examples, tiny_config):
    config = tiny_config(requests_per_batch=4, candidates_per_request=6, head_steps=5, steps=4)
    batches = batches_of(examples, config)
    assert len(batches) == 9
    straight = [batches[step] for step in range(9)]
    again = batches_of(examples, config)
    torch.manual_seed(99)
    for step in (8, 0, 3, 3):
        np.random.default_rng(step).random()
        assert same(again[step], straight[step])
    assert not same(batches_of(examples, config, seed=5)[0], straight[0])
    assert not same(straight[0], straight[1])
    with pytest.raises(IndexError):
        batches[9]


def test_the_loader_gives_the_batches_in_order(examples, tiny_config):
    batches = batches_of(examples, tiny_config(requests_per_batch=4, head_steps=2, steps=1))
    found = list(BlockData(batches, every=8).train_dataloader())
    assert len(found) == 3
    assert all(same(one, batches[step]) for step, one in enumerate(found))


def test_every_pass_meets_every_request(examples, tiny_config):
    batches = batches_of(examples, tiny_config(requests_per_batch=4))
    met = [set(batches._requests(step).tolist()) for step in range(11)]  # four passes over 11 requests
    assert sum(map(len, met)) >= 44 - 4  # one request twice in a batch counts once
    assert set().union(*met[:3]) == set(range(11))


def test_a_batch_larger_than_the_block_holds_each_request_once(examples, tiny_config):
    batch = batches_of(examples, tiny_config(requests_per_batch=64))[0]
    assert len(batch.candidate_BC) == 11


@pytest.mark.parametrize(("candidates", "positives"), [(6, 2), (5, 4), (16, 4), (2, 1)])
def test_a_request_holds_as_many_candidates_and_positives_as_asked(examples, tiny_config, candidates, positives):
    config = tiny_config(requests_per_batch=64, candidates_per_request=candidates, positives_per_request=positives)
    batch = batches_of(examples, config)[0]
    taken = np.minimum(np.arange(11) % 4 + 1, positives)
    assert batch.candidate_BC.shape == (11, candidates)
    assert ((batch.gain_BC > 0).sum(1).numpy() == taken).all()
    assert (batch.mask_BC.sum(1).numpy() == np.minimum(candidates, taken + 12 - (np.arange(11) % 4 + 1))).all()
    assert (batch.gain_BC[~batch.mask_BC] == 0).all()


def test_a_batch_points_at_the_texts_of_its_items(examples, tiny_config):
    batch = batches_of(examples, tiny_config(requests_per_batch=64, candidates_per_request=16))[0]
    texts = torch.from_numpy(batch.text_T)
    assert batch.text_T.tolist() == sorted(set(batch.text_T.tolist()))
    known = examples.histories.item_RH
    assert torch.equal(batch.history_mask_BH, torch.from_numpy(known >= 0))
    assert texts[batch.history_BH][batch.history_mask_BH].tolist() == (known[known >= 0] // 3).tolist()
    for request in range(11):
        found = sorted(texts[batch.candidate_BC[request]][batch.mask_BC[request]].tolist())
        assert found == sorted(item // 3 for item in range(12))  # 12 candidates, all drawn once


@pytest.mark.parametrize("slots", [1, 3, 8, 24])
def test_each_request_is_in_one_group_that_holds_its_history_and_little_more(slots):
    rng = np.random.default_rng(slots)
    mask_BH = rng.random((60, slots)) < 0.3  # with holes, as where items were left out
    length_B = np.where(mask_BH.any(1), slots - mask_BH[:, ::-1].argmax(1), 0)
    groups = _by_length(mask_BH)
    assert sorted(row for rows, _ in groups for row in rows.tolist()) == list(range(60))
    for rows, held in groups:
        longest = length_B[rows.numpy()]
        assert longest.max() <= held <= slots
        assert held < 2 * max(longest.min(), 1)


def test_no_room_for_negatives_is_refused(tiny_config):
    with pytest.raises(ValidationError, match=r"encoder\.positives_per_request \(4\) leaves no room for negatives"):
        tiny_config(candidates_per_request=4)


def taken_only(*requests) -> Examples:
    """Requests of (history, taken) without candidates, over ten items of which 8 and 9 share a text."""
    held, taken = zip(*requests, strict=True)
    item = np.full((len(held), 3), -1)
    for row, items in enumerate(held):
        item[row, : len(items)] = items
    ones = np.ones(item.shape, np.float32)
    many = np.array([len(items) for items in taken])
    starts = np.concatenate([[0], np.cumsum(many)])
    gains = np.ones(many.sum(), np.float32)
    return Examples(
        Histories(item, ones, ones, ones.astype(np.uint16)), np.concatenate(taken), gains, starts, many, np.r_[0:9, 8]
    )


def test_what_others_took_is_a_negative_unless_the_request_had_or_took_it(tiny_config):
    examples = taken_only(([0], [1, 2]), ([2, 5], [3]), ([4], [9]), ([8], [1]))
    config = tiny_config(requests_per_batch=4, positives_per_request=1, candidates_per_request=2, in_batch_weight=1.0)
    batch = BlockBatches(examples, config, seed=0)[0]
    shared = batch.shared
    texts = batch.text_T[shared.text_P.numpy()].tolist()
    drawn = texts[int(shared.gain_BP[0].argmax())]  # 1 or 2
    assert texts == sorted({drawn, 3, 8, 1})
    at = {text: place for place, text in enumerate(texts)}
    assert shared.gain_BP.sum(1).tolist() == [1, 1, 1, 1]
    barred = {(row, texts[place]) for row, place in (~shared.mask_BP).nonzero().tolist()}
    left = {1, 2} - {drawn}  # taken by the first request too, though not drawn
    assert barred == {(row, text) for row, text in [(0, *left), (1, 2), (3, 8)] if text in texts}
    shares = {1: 2 / 5, 2: 1 / 5, 3: 1 / 5, 8: 1 / 5}
    for text, place in at.items():
        assert shared.log_q_P[place].item() == pytest.approx(np.log(shares[text]))


def test_without_in_batch_negatives_nothing_is_shared(tiny_config):
    examples = taken_only(([0], [1]), ([2], [3]))
    assert BlockBatches(examples, tiny_config(), seed=0)[0].shared is None


def scored(*requests, copies=1) -> Examples:
    """Requests of (scores of positives, scores of negatives); item codes count on, each with a text of its own."""
    requests = requests * copies
    many = np.array([len(positives) for positives, _ in requests])
    sizes = np.array([len(positives) + len(negatives) for positives, negatives in requests])
    item = np.arange(sizes.sum())
    gain = np.concatenate([np.r_[np.ones(len(p)), np.zeros(len(n))] for p, n in requests]).astype(np.float32)
    score = np.concatenate([np.r_[p, n] for p, n in requests]).astype(np.float32)
    ones = np.ones((len(requests), 1), np.float32)
    histories = Histories(np.zeros((len(requests), 1), np.int64), ones, ones, ones.astype(np.uint16))
    return Examples(histories, item, gain, np.r_[0, sizes.cumsum()], many, item, score)


def negatives_of(batch) -> list[list[int]]:
    """Item codes of each request's negatives."""
    items = batch.text_T[batch.candidate_BC.numpy()]
    return [items[row][(batch.mask_BC & (batch.gain_BC == 0))[row].numpy()].tolist() for row in range(len(items))]


def test_hard_negatives_are_the_highest_scored_below_the_best_positive(tiny_config):
    """Items 0 and 1 are positives of score 4 and -3; item 2 scores above them, items 3 and 4 alike, 5 as the best."""
    examples = scored(([4, -3], [9, 2, 2, 4, 3, 1, 0]), ([0], [-1, -2, 5]))
    sizes = {"requests_per_batch": 2, "candidates_per_request": 3, "positives_per_request": 1}
    found = [negatives_of(batches_of(examples, tiny_config(**sizes, hard_negatives=1.0))[at]) for at in range(30)]
    assert {item for one, _ in found for item in one} == {6, 3, 4}  # three, as many as a batch holds of a request
    assert all(set(other) == {10, 11} for _, other in found)
    half = [negatives_of(batches_of(examples, tiny_config(**sizes, hard_negatives=0.5))[at]) for at in range(60)]
    assert all(set(one) & {6, 3, 4} for one, _ in half)
    assert {item for one, _ in half for item in one} == set(range(2, 9))  # the other one is any negative
    assert all(len(set(one)) == 2 for one, _ in half)


@pytest.mark.parametrize(("margin", "hard"), [(0.0, {1, 2, 3}), (0.5, {2, 3}), (1.9, {3}), (2.0, set())])
def test_the_margin_counts_in_standard_deviations_of_the_request(tiny_config, margin, hard):
    """The deviation is 2: items 1 to 3 lie 0.5, 1.5 and 2 of it below the positive, item 4 beside and 5 above it."""
    examples = scored(([5], [4, 2, 1, 5, 7]))
    config = tiny_config(hard_negatives=1.0, hard_margin=margin)
    assert set(batches_of(examples, config)._hardest(0).tolist()) == hard


def test_where_hard_negatives_do_not_suffice_others_fill_up(tiny_config):
    examples = scored(([0], [5, 5, -1, 5]))
    config = tiny_config(candidates_per_request=4, positives_per_request=1, hard_negatives=1.0, requests_per_batch=2)
    for step in range(10):
        (negatives,) = negatives_of(batches_of(examples, config)[step])
        assert 3 in negatives
        assert len(set(negatives)) == 3


def test_hard_negatives_are_the_same_each_time_and_others_than_without(tiny_config):
    examples = scored(([4], list(range(-20, 0))), copies=6)
    sizes = {"requests_per_batch": 4, "candidates_per_request": 6, "head_steps": 3, "steps": 0}
    config = tiny_config(**sizes, hard_negatives=0.5)
    one, two = batches_of(examples, config), batches_of(examples, config)
    assert all(same(one[step], two[step]) for step in (2, 0, 1))
    assert not same(one[0], batches_of(examples, tiny_config(**sizes))[0])


def test_scores_move_no_batch_unless_hard_negatives_are_asked_for(examples, tiny_config):
    ranked = replace(examples, score=np.arange(len(examples.item), dtype=np.float32))
    asked, plain = tiny_config(hard_negatives=0.5), tiny_config()
    assert same(batches_of(ranked, plain)[0], batches_of(examples, plain)[0])
    assert same(batches_of(examples, asked)[0], batches_of(examples, plain)[0])  # nobody scored them


def test_positives_alone_have_no_hard_negatives(tiny_config):
    examples = taken_only(([0], [1, 2]), ([2, 5], [3]), ([4], [9]))
    examples = replace(examples, score=np.zeros(4, np.float32))
    changes = {"requests_per_batch": 4, "candidates_per_request": 4, "positives_per_request": 2}
    asked = batches_of(examples, tiny_config(**changes, hard_negatives=1.0))
    assert same(asked[0], batches_of(examples, tiny_config(**changes))[0])


def test_scores_stay_with_their_candidates(tiny_config):
    rows = labelled((1, 2, 0), (1, 3, 1), (1, 9, 3), (2, 4, 0), (2, 5, 2), (2, 6, 0))
    rows = rows.with_columns(pl.Series(FINE_TUNED, [0.2, 0.3, 0.9, 0.4, 0.5, 0.6], dtype=pl.Float32))
    history = history_of((1, 9, 99, 1), (2, 9, 99, 1))
    found = Examples.of(requests_of(1, 2), history, rows, np.arange(10), tiny_config())
    at = dict(zip(rows["item"], rows[FINE_TUNED], strict=True))
    turned = found.take(np.array([1, 0]))
    for part in (found, turned, turned.joined(found), found.replaying(turned, 0.5, seed=0), found.split(1)[1]):
        assert part.score.tolist() == [at[item] for item in part.item]
    assert found.joined(replace(found, score=None)).score is None


def test_some_requests_are_taken_with_all_that_is_theirs(examples):
    taken = examples.take(np.array([4, 1]))
    assert len(taken) == 2
    for row, request in enumerate([4, 1]):
        ours, theirs = (slice(*of.starts[at : at + 2]) for of, at in ((taken, row), (examples, request)))
        assert taken.item[ours].tolist() == examples.item[theirs].tolist()
        assert taken.gain[ours].tolist() == examples.gain[theirs].tolist()
        assert taken.positives[row] == examples.positives[request]
        assert taken.histories.item_RH[row].tolist() == examples.histories.item_RH[request].tolist()


def test_a_split_and_a_join_give_the_same_back(examples):
    for latest in (0, 3, len(examples), 99):
        earlier, last = examples.split(latest)
        assert len(last) == min(latest, len(examples))
        whole = earlier.joined(last)
        for name in ("item", "gain", "starts", "positives"):
            assert getattr(whole, name).tolist() == getattr(examples, name).tolist()
        assert whole.histories.age_RH.tolist() == examples.histories.age_RH.tolist()


def test_replay_is_the_asked_share_and_stands_before_what_is_new(examples):
    past = examples.take(np.arange(8))
    both = examples.replaying(past, 0.25, seed=0)  # 11 requests and a third of them more
    assert len(both) == 11 + 4
    assert both.split(11)[1].item.tolist() == examples.item.tolist()
    assert examples.replaying(past, 0.9, seed=0).starts[8] == past.starts[-1]  # all it has
    assert examples.replaying(past, 0.0, seed=0) is examples
    assert both.item.tolist() == examples.replaying(past, 0.25, seed=0).item.tolist()


def test_whole_lists_hold_every_candidate_once(examples):
    lists = WholeLists(examples)
    found = [lists[at] for at in range(len(lists))]
    held = np.concatenate([batch.text_T[batch.candidate_BC.numpy()][batch.mask_BC.numpy()] for batch in found])
    assert held.tolist() == examples.text_of_item[examples.item].tolist()


@pytest.fixture
def searching(tiny_config):
    """Requests 1 and 3 have a query, 1 and 2 a history, 4 neither; items have the texts 0 to 9, queries 10 and 11."""
    requests = requests_of(1, 2, 3, 4).with_columns(pl.Series(QUERY, [11, -1, 10, -1]))
    rows = labelled(*((request, item, int(item == request)) for request in (1, 2, 3, 4) for item in range(6)))
    history = history_of((1, 9, 99, 1), (2, 8, 99, 1))
    return Examples.of(requests, history, rows, np.arange(10), tiny_config(history_items=2))


def test_a_request_with_a_query_and_no_history_teaches(searching):
    assert searching.histories.item_RH.tolist() == [[9, -1], [8, -1], [-1, -1]]
    assert searching.query_R.tolist() == [11, -1, 10]
    assert searching.item[searching.starts[:-1]].tolist() == [1, 2, 3]  # what each took


def test_a_batch_points_at_the_texts_of_its_queries(searching):
    batch = WholeLists(searching)[0]
    assert batch.query_mask_B.tolist() == [True, False, True]
    assert batch.text_T[batch.query_B.numpy()][[0, 2]].tolist() == [11, 10]
    assert batch.text_T.tolist() == [0, 1, 2, 3, 4, 5, 8, 9, 10, 11]
    plain = WholeLists(replace(searching, query_R=None))[0]
    assert not plain.query_mask_B.any()
    assert plain.text_T.tolist() == [0, 1, 2, 3, 4, 5, 8, 9]


def test_queries_stay_with_their_requests(searching):
    assert searching.take(np.array([2, 0])).query_R.tolist() == [10, 11]
    earlier, last = searching.split(1)
    assert earlier.joined(last).query_R.tolist() == searching.query_R.tolist()
    assert earlier.joined(replace(last, query_R=None)).query_R is None
