"""The training losses."""

# B requests, C candidates, P texts that a batch has as positives; R rows of G groups
import torch
from torch import Tensor, nn

__all__ = ["binomial_log_loss", "in_batch_softmax", "listwise_softmax"]

_STEPS = 100  # of which a handful is taken, unless scores lie hundreds apart
_NEAR = 1e-12


def listwise_softmax(score_BC: Tensor, gain_BC: Tensor, mask_BC: Tensor) -> Tensor:
    r"""Softmax of each positive against the request's negatives, weighted by gain (ListNet's top-one, Cao et al. 2007).

    ``loss_b = - sum_p g_p log( e^{s_p} / (e^{s_p} + sum_n e^{s_n}) ) / sum_p g_p`` over the positives p (gain > 0) and
    the negatives n (gain 0) of request b: positives do not compete with each other. The loss is the mean over requests
    that have a positive.

    Args:
        score_BC: Scores.
        gain_BC: Graded gain, 0 for a negative.
        mask_BC: Where there is a candidate.

    Returns:
        Scalar; 0 with no positive in the batch.
    """
    positive_BC = (gain_BC > 0) & mask_BC
    negative_BC = score_BC.masked_fill(positive_BC | ~mask_BC, -torch.inf)
    against_B1 = torch.logsumexp(negative_BC, 1, keepdim=True)
    log_p_BC = score_BC - torch.logaddexp(score_BC, against_B1)
    weight_BC = torch.where(positive_BC, gain_BC, torch.zeros_like(gain_BC))
    total_B = weight_BC.sum(1)
    loss_B = -(weight_BC * log_p_BC).sum(1) / total_B.clamp(min=1)
    return loss_B.sum() / (total_B > 0).sum().clamp(min=1)


def in_batch_softmax(score_BP: Tensor, gain_BP: Tensor, mask_BP: Tensor, log_q_P: Tensor) -> Tensor:
    r"""Softmax of each positive against what the batch's other requests took, corrected for how often that is drawn.

    ``loss_b = - sum_p g_p log( e^{t_p} / (e^{t_p} + sum_n e^{t_n}) ) / sum_p g_p`` with ``t = s - log q``. Negatives
    come into a batch as often as they are taken; without the correction the model learns the pointwise mutual
    information, with it the probability (sampled softmax: Bengio and Senecal 2008; in batches: Yi et al., RecSys 2019).

    Args:
        score_BP: Scores.
        gain_BP: Graded gain of the request's own positives, 0 for others'.
        mask_BP: False where a text is no negative of the request, though not among its drawn positives: it had it, or
            took it too.
        log_q_P: Logarithm of the share of each text among all positives.

    Returns:
        Scalar; 0 with no positive in the batch.
    """
    return listwise_softmax(score_BP - log_q_P, gain_BP, mask_BP)


def binomial_log_loss(score_R: Tensor, clicks_R: Tensor, impressions_R: Tensor, group_R: Tensor) -> Tensor:
    r"""Binary cross-entropy of every impression, each group's intercept where it fits best.

    ``loss = - sum_i [ c_i log p_i + (n_i - c_i) log(1 - p_i) ] / sum_i c_i`` with ``p_i = sigmoid(s_i + a_g(i))``: the
    negative binomial log-likelihood of c clicks in n impressions, up to a constant. How often a group (an A/B test) is
    clicked at all is a matter of its placement, so that each has an intercept a_g of its own, the one that makes its
    expected clicks its clicks: ``sum_{i in g} n_i p_i = sum_{i in g} c_i``. This is the profile likelihood (McCullagh &
    Nelder, "Generalized Linear Models", 2nd ed., 1989, chapters 4 and 7), blind to what the scores of a group have in
    common: only contrasts within a group are learned. Since the derivative by a_g is 0 there, the gradient is
    ``(n_i p_i - c_i) / sum_i c_i``, as if a_g were known.

    Args:
        score_R: Log-odds of a click, but for the group's intercept.
        clicks_R: Clicks, 0 to impressions.
        impressions_R: Impressions; both may be fractions, where rows are weighted.
        group_R: Group of each row, int64 from 0.

    Returns:
        Scalar, float64. A group without clicks, or with nothing but clicks, tells nothing and adds 0, to the sum of
        clicks too.
    """
    score_R, clicks_R, impressions_R = score_R.double(), clicks_R.double(), impressions_R.double()
    rate_R = (_sums(clicks_R, group_R) / _sums(impressions_R, group_R))[group_R]
    tells_R = (rate_R > 0) & (rate_R < 1)
    score_R, clicks_R, impressions_R = score_R[tells_R], clicks_R[tells_R], impressions_R[tells_R]
    intercept_R = _intercepts(score_R.detach(), clicks_R, impressions_R, group_R[tells_R])
    log_p_R = nn.functional.logsigmoid(score_R + intercept_R)
    log_not_p_R = nn.functional.logsigmoid(-score_R - intercept_R)
    return -(clicks_R * log_p_R + (impressions_R - clicks_R) * log_not_p_R).sum() / clicks_R.sum().clamp(min=1e-9)


def _intercepts(score_R: Tensor, clicks_R: Tensor, impressions_R: Tensor, group_R: Tensor) -> Tensor:
    """The intercept of each row's group, by Newton's method within a bracket, halved where a step leaves it."""
    if not len(score_R):
        return score_R
    clicks_G = _sums(clicks_R, group_R)
    odds_G = torch.logit(clicks_G / _sums(impressions_R, group_R)).nan_to_num()  # groups that were left out
    low_G, high_G = odds_G - score_R.max(), odds_G - score_R.min()
    intercept_G = (low_G + high_G) / 2
    for _ in range(_STEPS):
        p_R = torch.sigmoid(score_R + intercept_G[group_R])
        missing_G = clicks_G - _sums(impressions_R * p_R, group_R)
        low_G = torch.where(missing_G > 0, intercept_G, low_G)
        high_G = torch.where(missing_G > 0, high_G, intercept_G)
        newton_G = intercept_G + missing_G / _sums(impressions_R * p_R * (1 - p_R), group_R).clamp(min=1e-300)
        within_G = (newton_G >= low_G) & (newton_G <= high_G)
        intercept_G, before_G = torch.where(within_G, newton_G, (low_G + high_G) / 2), intercept_G
        if bool((intercept_G - before_G).abs().max() < _NEAR):
            break
    return intercept_G[group_R]


def _sums(value_R: Tensor, group_R: Tensor) -> Tensor:
    """Sum of a value over each group (G,)."""
    groups = int(group_R.max()) + 1 if len(group_R) else 0
    return torch.zeros(groups, dtype=value_R.dtype, device=value_R.device).index_add(0, group_R, value_R)
