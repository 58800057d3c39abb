"""Scalable cross-entropy: softmax over the items that are hard for predictions like these."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from leanrec.core.config import Config
from leanrec.core.errors import ConfigError
from leanrec.training.objectives.base import Objective, Predictions
from leanrec.training.objectives.fused import shares

__all__ = ["SCE", "SCEOptions"]


class SCEOptions(Config, frozen=True, kw_only=True):
    """Settings of SCE."""

    buckets: int | None = None
    """Random directions, each with its own predictions and items; 2 sqrt(T)."""
    bucket_predictions: int | None = None
    """Predictions of a bucket: those that lie most in its direction; 2 sqrt(T)."""
    bucket_items: int = 256
    """Items of a bucket: those that score highest in its direction."""


class SCE(Objective):
    """Softmax in buckets of predictions and hard items (SCE, arXiv:2409.18721).

    A bucket's direction is a random mixture of the batch's hidden vectors. Its items are candidates for each of its
    predictions, beside the target; a prediction in several buckets counts its largest loss, one in none does not count.
    The whole table is scored against the directions alone, and only rows in buckets have a gradient.
    """

    Options: ClassVar[type[Config]] = SCEOptions
    full: ClassVar[bool] = True

    def __init__(self, config: Config, num_items: int, negatives: int) -> None:
        assert isinstance(config, SCEOptions)
        del num_items, negatives
        for name, value in (("buckets", config.buckets), ("bucket_predictions", config.bucket_predictions)):
            if value is not None and value < 1:
                raise ConfigError(f"{name}={value} leaves nothing to learn from: use at least 1")
        if config.bucket_items < 1:
            raise ConfigError(f"bucket_items={config.bucket_items} leaves nothing to learn from: use at least 1")
        self._config = config

    def buckets(self, hidden_TD: Tensor, items_ND: Tensor) -> tuple[Tensor, Tensor]:
        """(b, x) places of predictions and (b, y) rows of items; drawn from torch's generator."""
        tokens, config = len(hidden_TD), self._config
        rule = math.ceil(2 * math.sqrt(tokens))
        mix_bT = torch.randn(config.buckets or rule, tokens, dtype=items_ND.dtype, device=items_ND.device)
        directions_bD = mix_bT @ hidden_TD
        inside = min(config.bucket_predictions or rule, tokens)
        chosen_bx = (directions_bD @ hidden_TD.T).topk(inside, dim=1, sorted=False).indices
        items = min(config.bucket_items, len(items_ND))
        return chosen_bx, (directions_bD @ items_ND.T).topk(items, dim=1, sorted=False).indices

    def loss(self, p: Predictions) -> Tensor:
        hidden_TD = p.hidden_TD.to(p.leaf_UD.dtype)
        with torch.no_grad():
            chosen_bx, items_by = self.buckets(hidden_TD, p.leaf_UD)
        targets_bx, vectors_bxD = p.targets_T[chosen_bx], hidden_TD[chosen_bx]
        positive_bx = (vectors_bxD * p.leaf_UD[targets_bx]).sum(-1)
        scores_bxy = vectors_bxD @ p.leaf_UD[items_by].transpose(1, 2)
        scores_bxy = scores_bxy.masked_fill(targets_bx[:, :, None] == items_by[:, None, :], -torch.inf)
        loss_bx = torch.logaddexp(positive_bx, scores_bxy.logsumexp(2)) - positive_bx
        largest_T = torch.full_like(hidden_TD[:, 0], -torch.inf)
        largest_T = largest_T.scatter_reduce(0, chosen_bx.flatten(), loss_bx.flatten(), "amax")
        seen = torch.isfinite(largest_T)
        share_T = shares(p)[seen]
        return largest_T[seen] @ (share_T / share_T.sum())
