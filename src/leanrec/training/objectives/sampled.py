"""Softmax over the target and a sample of negatives that the whole batch shares, corrected for the sampling."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from leanrec.training.objectives.base import Objective

__all__ = ["SampledSoftmax"]


class SampledSoftmax(Objective):
    """-log (e^s / (e^s + sum over sampled j of e^(s_j) / (n q_j))), log-Q correction of Bengio & Senecal 2008.

    Negatives are drawn uniformly from all N items, each expected n q_j = n / N times, so every negative's score is
    raised by log(N / n). A drawn target is left out, so the sum is an unbiased estimate of the full softmax's
    denominator.
    """

    full: ClassVar[bool] = False

    def __init__(self, num_items: int, negatives: int) -> None:
        self.correction = math.log(num_items / negatives)

    def loss(self, hidden_TD: Tensor, leaf_UD: Tensor, targets_T: Tensor, negatives_n: Tensor) -> Tensor:
        positive_T = (hidden_TD * leaf_UD.index_select(0, targets_T)).sum(-1).float()
        negative_Tn = (hidden_TD @ leaf_UD.index_select(0, negatives_n).T).float() + self.correction
        negative_Tn = negative_Tn.masked_fill(targets_T[:, None] == negatives_n, -torch.inf)
        total_T = torch.logaddexp(positive_T, torch.logsumexp(negative_Tn, dim=1))
        return (total_T - positive_T).mean()
