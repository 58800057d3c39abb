"""The loop of the NumPy HSTU engine: pointwise aggregated attention inside each sequence (see nn.blocks.hstu)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from leanrec.kernels.jit import jit_fast

__all__ = ["aggregate", "aggregate_reference", "silu"]

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]


@jit_fast
def silu(x_TE: F32) -> None:
    """x sigmoid(x) in place."""
    flat = x_TE.ravel()
    for i in range(flat.size):
        flat[i] = flat[i] / (np.float32(1.0) + np.exp(-flat[i]))


@jit_fast
def aggregate(
    q_QD: F32, k_TD: F32, v_TD: F32, first_Q: I64, at_Q: I64, position_HP: F32, time_HB: F32, times_T: F64
) -> F32:  # fmt: skip
    """(Q, D) sum over keys first..at of silu(q k / sqrt(d) + bias) v / P, head by head.

    Query i stands at token at_Q[i] of a sequence that begins at first_Q[i]. time_HB: the last column is for times that
    are NaN. times_T: Unix seconds, empty where there are none.
    """
    queries, dim = q_QD.shape
    heads, reach = position_HP.shape
    size = dim // heads
    scale, share = np.float32(1.0) / np.sqrt(np.float32(size)), np.float32(1.0) / np.float32(reach)
    unknown = time_HB.shape[1] - 1
    out = np.zeros((queries, dim), np.float32)
    longest = 1 + np.max(at_Q - first_Q)
    w, bucket_J = np.empty(longest, np.float32), np.empty(longest, np.int64)
    for i in range(queries):
        low, at = first_Q[i], at_Q[i]
        for j in range(low, at + 1):
            bucket_J[j - low] = unknown
            if len(times_T):
                elapsed = times_T[at] - times_T[j]
                if elapsed == elapsed:
                    bits = np.float32(np.float32(1.0) + np.float32(max(elapsed, 0.0))).view(np.int32)
                    bucket_J[j - low] = min((bits >> 23) - 127, unknown - 1)
        for h in range(heads):
            base = h * size
            for j in range(low, at + 1):
                dot = np.float32(0.0)
                for d in range(size):
                    dot += q_QD[i, base + d] * k_TD[j, base + d]
                bias = position_HP[h, min(at - j, reach - 1)] + time_HB[h, bucket_J[j - low]]
                w[j - low] = dot * scale + bias
            for j in range(at + 1 - low):
                w[j] = share * w[j] / (np.float32(1.0) + np.exp(-w[j]))
            for j in range(low, at + 1):
                for d in range(size):
                    out[i, base + d] += w[j - low] * v_TD[j, base + d]
    return out


def aggregate_reference(
    q_QD: F32, k_TD: F32, v_TD: F32, first_Q: I64, at_Q: I64, position_HP: F32, time_HB: F32, times_T: F64
) -> F32:  # fmt: skip
    heads, reach = position_HP.shape
    size = q_QD.shape[1] // heads
    out = np.empty_like(q_QD)
    for i, (low, at) in enumerate(zip(first_Q, at_Q, strict=True)):
        bucket_J = np.full(at + 1 - low, time_HB.shape[1] - 1)
        if len(times_T):
            elapsed_J = np.maximum(times_T[at] - times_T[low : at + 1], 0)
            known_J = ~np.isnan(elapsed_J)
            _, exponent_J = np.frexp(1 + elapsed_J[known_J].astype(np.float32))
            bucket_J[known_J] = np.minimum(exponent_J - 1, time_HB.shape[1] - 2)
        distance_J = np.minimum(at - np.arange(low, at + 1), reach - 1)
        for h in range(heads):
            part = slice(h * size, (h + 1) * size)
            score_J = k_TD[low : at + 1, part] @ q_QD[i, part] / np.sqrt(size)
            score_J += position_HP[h, distance_J] + time_HB[h, bucket_J]
            out[i, part] = (score_J / (1 + np.exp(-score_J)) / reach) @ v_TD[low : at + 1, part]
    return out
