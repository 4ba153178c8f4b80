"""The training losses."""

# B requests, C candidates, P texts that a batch has as positives
import torch
from torch import Tensor

__all__ = ["in_batch_softmax", "listwise_softmax"]


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
