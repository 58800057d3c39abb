"""Multi-head attention that stays inside each sequence of a packed batch."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

from leanrec.nn.blocks.products import attend_by_products, products_pay
from leanrec.nn.packing import Packed
from leanrec.nn.rotary import rotate, rotation

__all__ = ["Attention", "Seen", "attend", "flex_mask"]


@dataclass(frozen=True, slots=True)
class Seen:
    """What the layers of a network share about a batch: which slots see which, and where they stand."""

    mask: Tensor | BlockMask | None
    """(R, 1, L, L) bool or its sparse form; None where the plain triangle (or, not causal, everything) does."""
    causal: bool = True
    bias: Tensor | None = None
    """(R or 1, 1, L, L) 0 where the mask lets see, else -inf; on a CPU."""
    rotation: tuple[Tensor, Tensor] | None = None
    """Cosines and sines (R, 1, L, d / 2) of rotary positions."""

    @classmethod
    def of(cls, packed: Packed, *, causal: bool = True, rotary: int = 0) -> Seen:
        """rotary: width d of a head, or 0 for none. On a GPU the mask skips blocks that nobody sees."""
        turned = rotation(packed.position_RL, rotary) if rotary else None
        if packed.segment_RL.is_cuda and not packed.uniform:
            return cls(flex_mask(packed, causal=causal), causal, rotation=turned)
        mask = packed.attention_mask(causal=causal)
        return cls(mask, causal, _bias(mask, packed.segment_RL, causal), turned)


def _bias(mask: Tensor | None, segment_RL: Tensor, causal: bool) -> Tensor | None:
    if segment_RL.is_cuda:
        return None
    if mask is not None:
        return torch.zeros(mask.shape).masked_fill_(~mask, -torch.inf)
    length = segment_RL.shape[1]
    bias_LL = torch.full((length, length), -torch.inf).triu_(1) if causal else torch.zeros(length, length)
    return bias_LL[None, None]


def flex_mask(packed: Packed, *, causal: bool) -> BlockMask:
    """`Packed.attention_mask` for FlexAttention, which never reads a block that holds no visible pair."""
    segment_RL = packed.segment_RL
    rows, length = segment_RL.shape

    def visible(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        same = segment_RL[row, query] == segment_RL[row, key]
        return same & (query >= key) if causal else same

    return create_block_mask(visible, rows, None, length, length, device=str(segment_RL.device))


def attend(q: Tensor, k: Tensor, v: Tensor, seen: Seen) -> Tensor:
    """(R, H, L, d) softmax(q k / sqrt(d)) v over the visible slots."""
    if isinstance(seen.mask, BlockMask):
        mixed: Tensor = _flex(q.is_cuda)(q, k, v, block_mask=seen.mask)
        return mixed
    if seen.bias is not None and products_pay(q):
        return attend_by_products(q, k, v, seen.bias)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=seen.mask, is_causal=seen.causal and seen.mask is None)


@cache
def _flex(compiled: bool) -> Any:
    """FlexAttention is one kernel when compiled; uncompiled it is the slow reference, for tests on the CPU."""
    return torch.compile(flex_attention, dynamic=True) if compiled else flex_attention


class Attention(nn.Module):
    """Multi-head self-attention inside each sequence of a packed batch."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x_RLD: Tensor, seen: Seen) -> Tensor:
        rows, length, _ = x_RLD.shape
        qkv = self.qkv(x_RLD).view(rows, length, 3, self.heads, -1)  # half of the heads where two workers split them
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        if seen.rotation is not None:
            q, k = rotate(q, *seen.rotation), rotate(k, *seen.rotation)
        mixed = attend(q, k, v, seen)
        return self.out(mixed.transpose(1, 2).reshape(rows, length, -1))  # type: ignore[no-any-return]
