"""The transformer engine's arrays made ready for `kernels.encoding`, and scratch that calls share."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from leanrec.core.errors import InputError
from leanrec.core.jagged import Jagged
from leanrec.kernels import encoding
from leanrec.kernels.encoding import Net, Room, Sequences
from leanrec.kernels.products import Packed, pack, padded
from leanrec.kernels.tiles import LANES, ROWS
from leanrec.runtime.dense import dense_size, make_dense
from leanrec.runtime.engines.arrays import under
from leanrec.runtime.engines.transformer import TransformerShape, rotation_of

__all__ = ["PackedTransformer"]

F32 = npt.NDArray[np.float32]
Tensors = Mapping[str, npt.NDArray[Any]]
_WORTH_THREADS = 3_000_000
"""Multiplications below which a second thread costs more than it saves."""
_SHARED = threading.Lock()
"""Numba's threads take work from one caller at a time; who finds them busy does the work alone."""


def _pack_layer(tensors: Mapping[str, npt.NDArray[Any]], gated: bool, fixed: bool) -> list[Packed | None]:
    parts = {"attention.qkv": 3, "attention.out": 1, "gate1": 1, "up": 1 + gated, "gate2": 1, "down": 1}
    packed: list[Packed | None] = []
    for name, count in parts.items():
        if name.startswith("gate") and not gated:
            packed.append(None)
            continue
        layer = make_dense(tensors, name)
        packed.append(pack(layer.weight(), layer.bias, count, fixed=fixed))
    return packed


