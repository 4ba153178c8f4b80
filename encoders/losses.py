"""The training loss."""

# B requests, N items of the batch
import torch
from torch import Tensor

__all__ = ["listwise_softmax"]


def listwise_softmax(score_BN: Tensor, gain_BN: Tensor, excluded_BN: Tensor, log_q_N: Tensor) -> Tensor:
    r"""Softmax of each positive against the batch's negatives, weighted by gain, with the logQ correction.

    ``loss_b = - sum_p g_bp log( e^{s_bp - log q_p} / (e^{s_bp - log q_p} + sum_n e^{s_bn - log q_n}) ) / sum_p g_bp``
    over the positives p (gain > 0) and the negatives n (gain 0 and not excluded) of request b; the loss is the mean over
    requests that have a positive. Items enter a batch more often the more popular they are; subtracting ``log q``, the
    log of how often, undoes that (Yi et al., RecSys 2019).

    Args:
        score_BN: Scores of all items of the batch.
        gain_BN: Graded gain, 0 for no positive.
        excluded_BN: Items that are no negative for a request though they are no positive (its history).
        log_q_N: Log of the expected share of each item among a batch's items.

    Returns:
        Scalar; 0 with no positive in the batch.
    """
    corrected_BN = score_BN - log_q_N
    positive_BN = gain_BN > 0
    negative_BN = corrected_BN.masked_fill(positive_BN | excluded_BN, -torch.inf)
    against_B1 = torch.logsumexp(negative_BN, 1, keepdim=True)
    log_p_BN = corrected_BN - torch.logaddexp(corrected_BN, against_B1)
    weight_BN = torch.where(positive_BN, gain_BN, torch.zeros_like(gain_BN)).to(score_BN.dtype)
    total_B = weight_BN.sum(1)
    loss_B = -(weight_BN * log_p_BN).sum(1) / total_B.clamp(min=1)
    return loss_B.sum() / (total_B > 0).sum().clamp(min=1)
