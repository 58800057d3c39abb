"""The loops of kernels.dropout where some of the values are bfloat16 (as uint16), converted on the way through."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from leanrec.kernels.dropout import hashed
from leanrec.kernels.jit import jit, jit_inline

__all__ = ["add_dropped_bf16", "drop_to_bf16", "narrow", "relu_drop_bf16", "relu_drop_grad_bf16", "widen"]

F32 = npt.NDArray[np.float32]
U16 = npt.NDArray[np.uint16]


@jit_inline
def _wide(bits: Any) -> Any:
    return np.uint32(np.uint32(bits) << np.uint32(16)).view(np.float32)


@jit_inline
def _narrow(value: Any) -> Any:
    """To the nearest, ties to even; a finite value."""
    bits = np.float32(value).view(np.uint32)
    return np.uint16((bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16))


@jit
def drop_to_bf16(x_E: F32, share: float, seed: int, out_E: U16, low: int, high: int) -> None:
    """out = drop(x), rounded."""
    limit = np.uint32(share * 4294967296.0)
    scale = np.float32(1.0 / (1.0 - share))
    for i in range(low, high):
        value = _narrow(x_E[i] * scale)
        out_E[i] = value if hashed(i, seed) >= limit else np.uint16(0)


@jit
def add_dropped_bf16(x_E: F32, update_E: U16, share: float, seed: int, out_E: F32, low: int, high: int) -> None:
    """out = x + drop(update)."""
    limit = np.uint32(share * 4294967296.0)
    scale = np.float32(1.0 / (1.0 - share))
    for i in range(low, high):
        value = _wide(update_E[i]) * scale
        out_E[i] = x_E[i] + (value if hashed(i, seed) >= limit else np.float32(0.0))


@jit
def relu_drop_bf16(x_E: U16, share: float, seed: int, out_E: U16, low: int, high: int) -> None:
    """out = drop(max(x, 0)), rounded."""
    limit = np.uint32(share * 4294967296.0)
    scale = np.float32(1.0 / (1.0 - share))
    for i in range(low, high):
        value = _narrow(_wide(x_E[i]) * scale)
        out_E[i] = value if (x_E[i] < np.uint16(0x8000)) & (hashed(i, seed) >= limit) else np.uint16(0)


@jit
def relu_drop_grad_bf16(grad_E: U16, out_E: U16, share: float, result_E: U16, low: int, high: int) -> None:
    """The gradient of relu_drop_bf16's input: what came through is not zero, so its output is the mask."""
    scale = np.float32(1.0 / (1.0 - share))
    for i in range(low, high):
        value = _narrow(_wide(grad_E[i]) * scale)  # computed for all, so that the loop vectorises
        result_E[i] = value if out_E[i] != np.uint16(0) else np.uint16(0)


def widen(bits_E: U16) -> F32:
    """float32 of bfloat16, plain."""
    return (bits_E.astype(np.uint32) << 16).view(np.float32)


def narrow(values_E: F32) -> U16:
    """bfloat16 of float32, to the nearest, ties to even; plain."""
    bits = values_E.view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
