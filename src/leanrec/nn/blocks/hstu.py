"""HSTU (arXiv:2402.17152): pointwise aggregated attention with relative position and time, gated by its own input.

Attention weights are silu, not softmax: they need not sum to one, so how often something was liked is not lost. Times
are those of the events themselves (the paper's code also looks at the time of the event that is to be predicted).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from leanrec.nn.blocks.recompute import call
from leanrec.nn.dropout import Dropout
from leanrec.nn.packing import Packed

__all__ = ["BUCKETS", "HSTU", "HSTULayer", "Pairs", "aggregate", "time_buckets"]

BUCKETS = 32
"""Of elapsed seconds, by powers of two; the last begins after 68 years. One more is for times that are not known."""
_EPS = 1e-6


@dataclass(frozen=True, slots=True)
class Pairs:
    """What the layers share about the pairs of slots in a batch."""

    packed: Packed
    visible: Tensor
    """(R or 1, 1, L, L) bool, True where a query slot may look at a key slot."""
    bucket_RLL: Tensor | None
    """int64 rows of the time bias; None where the network has none."""

    @classmethod
    def of(cls, packed: Packed, *, timed: bool) -> Pairs:
        length = packed.segment_RL.shape[1]
        mask = packed.attention_mask()
        if mask is None:
            mask = torch.ones(1, 1, length, length, dtype=torch.bool, device=packed.segment_RL.device).tril()
        return cls(packed, mask, time_buckets(packed) if timed else None)


def time_buckets(packed: Packed) -> Tensor:
    """(R, L, L) int64: floor(log2(1 + seconds from key to query)), or BUCKETS where a time is NaN or there are none."""
    if packed.times_RL is None:
        rows, length = packed.segment_RL.shape
        return torch.full((rows, length, length), BUCKETS, device=packed.segment_RL.device)
    elapsed = (packed.times_RL[:, :, None] - packed.times_RL[:, None, :]).clamp(min=0).float()
    exponent = ((1 + elapsed).view(torch.int32) >> 23) - 127  # of a float32 of at least 1
    return torch.where(elapsed.isnan(), BUCKETS, exponent.clamp(max=BUCKETS - 1)).long()


def aggregate(
    q: Tensor, k: Tensor, v: Tensor, pairs: Pairs, position_PH: Tensor, time_BH: Tensor | None
) -> Tensor:  # fmt: skip
    """(R, H, L, d) sum over visible keys of silu(q k / sqrt(d) + bias) v / P, P rows in the table of positions.

    Keys further away than that table reaches share its last row. The plain reference of hstu_triton's kernels.
    """
    length, reach = q.shape[2], len(position_PH)
    slot = torch.arange(length, device=q.device)
    distance_LL = (slot[:, None] - slot[None, :]).clamp(0, reach - 1)
    bias = position_PH[distance_LL].permute(2, 0, 1)[None]
    if time_BH is not None:
        assert pairs.bucket_RLL is not None, "a network with a time bias asks for buckets"
        bias = bias + F.embedding(pairs.bucket_RLL, time_BH).permute(0, 3, 1, 2)
    scores = (q @ k.transpose(-1, -2)) * q.shape[-1] ** -0.5 + bias
    return (F.silu(scores).masked_fill(~pairs.visible, 0.0) / reach).to(v.dtype) @ v


def _aggregate(q: Tensor, k: Tensor, v: Tensor, pairs: Pairs, position_PH: Tensor, time_BH: Tensor | None) -> Tensor:
    """By the kernel that reads only a sequence's own pairs on a GPU, else by the reference."""
    if q.is_cuda and q.shape[-1] in (16, 32, 64, 128):
        from leanrec.nn.blocks.hstu_triton import aggregate_jagged

        return aggregate_jagged(q, k, v, pairs.packed, position_PH, time_BH)
    return aggregate(q, k, v, pairs, position_PH, time_BH)


class HSTULayer(nn.Module):
    """u, v, q, k = silu(linear(norm(x))); x + linear(norm(attention) * u)."""

    def __init__(self, dim: int, heads: int, max_length: int, dropout: float, *, timed: bool) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(dim, eps=_EPS), nn.LayerNorm(dim, eps=_EPS)
        self.uvqk, self.out = nn.Linear(dim, 4 * dim), nn.Linear(dim, dim)
        self.dropout = Dropout(dropout)
        self.position_PH = nn.Parameter(torch.randn(max_length, heads) * 0.02)
        self.time_BH = nn.Parameter(torch.randn(BUCKETS + 1, heads) * 0.02) if timed else None

    def forward(self, x_RLD: Tensor, pairs: Pairs) -> Tensor:
        rows, length, dim = x_RLD.shape
        u, *vqk = F.silu(self.uvqk(self.norm1(x_RLD))).chunk(4, dim=-1)
        v, q, k = (part.view(rows, length, self.heads, dim // self.heads).transpose(1, 2) for part in vqk)
        mixed = _aggregate(q, k, v, pairs, self.position_PH, self.time_BH).transpose(1, 2).reshape(rows, length, dim)
        out: Tensor = x_RLD + self.out(self.dropout(self.norm2(mixed) * u))
        return out


class HSTU(nn.Module):
    """Item vectors of packed sequences in, one vector a slot out; a slot knows only its own past.

    timed: elapsed times matter too, where `Packed.times_RL` has them. unknown_times: share of rows whose times are
    hidden in training, so that the network can do without.
    """

    def __init__(
        self, *, dim: int, layers: int, heads: int, max_length: int, dropout: float, timed: bool,
        unknown_times: float = 0.0, checkpoint: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self._timed, self._unknown_times, self._checkpoint = timed, unknown_times, checkpoint
        self.blocks = nn.ModuleList(HSTULayer(dim, heads, max_length, dropout, timed=timed) for _ in range(layers))
        self.norm = nn.LayerNorm(dim)
        self.dropout = Dropout(dropout)

    def forward(self, items_RLD: Tensor, packed: Packed) -> Tensor:
        x_RLD = self.dropout(items_RLD * items_RLD.shape[-1] ** 0.5)
        pairs = Pairs.of(self._hide_times(packed), timed=self._timed)
        for block in self.blocks:
            x_RLD = call(block, x_RLD, pairs, checkpoint=self._checkpoint)
        return self.norm(x_RLD)  # type: ignore[no-any-return]

    def _hide_times(self, packed: Packed) -> Packed:
        times_RL = packed.times_RL
        if times_RL is None or not (self._timed and self.training and self._unknown_times):
            return packed
        hidden_R1 = torch.rand(len(times_RL), 1, device=times_RL.device) < self._unknown_times
        return Packed(
            packed.segment_RL, packed.position_RL, packed.uniform, times_RL.masked_fill(hidden_R1, float("nan"))
        )
