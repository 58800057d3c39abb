"""Products row by row: those of the reference, and the same to the last bit wherever a row stands."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leanrec.kernels.row_products import row_products, row_products_reference


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 9), st.integers(1, 40), st.integers(1, 40), st.integers(0, 5))
def test_products_are_those_of_the_reference(rows: int, dim: int, outputs: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, weight = (rng.standard_normal((n, dim), dtype=np.float32) for n in (rows, outputs))
    found = row_products(x, weight)
    assert found.shape == (rows, outputs) and found.dtype == np.float32
    np.testing.assert_allclose(found, row_products_reference(x, weight), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [(33, 100), (64, 32), (5, 1)])
def test_a_row_is_the_same_wherever_it_stands(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal((1, size[0]), dtype=np.float32), rng.standard_normal(size[::-1], dtype=np.float32)
    many = row_products(np.repeat(x, 256, axis=0), weight)
    assert (many == many[0]).all() and (row_products(x, weight) == many[0]).all()


def test_more_axes() -> None:
    x = np.random.default_rng(0).standard_normal((3, 4, 5), dtype=np.float32)
    weight = np.ones((2, 5), np.float32)
    np.testing.assert_allclose(row_products(x, weight), x @ weight.T, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("x", "weight"), [((2, 3), (4, 5)), ((2, 3), (3,)), ((), (2, 3)), ((2, 3), (2, 3, 1))])
def test_shapes_that_do_not_fit_are_refused(x: tuple[int, ...], weight: tuple[int, ...]) -> None:
    """The compiled loop would read beyond the array."""
    with pytest.raises(ValueError, match="cannot be multiplied row by row"):
        row_products(np.zeros(x, np.float32), np.zeros(weight, np.float32))
