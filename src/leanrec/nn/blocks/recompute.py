"""Activation checkpointing: memory of one block at a time, for about a third more arithmetic."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as recomputed

__all__ = ["call"]


def call(block: nn.Module, x_RLD: Tensor, *args: Any, checkpoint: bool) -> Tensor:
    """block(x, *args); with `checkpoint` nothing inside it is kept, the backward pass computes it again.

    The generator's state is restored for that, so dropout repeats itself and the loss is the same bit for bit.
    """
    if checkpoint and torch.is_grad_enabled():
        return recomputed(block, x_RLD, *args, use_reentrant=False)  # type: ignore[no-any-return]
    return block(x_RLD, *args)  # type: ignore[no-any-return]
