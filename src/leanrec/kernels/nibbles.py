"""Inner products of 4-bit codes of eight rows at a time with 8-bit queries: the innermost loop of a scan of planes.

Codes of eight rows stand together: G groups of 8 rows x 4 bytes, a byte holding codes of dimensions p and D/2 + p (low
and high half), so that a register holds the same four dimensions of all eight rows, sums of products stay in place,
and no sum across a register is needed. Where the processor multiplies bytes and adds pairs (AVX2), that instruction is
named here: compilers do not find it. A code is 0 .. 15 and a query at most 127, so that eight such pairs fit 16 bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.registry import cpu_target
from numba.extending import intrinsic

from leanrec.kernels.jit import jit

__all__ = ["GROUPS", "ROWS", "block_dots", "eight_dots", "eight_dots_reference", "groups_of", "spread_query"]

ROWS = 8
GROUPS = 4
"""Groups are a multiple of this, so D counts as a multiple of 32."""


def groups_of(dim: int) -> int:
    """G for vectors of D dimensions: 8 dimensions a group, a multiple of 4 groups."""
    return max(1, -(-dim // 32)) * GROUPS


def spread_query(coded_BD: npt.NDArray[np.integer], groups: int) -> npt.NDArray[np.int8]:
    """(B, G, 2, 8, 4) int8: each group's four low and four high dimensions, once for each of the eight rows."""
    batch, dim = coded_BD.shape
    wide = np.zeros((batch, 8 * groups), np.int8)
    wide[:, :dim] = coded_BD
    halves = wide.reshape(batch, 2, groups, 1, 4).transpose(0, 2, 1, 3, 4)
    return np.ascontiguousarray(np.broadcast_to(halves, (batch, groups, 2, ROWS, 4)))


def _has_avx2() -> bool:
    features: str = cpu_target.target_context.codegen()._tm_features
    return "+avx2" in features


FAST = _has_avx2()


def _several(queries: int) -> Any:
    """An intrinsic (codes, queries, step, chunks, dots, step): addresses, bytes from one query (result) to the next.

    chunks: groups / 4. The codes are taken apart once for all queries; writes eight int32 for each of them.
    """

    @intrinsic
    def dots(typingctx: Any, codes: Any, query: Any, step: Any, chunks: Any, dots: Any, dots_step: Any) -> Any:
        signature = types.void(types.uintp, types.uintp, types.intp, types.intp, types.uintp, types.intp)
        return signature, _generate

    def _generate(context: Any, builder: Any, _: Any, arguments: Any) -> Any:
        bytes32, words16, ints8 = (ir.VectorType(ir.IntType(b), n) for b, n in ((8, 32), (16, 16), (32, 8)))
        madd_bytes, madd_words = (
            cgutils.get_or_insert_function(  # type: ignore[no-untyped-call]
                builder.module, ir.FunctionType(result, [part, part]), name)
            for result, part, name in (
                (words16, bytes32, "llvm.x86.avx2.pmadd.ub.sw"), (ints8, words16, "llvm.x86.avx2.pmadd.wd")
            )
        )  # fmt: skip
        code_at, query_at, query_step, count, dots_at, dots_step = arguments
        word = code_at.type
        mask, shift = ir.Constant(bytes32, [15] * 32), ir.Constant(words16, [4] * 16)
        totals = [
            cgutils.alloca_once_value(builder, ir.Constant(ints8, [0] * 8))  # type: ignore[no-untyped-call]
            for _ in range(queries)
        ]
        starts = [
            builder.add(query_at, builder.mul(query_step, ir.Constant(word, number))) for number in range(queries)
        ]

        def load(address: Any, offset: int) -> Any:
            place = builder.inttoptr(builder.add(address, ir.Constant(word, offset)), bytes32.as_pointer())
            return builder.load(place, align=1)

        with cgutils.for_range(builder, count, intp=word) as loop:
            codes_here = builder.add(code_at, builder.mul(loop.index, ir.Constant(word, GROUPS * 32)))
            here = builder.mul(loop.index, ir.Constant(word, GROUPS * 64))
            sums = [ir.Constant(words16, [0] * 16)] * queries
            for group in range(GROUPS):
                packed = load(codes_here, 32 * group)
                low = builder.and_(packed, mask)
                high = builder.bitcast(builder.lshr(builder.bitcast(packed, words16), shift), bytes32)
                for half, part in enumerate((low, builder.and_(high, mask))):
                    for number in range(queries):
                        query_part = load(builder.add(starts[number], here), 64 * group + 32 * half)
                        sums[number] = builder.add(sums[number], builder.call(madd_bytes, [part, query_part]))
            for number in range(queries):
                part = builder.call(madd_words, [sums[number], ir.Constant(words16, [1] * 16)])
                builder.store(builder.add(builder.load(totals[number]), part), totals[number])
        for number in range(queries):
            address = builder.add(dots_at, builder.mul(dots_step, ir.Constant(word, number)))
            builder.store(
                builder.load(totals[number]), builder.inttoptr(address, ints8.as_pointer()), align=1
            )  # fmt: skip
        return context.get_dummy_value()

    return dots


