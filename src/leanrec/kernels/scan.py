"""Rows as int8 codes with residuals, and a scan that turns float32 scores of a product into bounds for `topk`."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from leanrec.kernels.candidates import BLOCK, run_of
from leanrec.kernels.jit import jit, jit_fast, jit_parallel, prange
from leanrec.kernels.topk import State, finish, merge, offer

__all__ = [
    "LEVELS",
    "finish_all",
    "finish_all_parallel",
    "offer_scores",
    "quantize_rows",
    "quantize_rows_reference",
    "score_blocks",
    "score_blocks_parallel",
    "score_rows",
    "score_rows_parallel",
]

_BLOCK = 1024
_RUN = _BLOCK // BLOCK
LEVELS = 255
"""A residual norm is kept as level / LEVELS of the largest possible one, rounded up."""


@jit
def quantize_rows(items_ND: Any) -> Any:
    """int8 codes (N, D), float32 scales (N), uint8 residual levels (N).

    x = scale * code + r with |r_d| <= scale / 2, hence ||r|| <= scale * sqrt(D) / 2; the level says which fraction of
    that is reached, rounded up: ||r|| <= scale * sqrt(D) / 2 * (1 + 1e-6) * level / LEVELS.
    """
    size, dim = items_ND.shape
    codes_ND = np.zeros((size, dim), np.int8)
    scales_N = np.zeros(size, np.float32)
    levels_N = np.zeros(size, np.uint8)
    for n in range(size):
        largest = 0.0
        for d in range(dim):
            largest = max(largest, abs(np.float64(items_ND[n, d])))
        if largest == 0:
            continue
        scale = np.float32(largest / 127 * (1 + 1e-6))
        if scale < 1e-35:  # float32 is too coarse down here: code zero, and all of the row is residual
            scale = np.float32(2.1 * largest + 1e-44)
        residual = 0.0
        for d in range(dim):
            code = np.rint(np.float64(items_ND[n, d]) / np.float64(scale))
            codes_ND[n, d] = np.int8(code)
            rest = np.float64(items_ND[n, d]) - np.float64(scale) * code
            residual += rest * rest
        share = np.sqrt(residual) / (np.float64(scale) * np.sqrt(np.float64(dim)) / 2)
        scales_N[n] = scale
        levels_N[n] = np.uint8(min(np.ceil(share * (1 - 5e-7) * LEVELS), LEVELS))
    return codes_ND, scales_N, levels_N


def quantize_rows_reference(
    items_ND: npt.NDArray[np.float32],
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
    """What `quantize_rows` computes, in NumPy."""
    wide_ND = items_ND.astype(np.float64)
    largest_N = np.abs(wide_ND).max(axis=1, initial=0)
    scales_N = (largest_N / 127 * (1 + 1e-6)).astype(np.float32)
    coarse_N = scales_N < 1e-35
    scales_N[coarse_N] = (2.1 * largest_N[coarse_N] + 1e-44).astype(np.float32)
    scales_N[largest_N == 0] = 0
    safe_N = np.where(scales_N > 0, scales_N, 1).astype(np.float64)
    codes_ND = np.rint(wide_ND / safe_N[:, None])
    residual_N = np.sqrt(np.square(wide_ND - safe_N[:, None] * codes_ND).sum(axis=1))
    share_N = residual_N / (safe_N * np.sqrt(items_ND.shape[1]) / 2)
    levels_N = np.minimum(np.ceil(share_N * (1 - 5e-7) * LEVELS), LEVELS)
    return codes_ND.astype(np.int8), scales_N, levels_N.astype(np.uint8)


@jit_fast
def _score_block(items_nD: Any, query_D: Any, scores_n: Any) -> None:
    for i in range(len(scores_n)):
        total = np.float32(0)
        for d in range(items_nD.shape[1]):
            total += items_nD[i, d] * query_D[d]
        scores_n[i] = total


def _score_rows(items_nD: Any, query_D: Any, scores_n: Any) -> None:
    """(n,) float32 inner products, summed in any order: for one query, as fast as memory and without BLAS's threads."""
    size = len(scores_n)
    for block in prange((size + _BLOCK - 1) // _BLOCK):
        part = slice(block * _BLOCK, min((block + 1) * _BLOCK, size))
        _score_block(items_nD[part], query_D, scores_n[part])


def _score_blocks(items_ND: Any, queries_BD: Any, blocks_M: Any, out_Bn: Any) -> None:
    """(B, BLOCK M) `score_rows` of the rows of blocks; -inf behind the last row."""
    count = len(blocks_M)
    for chunk in prange((count + _RUN - 1) // _RUN):
        at, end = chunk * _RUN, min((chunk + 1) * _RUN, count)
        while at < end:
            run = run_of(blocks_M, at, end)
            first = BLOCK * np.int64(blocks_M[at])
            items_nD = items_ND[first : first + BLOCK * run]
            for b in range(len(out_Bn)):
                out_n = out_Bn[b, BLOCK * at : BLOCK * (at + run)]
                _score_block(items_nD, queries_BD[b], out_n[: len(items_nD)])
                out_n[len(items_nD) :] = -np.inf
            at += run


score_blocks = jit(_score_blocks)
score_blocks_parallel = jit_parallel(_score_blocks)
score_rows = jit(_score_rows)
score_rows_parallel = jit_parallel(_score_rows)


@jit
def offer_scores(
    state: State,
    scores_Bn: Any,
    norms_N: Any,
    facts_B2: Any,
    first: Any,
    items_ND: Any,
    queries_BD: Any,
    exclude_E: Any,
    exclude_offsets: Any,
    allowed_N: Any,
    low: Any,
) -> None:
    """Offer a block of float32 matrix-product scores of the queries from `low` on.

    facts_B2: radius = facts[0] * norm + facts[1].
    """
    size = scores_Bn.shape[1]
    lowers, uppers = np.empty(_BLOCK), np.empty(_BLOCK)
    for row in range(len(scores_Bn)):
        b = low + row
        slope, floor = facts_B2[b, 0], facts_B2[b, 1]
        excluded = exclude_E[exclude_offsets[b] : exclude_offsets[b + 1]]
        for start in range(0, size, _BLOCK):
            count = min(_BLOCK, size - start)
            for i in range(count):
                score = np.float64(scores_Bn[row, start + i])
                radius = slope * np.float64(norms_N[first + start + i]) + floor
                lowers[i] = score - radius
                uppers[i] = score + radius
            offer(
                state, 0, b, lowers[:count], uppers[:count], first + start, items_ND, queries_BD[b], excluded, allowed_N
            )


def _finish_all(state: State, items_ND: Any, queries_BD: Any, rows_BK: Any, scores_BK: Any) -> None:
    """Merge the scans of every query and write its best k."""
    for b in prange(len(queries_BD)):
        merge(state, b, items_ND, queries_BD[b])
        finish(state, b, items_ND, queries_BD[b], rows_BK[b], scores_BK[b])


finish_all = jit(_finish_all)
finish_all_parallel = jit_parallel(_finish_all)
