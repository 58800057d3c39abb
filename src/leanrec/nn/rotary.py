"""Rotary positions (RoFormer, arXiv:2104.09864): attention sees how far apart two slots are, not where they stand."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["BASE", "rotate", "rotation"]

BASE = 10_000.0


def rotation(position_RL: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines (R, 1, L, width / 2) of position / BASE^(2 i / width)."""
    rate = BASE ** (-torch.arange(0, width, 2, dtype=torch.float64, device=position_RL.device) / width)
    angle = (position_RL[:, None, :, None].double() * rate).float()
    return angle.cos(), angle.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x (R, H, L, d) with each pair (i, i + d / 2) turned by its angle."""
    low, high = x.float().chunk(2, dim=-1)
    return torch.cat([low * cos - high * sin, low * sin + high * cos], dim=-1).to(x.dtype)
