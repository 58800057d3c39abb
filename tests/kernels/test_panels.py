"""Panels of 8-bit codes, their products and the rows that reach a floor, against NumPy."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leanrec.kernels import panels
from leanrec.kernels.nibbles import FAST, address_of
from leanrec.kernels.panel_scan import scan_panels, scan_panels_parallel
from leanrec.kernels.panels import (
    PANEL,
    as_panels,
    by_row,
    groups_of,
    lowest_bit,
    panel_dots,
    panel_dots_reference,
    reaching,
)


def coded(rng: np.random.Generator, size: int, dim: int, extreme: int = 0) -> npt.NDArray[np.int8]:
    if extreme:
        return np.full((size, dim), extreme, np.int8)
    return rng.integers(-127, 128, (size, dim)).astype(np.int8)


@settings(max_examples=30, deadline=None)
@given(size=st.integers(1, 130), dim=st.integers(1, 70), seed=st.integers(0, 2**32 - 1))
def test_rows_come_back_from_panels(size: int, dim: int, seed: int) -> None:
    codes_ND = coded(np.random.default_rng(seed), size, dim)
    rows = by_row(as_panels(codes_ND))
    assert rows.shape == (-(-size // PANEL) * PANEL, 4 * groups_of(dim))
    np.testing.assert_array_equal(rows[:size, :dim], codes_ND)
    assert not rows[size:].any() and not rows[:, dim:].any()


@pytest.mark.parametrize("way", ["chosen", "plain"])
@settings(max_examples=20, deadline=None)
@given(queries=st.integers(1, 19), dim=st.sampled_from([1, 4, 20, 64]), extreme=st.sampled_from([-127, 0, 127]))
def test_dots_equal_the_reference(way: str, queries: int, dim: int, extreme: int) -> None:
    rng = np.random.default_rng(dim)
    codes_MG = as_panels(coded(rng, 5 * PANEL, dim, extreme))
    asked = np.zeros((queries + 2, 4 * groups_of(dim)), np.int8)
    asked[:, :dim] = coded(rng, queries + 2, dim, extreme)
    found = np.full((queries + 1, 6 * PANEL), -1, np.int32)
    run = panel_dots if way == "chosen" else panels._panel_dots_plain
    run(codes_MG, 1, 3, asked, 2, queries, found)
    expected = panel_dots_reference(codes_MG[1:4], asked[2:])
    np.testing.assert_array_equal(found[:queries, : 3 * PANEL], expected)
    assert (found[queries] == -1).all() and (found[:, 3 * PANEL :] == -1).all()


@pytest.mark.skipif(not FAST, reason="no AVX2 here")
@pytest.mark.parametrize("dim", [1, 4, 20, 64])
@pytest.mark.parametrize("extreme", [-127, 0, 127])
def test_tiles_of_narrow_registers_equal_the_reference(dim: int, extreme: int) -> None:
    """What a processor without AVX-512 VNNI runs."""
    several = panels._tile(4, wide=False)

    @numba.njit  # type: ignore[untyped-decorator]
    def run(codes: Any, asked: Any, found: Any) -> None:
        several(address_of(codes), address_of(asked), asked.shape[1], codes.shape[1], address_of(found), 4 * PANEL)

    rng = np.random.default_rng(dim)
    codes_MG = as_panels(coded(rng, PANEL, dim, extreme))
    asked = np.zeros((4, 4 * groups_of(dim)), np.int8)
    asked[:, :dim] = coded(rng, 4, dim, extreme)
    found = np.full((4, PANEL), -1, np.int32)
    run(codes_MG, asked, found)
    np.testing.assert_array_equal(found, panel_dots_reference(codes_MG, asked))


@numba.njit
def _reaching(dots: Any, scales: Any, rests: Any, base: Any, slope: Any, floor: Any) -> Any:
    return reaching(address_of(dots), address_of(scales), address_of(rests), base, slope, floor)


@numba.njit
def _lowest(bits: Any) -> Any:
    return lowest_bit(bits)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_bit_for_each_row_that_reaches_the_floor(seed: int) -> None:
    rng = np.random.default_rng(seed)
    dots = rng.integers(-1000, 1000, PANEL).astype(np.int32)
    scales, rests = rng.random((2, PANEL), dtype=np.float32)
    base, slope, floor = np.int32(rng.integers(-9, 9)), np.float32(rng.random()), np.float32(rng.normal() * 500)
    bits = int(_reaching(dots, scales, rests, base, slope, floor))
    expected = scales * (dots - base).astype(np.float32) + slope * rests >= floor
    assert [bool(bits >> r & 1) for r in range(PANEL)] == expected.tolist()
    assert int(_reaching(dots, scales, rests, base, slope, np.float32(-np.inf))) == 2**32 - 1


def test_the_lowest_bit() -> None:
    for place in range(32):
        assert _lowest(np.uint32(2**31 | 2**place)) == place


def test_plain_and_parallel_are_kept_apart() -> None:
    """Numba caches by name: under one, whichever was compiled first would serve as both."""
    assert scan_panels.py_func.__qualname__ != scan_panels_parallel.py_func.__qualname__  # type: ignore[attr-defined]
