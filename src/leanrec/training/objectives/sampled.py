"""Softmax over the target and a sample of negatives that the whole batch shares, corrected for the sampling."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from leanrec.core.config import Config
from leanrec.core.errors import ConfigError
from leanrec.kernels.sampled import sampled_softmax
from leanrec.kernels.softmax import add_rows
from leanrec.training.objectives.base import Objective, Predictions
from leanrec.training.objectives.fused import fused_loss, shares

__all__ = ["SampledSoftmax", "SampledSoftmaxOptions", "plain_sampled_softmax"]


class SampledSoftmaxOptions(Config, frozen=True, kw_only=True):
    """Settings of the sampled softmax."""

    label_smoothing: float = 0.0
    """Share of the target's probability that is spread over the catalogue, as the sample estimates it."""


class SampledSoftmax(Objective):
    """-log (e^s / (e^s + sum over sampled j of e^(s_j) / (n q_j))), log-Q correction of Bengio & Senecal 2008.

    Every negative's score is lowered by the log of how often its item is expected among the n drawn. A drawn target is
    left out, so the sum is an unbiased estimate of the full softmax's denominator. On a CPU in float32, loss and
    gradients come from one pass over the scores (kernels.sampled).
    """

    Options: ClassVar[type[Config]] = SampledSoftmaxOptions
    full: ClassVar[bool] = False

    def __init__(self, config: Config, num_items: int, negatives: int) -> None:
        assert isinstance(config, SampledSoftmaxOptions)
        del num_items, negatives
        if not 0 <= config.label_smoothing < 1:
            raise ConfigError(f"label_smoothing={config.label_smoothing} is not a share: use at least 0, less than 1")
        self._smoothing = config.label_smoothing

    def loss(self, p: Predictions) -> Tensor:
        if p.leaf_UD.device.type == "cpu" and p.leaf_UD.dtype == torch.float32:
            return fused_loss(p, lambda hidden_TD, leaf_UD: self._on_cpu(p, hidden_TD, leaf_UD))
        return plain_sampled_softmax(p, self._smoothing)

    def _on_cpu(self, p: Predictions, hidden_TD: Tensor, leaf_UD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        hidden_TD = hidden_TD.contiguous()
        targets_T, negatives_n = p.targets_T.int().numpy(), p.negatives_n.int().numpy()
        share_T, expected_n = shares(p), p.log_expected_n.contiguous()
        picked_TD, others_nD = leaf_UD.index_select(0, p.targets_T), leaf_UD.index_select(0, p.negatives_n)
        positive_T = torch.einsum("td,td->t", hidden_TD, picked_TD)
        scores_Tn = torch.mm(hidden_TD, others_nD.T)
        spread_n = self._smoothing * torch.softmax(-expected_n, 0)
        smooth_T = scores_Tn @ spread_n if self._smoothing else torch.zeros(())
        loss_T, towards_T = sampled_softmax(
            scores_Tn.numpy(), expected_n.numpy(), targets_T, negatives_n, positive_T.numpy(), share_T.numpy()
        )
        if self._smoothing:
            scores_Tn.addr_(share_T, spread_n, alpha=-1)
            towards_T += self._smoothing * share_T.numpy()
        loss = (torch.from_numpy(loss_T) + self._smoothing * positive_T - smooth_T) @ share_T
        grad_TD = torch.addcmul(scores_Tn @ others_nD, torch.from_numpy(towards_T)[:, None], picked_TD)
        grad_UD = np.zeros(leaf_UD.shape, np.float32)
        add_rows(grad_UD, negatives_n, np.ones(len(negatives_n), np.float32), (scores_Tn.T @ hidden_TD).numpy())
        add_rows(grad_UD, targets_T, towards_T, hidden_TD.numpy())
        return loss, grad_TD, torch.from_numpy(grad_UD)


def plain_sampled_softmax(p: Predictions, smoothing: float = 0.0) -> Tensor:
    """The same by torch's own operations, for other devices and precisions; what the fast path is checked against."""
    positive_T = (p.hidden_TD * p.leaf_UD.index_select(0, p.targets_T)).sum(-1).to(p.leaf_UD.dtype)
    scores_Tn = (p.hidden_TD @ p.leaf_UD.index_select(0, p.negatives_n).T).to(p.leaf_UD.dtype)
    lowered_Tn = (scores_Tn - p.log_expected_n).masked_fill(p.targets_T[:, None] == p.negatives_n, -torch.inf)
    loss_T = torch.logaddexp(positive_T, torch.logsumexp(lowered_Tn, dim=1)) - positive_T
    if smoothing:
        spread_n = torch.softmax(-p.log_expected_n.to(scores_Tn.dtype), 0)
        loss_T = loss_T + smoothing * (positive_T - scores_Tn @ spread_n)
    return loss_T @ shares(p)
