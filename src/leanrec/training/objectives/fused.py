"""Losses whose gradients are computed with them, so that no score is kept for a backward pass."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from leanrec.training.objectives.base import Predictions

__all__ = ["Compute", "Lender", "fused_loss", "shares"]

Compute = Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]
"""(hidden_TD, leaf_UD) -> the scalar loss and its gradients by both."""


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden_TD: Tensor, leaf_UD: Tensor, compute: Compute) -> Tensor:
        loss, *ctx.grads = compute(hidden_TD.detach(), leaf_UD.detach())
        return loss

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        assert ctx.grads is not None, "one backward for each loss: its gradients are handed over"
        (hidden_TD, leaf_UD), ctx.grads = ctx.grads, None
        if (scale := float(grads[0])) != 1.0:
            hidden_TD.mul_(scale)
            leaf_UD.mul_(scale)
        return hidden_TD, leaf_UD, None


def fused_loss(p: Predictions, compute: Compute) -> Tensor:
    """The loss of `compute` for autograd, once differentiable; in the leaf's precision, whatever autocast says."""
    with torch.autocast(p.hidden_TD.device.type, enabled=False):
        loss: Tensor = _Fused.apply(p.hidden_TD.to(p.leaf_UD.dtype), p.leaf_UD, compute)  # type: ignore[no-untyped-call]
    return loss


def shares(p: Predictions) -> Tensor:
    """(T,) what each prediction's loss counts for in the mean of the batch."""
    tokens = len(p.targets_T)
    if p.weight_T is None:
        return p.leaf_UD.new_full((tokens,), 1 / tokens)
    return p.weight_T.to(p.leaf_UD.dtype) / tokens


class Lender:
    """Memory for one large gradient, used again once nobody holds the last one: fresh pages cost more than the loss."""

    def __init__(self) -> None:
        self._memory: npt.NDArray[np.float32] = np.empty((0, 0), np.float32)
        self._lent: weakref.ref[npt.NDArray[np.float32]] = weakref.ref(self._memory)

    def take(self, rows: int, dim: int) -> npt.NDArray[np.float32]:
        """(rows, dim) float32 of any content; a tensor that shares it counts as a holder."""
        if self._lent() is not None or self._memory.shape != (rows, dim):
            self._memory = np.empty((rows, dim), np.float32)
        lent = self._memory[:]
        self._lent = weakref.ref(lent)
        return lent
