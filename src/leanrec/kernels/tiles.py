"""Small products of rows and packed weights in registers: what matrix products of an encoder are made of.

`tile1` multiplies one row, `tile6` ROWS rows by LANES outputs, in one of two ways, by the type of its arrays:

- float32: fused multiply-adds;
- int16: pairs of codes multiplied and summed in int32 by one instruction (vpmaddwd, 16 products where a fused
  multiply-add of float32 does 8; vpdpwssd adds them to the sum as well), exact as long as no sum leaves int32, which
  whoever makes the codes sees to.

The loops are written as LLVM vectors, because compilers do not find register blocking by themselves.
"""

from __future__ import annotations

from typing import Any

import llvmlite.binding
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

__all__ = ["LANES", "ROWS", "tile1", "tile6", "tile_reference"]

ROWS = 6
_FEATURES = llvmlite.binding.get_host_cpu_features()
_WIDE = bool(_FEATURES.get("avx512bw"))
_ADDS = _WIDE and bool(_FEATURES.get("avx512vnni"))
_WORDS = 16 if _WIDE else 8  # 32-bit values of a register
LANES = 2 * _WORDS
"""Outputs of a panel of packed weights."""
if _ADDS:
    llvmlite.binding.initialize_native_asmparser()

_F32, _I32, _I16, _I64, _I8 = ir.FloatType(), ir.IntType(32), ir.IntType(16), ir.IntType(64), ir.IntType(8)


_insert: Any = cgutils.get_or_insert_function


def _pairs(builder: Any, total: Any, a: Any, b: Any) -> Any:
    """A total and (words) int32 sums of products of neighbouring int16.

    With AVX-512 VNNI that is one instruction. It is named as assembly: left to itself the compiler takes it apart into
    two again, to shorten the wait for one sum where twelve are under way.
    """
    if _ADDS:
        kind = ir.VectorType(_I32, _WORDS)
        added = ir.InlineAsm(ir.FunctionType(kind, [kind] * 3), "vpdpwssd $3, $2, $0", "=v,0,v,v")
        return builder.call(added, [total, builder.bitcast(a, kind), builder.bitcast(b, kind)])
    return builder.add(total, _products(builder, a, b))


def _products(builder: Any, a: Any, b: Any) -> Any:
    halves, words = ir.VectorType(_I16, 2 * _WORDS), ir.VectorType(_I32, _WORDS)
    name = "llvm.x86.avx512.pmaddw.d.512" if _WIDE else "llvm.x86.avx2.pmadd.wd"
    if _WIDE or _FEATURES.get("avx2"):
        function = _insert(builder.module, ir.FunctionType(words, [halves, halves]), name)
        return builder.call(function, [a, b])
    parts = []
    for first in (0, 1):
        mask = ir.Constant(ir.VectorType(_I32, _WORDS), list(range(first, 2 * _WORDS, 2)))
        one, other = (builder.sext(builder.shuffle_vector(x, x, mask), words) for x in (a, b))
        parts.append(builder.mul(one, other))
    return builder.add(*parts)


def _fused(builder: Any, a: Any, b: Any, c: Any) -> Any:
    """a * b + c, in one instruction where there is one."""
    kind = ir.VectorType(_F32, _WORDS)
    name = f"llvm.fmuladd.v{_WORDS}f32"
    function = _insert(builder.module, ir.FunctionType(kind, [kind] * 3), name)
    return builder.call(function, [a, b, c])


def _spread(builder: Any, value: Any) -> Any:
    """A scalar in every lane."""
    kind = ir.VectorType(value.type, _WORDS)
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), value, _I32(0))
    return builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(_I32, _WORDS), [0] * _WORDS))


def _at(builder: Any, pointer: Any, index: Any, size: int) -> Any:
    """The address of element `index` of an array of elements of `size` bytes."""
    base = builder.bitcast(pointer, _I8.as_pointer())
    return builder.gep(base, [builder.mul(index, _I64(size))], source_etype=_I8)


def _load(builder: Any, address: Any, kind: Any, align: int) -> Any:
    return builder.load(builder.bitcast(address, kind.as_pointer()), align=align, typ=kind)


