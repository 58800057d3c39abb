"""Inner products of 8-bit codes of 32 rows at a time with 8-bit queries: the innermost loop of an int8 scan.

Codes of 32 rows stand together: G groups of 32 rows x 4 bytes, a byte holding code + 128, so that two registers hold
the same four dimensions of all rows, sums stay in place, and four bytes of a query go to all of them at once. Where the
processor adds four products of bytes to 32 bits (AVX-512 VNNI), that instruction is named here, for eight queries at a
time: compilers do not find it. Where it only adds two products of 16 bits (AVX2), that one is, for four queries: pairs
of products of these bytes may not fit 16 bits, so that its instruction for bytes is of no use.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from leanrec.kernels.jit import jit
from leanrec.kernels.nibbles import FAST, WIDE, address_of

__all__ = ["PANEL", "as_panels", "by_row", "groups_of", "lowest_bit", "panel_dots", "panel_dots_reference", "reaching"]

PANEL = 32
"""Rows that stand together."""
_I8, _I16, _I32, _I64, _F32 = ir.IntType(8), ir.IntType(16), ir.IntType(32), ir.IntType(64), ir.FloatType()


def groups_of(dim: int) -> int:
    """G for vectors of D dimensions, four dimensions a group."""
    return max(1, -(-dim // 4))


def as_panels(codes_ND: npt.NDArray[np.int8]) -> npt.NDArray[np.uint8]:
    """(M, G, 32, 4) of int8 codes row by row; rows and dimensions beyond the last are code 0."""
    size, dim = codes_ND.shape
    groups = groups_of(dim)
    wide = np.full((-(-size // PANEL) * PANEL, 4 * groups), 128, np.uint8)
    wide[:size, :dim] = codes_ND.view(np.uint8) ^ np.uint8(128)
    return np.ascontiguousarray(wide.reshape(-1, PANEL, groups, 4).transpose(0, 2, 1, 3))


def by_row(codes_MG: npt.NDArray[np.uint8]) -> npt.NDArray[np.int8]:
    """(32 M, 4 G) int8 codes row by row."""
    panels, groups = codes_MG.shape[:2]
    rows = codes_MG.transpose(0, 2, 1, 3).reshape(PANEL * panels, 4 * groups)
    return (rows ^ np.uint8(128)).view(np.int8)


def _at(builder: Any, address: Any, kind: Any) -> Any:
    return builder.load(builder.inttoptr(address, kind.as_pointer()), align=1, typ=kind)


def _spread(builder: Any, value: Any, kind: Any) -> Any:
    """A vector of that kind with one value everywhere."""
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), value, _I32(0))
    return builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(_I32, kind.count), [0] * kind.count))


def _tile(queries: int, *, wide: bool) -> Any:
    """An intrinsic (codes, queries, step, groups, dots, step): addresses, bytes from one query (result) to the next.

    Writes 32 int32 for each query: sums of (code + 128) * query over all groups, at least one. wide: with AVX-512 VNNI,
    two registers for the 32 rows; else with AVX2, 16 rows after 16 in two registers each.
    """
    lanes, passes = (16, 1) if wide else (8, 2)
    ints = ir.VectorType(_I32, lanes)

    @intrinsic
    def tile(typingctx: Any, codes: Any, query: Any, step: Any, groups: Any, dots: Any, dots_step: Any) -> Any:
        signature = types.void(types.uintp, types.uintp, types.intp, types.intp, types.uintp, types.intp)
        return signature, _generate

    def _generate(context: Any, builder: Any, _: Any, arguments: Any) -> Any:
        code_at, query_at, query_step, groups, dots_at, dots_step = arguments
        product = _bytes_product(builder, ints) if wide else _words_product(builder, ints)
        starts = [builder.add(query_at, builder.mul(query_step, _I64(number))) for number in range(queries)]
        for number in range(passes):
            offsets = [4 * lanes * (2 * number + half) for half in (0, 1)]
            sums = _summed(builder, product, ints, code_at, starts, groups, offsets)
            for query in range(queries):
                to = builder.add(dots_at, builder.mul(dots_step, _I64(query)))
                for half, offset in enumerate(offsets):
                    address = builder.inttoptr(builder.add(to, _I64(offset)), ints.as_pointer())
                    builder.store(sums[2 * query + half], address, align=1)
        return context.get_dummy_value()

    return tile


def _summed(
    builder: Any, product: Any, ints: Any, code_at: Any, starts: Any, groups: Any, offsets: Any
) -> list[Any]:  # fmt: skip
    """For each query two registers of sums over all groups, those of the rows at the two offsets of a group."""
    before = builder.block
    loop, after = builder.append_basic_block("panel"), builder.append_basic_block("panelled")
    builder.branch(loop)
    builder.position_at_end(loop)
    group = builder.phi(_I64)
    group.add_incoming(_I64(0), before)
    sums = [builder.phi(ints) for _ in range(2 * len(starts))]
    for total in sums:
        total.add_incoming(ir.Constant(ints, None), before)
    here = builder.add(code_at, builder.mul(group, _I64(4 * PANEL)))
    rows = [product.rows(_at(builder, builder.add(here, _I64(offset)), ints)) for offset in offsets]
    added = []
    for number, start in enumerate(starts):
        four = product.query(_at(builder, builder.add(start, builder.mul(group, _I64(4))), _I32))
        added += [product.add(sums[2 * number + half], rows[half], four) for half in (0, 1)]
    following = builder.add(group, _I64(1))
    group.add_incoming(following, loop)
    for total, new in zip(sums, added, strict=True):
        total.add_incoming(new, loop)
    builder.cbranch(builder.icmp_signed("<", following, groups), loop, after)
    builder.position_at_end(after)
    return added


class _Product(NamedTuple):
    """How codes and a query enter registers, and how their products are added to a sum."""

    rows: Callable[[Any], Any]
    query: Callable[[Any], Any]
    add: Callable[[Any, Any, Any], Any]


def _bytes_product(builder: Any, ints: Any) -> _Product:
    """Four products of bytes at once (vpdpbusd)."""
    add = cgutils.get_or_insert_function(  # type: ignore[no-untyped-call]
        builder.module, ir.FunctionType(ints, [ints] * 3), "llvm.x86.avx512.vpdpbusd.512"
    )
    return _Product(
        lambda rows: rows, lambda four: _spread(builder, four, ints),
        lambda total, rows, four: builder.call(add, [total, rows, four]),
    )  # fmt: skip


def _words_product(builder: Any, ints: Any) -> _Product:
    """Two products of 16 bits at once (vpmaddwd): even bytes of codes and query, then odd ones."""
    words = ir.VectorType(_I16, 2 * ints.count)
    pairs = cgutils.get_or_insert_function(  # type: ignore[no-untyped-call]
        builder.module, ir.FunctionType(ints, [words] * 2), "llvm.x86.avx2.pmadd.wd"
    )
    low, eight = ir.Constant(words, [255] * words.count), ir.Constant(words, [8] * words.count)

    def rows(codes: Any) -> tuple[Any, Any]:
        both = builder.bitcast(codes, words)
        return builder.and_(both, low), builder.lshr(both, eight)

    def query(four: Any) -> tuple[Any, Any]:
        both = builder.bitcast(_spread(builder, four, ints), words)
        return builder.ashr(builder.shl(both, eight), eight), builder.ashr(both, eight)

    def add(total: Any, rows: Any, four: Any) -> Any:
        for one, other in zip(rows, four, strict=True):
            total = builder.add(total, builder.call(pairs, [one, other]))
        return total

    return _Product(rows, query, add)


_TOGETHER = 8 if WIDE else 4
_one_query, _several_queries = _tile(1, wide=WIDE), _tile(_TOGETHER, wide=WIDE)


@jit
def _panel_dots_fast(
    codes_MG: Any, first: Any, panels: Any, queries_BG: Any, query: Any, count: Any, dots: Any
) -> None:
    groups = codes_MG.shape[1]
    code_step, query_step, dots_step = 4 * PANEL * groups, queries_BG.shape[1], 4 * dots.shape[1]
    codes_at = address_of(codes_MG) + np.uintp(first * code_step)
    queries_at, dots_at = address_of(queries_BG) + np.uintp(query * query_step), address_of(dots)
    done = 0
    while count - done >= _TOGETHER:
        for panel in range(panels):
            _several_queries(
                codes_at + np.uintp(panel * code_step), queries_at + np.uintp(done * query_step), query_step, groups,
                dots_at + np.uintp(done * dots_step + 4 * PANEL * panel), dots_step,
            )  # fmt: skip
        done += _TOGETHER
    for left in range(done, count):
        for panel in range(panels):
            _one_query(
                codes_at + np.uintp(panel * code_step), queries_at + np.uintp(left * query_step), 0, groups,
                dots_at + np.uintp(left * dots_step + 4 * PANEL * panel), 0,
            )  # fmt: skip


@jit
def _panel_dots_plain(
    codes_MG: Any, first: Any, panels: Any, queries_BG: Any, query: Any, count: Any, dots: Any
) -> None:
    groups, line = codes_MG.shape[1], 4 * PANEL
    codes, spread, sums = codes_MG.reshape(-1), np.empty((groups, line), np.int32), np.empty(line, np.int32)
    for q in range(count):
        for g in range(groups):
            for i in range(line):
                spread[g, i] = queries_BG[query + q, 4 * g + i % 4]
        for panel in range(panels):
            sums[:] = 0
            for g in range(groups):
                here = codes[((first + panel) * groups + g) * line : ((first + panel) * groups + g + 1) * line]
                for i in range(line):
                    sums[i] += np.int32(here[i]) * spread[g, i]
            for r in range(PANEL):
                dots[q, PANEL * panel + r] = sums[4 * r] + sums[4 * r + 1] + sums[4 * r + 2] + sums[4 * r + 3]


panel_dots = _panel_dots_fast if FAST else _panel_dots_plain
"""(codes (M, G, 32, 4), first panel, panels, queries (B, 4 G) int8, first query, queries, dots): writes to
dots[q, 32 p + r], int32 in C order, the sum of (code + 128) * query for row r of panel first + p and that query."""


def panel_dots_reference(
    codes_MG: npt.NDArray[np.uint8], queries_BG: npt.NDArray[np.int8]
) -> npt.NDArray[np.int32]:  # fmt: skip
    """(B, 32 M) what `panel_dots` writes, in NumPy."""
    rows = by_row(codes_MG).astype(np.int64) + 128
    return (queries_BG.astype(np.int64) @ rows.T).astype(np.int32)


def _reaching(
    typingctx: Any, dots: Any, scales: Any, rests: Any, base: Any, slope: Any, floor: Any
) -> Any:  # fmt: skip
    """Bit i, of 32: whether scale_i * (dot_i - base) + slope * rest_i reaches the floor, in float32.

    dots, scales, rests: addresses of 32 int32 and float32. base: int32. slope, floor: float32.
    """
    signature = types.uint32(types.uintp, types.uintp, types.uintp, types.int32, types.float32, types.float32)
    return signature, _generate_reaching


def _generate_reaching(context: Any, builder: Any, _: Any, arguments: Any) -> Any:
    ints, floats = ir.VectorType(_I32, PANEL), ir.VectorType(_F32, PANEL)
    dots_at, scales_at, rests_at, base, slope, floor = arguments
    whole = builder.sitofp(builder.sub(_at(builder, dots_at, ints), _spread(builder, base, ints)), floats)
    centre = builder.fmul(_at(builder, scales_at, floats), whole)
    upper = builder.fadd(centre, builder.fmul(_spread(builder, slope, floats), _at(builder, rests_at, floats)))
    found = builder.fcmp_ordered(">=", upper, _spread(builder, floor, floats))
    return builder.bitcast(found, _I32)


def _lowest_bit(typingctx: Any, bits: Any) -> Any:
    """The place of the lowest set bit of a uint32 that is not 0."""
    signature = types.intp(types.uint32)
    return signature, _generate_lowest_bit


def _generate_lowest_bit(context: Any, builder: Any, _: Any, arguments: Any) -> Any:
    return builder.zext(builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1)), _I64)


reaching: Any = intrinsic(_reaching)
lowest_bit: Any = intrinsic(_lowest_bit)
