"""The training loss."""

# B requests, C candidates
import torch
from torch import Tensor

__all__ = ["listwise_softmax"]


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
