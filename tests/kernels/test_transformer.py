"""Loops of the NumPy transformer against their references."""

from __future__ import annotations

import numpy as np
import pytest

from leanrec.kernels import transformer as loops


@pytest.mark.parametrize("lengths", [[1], [3, 1, 7], [20, 50]])
@pytest.mark.parametrize("heads", [1, 2, 4])
@pytest.mark.parametrize("causal", [True, False])
def test_attention_sees_its_own_sequence_alone(lengths: list[int], heads: int, causal: bool) -> None:
    random = np.random.default_rng(0)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    qkv = random.standard_normal((offsets[-1], 48), dtype=np.float32)
    expected = loops.attend_reference(qkv, offsets, heads, causal)
    np.testing.assert_allclose(loops.attend(qkv, offsets, heads, causal), expected, rtol=1e-4, atol=1e-6)
    ends = offsets[1:] - 1
    last = loops.attend_last(qkv[ends, :16], qkv[:, 16:], offsets, heads)
    np.testing.assert_allclose(last, expected[ends], rtol=1e-4, atol=1e-6)


def test_rotation() -> None:
    random = np.random.default_rng(3)
    x = random.standard_normal((9, 24), dtype=np.float32)
    angle = random.uniform(-3, 3, (5, 4)).astype(np.float32)
    position = random.integers(0, 5, 9)
    expected, kept = x.copy(), x[:, 16:].copy()
    loops.rotate_reference(expected, position, 2, np.cos(angle), np.sin(angle))
    loops.rotate(x, position, 2, np.cos(angle), np.sin(angle))
    np.testing.assert_allclose(x, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(x[:, 16:], kept)


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
