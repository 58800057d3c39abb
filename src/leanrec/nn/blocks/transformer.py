"""A stack of transformer blocks over packed sequences, causal or looking both ways."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from leanrec.nn.blocks.attention import Seen
from leanrec.nn.blocks.ligr import LiGRBlock
from leanrec.nn.blocks.recompute import call
from leanrec.nn.blocks.sasrec import SASRecBlock
from leanrec.nn.dropout import Dropout
from leanrec.nn.packing import Packed

__all__ = ["BLOCKS", "Positions", "Transformer"]

BLOCKS: dict[str, type[SASRecBlock] | type[LiGRBlock]] = {"sasrec": SASRecBlock, "ligr": LiGRBlock}

Positions = Literal["learned", "rotary", "none"]


class Transformer(nn.Module):
    """Item vectors of packed sequences in, one vector a slot out; a slot knows only its own past.

    positions: `learned` vectors, counted from the start of the window; `rotary`, which tell how far apart events are
    and nothing else; or `none`. bidirectional: a slot knows its whole sequence, and `mask_D` is the input vector of a
    hidden item. checkpoint: activations inside a block are computed again in the backward pass instead of kept.
    """

    def __init__(
        self, *, block: str, dim: int, layers: int, heads: int, hidden: int, max_length: int, dropout: float,
        positions: Positions = "learned", bidirectional: bool = False, checkpoint: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self._head_dim, self._rotary, self._causal = dim // heads, positions == "rotary", not bidirectional
        self._checkpoint = checkpoint
        self.positions = nn.Embedding(max_length, dim) if positions == "learned" else None
        self.blocks = nn.ModuleList(BLOCKS[block](dim, heads, hidden, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(dim)
        self.dropout = Dropout(dropout)
        if self.positions is not None:
            nn.init.normal_(self.positions.weight, std=dim**-0.5)
        if bidirectional:
            self.mask_D = nn.Parameter(torch.randn(dim) * dim**-0.5)

    def forward(self, items_RLD: Tensor, packed: Packed) -> Tensor:
        x_RLD = items_RLD * items_RLD.shape[-1] ** 0.5
        if self.positions is not None:
            x_RLD = x_RLD + self.positions(packed.position_RL)
        x_RLD = self.dropout(x_RLD)
        seen = Seen.of(packed, causal=self._causal, rotary=self._head_dim if self._rotary else 0)
        for block in self.blocks:
            x_RLD = call(block, x_RLD, seen, checkpoint=self._checkpoint)
        return self.norm(x_RLD)  # type: ignore[no-any-return]
