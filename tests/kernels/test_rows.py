"""Row kernels against NumPy and torch."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from leanrec.kernels import rows


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 20), max_size=60))
def test_distinct_rows_match_the_reference_and_clean_up(values: list[int]) -> None:
    slots = np.full(21, -1, np.int32)
    wanted = np.asarray(values, np.int32)
    distinct, inverse = rows.distinct_rows(wanted, slots)
    expected, expected_inverse = rows.distinct_rows_reference(wanted, slots)
    np.testing.assert_array_equal(distinct, expected)
    np.testing.assert_array_equal(inverse, expected_inverse)
    np.testing.assert_array_equal(distinct[inverse], wanted)
    assert (slots == -1).all()


def _case(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    table = random.standard_normal((30, 8), dtype=np.float32)
    picked = random.permutation(30)[:11].astype(np.int32)
    return table, picked, random.standard_normal((11, 8), dtype=np.float32)


def test_adam_rows_match_the_reference() -> None:
    table, picked, grad = _case(0)
    states = [[table.copy(), np.zeros_like(table), np.zeros_like(table)] for _ in range(2)]
    for step in (1, 2, 3):
        rows.adam_rows(states[0][0], picked, *states[0][1:], picked, grad, 0.01, 0.9, 0.98, 1e-8, step)
        rows.adam_rows_reference(*states[1], picked, grad, 0.01, 0.9, 0.98, 1e-8, step)
    for fast, plain in zip(*states, strict=True):
        np.testing.assert_allclose(fast, plain, rtol=1e-5, atol=1e-6)


def test_adagrad_rows_match_the_reference() -> None:
    table, picked, grad = _case(1)
    fast, plain = (table.copy(), np.zeros(30, np.float32)), (table.copy(), np.zeros(30, np.float32))
    for _ in range(3):
        rows.adagrad_rows(fast[0], picked, fast[1], picked, grad, 0.1, 1e-8)
        rows.adagrad_rows_reference(*plain, picked, grad, 0.1, 1e-8)
    np.testing.assert_allclose(fast[0], plain[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(fast[1], plain[1], rtol=1e-5)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 6), max_size=30), st.integers(0, 3))
def test_added_rows_match_the_reference(places: list[int], more: int) -> None:
    piece = np.random.default_rng(0).standard_normal((len(places) + 2, 8 + more), dtype=np.float32)
    place = np.asarray(places, np.int64)
    fast, plain = (np.zeros((7, 8), np.float32) for _ in range(2))
    rows.add_rows(piece, place, fast)
    rows.add_rows_reference(piece, place, plain)
    np.testing.assert_array_equal(fast, plain)
