"""Product codes: a row is M numbers, each of one of 256 pieces of W values; reading, assigning and scoring them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from leanrec.kernels.candidates import BLOCK
from leanrec.kernels.heap import listed, replace_least
from leanrec.kernels.jit import jit, jit_fast_inline, jit_parallel, prange

__all__ = [
    "assign_codes",
    "assign_codes_reference",
    "expand_rows",
    "expand_rows_reference",
    "gather_codes",
    "pruned_product",
    "score_product",
    "score_product_parallel",
    "score_product_reference",
]

F32 = npt.NDArray[np.float32]
U8 = npt.NDArray[np.uint8]
_RUN = 1024 // BLOCK


@jit
def gather_codes(
    codes_NM: U8, pieces_MCW: F32, sizes_N: U8, levels_S: F32, rows_U: npt.NDArray[np.int64], out_UD: F32
) -> None:
    """out[u] = the pieces of row rows[u] end to end, times the level of its size; what is beyond D is left out."""
    splits, width, dim = codes_NM.shape[1], pieces_MCW.shape[2], out_UD.shape[1]
    for u in range(len(rows_U)):
        level = levels_S[sizes_N[rows_U[u]]]
        for m in range(splits):
            code = codes_NM[rows_U[u], m]
            for w in range(min(width, dim - m * width)):
                out_UD[u, m * width + w] = level * pieces_MCW[m, code, w]


@jit_fast_inline
def _distance(left_W: Any, right_W: Any) -> Any:
    total = np.float32(0)
    for w in range(len(left_W)):
        rest = left_W[w] - right_W[w]
        total += rest * rest
    return total


@jit_parallel
def assign_codes(parts_NMW: F32, pieces_MCW: F32, codes_NM: U8) -> None:
    """The nearest piece of every split of every row; of equally near ones any."""
    for n in prange(len(parts_NMW)):
        for m in range(pieces_MCW.shape[0]):
            best, least = 0, np.float32(np.inf)
            for c in range(pieces_MCW.shape[1]):
                distance = _distance(parts_NMW[n, m], pieces_MCW[m, c])
                if distance < least:
                    best, least = c, distance
            codes_NM[n, m] = best


def assign_codes_reference(parts_NMW: F32, pieces_MCW: F32) -> U8:
    """What `assign_codes` finds, in NumPy."""
    wide = parts_NMW[:, :, None].astype(np.float64) - pieces_MCW[None].astype(np.float64)
    return np.asarray(np.square(wide).sum(axis=3).argmin(axis=2), np.uint8)


def _score_product(
    codes_NM: U8, sizes_N: U8, levels_S: F32, partial_BMC: F32, blocks_M: npt.NDArray[np.int32], out_Bn: F32
) -> None:
    """(B, BLOCK M) sums of the partial scores of the sub-ids of the rows of blocks, in order of split, times the level
    of a row's size; -inf behind the last row."""
    size, splits = codes_NM.shape
    count = len(blocks_M)
    for chunk in prange((count + _RUN - 1) // _RUN):
        for b in range(len(out_Bn)):
            partial_MC = partial_BMC[b]
            for at in range(chunk * _RUN, min((chunk + 1) * _RUN, count)):
                first = BLOCK * np.int64(blocks_M[at])
                last = min(first + BLOCK, size)
                codes_nM, sizes_n = codes_NM[first:last], sizes_N[first:last]
                out_n = out_Bn[b, BLOCK * at : BLOCK * (at + 1)]
                for i in range(len(codes_nM)):
                    total = np.float32(0)
                    for m in range(splits):
                        total += partial_MC[m, codes_nM[i, m]]
                    out_n[i] = levels_S[sizes_n[i]] * total
                out_n[last - first :] = -np.inf


score_product = jit(_score_product)
score_product_parallel = jit_parallel(_score_product)


def score_product_reference(codes_NM: U8, sizes_N: U8, levels_S: F32, partial_MC: F32) -> npt.NDArray[np.float64]:
    """(N,) what `score_product` comes close to, in NumPy."""
    splits = np.arange(codes_NM.shape[1])
    return np.asarray(levels_S[sizes_N] * partial_MC.astype(np.float64)[splits, codes_NM].sum(axis=1))


@jit
def expand_rows(factors_UR: F32, basis_RD: F32, out_UD: F32) -> None:
    """out = factors @ basis, each value summed in float64 in order of R: a row's bits do not depend on the others."""
    dim = out_UD.shape[1]
    total_D = np.empty(dim, np.float64)
    for u in range(len(out_UD)):
        total_D[:] = 0.0
        for r in range(len(basis_RD)):
            factor = np.float64(factors_UR[u, r])
            for d in range(dim):
                total_D[d] += factor * np.float64(basis_RD[r, d])
        for d in range(dim):
            out_UD[u, d] = np.float32(total_D[d])


def expand_rows_reference(factors_UR: F32, basis_RD: F32) -> F32:
    total_UD = np.zeros((len(factors_UR), basis_RD.shape[1]))
    for r in range(len(basis_RD)):
        total_UD += factors_UR[:, r, None].astype(np.float64) * basis_RD[r].astype(np.float64)
    return total_UD.astype(np.float32)


@jit
def _advance(
    partial_MC: Any, order_MC: Any, starts_MS: Any, taken_M: Any, levels_S: Any, order_S: Any
) -> Any:  # fmt: skip
    """The most that a row without any list taken can score, the next list to take, and whether none is left."""
    splits, pieces = order_MC.shape
    total = 0.0
    for m in range(splits):
        if taken_M[m] == pieces:
            return 0.0, 0, True
        total += np.float64(partial_MC[m, order_MC[m, taken_M[m]]])
    if taken_M[splits] == len(order_S):
        return 0.0, 0, True
    level = np.float64(levels_S[order_S[taken_M[splits]]])
    lowest = np.float64(levels_S[order_S[len(order_S) - 1]])
    chosen, gain = 0, -np.inf
    for m in range(splits + 1):
        at, last = taken_M[m], (pieces if m < splits else len(order_S)) - 1
        if m < splits:
            entry, after = order_MC[m, at], order_MC[m, min(at + 1, last)]
            fall = level * (np.float64(partial_MC[m, entry]) - np.float64(partial_MC[m, after]))
        else:
            entry = order_S[at]
            fall = max(total, 0.0) * (level - np.float64(levels_S[order_S[min(at + 1, last)]]))
        worth = fall / (np.float64(starts_MS[m, entry + 1] - starts_MS[m, entry]) + 16.0)
        if worth > gain and (at < last or m < splits):
            gain, chosen = worth, m
    return max(total * level, total * lowest), chosen, False


@jit
def pruned_product(
    codes_NM: U8, sizes_N: U8, levels_S: F32, postings_MN: Any, starts_MS: Any, partial_MC: F32, order_MC: Any,
    order_S: Any, radius: Any, heap_K: Any, rows_C: Any, kept_C: Any, limit: Any, exclude_E: Any, allowed_N: Any,
) -> Any:  # fmt: skip
    """Score rows by falling best sub-id until no row that is left can win: (kept, scored, whether it is proven).

    Rows come list by list: those that have a sub-id, or a length, the largest not taken yet. A row in none of the lists
    taken scores at most its largest possible length times the sum over the splits of the best sub-id left: once that
    falls behind the k-th best, the rest cannot win (the dynamic pruning of Petrov et al. 2025, RecJPQPrune). The list
    taken next is the one that lowers the bound most for each of its rows. Ends without a proof after `limit` rows, or
    when rows_C is full.
    postings_MN, starts_MS: rows by split and sub-id, lengths last. order_MC, order_S: sub-ids by falling score, lengths
    by falling size.
    """
    splits, pieces = order_MC.shape
    taken_M = np.zeros(splits + 1, np.int64)
    rank_MC = np.empty((splits, pieces), np.int64)
    for m in range(splits):
        for place in range(pieces):
            rank_MC[m, order_MC[m, place]] = place
    rank_S = np.empty(len(order_S), np.int64)
    for place in range(len(order_S)):
        rank_S[order_S[place]] = place
    count, scored = 0, 0
    reach = np.float32(2 * radius)
    while True:
        bound, chosen, done = _advance(partial_MC, order_MC, starts_MS, taken_M, levels_S, order_S)
        if done or bound < np.float64(heap_K[0]) - 2 * radius:
            return count, scored, True
        entry = order_MC[chosen, taken_M[chosen]] if chosen < splits else order_S[taken_M[chosen]]
        first, last = starts_MS[chosen, entry], starts_MS[chosen, entry + 1]
        if scored + last - first > limit or count + last - first > len(rows_C):
            return count, scored, False
        for at in range(first, last):
            row = postings_MN[chosen, at]
            total = np.float32(0)
            seen = rank_S[sizes_N[row]] < taken_M[splits]
            for m in range(splits):
                code = codes_NM[row, m]
                total += partial_MC[m, code]
                seen |= rank_MC[m, code] < taken_M[m]
            total *= levels_S[sizes_N[row]]
            if seen or total < heap_K[0] - reach or (len(allowed_N) > 0 and not allowed_N[row]):
                continue
            if listed(exclude_E, 0, len(exclude_E), row):
                continue
            rows_C[count] = row
            kept_C[count] = total
            count += 1
            if total > heap_K[0]:
                replace_least(heap_K, 0, len(heap_K), total)
        scored += last - first
        taken_M[chosen] += 1
