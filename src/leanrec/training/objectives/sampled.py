"""Softmax over the target and a sample of negatives that the whole batch shares, corrected for the sampling."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from leanrec.core.config import Config
from leanrec.training.objectives.base import Objective, Predictions

__all__ = ["SampledSoftmax"]


class SampledSoftmax(Objective):
    """-log (e^s / (e^s + sum over sampled j of e^(s_j) / (n q_j))), log-Q correction of Bengio & Senecal 2008.

    Every negative's score is lowered by the log of how often its item is expected among the n drawn. A drawn target is
    left out, so the sum is an unbiased estimate of the full softmax's denominator.
    """

    full: ClassVar[bool] = False

    def __init__(self, config: Config, num_items: int, negatives: int) -> None:
        del config, num_items, negatives

    def loss(self, p: Predictions) -> Tensor:
        positive_T = (p.hidden_TD * p.leaf_UD.index_select(0, p.targets_T)).sum(-1).float()
        negative_Tn = (p.hidden_TD @ p.leaf_UD.index_select(0, p.negatives_n).T).float() - p.log_expected_n
        negative_Tn = negative_Tn.masked_fill(p.targets_T[:, None] == p.negatives_n, -torch.inf)
        loss_T = torch.logaddexp(positive_T, torch.logsumexp(negative_Tn, dim=1)) - positive_T
        return (loss_T if p.weight_T is None else loss_T * p.weight_T).mean()
