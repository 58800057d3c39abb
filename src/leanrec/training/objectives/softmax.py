"""Exact softmax cross-entropy over the catalogue, without ever holding T x N scores."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from leanrec.core.config import Config
from leanrec.core.errors import ConfigError
from leanrec.kernels.softmax import BlockSoftmax
from leanrec.training.objectives.base import Objective, Predictions
from leanrec.training.objectives.fused import Lender, fused_loss, shares

__all__ = ["Softmax", "SoftmaxOptions"]


class SoftmaxOptions(Config, frozen=True, kw_only=True):
    """Settings of the full softmax."""

    label_smoothing: float = 0.0
    """Share of the target's probability that is spread evenly over the catalogue."""
    memory_mb: int = 64
    """Scores that are held at once, of 32 to 256 predictions; twice as many are a tenth faster on large catalogues."""


class Softmax(Objective):
    """-log softmax of the target's score among all N items. Loss and gradients in one pass: see kernels.softmax."""

    Options: ClassVar[type[Config]] = SoftmaxOptions
    full: ClassVar[bool] = True

    def __init__(self, config: Config, num_items: int, negatives: int) -> None:
        assert isinstance(config, SoftmaxOptions)
        del num_items, negatives
        if not 0 <= config.label_smoothing < 1:
            raise ConfigError(f"label_smoothing={config.label_smoothing} is not a share: use at least 0, less than 1")
        if config.memory_mb < 1:
            raise ConfigError(f"memory_mb={config.memory_mb} leaves no room for scores: use at least 1")
        self._smoothing, self._memory = config.label_smoothing, config.memory_mb << 20
        self._kernel = BlockSoftmax(self._memory, config.label_smoothing)
        self._gradient = Lender()

    def loss(self, p: Predictions) -> Tensor:
        plain = p.leaf_UD.device.type == "cpu" and p.leaf_UD.dtype == torch.float32
        return fused_loss(p, lambda h, w: (self._on_cpu if plain else self._by_torch)(h, w, p.targets_T, shares(p)))

    def _on_cpu(
        self, hidden_TD: Tensor, items_ND: Tensor, targets_T: Tensor, share_T: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        hidden, share = hidden_TD.contiguous().numpy(), share_T.numpy()
        grad_hidden, grad_items = np.empty_like(hidden), self._gradient.take(*items_ND.shape)
        loss_T = self._kernel(
            hidden, items_ND.numpy(), targets_T.numpy(), share, grad_hidden, grad_items, torch.get_num_threads()
        )
        loss = torch.tensor(float(loss_T.astype(np.float64) @ share), dtype=torch.float32)
        return loss, torch.from_numpy(grad_hidden), torch.from_numpy(grad_items)

    def _by_torch(
        self, hidden_TD: Tensor, items_ND: Tensor, targets_T: Tensor, share_T: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The same on any device and in any precision, a few tokens at a time against all items."""
        tokens, num_items, smoothing = len(hidden_TD), len(items_ND), self._smoothing
        grad_hidden, grad_items = torch.empty_like(hidden_TD), torch.zeros_like(items_ND)
        loss = hidden_TD.new_zeros(())
        size = max(1, self._memory // (items_ND.element_size() * num_items))
        scores_CN = items_ND.new_empty(min(size, tokens), num_items)
        for low in range(0, tokens, size):
            at = slice(low, low + size)
            target, share = targets_T[at, None], share_T[at, None]
            part = scores_CN[: len(target)]
            torch.mm(hidden_TD[at], items_ND.T, out=part)
            sums = part.logsumexp(1, keepdim=True)
            aimed = (1 - smoothing) * part.gather(1, target) + smoothing * part.mean(1, keepdim=True)
            loss += (share * (sums - aimed)).sum()
            part.sub_(sums).exp_().sub_(smoothing / num_items).mul_(share).scatter_add_(
                1, target, (smoothing - 1) * share
            )
            torch.mm(part, items_ND, out=grad_hidden[at])
            grad_items.addmm_(part.T, hidden_TD[at])
        return loss, grad_hidden, grad_items
