"""A whole transformer over packed histories in one compiled call: table rows in, query vectors out.

Between matrix products everything stays in the cache and in scratch that the caller keeps; nothing is allocated. Tokens
are shared out among threads. A thread needs of the others only keys and values, so there is one meeting a layer; in
the last layer keys and values of all positions are needed, everything else for the last position of a sequence alone.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from leanrec.kernels.encoding_rows import (
    add_gated,
    add_rows,
    copy_row,
    norm_rows,
    relu_in_place,
    rotate_heads,
    softmax_of,
    swiglu_rows,
)
from leanrec.kernels.jit import jit, jit_parallel, prange
from leanrec.kernels.products import code_rows, product, some
from leanrec.kernels.tiles import LANES, ROWS

__all__ = [
    "BLOCK",
    "DOWN",
    "GATE1",
    "GATE2",
    "OUT",
    "QKV",
    "UP",
    "Net",
    "Room",
    "Sequences",
    "encode",
    "encode_parallel",
]

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]
QKV, OUT, GATE1, UP, GATE2, DOWN = range(6)
BLOCK = 96
"""Tokens that pass through a layer together."""


class Net(NamedTuple):
    """Arrays of a transformer, packed (kernels.products).

    plan: (layers, 6, 4) int64: where a matrix starts in `weights` and in `scales`, its steps, and the largest code of
    its activations. hidden: (layers,) widths. norms: (2 * layers + 1, 2, D), weight and bias of norm 1 and 2 of each
    layer and of the last. positions: (P, D) or (0, D). mask: (D,), the input of row -1. cos, sin: (P, W), W 0 where
    there is no rotation. fixed: constants that products need: ones, zeros, and 1 / sqrt of a head's width.
    """

    weights: npt.NDArray[Any]
    scales: F32
    biases: F32
    plan: I64
    hidden: I64
    norms: F32
    positions: F32
    mask: F32
    cos: F32
    sin: F32
    heads: int
    gated: bool
    causal: bool
    one: F32
    none: F32
    shrink: F32


class Sequences(NamedTuple):
    """rows: (T,) int32 table rows, -1 the mask. start, end: (T,) of the sequence of a token. base: (T,) the first panel
    of its keys. ends: (B,) the last token of each sequence. parts: (threads + 1,) which tokens a thread has."""

    rows: npt.NDArray[np.int32]
    start: I64
    end: I64
    base: I64
    ends: I64
    parts: I64


class Room(NamedTuple):
    """Scratch: for all tokens x, q (T * width) and keys, values twice; for each thread the rest."""

    x: F32
    q: F32
    keys: F32
    values: F32
    wide: F32
    side: F32
    codes: npt.NDArray[Any]
    units: F32
    scores: F32
    shares: F32


@jit
def _dense(
    net: Any, layer: Any, which: Any, first: Any, panels: Any, values: Any, at: Any, stride: Any, rows: Any, width: Any,
    codes: Any, units: Any, out: Any, out_at: Any, out_stride: Any,
) -> None:  # fmt: skip
    """`panels` panels from `first` on of one matrix, applied to rows of values."""
    w_at, scale_at, steps, top = net.plan[layer, which]
    span = (width + LANES - 1) // LANES * LANES
    code_rows(values, at, stride, rows, width, codes, span, units, top)
    line = 2 * LANES if top > 0 else LANES
    product(
        codes, span, rows, units, net.weights, w_at + first * steps * line, line, steps, net.scales, net.biases,
        scale_at + first * LANES, panels, out, out_at, out_stride,
    )  # fmt: skip


@jit
def _embed(net: Any, items_ND: Any, sequences: Any, x: Any, low: Any, high: Any) -> None:
    dim = items_ND.shape[1]
    width, scale = (dim + LANES - 1) // LANES * LANES, np.float32(np.sqrt(np.float64(dim)))
    for t in range(low, high):
        row, x_D = sequences.rows[t], x[t * width : (t + 1) * width]
        source_D = items_ND[row] if row >= 0 else net.mask
        for d in range(dim):
            x_D[d] = source_D[d] * scale
        for d in range(dim, width):
            x_D[d] = np.float32(0)
        if len(net.positions) > 0:
            place_D = net.positions[t - sequences.start[t]]
            for d in range(dim):
                x_D[d] += place_D[d]


@jit
def _keep(net: Any, dim: Any, wide: Any, at: Any, t: Any, sequences: Any, keys: Any, values: Any) -> None:
    """Put one token's key and value (one after the other in `wide`) where attention wants them."""
    place, width = t - sequences.start[t], (dim + LANES - 1) // LANES * LANES
    first, lane = (sequences.base[t] + place // LANES) * dim * LANES, place % LANES
    key_D, keys_X = wide[at : at + dim], keys[first + lane : first + dim * LANES]
    for d in range(dim):
        keys_X[d * LANES] = key_D[d]
    size, tokens = dim // net.heads, len(sequences.rows)
    panels = (size + LANES - 1) // LANES
    for h in range(net.heads):
        for n in range(panels):
            to, source = ((h * panels + n) * tokens + t) * LANES, at + width + h * size + n * LANES
            copy_row(wide, source, values, to, min(LANES, size - n * LANES))


@jit
def _project(net: Any, layer: Any, dim: Any, room: Any, sequences: Any, thread: Any, low: Any, count: Any) -> None:
    """Queries, keys and values of tokens low .. low + count for a layer; in the last layer no queries."""
    wide, side, codes, units = room.wide[thread], room.side[thread], room.codes[thread], room.units[thread]
    keys, values = room.keys[layer % 2], room.values[layer % 2]
    width = (dim + LANES - 1) // LANES * LANES
    parts = 2 if layer == len(net.hidden) - 1 else 3
    norm_rows(room.x, low * width, width, count, dim, net.norms[2 * layer, 0], net.norms[2 * layer, 1], side, width)
    each = width // LANES
    _dense(
        net, layer, QKV, (3 - parts) * each, parts * each, side, 0, width, count, dim, codes, units, wide, 0,
        parts * width,
    )  # fmt: skip
    for r in range(count):
        t, at = low + r, r * parts * width
        if net.cos.shape[1] > 0:
            place = t - sequences.start[t]
            for part in range(parts - 1):
                rotate_heads(wide, at + part * width, net.heads, net.cos[place], net.sin[place])
        if parts == 3:
            copy_row(wide, at, room.q, t * width, dim)
        _keep(net, dim, wide, at + (parts - 2) * width, t, sequences, keys, values)


@jit
def _attend(
    net: Any, layer: Any, dim: Any, room: Any, sequences: Any, thread: Any, rows: Any, q: Any, q_at: Any, t: Any,
    seen: Any, more: Any, out_at: Any,
) -> None:  # fmt: skip
    """Up to ROWS queries of the sequence of token t; row r sees the first seen + r * more of its keys."""
    keys_at, values_at, scores = room.keys[layer % 2], room.values[layer % 2], room.scores[thread]
    units, out = room.shares[thread], room.side[thread]
    width, size, tokens = (dim + LANES - 1) // LANES * LANES, dim // net.heads, len(sequences.rows)
    keys, stride, panels = seen + (rows - 1) * more, len(scores) // ROWS, (size + LANES - 1) // LANES
    blocks, start, base = (keys + LANES - 1) // LANES, sequences.start[t], sequences.base[t]
    for h in range(net.heads):
        for block in range(blocks):
            some(
                rows, q, q_at + h * size, width, keys_at, ((base + block) * dim + h * size) * LANES, LANES, size,
                scores, block * LANES, stride, net.shrink, 0, net.one, net.none, 0,
            )  # fmt: skip
        for r in range(rows):
            units[r] = softmax_of(scores[r * stride : r * stride + keys], seen + r * more)
        for n in range(panels):
            some(
                rows, scores, 0, stride, values_at, ((h * panels + n) * tokens + start) * LANES, LANES, keys,
                out, out_at + h * size + n * LANES, width + LANES, units, 0, net.one, net.none, 0,
            )  # fmt: skip


@jit
def _feed(net: Any, layer: Any, dim: Any, room: Any, thread: Any, x: Any, at: Any, count: Any) -> None:
    """Add attention's output (in `side`) and the feed-forward part to `count` rows of x."""
    wide, side, codes, units = room.wide[thread], room.side[thread], room.codes[thread], room.units[thread]
    width, hidden = (dim + LANES - 1) // LANES * LANES, net.hidden[layer]
    each, rows = width // LANES, count * width
    _dense(net, layer, OUT, 0, each, side, 0, width + LANES, count, dim, codes, units, wide, 0, width)
    if net.gated:
        _dense(net, layer, GATE1, 0, each, x, at, width, count, dim, codes, units, side, 0, width)
        add_gated(x, at, rows, wide, side)
    else:
        add_rows(x, at, rows, wide)
    norm_rows(x, at, width, count, dim, net.norms[2 * layer + 1, 0], net.norms[2 * layer + 1, 1], side, width)
    span = (hidden + LANES - 1) // LANES * LANES
    stride = 2 * span if net.gated else span
    _dense(net, layer, UP, 0, stride // LANES, side, 0, width, count, dim, codes, units, wide, 0, stride)
    if net.gated:
        swiglu_rows(wide, count, hidden, span)
    else:
        relu_in_place(wide, count * stride)
    _dense(net, layer, DOWN, 0, each, wide, 0, stride, count, hidden, codes, units, side, 0, width)
    if net.gated:
        _dense(net, layer, GATE2, 0, each, x, at, width, count, dim, codes, units, wide, 0, width)
        add_gated(x, at, rows, side, wide)
    else:
        add_rows(x, at, rows, side)


@jit
def _enter(net: Any, items_ND: Any, room: Any, sequences: Any, thread: Any) -> None:
    last = sequences.parts[thread + 1]
    for low in range(sequences.parts[thread], last, BLOCK):
        count = min(BLOCK, last - low)
        _embed(net, items_ND, sequences, room.x, low, low + count)
        if len(net.hidden) > 0:
            _project(net, 0, items_ND.shape[1], room, sequences, thread, low, count)


@jit
def _layer(net: Any, layer: Any, dim: Any, room: Any, sequences: Any, thread: Any) -> None:
    """One layer but the last, and what the next one needs of it."""
    last, width = sequences.parts[thread + 1], (dim + LANES - 1) // LANES * LANES
    for low in range(sequences.parts[thread], last, BLOCK):
        count = min(BLOCK, last - low)
        t = low
        while t < low + count:
            rows = min(ROWS, low + count - t, sequences.end[t] - t)
            length = sequences.end[t] - sequences.start[t]
            seen, more = (t - sequences.start[t] + 1, 1) if net.causal else (length, 0)
            out_at = (t - low) * (width + LANES)
            _attend(net, layer, dim, room, sequences, thread, rows, room.q, t * width, t, seen, more, out_at)
            t += rows
        _feed(net, layer, dim, room, thread, room.x, low * width, count)
        _project(net, layer + 1, dim, room, sequences, thread, low, count)


@jit
def _leave(net: Any, dim: Any, room: Any, sequences: Any, thread: Any, out_BD: Any) -> None:
    """The last layer for the last token of each sequence, and the last norm."""
    layers, width, x = len(net.hidden), (dim + LANES - 1) // LANES * LANES, room.q
    batch, threads = len(sequences.ends), len(sequences.parts) - 1
    first, last, layer = batch * thread // threads, batch * (thread + 1) // threads, layers - 1
    side, wide, codes, units = room.side[thread], room.wide[thread], room.codes[thread], room.units[thread]
    for low in range(first, last, BLOCK):
        count = min(BLOCK, last - low)
        for b in range(low, low + count):
            copy_row(room.x, sequences.ends[b] * width, x, b * width, width)
        if layers > 0:
            norm_2D = net.norms[2 * layer]
            norm_rows(x, low * width, width, count, dim, norm_2D[0], norm_2D[1], side, width)
            _dense(
                net, layer, QKV, 0, width // LANES, side, 0, width, count, dim, codes, units, wide, 0, width
            )  # fmt: skip
            for b in range(low, low + count):
                t = sequences.ends[b]
                length = t + 1 - sequences.start[t]
                if net.cos.shape[1] > 0:
                    rotate_heads(wide, (b - low) * width, net.heads, net.cos[length - 1], net.sin[length - 1])
                at = (b - low) * width
                _attend(
                    net, layer, dim, room, sequences, thread, 1, wide, at, t, length, 0, (b - low) * (width + LANES)
                )
            _feed(net, layer, dim, room, thread, x, low * width, count)
        norm_2D = net.norms[2 * layers]
        norm_rows(x, low * width, width, count, dim, norm_2D[0], norm_2D[1], side, dim)
        for b in range(low, low + count):
            copy_row(side, (b - low) * dim, out_BD[b], 0, dim)


# Two functions, not one compiled twice: Numba's cache tells functions apart by name and line, not by `parallel`, and
# would give whichever was compiled first for both.
@jit
def encode(net: Any, items_ND: Any, room: Any, sequences: Any, out_BD: Any) -> None:
    """(B, D) vectors of `sequences` into out; parts one after another, in this thread."""
    threads, dim = len(sequences.parts) - 1, items_ND.shape[1]
    for thread in range(threads):
        _enter(net, items_ND, room, sequences, thread)
    for layer in range(len(net.hidden) - 1):
        for thread in range(threads):
            _layer(net, layer, dim, room, sequences, thread)
    for thread in range(threads):
        _leave(net, dim, room, sequences, thread, out_BD)


@jit_parallel
def encode_parallel(net: Any, items_ND: Any, room: Any, sequences: Any, out_BD: Any) -> None:
    """(B, D) vectors of `sequences` into out; as many threads as they are parted into."""
    threads, dim = len(sequences.parts) - 1, items_ND.shape[1]
    for thread in prange(threads):
        _enter(net, items_ND, room, sequences, thread)
    for layer in range(len(net.hidden) - 1):
        for thread in prange(threads):
            _layer(net, layer, dim, room, sequences, thread)
    for thread in prange(threads):
        _leave(net, dim, room, sequences, thread, out_BD)
