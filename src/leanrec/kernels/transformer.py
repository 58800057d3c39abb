"""Loops of the NumPy transformer engine over packed tokens: normalisation, attention inside each sequence, activations.

Matrix products stay with BLAS; these are what lies between them. Reductions may be reordered by the compiler (fastmath
reassociation), so results match the references to float32 rounding, not bit for bit.
"""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt

from leanrec.kernels.exponential import exp
from leanrec.kernels.jit import jit_fast, jit_fast_inline

__all__ = [
    "attend", "attend_last", "attend_reference", "gated_add", "layer_norm", "layer_norm_reference", "relu", "rotate",
    "rotate_reference", "swiglu",
]  # fmt: skip

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]


@jit_fast
def layer_norm(x_TD: F32, weight_D: F32, bias_D: F32, eps: float) -> F32:
    """(x - mean) / sqrt(var + eps) * weight + bias over D, as torch.nn.LayerNorm."""
    tokens, dim = x_TD.shape
    out = np.empty_like(x_TD)
    for t in range(tokens):
        total = np.float32(0.0)
        for d in range(dim):
            total += x_TD[t, d]
        mean = total / np.float32(dim)
        square = np.float32(0.0)
        for d in range(dim):
            square += (x_TD[t, d] - mean) * (x_TD[t, d] - mean)
        scale = np.float32(1.0) / np.sqrt(square / np.float32(dim) + np.float32(eps))
        for d in range(dim):
            out[t, d] = (x_TD[t, d] - mean) * scale * weight_D[d] + bias_D[d]
    return out


def layer_norm_reference(x_TD: F32, weight_D: F32, bias_D: F32, eps: float) -> F32:
    centred = x_TD - x_TD.mean(axis=1, keepdims=True)
    out: F32 = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + np.float32(eps)) * weight_D + bias_D
    return out


@jit_fast_inline
def _attend_one(q_D: F32, k_TD: F32, v_TD: F32, low: int, high: int, dim: int, heads: int, w: F32, out_D: F32) -> None:
    """Softmax(q k / sqrt(d)) v of one query over keys low..high, head by head."""
    size = dim // heads
    scale = np.float32(1.0) / np.sqrt(np.float32(size))
    for h in range(heads):
        at = h * size
        top = np.float32(-np.inf)
        for j in range(low, high):
            dot = np.float32(0.0)
            for d in range(size):
                dot += q_D[at + d] * k_TD[j, at + d]
            w[j - low] = dot * scale
            top = max(top, w[j - low])
        total = np.float32(0.0)
        for j in range(high - low):
            w[j] = exp(w[j] - top)
            total += w[j]
        for d in range(size):
            out_D[at + d] = np.float32(0.0)
        for j in range(low, high):
            share = w[j - low] / total
            for d in range(size):
                out_D[at + d] += share * v_TD[j, at + d]


@jit_fast
def attend(qkv_TE: F32, offsets: I64, heads: int, causal: bool) -> F32:
    """(T, D) attention inside each sequence, to the past alone when `causal`. qkv_TE: (T, 3 D), side by side."""
    tokens, dim = qkv_TE.shape[0], qkv_TE.shape[1] // 3
    out = np.empty((tokens, dim), np.float32)
    k, v = qkv_TE[:, dim : 2 * dim], qkv_TE[:, 2 * dim :]
    w = np.empty(max(1, np.max(offsets[1:] - offsets[:-1])), np.float32)
    for s in range(len(offsets) - 1):
        for t in range(offsets[s], offsets[s + 1]):
            high = t + 1 if causal else offsets[s + 1]
            _attend_one(qkv_TE[t, :dim], k, v, offsets[s], high, dim, heads, w, out[t])
    return out


@jit_fast
def attend_last(q_BD: F32, kv_TE: F32, offsets: I64, heads: int) -> F32:
    """Attention of one query a sequence over all of its keys. kv_TE: (T, 2 D), keys and values. Returns (B, D)."""
    dim = kv_TE.shape[1] // 2
    out = np.empty_like(q_BD)
    k, v = kv_TE[:, :dim], kv_TE[:, dim:]
    w = np.empty(max(1, np.max(offsets[1:] - offsets[:-1])), np.float32)
    for s in range(len(offsets) - 1):
        _attend_one(q_BD[s], k, v, offsets[s], offsets[s + 1], dim, heads, w, out[s])
    return out


def attend_reference(qkv_TE: F32, offsets: I64, heads: int, causal: bool) -> F32:
    dim = qkv_TE.shape[1] // 3
    size = dim // heads
    out = np.empty((len(qkv_TE), dim), np.float32)
    for low, high in itertools.pairwise(offsets):
        q, k, v = (qkv_TE[low:high, i * dim : (i + 1) * dim].reshape(-1, heads, size) for i in range(3))
        logits = np.einsum("qhd,khd->hqk", q, k) / np.sqrt(size)
        if causal:
            logits[:, ~np.tri(high - low, dtype=np.bool_)] = -np.inf
        weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
        weights /= weights.sum(axis=-1, keepdims=True)
        out[low:high] = np.einsum("hqk,khd->qhd", weights, v).reshape(high - low, dim)
    return out


@jit_fast
def rotate(x_TE: F32, position_T: I64, heads: int, cos_PW: F32, sin_PW: F32) -> None:
    """Turn the first `heads` heads of each row by its position's angles, in place; W pairs (i, i + W) a head."""
    width = cos_PW.shape[1]
    for t in range(len(x_TE)):
        p = position_T[t]
        for h in range(heads):
            at = 2 * h * width
            for i in range(width):
                low, high = x_TE[t, at + i], x_TE[t, at + width + i]
                x_TE[t, at + i] = low * cos_PW[p, i] - high * sin_PW[p, i]
                x_TE[t, at + width + i] = low * sin_PW[p, i] + high * cos_PW[p, i]


def rotate_reference(x_TE: F32, position_T: I64, heads: int, cos_PW: F32, sin_PW: F32) -> None:
    turn_TW = cos_PW[position_T] + 1j * sin_PW[position_T]
    for h in range(heads):
        low, high = np.split(x_TE[:, 2 * h * cos_PW.shape[1] : 2 * (h + 1) * cos_PW.shape[1]], 2, axis=1)
        turned = (low + 1j * high) * turn_TW
        low[:], high[:] = turned.real, turned.imag


@jit_fast
def relu(x_TE: F32) -> None:
    """max(x, 0) in place."""
    flat = x_TE.ravel()
    for i in range(flat.size):
        flat[i] = max(flat[i], np.float32(0.0))


@jit_fast
def swiglu(x_TE: F32) -> F32:
    """value * gate * sigmoid(gate) of (T, 2 H) values and gates side by side. Returns (T, H)."""
    tokens, hidden = x_TE.shape[0], x_TE.shape[1] // 2
    out = np.empty((tokens, hidden), np.float32)
    for t in range(tokens):
        for h in range(hidden):
            gate = x_TE[t, hidden + h]
            out[t, h] = x_TE[t, h] * gate / (np.float32(1.0) + exp(-gate))
    return out


@jit_fast
def gated_add(x_TD: F32, update_TD: F32, gate_TD: F32) -> None:
    """x += update * sigmoid(gate), in place."""
    tokens, dim = x_TD.shape
    for t in range(tokens):
        for d in range(dim):
            x_TD[t, d] += update_TD[t, d] / (np.float32(1.0) + exp(-gate_TD[t, d]))