def _step(builder: Any, coded: bool, a_rows: list[Any], w_k: Any, sums: list[Any]) -> list[Any]:
    """One value (float32) or pair (int16) of every row times a line of the panel, added to the sums."""
    size = 2 if coded else 4
    line = ir.VectorType(_I16, 2 * _WORDS) if coded else ir.VectorType(_F32, _WORDS)
    weights = [_load(builder, _at(builder, w_k, _I64(part * (64 if _WIDE else 32)), 1), line, size) for part in (0, 1)]
    added = []
    for row, address in enumerate(a_rows):
        value = _spread(builder, _load(builder, address, _I32 if coded else _F32, size))
        for part in (0, 1):
            total = sums[2 * row + part]
            if coded:
                added.append(_pairs(builder, total, builder.bitcast(value, line), weights[part]))
            else:
                added.append(_fused(builder, value, weights[part], total))
    return added


def _codegen(rows: int) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        arrays = {}
        for name, place in (("a", 0), ("w", 3), ("out", 7), ("units", 10), ("scales", 12), ("biases", 13)):
            kind = signature.args[place]
            arrays[name] = context.make_array(kind)(context, builder, args[place]).data
        coded = signature.args[0].dtype == types.int16
        size, words = (2, ir.VectorType(_I32, _WORDS)) if coded else (4, ir.VectorType(_F32, _WORDS))
        floats = ir.VectorType(_F32, _WORDS)
        a_at, a_stride, w_at, w_stride, steps = args[1], args[2], args[4], args[5], args[6]
        a_rows = [
            _at(builder, arrays["a"], builder.add(a_at, builder.mul(a_stride, _I64(row))), size) for row in range(rows)
        ]
        w_first = _at(builder, arrays["w"], w_at, size)
        before = builder.block
        loop, after = builder.append_basic_block("tile"), builder.append_basic_block("tiled")
        builder.branch(loop)
        builder.position_at_end(loop)
        k = builder.phi(_I64)
        k.add_incoming(_I64(0), before)
        sums = [builder.phi(words) for _ in range(2 * rows)]
        for total in sums:
            total.add_incoming(ir.Constant(words, None), before)
        w_k = _at(builder, w_first, builder.mul(k, w_stride), size)
        added = _step(builder, coded, [_at(builder, row, k, 4) for row in a_rows], w_k, sums)
        following = builder.add(k, _I64(1))
        k.add_incoming(following, loop)
        for total, new in zip(sums, added, strict=True):
            total.add_incoming(new, loop)
        builder.cbranch(builder.icmp_signed("<", following, steps), loop, after)
        builder.position_at_end(after)
        for part in (0, 1):
            lane = builder.add(args[14], _I64(part * _WORDS))
            scale, bias = (
                _load(builder, _at(builder, arrays[name], lane, 4), floats, 4) for name in ("scales", "biases")
            )
            for row in range(rows):
                unit = _load(builder, _at(builder, arrays["units"], builder.add(args[11], _I64(row)), 4), _F32, 4)
                total = added[2 * row + part]
                value = builder.sitofp(total, floats) if coded else total
                value = _fused(builder, builder.fmul(value, _spread(builder, unit)), scale, bias)
                at = builder.add(args[8], builder.add(builder.mul(args[9], _I64(row)), _I64(part * _WORDS)))
                address = _at(builder, arrays["out"], at, 4)
                builder.store(value, builder.bitcast(address, floats.as_pointer()), align=4)
        return context.get_dummy_value()

    return generate


def _tile(rows: int) -> Any:
    def tile(
        typing: Any, a: Any, a_at: Any, a_stride: Any, w: Any, w_at: Any, w_stride: Any, steps: Any, out: Any,
        out_at: Any, out_stride: Any, units: Any, unit_at: Any, scales: Any, biases: Any, scale_at: Any,
    ) -> Any:  # fmt: skip
        """out[out_at + r * out_stride + lane] = unit[unit_at + r] * scale[scale_at + lane] * (a_r . w_lane) + bias.

        All arrays flat and places in elements. a_r: row r from a_at on, a_stride apart. w: a line of LANES values (of
        LANES pairs in int16) a step, w_stride apart. steps: at least 1.
        """
        i64 = types.int64
        kinds = (a, i64, i64, w, i64, i64, i64, out, i64, i64, units, i64, scales, biases, i64)
        return types.void(*kinds), _codegen(rows)

    tile.__name__ = f"tile{rows}"
    return intrinsic(tile)


tile1, tile6 = _tile(1), _tile(ROWS)


def tile_reference(
    a_RK: np.ndarray[Any, Any], w_KN: np.ndarray[Any, Any], units_R: Any, scales_N: Any, biases_N: Any
) -> np.ndarray[Any, Any]:
    """What a tile computes, of plain matrices."""
    product = a_RK.astype(np.float64) @ w_KN.astype(np.float64)
    result: np.ndarray[Any, Any] = (product * np.asarray(units_R)[:, None] * scales_N + biases_N).astype(np.float32)
    return result
