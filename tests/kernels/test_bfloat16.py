"""Rows of bfloat16 against torch's own type."""

from __future__ import annotations

import numpy as np
import torch

from leanrec.kernels.bfloat16 import join_halves, round_rows, split_rows, widen_rows

ROWS = np.asarray([4, 0, 2], np.int32)


def _values() -> np.ndarray:
    values = np.random.default_rng(0).standard_normal((3, 7), dtype=np.float32)
    values[0, :4] = [0.0, -0.0, 1e-41, -3e38]
    return values


def test_widened_rows_are_torchs_bfloat16() -> None:
    half = torch.randn(5, 7).bfloat16()
    out = np.empty((3, 7), np.float32)
    widen_rows(half.view(torch.uint16).numpy(), ROWS, out)
    np.testing.assert_array_equal(out, half.float().numpy()[ROWS])


def test_split_and_joined_rows_are_the_same_bits() -> None:
    upper, lower, out = np.zeros((5, 7), np.uint16), np.zeros((5, 7), np.uint16), np.empty((3, 7), np.float32)
    split_rows(_values(), ROWS, upper, lower)
    join_halves(upper, lower, ROWS, out)
    np.testing.assert_array_equal(out.view(np.uint32), _values().view(np.uint32))
    assert (upper[[1, 3]] == 0).all()


def test_values_that_fit_are_not_rounded_at_all() -> None:
    exact = torch.randn(3, 7).bfloat16()
    upper = np.zeros((5, 7), np.uint16)
    for step in range(20):
        round_rows(exact.float().numpy(), ROWS, upper, 0, step)
        np.testing.assert_array_equal(upper[ROWS], exact.view(torch.uint16).numpy())


def test_the_chance_of_rounding_up_is_the_distance() -> None:
    values = np.full((1, 4), 1 + 2.0**-7 * 0.25, np.float32)
    ups = []
    for step in range(4000):
        upper = np.zeros((1, 4), np.uint16)
        round_rows(values, np.zeros(1, np.int32), upper, 5, step)
        ups.append(upper[0] != 0x3F80)
    assert np.abs(np.mean(ups, axis=0) - 0.25).max() < 0.03
