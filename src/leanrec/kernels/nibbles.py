"""Inner products of 4-bit codes of eight rows at a time with 8-bit queries: the innermost loop of a scan of planes.

Codes of eight rows stand together: G groups of 8 rows x 4 bytes, a byte holding codes of dimensions p and D/2 + p (low
and high half), so that a register holds the same four dimensions of all eight rows, sums of products stay in place,
and no sum across a register is needed. Where the processor multiplies bytes and adds pairs (AVX2), that instruction is
named here: compilers do not find it. A code is 0 .. 15 and a query at most 127, so that eight such pairs fit 16 bits.
Where it also adds four products to 32 bits (AVX-512 VNNI), low and high halves of a group are one register of 64 codes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.registry import cpu_target
from numba.extending import intrinsic

from leanrec.kernels.jit import jit, jit_inline

__all__ = [
    "GROUPS", "ROWS", "WIDE", "address_of", "block_dots", "dots_at", "eight_dots", "eight_dots_reference", "groups_of",
    "spread_query",
]  # fmt: skip

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


def _has(*wanted: str) -> bool:
    features: str = cpu_target.target_context.codegen()._tm_features
    return all(f"+{one}" in features.split(",") for one in wanted)


FAST = _has("avx2")
WIDE = _has("avx512f", "avx512vnni")


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


def _wide(queries: int) -> Any:
    """As `_several`, 64 codes at a time with vpdpbusd."""

    @intrinsic
    def dots(typingctx: Any, codes: Any, query: Any, step: Any, chunks: Any, dots: Any, dots_step: Any) -> Any:
        signature = types.void(types.uintp, types.uintp, types.intp, types.intp, types.uintp, types.intp)
        return signature, _generate

    def _generate(context: Any, builder: Any, _: Any, arguments: Any) -> Any:
        bytes32, bytes64, words8, ints16, ints8 = (
            ir.VectorType(ir.IntType(b), n) for b, n in ((8, 32), (8, 64), (64, 8), (32, 16), (32, 8))
        )
        add_products = cgutils.get_or_insert_function(  # type: ignore[no-untyped-call]
            builder.module, ir.FunctionType(ints16, [ints16] * 3), "llvm.x86.avx512.vpdpbusd.512"
        )
        code_at, query_at, query_step, count, dots_at, dots_step = arguments
        word = code_at.type
        shifts = ir.Constant(words8, [0] * 4 + [4] * 4)
        mask = ir.Constant(bytes64, [15] * 64)
        twice = ir.Constant(ir.VectorType(ir.IntType(32), 64), [*range(32)] * 2)
        halves = [ir.Constant(ints8, [*range(8 * half, 8 * half + 8)]) for half in (0, 1)]
        totals = [
            cgutils.alloca_once_value(builder, ir.Constant(ints16, [0] * 16))  # type: ignore[no-untyped-call]
            for _ in range(queries)
        ]
        starts = [
            builder.add(query_at, builder.mul(query_step, ir.Constant(word, number))) for number in range(queries)
        ]

        def load(address: Any, offset: int, kind: Any) -> Any:
            place = builder.inttoptr(builder.add(address, ir.Constant(word, offset)), kind.as_pointer())
            return builder.load(place, align=1)

        with cgutils.for_range(builder, count, intp=word) as loop:
            codes_here = builder.add(code_at, builder.mul(loop.index, ir.Constant(word, GROUPS * 32)))
            here = builder.mul(loop.index, ir.Constant(word, GROUPS * 64))
            sums = [builder.load(total) for total in totals]
            for group in range(GROUPS):
                packed = load(codes_here, 32 * group, bytes32)
                both = builder.bitcast(builder.shuffle_vector(packed, packed, twice), words8)
                part = builder.and_(builder.bitcast(builder.lshr(both, shifts), bytes64), mask)
                for number in range(queries):
                    query_part = load(builder.add(starts[number], here), 64 * group, ints16)
                    sums[number] = builder.call(add_products, [sums[number], builder.bitcast(part, ints16), query_part])
            for total, part in zip(totals, sums, strict=True):
                builder.store(part, total)
        for number in range(queries):
            total = builder.load(totals[number])
            low, high = (builder.shuffle_vector(total, total, half) for half in halves)
            address = builder.add(dots_at, builder.mul(dots_step, ir.Constant(word, number)))
            builder.store(builder.add(low, high), builder.inttoptr(address, ints8.as_pointer()), align=1)
        return context.get_dummy_value()

    return dots


_one_query, _four_queries = (_wide(1), _wide(4)) if WIDE else (_several(1), _several(4))


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


def _address(typingctx: Any, array: Any) -> Any:
    """Where an array's values are, without counting another reference to it: counts are what threads would wait for."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        return builder.ptrtoint(data, context.get_value_type(types.uintp))

    return types.uintp(array), generate


address_of: Any = intrinsic(_address)


@jit
def _block_dots_fast(codes_MG84: Any, queries_QG284: Any, dots_Qn: Any) -> None:
    groups = codes_MG84.shape[1]
    chunks, code_step, size, step = groups // GROUPS, 32 * groups, 64 * groups, 4 * dots_Qn.shape[1]
    codes_at, queries_at, sums_at = address_of(codes_MG84), address_of(queries_QG284), address_of(dots_Qn)
    for q in range(0, len(queries_QG284), 4):
        if q + 4 <= len(queries_QG284):
            for m in range(len(codes_MG84)):
                _four_queries(
                    codes_at + np.uintp(m * code_step), queries_at + np.uintp(q * size), size, chunks,
                    sums_at + np.uintp(q * step + 32 * m), step,
                )  # fmt: skip
        else:
            for left in range(q, len(queries_QG284)):
                for m in range(len(codes_MG84)):
                    _one_query(
                        codes_at + np.uintp(m * code_step), queries_at + np.uintp(left * size), size, chunks,
                        sums_at + np.uintp(left * step + 32 * m), step,
                    )  # fmt: skip


@jit_inline
def _dots_at_fast(codes_MG84: Any, m: Any, queries_QG284: Any, q: Any, dots_n: Any, at: Any) -> None:
    groups = codes_MG84.shape[1]
    _one_query(
        address_of(codes_MG84) + np.uintp(32 * groups * m), address_of(queries_QG284) + np.uintp(64 * groups * q), 0,
        groups // GROUPS, address_of(dots_n) + np.uintp(4 * at), 0,
    )  # fmt: skip


@jit
def _dots_at_plain(codes_MG84: Any, m: Any, queries_QG284: Any, q: Any, dots_n: Any, at: Any) -> None:
    _eight_dots_plain(codes_MG84[m], queries_QG284[q], dots_n[at : at + ROWS])


dots_at = _dots_at_fast if FAST else _dots_at_plain
"""`eight_dots` of rows 8 m .. 8 m + 7 with query q, written to dots_n[at : at + 8]."""


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
