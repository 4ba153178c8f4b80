"""The losses, by hand."""

from math import exp, log

import pytest
import torch

from encoders.losses import binomial_log_loss, in_batch_softmax, listwise_softmax


def loss(score, gain, mask=None):
    scores = torch.tensor(score)
    return listwise_softmax(scores, torch.tensor(gain), torch.ones_like(scores).bool() if mask is None else mask).item()


def test_one_positive_by_hand():
    expected = -log(exp(2.0) / (exp(2.0) + exp(1.0) + exp(0.5)))
    assert loss([[2.0, 1.0, 0.5]], [[1.0, 0.0, 0.0]]) == pytest.approx(expected, rel=1e-6)


def test_graded_positives_are_weighted_and_do_not_compete():
    against = exp(0.5)
    first, second = (-log(exp(score) / (exp(score) + against)) for score in (2.0, 1.0))
    assert loss([[2.0, 1.0, 0.5]], [[3.0, 1.0, 0.0]]) == pytest.approx((3 * first + 1 * second) / 4, rel=1e-6)


def test_a_positive_is_unmoved_by_another_ones_score():
    scores = torch.tensor([[2.0, 1.0, 0.5]], requires_grad=True)
    listwise_softmax(scores[:, [0, 2]], torch.tensor([[1.0, 0.0]]), torch.ones(1, 2).bool()).backward()
    alone = scores.grad[0, 0].item()
    scores.grad = None
    listwise_softmax(scores, torch.tensor([[1.0, 1.0, 0.0]]), torch.ones(1, 3).bool()).backward()
    assert scores.grad[0, 0].item() == pytest.approx(alone / 2, rel=1e-6)  # half the weight, the same push


def test_what_is_masked_counts_neither_as_positive_nor_as_negative():
    mask = torch.tensor([[True, True, False, False]])
    expected = loss([[2.0, 1.0]], [[1.0, 0.0]])
    assert loss([[2.0, 1.0, 9.0, -9.0]], [[1.0, 0.0, 0.0, 3.0]], mask) == pytest.approx(expected, rel=1e-6)


def test_requests_without_a_positive_are_left_out_of_the_mean():
    one = loss([[2.0, 1.0]], [[1.0, 0.0]])
    assert loss([[2.0, 1.0], [5.0, 1.0]], [[1.0, 0.0], [0.0, 0.0]]) == pytest.approx(one, rel=1e-6)


def test_the_mean_is_over_requests_not_positives():
    one, two = loss([[2.0, 1.0, 0.0]], [[1.0, 1.0, 0.0]]), loss([[0.0, 1.0, 3.0]], [[2.0, 0.0, 0.0]])
    both = loss([[2.0, 1.0, 0.0], [0.0, 1.0, 3.0]], [[1.0, 1.0, 0.0], [2.0, 0.0, 0.0]])
    assert both == pytest.approx((one + two) / 2, rel=1e-6)


def test_without_any_positive_it_is_0():
    scores = torch.zeros(2, 3, requires_grad=True)
    found = listwise_softmax(scores, torch.zeros(2, 3), torch.ones(2, 3).bool())
    found.backward()
    assert found.item() == 0
    assert (scores.grad == 0).all()


def test_without_a_negative_there_is_nothing_to_lose():
    scores = torch.tensor([[1.0, 2.0]], requires_grad=True)
    found = listwise_softmax(scores, torch.ones(1, 2), torch.ones(1, 2).bool())
    found.backward()
    assert found.item() == 0
    assert (scores.grad == 0).all()


@pytest.mark.parametrize("size", [80.0, 1e4, 1e30])
def test_gradients_stay_finite_with_extreme_scores(size):
    scores = torch.tensor([[-size, size, 0.0], [size, -size, size]], requires_grad=True)
    found = listwise_softmax(scores, torch.tensor([[3.0, 0.0, 0.0], [1.0, 0.0, 2.0]]), torch.ones(2, 3).bool())
    found.backward()
    assert found.isfinite()
    assert scores.grad.isfinite().all()
    assert scores.grad[0].tolist() == pytest.approx([-0.5, 0.5, 0.0])


def test_negatives_of_the_batch_are_corrected_for_how_often_they_are_drawn():
    scores, gains = torch.tensor([[2.0, 1.0, 0.5]]), torch.tensor([[1.0, 0.0, 0.0]])
    q = torch.tensor([0.5, 0.25, 0.25])
    own, first, second = exp(2.0) / 0.5, exp(1.0) / 0.25, exp(0.5) / 0.25
    found = in_batch_softmax(scores, gains, torch.ones(1, 3).bool(), q.log()).item()
    assert found == pytest.approx(-log(own / (own + first + second)), rel=1e-6)
    without = in_batch_softmax(scores, gains, torch.tensor([[True, False, True]]), q.log()).item()
    assert without == pytest.approx(-log(own / (own + second)), rel=1e-6)


