"""Inner products of rows of 8-, 6-, 5-, 4- or 2-bit codes with 16-bit queries: the innermost loop of `rowwise`'s scan.

Code d of a row begins at bit `bits * d`, low bits first. Rows stand one after the other, so a row's sum ends up spread
over the lanes of a register, and adding lanes up costs as much as the products. Eight rows are taken together: their
registers are added in pairs of lanes, three times, until one holds the eight sums. A step takes 32 codes of a row (16
without AVX-512): a shuffle puts the two bytes that hold a code into 16 bits, a shift and a mask leave the code, and two
products each are added to 32 bits (vpmaddwd). Where there is no AVX2, plain loops read the query in another order.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from leanrec.kernels.jit import jit
from leanrec.kernels.nibbles import FAST, WIDE, address_of

__all__ = ["code_dots", "code_dots_reference", "four_codes", "group_of", "query_codes"]

I16 = npt.NDArray[np.int16]
_EIGHT = 8
_LANES = 32 if WIDE else 16
"""Codes that are taken at a time, and bytes that are read for them."""
_I8, _I16, _I32, _I64 = (ir.IntType(size) for size in (8, 16, 32, 64))
_SUMS = ir.VectorType(_I32, _EIGHT)


def group_of(bits: int) -> tuple[int, int]:
    """The fewest values that fill whole bytes, and those bytes."""
    common = math.gcd(bits, 8)
    return 8 // common, bits // common


def query_codes(coded_BD: npt.NDArray[np.integer[Any]], bits: int, *, fast: bool = FAST) -> I16:
    """Queries of whole numbers as `code_dots` reads them: (B, 1, P) with zeros behind the last, P a multiple of a step,
    or (B, E, W) for E values a group and W groups a row, E by place in the group, for the plain loops."""
    batch, dim = coded_BD.shape
    each = 1 if fast else group_of(bits)[0]
    count = _LANES if fast else each
    padded_BP = np.zeros((batch, -(-max(dim, 1) // count) * count), np.int16)
    padded_BP[:, :dim] = coded_BD
    return np.ascontiguousarray(padded_BP.reshape(batch, -1, each).transpose(0, 2, 1))


def _eight(bits: int, lanes: int = _LANES) -> Any:
    """An intrinsic (codes, bytes of a row, padded codes, query, sums), all but two of them addresses; writes eight
    int32. `lanes` bytes are read for as many codes: what they hold beyond these meets zeros of the query, or none."""
    octets, words = ir.VectorType(_I8, lanes), ir.VectorType(_I16, lanes)
    ints = ir.VectorType(_I32, lanes // 2)
    first_bytes = [bits * code // 8 for code in range(lanes)]
    both = ir.Constant(ir.VectorType(_I32, 2 * lanes), [at + more for at in first_bytes for more in (0, 1)])
    shifts = ir.Constant(words, [bits * code % 8 for code in range(lanes)])
    mask = ir.Constant(words, [(1 << bits) - 1] * lanes)

    @intrinsic
    def eight(typingctx: Any, codes: Any, row_bytes: Any, padded: Any, query: Any, sums: Any) -> Any:
        return types.void(types.uintp, types.intp, types.intp, types.uintp, types.uintp), _generate

    def _generate(context: Any, builder: Any, _: Any, arguments: Any) -> Any:
        code_at, row_bytes, padded, query_at, sums_at = arguments
        name = "llvm.x86.avx512.pmaddw.d.512" if lanes == 32 else "llvm.x86.avx2.pmadd.wd"
        multiply = cgutils.get_or_insert_function(  # type: ignore[no-untyped-call]
            builder.module, ir.FunctionType(ints, [words] * 2), name
        )

        def at(address: Any, kind: Any) -> Any:
            return builder.load(builder.inttoptr(address, kind.as_pointer()), align=1, typ=kind)

        def codes_at(address: Any) -> Any:
            found = at(address, octets)
            if bits == 8:
                return builder.zext(found, words)
            spread = builder.bitcast(builder.shuffle_vector(found, ir.Constant(octets, None), both), words)
            return builder.and_(builder.lshr(spread, shifts), mask)

        starts = [builder.add(code_at, builder.mul(row_bytes, _I64(row))) for row in range(_EIGHT)]
        before, loop, after = builder.block, builder.append_basic_block("codes"), builder.append_basic_block("summed")
        builder.branch(loop)
        builder.position_at_end(loop)
        place, sums = builder.phi(_I64), [builder.phi(ints) for _ in range(_EIGHT)]
        values = at(builder.add(query_at, builder.mul(_I64(2), place)), words)
        offset = builder.lshr(builder.mul(place, _I64(bits)), _I64(3))
        added = [
            builder.add(total, builder.call(multiply, [codes_at(builder.add(start, offset)), values]))
            for start, total in zip(starts, sums, strict=True)
        ]
        following = builder.add(place, _I64(lanes))
        for phi, start, new in (
            (place, _I64(0), following),
            *((s, ir.Constant(ints, None), a) for s, a in zip(sums, added, strict=True)),
        ):
            phi.add_incoming(start, before)
            phi.add_incoming(new, loop)
        builder.cbranch(builder.icmp_signed("<", following, padded), loop, after)
        builder.position_at_end(after)
        builder.store(_summed(builder, added), builder.inttoptr(sums_at, _SUMS.as_pointer()), align=1)
        return context.get_dummy_value()

    return eight


def _summed(builder: Any, totals: list[Any]) -> Any:
    """One register with the sums of the lanes of eight, in their order."""

    def chosen(one: Any, other: Any, *lanes: int) -> Any:
        return builder.shuffle_vector(one, other, ir.Constant(ir.VectorType(_I32, len(lanes)), list(lanes)))

    pairs = cgutils.get_or_insert_function(  # type: ignore[no-untyped-call]
        builder.module, ir.FunctionType(_SUMS, [_SUMS] * 2), "llvm.x86.avx2.phadd.d"
    )
    if totals[0].type.count > _EIGHT:
        totals = [builder.add(chosen(one, one, *range(8)), chosen(one, one, *range(8, 16))) for one in totals]
    for _ in range(2):
        totals = [builder.call(pairs, totals[n : n + 2]) for n in range(0, len(totals), 2)]
    low, high = (
        chosen(*totals, *(first + lane for first in (0, 8) for lane in half)) for half in (range(4), range(4, 8))
    )
    return builder.add(low, high)


_of_8, _of_6, _of_5, _of_4, _of_2 = (_eight(bits) for bits in (8, 6, 5, 4, 2))


@jit
def _eight_rows(codes: Any, bits: Any, width: Any, padded: Any, query: Any, dots: Any) -> None:
    if bits == 8:
        _of_8(codes, width, padded, query, dots)
    elif bits == 6:
        _of_6(codes, width, padded, query, dots)
    elif bits == 5:
        _of_5(codes, width, padded, query, dots)
    elif bits == 4:
        _of_4(codes, width, padded, query, dots)
    else:
        _of_2(codes, width, padded, query, dots)


@jit
def _code_dots_fast(codes_nW: Any, bits: Any, coded_1P: Any, first: Any, last: Any, dots: Any) -> None:
    size, width = codes_nW.shape
    padded, codes, query, sums = coded_1P.shape[1], address_of(codes_nW), address_of(coded_1P), address_of(dots)
    read = (padded - _LANES) * bits // 8 + _LANES  # bytes from a row's first one on
    end = min(last, (size * width - read) // width + 1)  # rows whose reading stays within the array
    row = first
    while row + _EIGHT <= end:
        _eight_rows(codes + np.uintp(row * width), bits, width, padded, query, sums + np.uintp(4 * (row - first)))
        row += _EIGHT
    if row == last:
        return
    copies, found = np.zeros((_EIGHT, read + width), np.uint8), np.empty(_EIGHT, np.int32)
    while row < last:
        count = min(_EIGHT, last - row)
        for r in range(count):
            for w in range(width):
                copies[r, w] = codes_nW[row + r, w]
        _eight_rows(address_of(copies), bits, read + width, padded, query, address_of(found))
        for r in range(count):
            dots[row - first + r] = found[r]
        row += count


@jit
def four_codes(codes_NW: Any, row: Any, bits: Any, nth: Any) -> Any:
    """Four codes of 5 or 6 bits, which lie within three bytes, as one number."""
    at, bit = bits * nth // 2, np.uint32(4 * bits * nth % 8)
    low = np.uint32(codes_NW[row, at]) | (np.uint32(codes_NW[row, at + 1]) << np.uint32(8))
    return (low | (np.uint32(codes_NW[row, at + 2]) << np.uint32(16))) >> bit


@jit
def _dots_bytes(codes_nW: Any, bits: Any, coded_EW: Any, first: Any, last: Any, dots: Any) -> None:
    """8, 4 and 2 bits: all first codes of the bytes, then all second ones."""
    mask = np.uint8((1 << bits) - 1)
    for i in range(first, last):
        total = np.int32(0)
        for place in range(8 // bits):
            shift = np.uint8(bits * place)
            for w in range(codes_nW.shape[1]):
                total += np.int32((codes_nW[i, w] >> shift) & mask) * np.int32(coded_EW[place, w])
        dots[i - first] = total


@jit
def _dots_fours(codes_nW: Any, bits: Any, fours: Any, coded_EW: Any, first: Any, last: Any, dots: Any) -> None:
    """5 and 6 bits; fours: of codes in a group."""
    mask = np.uint32((1 << bits) - 1)
    for i in range(first, last):
        total = np.int32(0)
        for nth in range(fours):
            for w in range(coded_EW.shape[1]):
                word = four_codes(codes_nW, i, bits, w * fours + nth)
                for place in range(4):
                    code = np.int32((word >> np.uint32(bits * place)) & mask)
                    total += code * np.int32(coded_EW[4 * nth + place, w])
        dots[i - first] = total


@jit
def _code_dots_plain(codes_nW: Any, bits: Any, coded_EW: Any, first: Any, last: Any, dots: Any) -> None:
    """A call for each number of bits, so that each is compiled for it and runs many values at once."""
    if bits == 8:
        _dots_bytes(codes_nW, 8, coded_EW, first, last, dots)
    elif bits == 6:
        _dots_fours(codes_nW, 6, 1, coded_EW, first, last, dots)
    elif bits == 5:
        _dots_fours(codes_nW, 5, 2, coded_EW, first, last, dots)
    elif bits == 4:
        _dots_bytes(codes_nW, 4, coded_EW, first, last, dots)
    else:
        _dots_bytes(codes_nW, 2, coded_EW, first, last, dots)


code_dots = _code_dots_fast if FAST else _code_dots_plain
"""(codes (n, W) C order, bits, one query of `query_codes`, first, last, dots): writes to dots, int32, the sums of codes
times the query's whole numbers of rows first .. last - 1."""


def code_dots_reference(
    codes_nD: npt.NDArray[np.uint8], coded_D: npt.NDArray[np.integer[Any]]
) -> npt.NDArray[np.int64]:  # fmt: skip
    """(n,) what `code_dots` writes, in NumPy, from codes that are not packed."""
    found: npt.NDArray[np.int64] = codes_nD.astype(np.int64) @ coded_D.astype(np.int64)
    return found
