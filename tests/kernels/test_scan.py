"""Quantised rows and the bounds of an int8 scan against their NumPy references and against exact arithmetic."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import numpy.typing as npt
from hypothesis import given, settings
from hypothesis import strategies as st

from leanrec.kernels.scan import LEVELS, int8_bounds, int8_bounds_reference, quantize_rows, quantize_rows_reference


def rows(seed: int, size: int = 30) -> npt.NDArray[np.float32]:
    """Gaussian, heavy-tailed, sparse, tiny, huge and zero rows of a random dimension."""
    rng = np.random.default_rng(seed)
    dim = int(rng.integers(1, 40))
    items_ND = rng.standard_normal((size, dim))
    items_ND[1::7] = rng.standard_cauchy(items_ND[1::7].shape)
    items_ND[2::7] *= rng.random(items_ND[2::7].shape) < 0.2
    items_ND[3::7] *= 10.0 ** rng.integers(-44, 17, (len(items_ND[3::7]), 1))
    items_ND[4::7] = 0
    return items_ND.astype(np.float32)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_quantised_rows_equal_the_reference(seed: int) -> None:
    items_ND = rows(seed)
    codes, scales, levels = quantize_rows(items_ND)
    expected_codes, expected_scales, expected_levels = quantize_rows_reference(items_ND)
    np.testing.assert_array_equal(scales, expected_scales)
    np.testing.assert_array_equal(codes, expected_codes)
    # the residual is summed in another order: a level may differ by one
    assert np.abs(levels.astype(int) - expected_levels.astype(int)).max(initial=0) <= 1


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_levels_bound_the_residual_in_exact_arithmetic(seed: int) -> None:
    items_ND = rows(seed, 8)
    codes, scales, levels = quantize_rows(items_ND)
    dim = items_ND.shape[1]
    for n, row in enumerate(items_ND):
        scale = Fraction(float(scales[n]))
        residual = sum((Fraction(float(x)) - scale * int(c)) ** 2 for x, c in zip(row, codes[n], strict=True))
        bound = scale * Fraction(1 + 1e-6) * int(levels[n]) / LEVELS / 2
        assert residual <= bound**2 * dim


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_bounds_equal_the_reference(seed: int) -> None:
    items_ND = rows(seed)
    rng = np.random.default_rng(seed)
    codes, scales, levels = quantize_rows(items_ND)
    coded_D = rng.integers(-32767, 32768, items_ND.shape[1]).astype(np.int16)
    facts = np.array([rng.random(), rng.random(), rng.random()])
    first = int(rng.integers(0, 10))
    lowers, uppers = np.empty(20), np.empty(20)
    int8_bounds(codes, scales, levels, first, coded_D, facts, lowers, uppers)
    expected = int8_bounds_reference(codes, scales, levels, coded_D, facts)
    for found, full in zip((lowers, uppers), expected, strict=True):
        np.testing.assert_allclose(found, full[first : first + 20], rtol=1e-12, atol=0)


def test_the_dot_product_does_not_overflow_at_its_limit() -> None:
    dim = 516  # 516 * 127 * 32767 is just below 2**31
    codes = np.full((1, dim), 127, np.int8)
    lowers, uppers = np.empty(1), np.empty(1)
    one = np.ones(1, np.float32)
    coded_D, facts = np.full(dim, 32767, np.int16), np.array([1.0, 0, 0])
    int8_bounds(codes, one, np.zeros(1, np.uint8), 0, coded_D, facts, lowers, uppers)
    assert lowers[0] == 516 * 127 * 32767
