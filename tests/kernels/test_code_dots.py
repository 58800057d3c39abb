"""Sums of codes of a few bits times a query's whole numbers, against NumPy, in every way they are computed."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leanrec.kernels import code_dots as under_test
from leanrec.kernels.code_dots import code_dots, code_dots_reference, query_codes
from leanrec.kernels.nibbles import FAST, address_of
from leanrec.kernels.rowwise import packed_width, put_code

BITS = (8, 6, 5, 4, 2)


def packed(codes_nD: npt.NDArray[np.uint8], bits: int) -> npt.NDArray[np.uint8]:
    size, dim = codes_nD.shape
    rows_nW = np.zeros((size, packed_width(dim, bits)), np.uint8)
    for n in range(size):
        for d in range(dim):
            put_code(rows_nW[n], bits, d, codes_nD[n, d])
    return rows_nW


@pytest.mark.parametrize("fast", [True, False] if FAST else [False])
@pytest.mark.parametrize("bits", BITS)
@settings(max_examples=25, deadline=None)
@given(
    dim=st.sampled_from([1, 3, 8, 15, 16, 17, 31, 32, 33, 64, 100]), size=st.integers(1, 45), seed=st.integers(0, 999),
    extreme=st.booleans(), ends=st.tuples(st.floats(0, 1), st.floats(0, 1)),
)  # fmt: skip
def test_sums_equal_the_reference(
    bits: int, fast: bool, dim: int, size: int, seed: int, extreme: bool, ends: tuple[float, float]
) -> None:
    rng, top = np.random.default_rng(seed), (1 << bits) - 1
    codes_nD = (
        np.full((size, dim), top, np.uint8) if extreme else rng.integers(0, top + 1, (size, dim)).astype(np.uint8)
    )
    reach = min(32767, (2**31 - 1) // (top * dim))
    coded_D = np.full(dim, -reach) if extreme else rng.integers(-reach, reach + 1, dim)
    first, last = sorted(round(end * size) for end in ends)
    dots = np.full(size + 8, 7, np.int32)
    run = code_dots if fast else under_test._code_dots_plain
    run(packed(codes_nD, bits), bits, query_codes(coded_D[None], bits, fast=fast)[0], first, last, dots)
    np.testing.assert_array_equal(dots[: last - first], code_dots_reference(codes_nD, coded_D)[first:last])
    assert (dots[last - first :] == 7).all()


@pytest.mark.skipif(not FAST, reason="needs AVX2")
@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("dim", [16, 32, 80])
def test_narrow_registers_give_the_same(bits: int, dim: int) -> None:
    eight: Any = under_test._eight(bits, 16)

    @numba.njit
    def run(codes_nW: Any, coded_EW: Any, dots: Any) -> None:
        eight(address_of(codes_nW), codes_nW.shape[1], coded_EW.shape[1], address_of(coded_EW), address_of(dots))

    rng = np.random.default_rng(dim)
    codes_nD = rng.integers(0, 1 << bits, (12, dim)).astype(np.uint8)  # what a step reads too much lies in rows 8 to 11
    coded_D, dots = rng.integers(-3000, 3001, dim), np.zeros(8, np.int32)
    run(packed(codes_nD, bits), query_codes(coded_D[None], bits)[0][:, : -(-dim // 16) * 16], dots)
    np.testing.assert_array_equal(dots, code_dots_reference(codes_nD, coded_D)[:8])
