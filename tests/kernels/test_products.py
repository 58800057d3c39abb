"""Packed products and the exponential against their references."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leanrec.kernels.exponential import exp_all
from leanrec.kernels.products import code_rows, code_rows_reference, pack, padded, product, product_reference
from leanrec.kernels.tiles import LANES, ROWS


@pytest.mark.parametrize("fixed", [True, False])
@settings(max_examples=25, deadline=None)
@given(rows=st.integers(1, 20), width=st.integers(1, 70), outputs=st.integers(1, 50), seed=st.integers(0, 99))
def test_products_are_those_of_the_matrices(fixed: bool, rows: int, width: int, outputs: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    values, weight = (
        random.standard_normal((rows, width), np.float32),
        random.standard_normal((outputs, width), np.float32),
    )
    bias = random.standard_normal(outputs, np.float32)
    packed = pack(weight, bias, fixed=fixed)
    span, stride = padded(width), padded(outputs)
    codes = np.zeros((rows + ROWS) * span, np.int16 if fixed else np.float32)
    units, out = np.zeros(rows + ROWS, np.float32), np.zeros((rows + ROWS) * stride, np.float32)
    code_rows(values.ravel(), 0, width, rows, width, codes, span, units, packed.top)
    line = LANES * (2 if fixed else 1)
    product(
        codes, span, rows, units, packed.weights, 0, line, packed.steps, packed.scales, packed.biases, 0,
        stride // LANES, out, 0, stride,
    )  # fmt: skip
    found, expected = out.reshape(-1, stride)[:rows, :outputs], product_reference(values, weight, bias)
    size = np.linalg.norm(values, axis=1)[:, None] * np.linalg.norm(weight, axis=1)
    assert (np.abs(found - expected) <= (3e-3 if fixed else 1e-6) * size + 1e-6).all()


@settings(max_examples=30, deadline=None)
@given(width=st.integers(1, 40), top=st.integers(100, 32767), size=st.floats(1e-20, 1e20))
def test_codes_of_activations(width: int, top: int, size: float) -> None:
    values = (np.random.default_rng(width).standard_normal((3, width)) * size).astype(np.float32)
    values[1] = 0
    span = padded(width)
    codes, units = np.zeros((3, span), np.int16), np.zeros(3, np.float32)
    code_rows(values.ravel(), 0, width, 3, width, codes.ravel(), span, units, top)
    expected, scale = code_rows_reference(values, top)
    assert np.abs(codes[:, :width].astype(np.int64) - expected).max() <= 1
    np.testing.assert_allclose(units, scale, rtol=1e-5)
    assert np.abs(codes).max() <= top


def test_no_sum_leaves_int32() -> None:
    weight = np.ones((3, 1000), np.float32)
    packed = pack(weight, np.zeros(3, np.float32), fixed=True)
    heaviest = int(np.abs(packed.weights.astype(np.int64)).max()) * 1000
    assert heaviest * packed.top < 2**31


def test_exp() -> None:
    x = np.concatenate([np.linspace(-87, 88, 50_001), np.linspace(-1, 1, 50_001)]).astype(np.float32)
    np.testing.assert_allclose(exp_all(x), np.exp(x.astype(np.float64)), rtol=2e-6)
    assert exp_all(np.array([-1e9, -np.inf], np.float32)).max() < 1e-37
