"""Quantised rows against their NumPy reference and against exact arithmetic."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import numpy.typing as npt
from hypothesis import given, settings
from hypothesis import strategies as st

from leanrec.kernels.scan import LEVELS, quantize_rows, quantize_rows_reference


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
