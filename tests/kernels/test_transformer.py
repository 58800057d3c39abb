"""Loops of the NumPy transformer against their references."""

from __future__ import annotations

import numpy as np
import pytest

from leanrec.kernels import transformer as loops


@pytest.mark.parametrize("lengths", [[1], [3, 1, 7], [20, 50]])
@pytest.mark.parametrize("heads", [1, 2, 4])
def test_attention_sees_its_own_past_alone(lengths: list[int], heads: int) -> None:
    random = np.random.default_rng(0)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    qkv = random.standard_normal((offsets[-1], 48), dtype=np.float32)
    expected = loops.attend_reference(qkv, offsets, heads)
    np.testing.assert_allclose(loops.attend(qkv, offsets, heads), expected, rtol=1e-4, atol=1e-6)
    ends = offsets[1:] - 1
    last = loops.attend_last(qkv[ends, :16], qkv[:, 16:], offsets, heads)
    np.testing.assert_allclose(last, expected[ends], rtol=1e-4, atol=1e-6)


def test_layer_norm() -> None:
    random = np.random.default_rng(1)
    x, weight, bias = (
        random.standard_normal((7, 32), dtype=np.float32),
        *random.standard_normal((2, 32), dtype=np.float32),
    )
    expected = loops.layer_norm_reference(x, weight, bias, 1e-5)
    np.testing.assert_allclose(loops.layer_norm(x, weight, bias, 1e-5), expected, rtol=1e-4, atol=1e-5)


def test_activations() -> None:
    random = np.random.default_rng(2)
    x = 5 * random.standard_normal((6, 32), dtype=np.float32)
    sigmoid = 1 / (1 + np.exp(-x.astype(np.float64)))
    np.testing.assert_allclose(loops.swiglu(x), x[:, :16] * x[:, 16:] * sigmoid[:, 16:], rtol=1e-5, atol=1e-6)
    total = np.ones_like(x)
    loops.gated_add(total, x, x)
    np.testing.assert_allclose(total, 1 + x * sigmoid, rtol=1e-5, atol=1e-6)
    clipped = x.copy()
    loops.relu(clipped)
    np.testing.assert_array_equal(clipped, np.maximum(x, 0))
