"""int8 dense layers against their NumPy reference and against float32."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from leanrec.kernels.dense import dense_int8, dense_int8_reference, quantize_weight


@settings(max_examples=40, deadline=None)
@given(
    tokens=st.integers(0, 5), dim=st.integers(1, 70), outputs=st.integers(1, 20), scale=st.sampled_from([0, 1e-6, 1e6]),
    seed=st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_equals_the_reference_and_is_close_to_float32(
    tokens: int, dim: int, outputs: int, scale: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    x_TD = (rng.standard_normal((tokens, dim)) * scale).astype(np.float32)
    weight_OD, bias_O = (rng.standard_normal(shape).astype(np.float32) for shape in ((outputs, dim), outputs))
    codes_OD, scales_O = quantize_weight(weight_OD)
    found = dense_int8(x_TD, codes_OD, scales_O, bias_O)
    sizes = np.abs(x_TD).sum(axis=1)[:, None] * np.abs(weight_OD).max() + 1
    assert (np.abs(found - dense_int8_reference(x_TD, codes_OD, scales_O, bias_O)) <= 1e-4 * sizes).all()
    assert (np.abs(found - (x_TD @ weight_OD.T + bias_O)) <= 0.01 * sizes).all()


def test_an_output_of_zeros_stays_zero() -> None:
    codes, scales = quantize_weight(np.zeros((1, 3), np.float32))
    assert dense_int8(np.ones((2, 3), np.float32), codes, scales, np.zeros(1, np.float32)).tolist() == [[0], [0]]


def test_the_widest_layer_does_not_overflow() -> None:
    ones = np.ones((1, 20_000), np.float32)
    assert dense_int8(ones, *quantize_weight(ones), np.zeros(1, np.float32))[0, 0] == np.float32(20_000)
