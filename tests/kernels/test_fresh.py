"""Fresh rows against Python's integers, and against what a normal distribution would give."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from leanrec.kernels.fresh import fresh_range, fresh_reference, fresh_rows


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**31 - 2), st.integers(0, 2**31), st.integers(1, 9))
def test_values_match_the_reference(row: int, seed: int, dim: int) -> None:
    out = np.empty((1, dim), np.float32)
    fresh_range(out, row, seed, 0.125)
    np.testing.assert_allclose(out[0], fresh_reference(row, dim, seed, 0.125), rtol=1e-6)


def test_single_rows_are_those_of_the_range() -> None:
    all_rows, some = np.empty((50, 8), np.float32), np.zeros((4, 8), np.float32)
    fresh_range(all_rows, 0, 3, 0.5)
    fresh_rows(some, np.asarray([2, 0]), np.asarray([41, 7], np.int32), 3, 0.5)
    np.testing.assert_array_equal(some[[2, 0]], all_rows[[41, 7]])
    assert (some[[1, 3]] == 0).all()


def test_values_look_normal_and_unrelated() -> None:
    out = np.empty((20_000, 16), np.float32)
    fresh_range(out, 0, 0, 1.0)
    assert abs(out.mean()) < 0.01
    assert abs(out.std() - 1) < 0.01
    assert abs((np.abs(out) < 1).mean() - 0.68) < 0.02
    related = np.corrcoef(out.T) - np.eye(16)
    assert np.abs(related).max() < 0.04
    assert abs(np.corrcoef(out[:-1].ravel(), out[1:].ravel())[0, 1]) < 0.01
