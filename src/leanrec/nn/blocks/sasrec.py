"""The transformer block of SASRec (Kang & McAuley 2018, arXiv:1808.09781), normalised before each part."""

from __future__ import annotations

from torch import Tensor, nn

from leanrec.nn.blocks.attention import Attention, Seen
from leanrec.nn.dropout import Dropout

__all__ = ["SASRecBlock"]


class SASRecBlock(nn.Module):
    """Attention, then a feed-forward layer, each normalised before and added after."""

    def __init__(self, dim: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = Attention(dim, heads)
        self.up, self.down = nn.Linear(dim, hidden), nn.Linear(hidden, dim)
        self.dropout = Dropout(dropout)

    def forward(self, x_RLD: Tensor, seen: Seen) -> Tensor:
        x_RLD = self.dropout.add(x_RLD, self.attention(self.norm1(x_RLD), seen))
        hidden = self.dropout.relu(self.up(self.norm2(x_RLD)))
        return self.dropout.add(x_RLD, self.down(hidden))