_one_query, _four_queries = _several(1), _several(4)


@jit
def _eight_dots_plain(codes_G84: Any, query_G284: Any, dots_8: Any) -> None:
    for r in range(ROWS):
        dots_8[r] = 0
    for g in range(len(codes_G84)):
        for r in range(ROWS):
            for j in range(4):
                packed = np.int32(codes_G84[g, r, j])
                dots_8[r] += (packed & 15) * np.int32(query_G284[g, 0, r, j])
                dots_8[r] += (packed >> 4) * np.int32(query_G284[g, 1, r, j])


@jit
def _eight_dots_fast(codes_G84: Any, query_G284: Any, dots_8: Any) -> None:
    _one_query(codes_G84.ctypes.data, query_G284.ctypes.data, 0, len(codes_G84) // GROUPS, dots_8.ctypes.data, 0)


eight_dots = _eight_dots_fast if FAST else _eight_dots_plain
"""(G, 8, 4) uint8 codes, a query as `spread_query` makes it, (8,) int32 to write: sums of code * query."""


@jit
def _block_dots_fast(codes_MG84: Any, queries_QG284: Any, dots_Qn: Any) -> None:
    chunks, size = codes_MG84.shape[1] // GROUPS, queries_QG284[0].size
    step = 4 * dots_Qn.shape[1]
    for q in range(0, len(queries_QG284), 4):
        if q + 4 <= len(queries_QG284):
            for m in range(len(codes_MG84)):
                _four_queries(
                    codes_MG84[m].ctypes.data, queries_QG284[q].ctypes.data, size, chunks,
                    dots_Qn[q, 8 * m :].ctypes.data, step,
                )  # fmt: skip
        else:
            for left in range(q, len(queries_QG284)):
                for m in range(len(codes_MG84)):
                    eight_dots(codes_MG84[m], queries_QG284[left], dots_Qn[left, 8 * m : 8 * m + 8])


@jit
def _block_dots_plain(codes_MG84: Any, queries_QG284: Any, dots_Qn: Any) -> None:
    for q in range(len(queries_QG284)):
        for m in range(len(codes_MG84)):
            eight_dots(codes_MG84[m], queries_QG284[q], dots_Qn[q, 8 * m : 8 * m + 8])


block_dots = _block_dots_fast if FAST else _block_dots_plain
"""`eight_dots` of M times eight rows with Q queries; dots_Qn: (Q, at least 8 M) int32, C order."""


def eight_dots_reference(codes_G84: npt.NDArray[np.uint8], query_G284: npt.NDArray[np.int8]) -> npt.NDArray[np.int32]:
    """What `eight_dots` writes, in NumPy."""
    low, high = (codes_G84 & 15).astype(np.int64), (codes_G84 >> 4).astype(np.int64)
    wide = query_G284.astype(np.int64)
    dots_8: npt.NDArray[np.int64] = (low * wide[:, 0] + high * wide[:, 1]).sum(axis=(0, 2))
    return dots_8.astype(np.int32)