def test_corrected_scores_learn_the_probability_and_not_the_lift():
    """Over draws of negatives by q, the loss is least where softmax(score) is what is really taken."""
    taken, q = torch.tensor([0.7, 0.2, 0.1]), torch.tensor([0.6, 0.3, 0.1])
    scores = torch.zeros(3, requires_grad=True)
    optimiser = torch.optim.Adam([scores], lr=0.02)
    generator = torch.Generator().manual_seed(0)
    for _ in range(600):
        drawn = torch.multinomial(q, 64 * 8, replacement=True, generator=generator).view(64, 8)
        own = torch.multinomial(taken, 64, replacement=True, generator=generator)
        score = torch.cat([scores[own].unsqueeze(1), scores[drawn]], 1)
        log_q = torch.cat([q[own].unsqueeze(1), q[drawn]], 1).log()
        gain = torch.zeros_like(score)
        gain[:, 0] = 1
        optimiser.zero_grad()
        in_batch_softmax(score, gain, torch.ones_like(score).bool(), log_q).backward()
        optimiser.step()
    learned = torch.softmax(scores.detach(), 0)
    assert learned[0].item() > learned[1].item() > learned[2].item()
    assert torch.allclose(learned, taken, atol=0.12)


def binomial(score, clicks, impressions, group):
    scores = torch.tensor(score, dtype=torch.float64, requires_grad=True)
    parts = (torch.tensor(part, dtype=torch.float64) for part in (clicks, impressions))
    return scores, binomial_log_loss(scores, *parts, torch.tensor(group))


def test_binomial_loss_by_hand():
    # Scores log 3 apart; intercept a with 4 / (1 + e^-a) + 4 / (1 + e^-a / 3) = 3: u = e^a solves 15 u^2 + 4 u = 3.
    u = (-4 + (16 + 180) ** 0.5) / 30
    p, q = u / (1 + u), 3 * u / (1 + 3 * u)
    assert 4 * p + 4 * q == pytest.approx(3)
    expected = -(1 * log(p) + 3 * log(1 - p) + 2 * log(q) + 2 * log(1 - q)) / 3
    scores, found = binomial([0.0, log(3)], [1, 2], [4, 4], [0, 0])
    found.backward()
    assert found.item() == pytest.approx(expected, rel=1e-12)
    assert scores.grad.tolist() == pytest.approx([(4 * p - 1) / 3, (4 * q - 2) / 3], rel=1e-9)


def test_binomial_gradient_is_that_of_the_whole_loss_intercepts_included():
    score, clicks, impressions = [0.3, -1.2, 0.8, 2.0, -0.5], [3, 1, 7, 2, 30], [40, 30, 50, 9, 31]
    scores, found = binomial(score, clicks, impressions, [0, 0, 0, 1, 1])
    found.backward()
    for at in range(5):
        sides = []
        for step in (1e-5, -1e-5):
            moved = [value + step * (at == place) for place, value in enumerate(score)]
            sides.append(binomial(moved, clicks, impressions, [0, 0, 0, 1, 1])[1].item())
        assert scores.grad[at].item() == pytest.approx((sides[0] - sides[1]) / 2e-5, abs=1e-8)


def test_binomial_loss_is_blind_to_what_a_group_has_in_common():
    told = [3, 1, 7, 2], [40, 30, 50, 9], [0, 0, 1, 1]
    _, here = binomial([0.3, -1.2, 0.8, 2.0], *told)
    _, there = binomial([5.3, 3.8, -6.2, -5.0], *told)
    assert here.item() == pytest.approx(there.item(), rel=1e-10)


def test_binomial_loss_is_least_at_the_observed_log_odds():
    clicks, impressions = [3, 1, 7], [40, 30, 50]
    best = [log(c / (n - c)) for c, n in zip(clicks, impressions, strict=True)]
    scores, found = binomial(best, clicks, impressions, [0, 0, 0])
    found.backward()
    assert scores.grad.tolist() == pytest.approx([0, 0, 0], abs=1e-12)


def test_groups_of_no_clicks_or_nothing_but_clicks_tell_nothing():
    _, alone = binomial([0.5, -0.5], [2, 1], [9, 9], [0, 0])
    scores, found = binomial(
        [0.5, -0.5, 3.0, 1.0, 2.0, 4.0], [2, 1, 0, 0, 5, 5], [9, 9, 4, 4, 5, 5], [1, 1, 0, 0, 2, 2]
    )
    found.backward()
    assert found.item() == pytest.approx(alone.item(), rel=1e-12)
    assert scores.grad[2:].tolist() == [0, 0, 0, 0]
    assert binomial([1.0], [0], [5], [0])[1].item() == 0


@pytest.mark.parametrize("size", [50.0, 1e4])
def test_binomial_intercepts_are_found_where_scores_lie_far_apart(size):
    scores, found = binomial([-size, 0.0, size], [2, 3, 4], [10, 10, 10], [0, 0, 0])
    found.backward()
    assert found.isfinite()
    assert scores.grad.sum().item() == pytest.approx(0, abs=1e-6)  # expected clicks are the clicks
