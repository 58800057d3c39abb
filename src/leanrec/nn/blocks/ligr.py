"""The LiGR block (arXiv:2502.03417; in eSASRec, arXiv:2508.06450)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from leanrec.nn.blocks.attention import Attention, Seen
from leanrec.nn.dropout import Dropout

__all__ = ["LiGRBlock"]


class LiGRBlock(nn.Module):
    """Gated residuals around attention and a SwiGLU layer."""

    def __init__(self, dim: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = Attention(dim, heads)
        self.gate1, self.gate2 = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.up, self.down = nn.Linear(dim, 2 * hidden), nn.Linear(hidden, dim)
        self.dropout = Dropout(dropout)

    def forward(self, x_RLD: Tensor, seen: Seen) -> Tensor:
        mixed = self.attention(self.norm1(x_RLD), seen)
        x_RLD = self.dropout.add(x_RLD, mixed * torch.sigmoid(self.gate1(x_RLD)))
        value, gate = self.up(self.norm2(x_RLD)).chunk(2, dim=-1)
        hidden = self.dropout(value * F.silu(gate))
        return self.dropout.add(x_RLD, self.down(hidden) * torch.sigmoid(self.gate2(x_RLD)))
