"""4-bit planes, their products and levels against NumPy references and exact arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leanrec.kernels import nibbles
from leanrec.kernels.nibbles import block_dots, dots_at, eight_dots, eight_dots_reference, groups_of, spread_query
from leanrec.kernels.planes import HIGH_REST, LOW_REST, pack_planes, pack_planes_reference
from tests.kernels.test_scan import rows


@settings(max_examples=30, deadline=None)
@given(groups=st.sampled_from([4, 8, 32]), extreme=st.booleans(), seed=st.integers(0, 2**32 - 1))
def test_eight_dots_equal_the_reference(groups: int, extreme: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    codes = np.full((groups, 8, 4), 255, np.uint8) if extreme else rng.integers(0, 256, (groups, 8, 4)).astype(np.uint8)
    coded = np.full((1, 8 * groups), rng.choice([-127, 127])) if extreme else rng.integers(-127, 128, (1, 8 * groups))
    query = spread_query(coded, groups)[0]
    expected = eight_dots_reference(codes, query)
    for way in (eight_dots, nibbles._eight_dots_plain):
        found = np.full(8, -1, np.int32)
        way(codes, query, found)
        np.testing.assert_array_equal(found, expected)


def test_spread_queries_meet_the_dimensions_of_the_codes() -> None:
    rng = np.random.default_rng(0)
    values, coded = rng.integers(0, 16, (8, 64)), rng.integers(-127, 128, (1, 50))
    packed = (values[:, :32] | values[:, 32:] << 4).astype(np.uint8).reshape(8, 8, 4).transpose(1, 0, 2)
    found = eight_dots_reference(packed, spread_query(coded, groups_of(50))[0])
    np.testing.assert_array_equal(found, values[:, :50] @ coded[0])


@pytest.mark.parametrize("queries", [1, 3, 4, 9])
def test_blocks_of_rows_and_queries_equal_eight_dots(queries: int) -> None:
    rng = np.random.default_rng(queries)
    codes = rng.integers(0, 256, (5, 8, 8, 4)).astype(np.uint8)
    asked = spread_query(rng.integers(-127, 128, (queries, 64)), 8)
    found = np.full((queries + 1, 48), -1, np.int32)
    block_dots(codes, asked, found)
    for q in range(queries):
        for m in range(5):
            np.testing.assert_array_equal(found[q, 8 * m : 8 * m + 8], eight_dots_reference(codes[m], asked[q]))
    assert (found[:, 40:] == -1).all()
    assert (found[queries] == -1).all()


def _compiled(way: Any) -> Any:
    @numba.njit
    def run(codes: Any, m: Any, asked: Any, q: Any, found: Any, at: Any) -> None:
        way(codes, m, asked, q, found, at)

    return run


def test_dots_of_one_place_equal_eight_dots() -> None:
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 256, (5, 8, 8, 4)).astype(np.uint8)
    asked = spread_query(rng.integers(-127, 128, (3, 64)), 8)
    for way in (dots_at, nibbles._dots_at_plain):
        found = np.full(24, -1, np.int32)
        _compiled(way)(codes, 4, asked, 2, found, 8)
        np.testing.assert_array_equal(found[8:16], eight_dots_reference(codes[4], asked[2]))
        assert (found[:8] == -1).all() and (found[16:] == -1).all()


@pytest.mark.parametrize(
    ("there", "make"), [(nibbles.FAST, nibbles._several), (nibbles.WIDE, nibbles._wide)], ids=["AVX2", "VNNI"]
)
def test_each_instruction_gives_the_same(there: bool, make: Callable[[int], Any]) -> None:
    if not there:
        pytest.skip("this processor does not have it")
    one = make(1)

    @numba.njit
    def dots(codes: Any, query: Any, found: Any) -> None:
        one(codes.ctypes.data, query.ctypes.data, 0, len(codes) // 4, found.ctypes.data, 0)

    for extreme in (-127, 0, 127):
        rng = np.random.default_rng(1)
        codes = np.full((8, 8, 4), 255, np.uint8) if extreme else rng.integers(0, 256, (8, 8, 4)).astype(np.uint8)
        coded = np.full((1, 64), extreme) if extreme else rng.integers(-127, 128, (1, 64))
        found = np.full(8, -1, np.int32)
        dots(codes, spread_query(coded, 8)[0], found)
        np.testing.assert_array_equal(found, eight_dots_reference(codes, spread_query(coded, 8)[0]))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_packed_rows_equal_the_reference(seed: int) -> None:
    items_ND = rows(seed)
    half = 4 * groups_of(items_ND.shape[1])
    for place, (found, expected) in enumerate(
        zip(pack_planes(items_ND, half), pack_planes_reference(items_ND, half), strict=True)
    ):
        if place < 3:
            np.testing.assert_array_equal(found, expected)
        else:  # the residual is summed in another order: a level may differ by one
            assert np.abs(found.astype(int) - expected.astype(int)).max(initial=0) <= 1


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_levels_bound_what_each_plane_leaves_out_in_exact_arithmetic(seed: int) -> None:
    items_ND = rows(seed, 8)
    dim = items_ND.shape[1]
    half = 4 * groups_of(dim)
    high_NH, low_NH, scales, levels, fine = pack_planes(items_ND, half)
    high, low = (
        np.concatenate([plane & 15, plane >> 4], axis=1)[:, :dim].astype(int) - 8 for plane in (high_NH, low_NH)
    )
    for n, row in enumerate(items_ND):
        scale = Fraction(float(scales[n]))
        for codes, level, unit in ((high[n], levels[n], HIGH_REST), (high[n] + low[n] / 16, fine[n], LOW_REST)):
            residual = sum(
                (Fraction(float(x)) - scale * Fraction(float(c))) ** 2 for x, c in zip(row, codes, strict=True)
            )
            assert residual <= (scale * Fraction(unit) * int(level)) ** 2 * dim
