"""HSTU's attention over packed sequences on a GPU: forward and backward in Triton, beside `hstu.aggregate`.

A tile of queries reads only the tiles of keys that its own sequences reach, and no (L, L) array is ever held: memory
grows with the slots, arithmetic with the squares of the sequences' lengths. Imported only where tensors are on a GPU.
"""

# mypy: disable-error-code="no-untyped-def,untyped-decorator,no-untyped-call"
from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from leanrec.nn.packing import Packed

__all__ = ["aggregate_jagged"]

_TILE = 32
_COPIES = 64
"""Of the gradients of the bias tables: tiles add to different ones, so that they seldom wait for each other."""


@triton.jit
def _weights(
    q, k, i, j, seg_i, seg_j, time_i, time_j, position, time, h, heads, reach, scale,
    TIMED: tl.constexpr, BUCKETS: tl.constexpr,
):  # fmt: skip
    """Scores of a tile of pairs before the silu, which pairs are visible, and their rows in the bias tables."""
    seen = (seg_i[:, None] == seg_j[None, :]) & (i[:, None] >= j[None, :]) & (seg_i[:, None] >= 0)
    distance = tl.minimum(tl.maximum(i[:, None] - j[None, :], 0), reach - 1)
    score = tl.dot(q, tl.trans(k), input_precision="ieee") * scale
    score += tl.load(position + distance * heads + h)
    bucket = tl.zeros_like(distance)
    if TIMED:
        elapsed = time_i[:, None] - time_j[None, :]
        known = elapsed == elapsed
        later = tl.where(known & (elapsed > 0), elapsed, 0.0).to(tl.float32) + 1.0
        power = (later.to(tl.int32, bitcast=True) >> 23) - 127
        bucket = tl.where(known, tl.minimum(power, BUCKETS - 1), BUCKETS)
        score += tl.load(time + bucket * heads + h)
    return score, seen, distance, bucket


