"""Transformer blocks over packed sequences (R, L, D), and the registry that names them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from leanrec.nn.dropout import Dropout
from leanrec.nn.packing import Packed

__all__ = ["BLOCKS", "Attention", "LiGRBlock", "SASRecBlock", "Transformer"]


class Attention(nn.Module):
    """Multi-head causal self-attention inside each sequence of a packed batch."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x_RLD: Tensor, mask: Tensor | None) -> Tensor:
        rows, length, dim = x_RLD.shape
        qkv = self.qkv(x_RLD).view(rows, length, 3, self.heads, dim // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None)
        return self.out(mixed.transpose(1, 2).reshape(rows, length, dim))  # type: ignore[no-any-return]


class SASRecBlock(nn.Module):
    """Attention, then a feed-forward layer, each normalised before and added after (SASRec, arXiv:1808.09781)."""

    def __init__(self, dim: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = Attention(dim, heads)
        self.up, self.down = nn.Linear(dim, hidden), nn.Linear(hidden, dim)
        self.dropout = Dropout(dropout)

    def forward(self, x_RLD: Tensor, mask: Tensor | None) -> Tensor:
        x_RLD = x_RLD + self.dropout(self.attention(self.norm1(x_RLD), mask))
        hidden = F.relu(self.up(self.norm2(x_RLD)))
        out: Tensor = x_RLD + self.dropout(self.down(self.dropout(hidden)))
        return out


class LiGRBlock(nn.Module):
    """Gated residuals around attention and a SwiGLU layer (LiGR, arXiv:2502.03417; in eSASRec, arXiv:2508.06450)."""

    def __init__(self, dim: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = Attention(dim, heads)
        self.gate1, self.gate2 = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.up, self.down = nn.Linear(dim, 2 * hidden), nn.Linear(hidden, dim)
        self.dropout = Dropout(dropout)

    def forward(self, x_RLD: Tensor, mask: Tensor | None) -> Tensor:
        mixed = self.attention(self.norm1(x_RLD), mask)
        x_RLD = x_RLD + self.dropout(mixed * torch.sigmoid(self.gate1(x_RLD)))
        value, gate = self.up(self.norm2(x_RLD)).chunk(2, dim=-1)
        hidden = self.dropout(value * F.silu(gate))
        out: Tensor = x_RLD + self.dropout(self.down(hidden) * torch.sigmoid(self.gate2(x_RLD)))
        return out


BLOCKS: dict[str, type[SASRecBlock] | type[LiGRBlock]] = {"sasrec": SASRecBlock, "ligr": LiGRBlock}


class Transformer(nn.Module):
    """Item vectors of packed sequences in, one vector a slot out; a slot knows only its own past.

    Positions are learned and count from the start of the window.
    """

    def __init__(
        self, *, block: str, dim: int, layers: int, heads: int, hidden: int, max_length: int, dropout: float
    ) -> None:
        super().__init__()
        self.positions = nn.Embedding(max_length, dim)
        self.blocks = nn.ModuleList(BLOCKS[block](dim, heads, hidden, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(dim)
        self.dropout = Dropout(dropout)
        nn.init.normal_(self.positions.weight, std=dim**-0.5)

    def forward(self, items_RLD: Tensor, packed: Packed) -> Tensor:
        x_RLD = self.dropout(items_RLD * items_RLD.shape[-1] ** 0.5 + self.positions(packed.position_RL))
        mask = packed.attention_mask()
        for block in self.blocks:
            x_RLD = block(x_RLD, mask)
        return self.norm(x_RLD)  # type: ignore[no-any-return]