class PackedTransformer:
    """(B, D) vectors of histories within the window, in one compiled call.

    fixed: products in int16 fixed point instead of float32. threads: at most so many. Any number of callers: each
    thread that calls has scratch of its own, kept from call to call.
    """

    def __init__(
        self, shape: TransformerShape, tensors: Mapping[str, npt.NDArray[Any]], *, fixed: bool, threads: int
    ) -> None:
        for i in range(shape.layers):
            if dense_size(tensors, f"blocks.{i}.attention.out")[1] != shape.dim:
                raise InputError("an encoder whose heads were pruned cannot run in one compiled call: run it as it is")
        self.dim, self.threads, self._bidirectional = shape.dim, threads, shape.bidirectional
        gated = shape.block == "ligr"
        layers = [_pack_layer(under(tensors, f"blocks.{i}."), gated, fixed) for i in range(shape.layers)]
        self._net = _net(shape, tensors, layers, gated, fixed)
        self._work = sum(len(p.weights) // (2 if fixed else 1) for layer in layers[:-1] for p in layer if p) or 1
        self._kept = threading.local()

    def encode(self, items_ND: F32, histories: Jagged) -> F32:
        """items_ND: (N, D) contiguous float32, read-only or not."""
        out_BD = np.empty((len(histories), self.dim), np.float32)
        tokens = len(histories.values) + self._bidirectional * len(histories)
        threads = min(self.threads, max(1, self._work * tokens // _WORTH_THREADS))
        sequences, panels = self._sequences(histories, threads)
        room = self._room(tokens, panels, int(histories.lengths.max()) + self._bidirectional)
        if threads > 1 and _SHARED.acquire(blocking=False):
            try:
                encoding.encode_parallel(self._net, items_ND, room, sequences, out_BD)
            finally:
                _SHARED.release()
        else:
            encoding.encode(self._net, items_ND, room, sequences, out_BD)
        return out_BD

    def _sequences(self, histories: Jagged, threads: int) -> tuple[Sequences, int]:
        rows, offsets = histories.values, histories.offsets
        if self._bidirectional:
            rows = np.insert(rows, offsets[1:], -1)
            offsets = offsets + np.arange(len(offsets))
        lengths = np.diff(offsets)
        panels_B = -(-lengths // LANES)
        base_B = np.cumsum(panels_B) - panels_B
        start_T, end_T, base_T = (np.repeat(one, lengths) for one in (offsets[:-1], offsets[1:], base_B))
        parts = len(rows) * np.arange(threads + 1) // threads
        rows = np.ascontiguousarray(rows, np.int32)
        return Sequences(rows, start_T, end_T, base_T, offsets[1:] - 1, parts), int(panels_B.sum())

    def _room(self, tokens: int, panels: int, longest: int) -> Room:
        """Scratch for so many tokens: what is kept, or larger."""
        kept: tuple[tuple[int, int, int], Room] | None = getattr(self._kept, "room", None)
        if kept is not None and all(
            has >= wants for has, wants in zip(kept[0], (tokens, panels, longest), strict=True)
        ):
            return kept[1]
        before = (0, 0, 0) if kept is None else kept[0]
        size = tuple(max(has, wants) for has, wants in zip(before, (tokens, panels, longest), strict=True))
        room = _new_room(self._net, self.dim, self.threads, *size)
        self._kept.room = size, room
        return room


def _new_room(net: Net, dim: int, threads: int, tokens: int, panels: int, longest: int) -> Room:
    width, hidden = padded(dim), padded(int(net.hidden.max(initial=1)))
    size = dim // net.heads
    block, most = encoding.BLOCK + ROWS, max(3 * width, (1 + net.gated) * hidden)

    def empty(*shape: int) -> F32:
        return np.zeros(shape, np.float32)

    return Room(
        x=empty(tokens * width), q=empty((tokens + ROWS) * width), keys=empty(2, panels * dim * LANES),
        values=empty(2, net.heads * padded(size) * tokens), wide=empty(threads, block * most),
        side=empty(threads, block * (width + LANES)),
        codes=np.zeros((threads, block * max(width, hidden)), net.weights.dtype), units=empty(threads, block),
        scores=empty(threads, ROWS * padded(longest)), shares=empty(threads, ROWS),
    )  # fmt: skip


def _net(
    shape: TransformerShape,
    tensors: Mapping[str, npt.NDArray[Any]],
    layers: list[list[Packed | None]],
    gated: bool,
    fixed: bool,
) -> Net:
    dim, kind = shape.dim, np.int16 if fixed else np.float32
    plan = np.zeros((shape.layers, 6, 4), np.int64)
    weights, scales, biases = [np.zeros(0, kind)], [np.zeros(0, np.float32)], [np.zeros(0, np.float32)]
    w_at = scale_at = 0
    for layer, matrices in enumerate(layers):
        for which, packed in enumerate(matrices):
            if packed is None:
                continue
            plan[layer, which] = w_at, scale_at, packed.steps, packed.top
            weights.append(packed.weights)
            scales.append(packed.scales)
            biases.append(packed.biases)
            w_at, scale_at = w_at + len(packed.weights), scale_at + len(packed.scales)
    hidden = np.array([dense_size(tensors, f"blocks.{i}.down")[1] for i in range(shape.layers)], np.int64)
    names = [f"blocks.{i}.norm{n}" for i in range(shape.layers) for n in (1, 2)]
    norms = np.stack([[tensors[f"{name}.{part}"] for part in ("weight", "bias")] for name in [*names, "norm"]])
    nothing = np.zeros((1, 0), np.float32)
    cos_PW, sin_PW = rotation_of(shape) if shape.positions == "rotary" else (nothing, nothing)
    positions = tensors["positions.weight"] if shape.positions == "learned" else np.zeros((0, dim), np.float32)
    return Net(
        np.concatenate(weights), np.concatenate(scales), np.concatenate(biases), plan, hidden,
        norms.astype(np.float32), np.array(positions, np.float32),
        np.array(tensors["mask_D"] if shape.bidirectional else np.zeros(dim), np.float32), cos_PW, sin_PW,
        shape.heads, gated, not shape.bidirectional, np.ones(LANES, np.float32), np.zeros(LANES, np.float32),
        np.full(ROWS, (dim // shape.heads) ** -0.5, np.float32),
    )  # fmt: skip