@triton.jit
def _forward(
    Q, K, V, Out, Segment, First, Times, Position, Time, length, heads, reach, scale,
    D: tl.constexpr, TILE: tl.constexpr, TIMED: tl.constexpr, BUCKETS: tl.constexpr,
):  # fmt: skip
    tile, row, h = tl.program_id(0), tl.program_id(1) // heads, tl.program_id(1) % heads
    at, slots = tl.program_id(1) * length * D, row * length
    i, d = tile * TILE + tl.arange(0, TILE), tl.arange(0, D)
    inside = i < length
    cell = at + i[:, None] * D + d[None, :]
    q = tl.load(Q + cell, inside[:, None], 0.0)
    seg_i = tl.load(Segment + slots + i, inside, -1)
    time_i = tl.load(Times + slots + i, inside, 0.0) if TIMED else i
    low = tl.min(tl.load(First + slots + i, inside, length))
    out = tl.zeros((TILE, D), tl.float32)
    for start in range(low // TILE * TILE, tl.minimum((tile + 1) * TILE, length), TILE):
        j = start + tl.arange(0, TILE)
        there = j < length
        cell_j = at + j[:, None] * D + d[None, :]
        k, v = tl.load(K + cell_j, there[:, None], 0.0), tl.load(V + cell_j, there[:, None], 0.0)
        seg_j = tl.load(Segment + slots + j, there, -2)
        time_j = tl.load(Times + slots + j, there, 0.0) if TIMED else j
        score, seen, _, _ = _weights(
            q, k, i, j, seg_i, seg_j, time_i, time_j, Position, Time, h, heads, reach, scale, TIMED, BUCKETS
        )
        weight = tl.where(seen, score * tl.sigmoid(score), 0.0) / reach
        out += tl.dot(weight.to(v.dtype), v, input_precision="ieee")
    tl.store(Out + cell, out.to(Out.dtype.element_ty), inside[:, None])


@triton.jit
def _backward(
    Q, K, V, Grad, DQ, DK, DV, DPosition, DTime, Segment, End, Times, Position, Time, length, heads, reach, scale,
    copies, D: tl.constexpr, TILE: tl.constexpr, TIMED: tl.constexpr, BUCKETS: tl.constexpr,
):  # fmt: skip
    """One tile of keys against the queries that may see it; what belongs to queries and biases is added atomically."""
    tile, row, h = tl.program_id(0), tl.program_id(1) // heads, tl.program_id(1) % heads
    at, slots = tl.program_id(1) * length * D, row * length
    copy = (tl.program_id(1) * tl.num_programs(0) + tile) % copies
    j, d = tile * TILE + tl.arange(0, TILE), tl.arange(0, D)
    there = j < length
    cell_j = at + j[:, None] * D + d[None, :]
    k, v = tl.load(K + cell_j, there[:, None], 0.0), tl.load(V + cell_j, there[:, None], 0.0)
    seg_j = tl.load(Segment + slots + j, there, -2)
    time_j = tl.load(Times + slots + j, there, 0.0) if TIMED else j
    high = tl.max(tl.load(End + slots + j, there, 0))
    dk, dv = tl.zeros((TILE, D), tl.float32), tl.zeros((TILE, D), tl.float32)
    for start in range(tile * TILE, high, TILE):
        i = start + tl.arange(0, TILE)
        inside = i < length
        cell = at + i[:, None] * D + d[None, :]
        q, grad = tl.load(Q + cell, inside[:, None], 0.0), tl.load(Grad + cell, inside[:, None], 0.0)
        seg_i = tl.load(Segment + slots + i, inside, -1)
        time_i = tl.load(Times + slots + i, inside, 0.0) if TIMED else i
        score, seen, distance, bucket = _weights(
            q, k, i, j, seg_i, seg_j, time_i, time_j, Position, Time, h, heads, reach, scale, TIMED, BUCKETS
        )
        gate = tl.sigmoid(score)
        weight = tl.where(seen, score * gate, 0.0) / reach
        dv += tl.dot(tl.trans(weight).to(grad.dtype), grad, input_precision="ieee")
        slope = tl.where(seen, gate * (1.0 + score * (1.0 - gate)), 0.0) / reach
        dscore = tl.dot(grad, tl.trans(v), input_precision="ieee") * slope
        dk += tl.dot(tl.trans(dscore).to(q.dtype), q, input_precision="ieee") * scale
        dq = tl.dot(dscore.to(k.dtype), k, input_precision="ieee") * scale
        tl.atomic_add(DQ + cell, dq, inside[:, None])
        tl.atomic_add(DPosition + (copy * reach + distance) * heads + h, dscore, seen)
        if TIMED:
            tl.atomic_add(DTime + (copy * (BUCKETS + 1) + bucket) * heads + h, dscore, seen)
    tl.store(DK + cell_j, dk.to(DK.dtype.element_ty), there[:, None])
    tl.store(DV + cell_j, dv.to(DV.dtype.element_ty), there[:, None])


class _Aggregate(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, position_PH: Tensor, time_BH: Tensor | None, packed: Packed
    ) -> Tensor:
        rows, heads, length, width = q.shape
        q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
        bounds = _bounds(packed)
        out = torch.empty_like(v)
        grid = (triton.cdiv(length, _TILE), rows * heads)
        _forward[grid](
            q, k, v, out, packed.segment_RL, bounds[0], *_tables(packed, position_PH, time_BH), length, heads,
            len(position_PH), width**-0.5, **_constants(width, time_BH),
        )  # fmt: skip
        ctx.save_for_backward(q, k, v, position_PH, time_BH)
        ctx.packed, ctx.end = packed, bounds[1]
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, position_PH, time_BH = ctx.saved_tensors
        rows, heads, length, width = q.shape
        dq = torch.zeros_like(q, dtype=torch.float32)
        dk, dv = torch.empty_like(k), torch.empty_like(v)
        dposition = q.new_zeros(_COPIES, *position_PH.shape, dtype=torch.float32)
        dtime = None if time_BH is None else q.new_zeros(_COPIES, *time_BH.shape, dtype=torch.float32)
        grid = (triton.cdiv(length, _TILE), rows * heads)
        _backward[grid](
            q, k, v, grads[0].contiguous(), dq, dk, dv, dposition, dposition if dtime is None else dtime,
            ctx.packed.segment_RL, ctx.end, *_tables(ctx.packed, position_PH, time_BH), length, heads,
            len(position_PH), width**-0.5, _COPIES, **_constants(width, time_BH),
        )  # fmt: skip
        return dq.to(q.dtype), dk, dv, dposition.sum(0), None if dtime is None else dtime.sum(0), None


def _bounds(packed: Packed) -> tuple[Tensor, Tensor]:
    """(R, L) int64 the first slot of each slot's sequence, and the one after its last; 0 and L are safe where empty."""
    segment_RL = packed.segment_RL
    length = segment_RL.shape[1]
    slot = torch.arange(length, device=segment_RL.device).expand_as(segment_RL)
    first = torch.where(segment_RL >= 0, slot - packed.position_RL, slot)
    ends = torch.ones_like(segment_RL, dtype=torch.bool)
    ends[:, :-1] = segment_RL[:, 1:] != segment_RL[:, :-1]
    end = torch.where(ends, slot + 1, length).flip(1).cummin(1).values.flip(1)
    return first.contiguous(), end.contiguous()


def _tables(packed: Packed, position_PH: Tensor, time_BH: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Times, and both bias tables in float32; what is not there is stood in for by something that is never read."""
    position = position_PH.float().contiguous()
    if time_BH is None:
        return position, position, position
    times = packed.times_RL
    if times is None:
        times = torch.full(packed.segment_RL.shape, float("nan"), dtype=torch.float64, device=position.device)
    return times.contiguous(), position, time_BH.float().contiguous()


def _constants(width: int, time_BH: Tensor | None) -> dict[str, Any]:
    timed = time_BH is not None
    return {"D": width, "TILE": _TILE, "TIMED": timed, "BUCKETS": 0 if time_BH is None else len(time_BH) - 1}


def aggregate_jagged(
    q: Tensor, k: Tensor, v: Tensor, packed: Packed, position_PH: Tensor, time_BH: Tensor | None
) -> Tensor:
    """`hstu.aggregate` for the pairs of each sequence alone. d: a power of two, at least 16."""
    out: Tensor = _Aggregate.apply(q, k, v, position_PH, time_BH, packed)
    return out
