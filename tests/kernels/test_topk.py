"""Top-k from bounds against scoring and sorting everything."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leanrec.kernels.topk import (
    canonical_scores,
    canonical_scores_reference,
    finish,
    merge,
    new_state,
    offer,
    row_norms,
    row_norms_reference,
    topk_reference,
)

NOBODY = np.empty(0, np.int32)
ANYTHING = np.empty(0, np.bool_)


def answer(
    items_ND: Any, query_D: Any, k: int, slack: Any, *, scans: int = 1, block: int = 37, exclude: Any = NOBODY,
    allowed_N: Any = ANYTHING,
) -> tuple[Any, Any, Any]:  # fmt: skip
    """The best k from bounds `slack` wide around the true scores, offered in blocks to several scans."""
    size = len(items_ND)
    rows = np.arange(size, dtype=np.int32)
    scores_N = canonical_scores_reference(items_ND, rows, query_D[None], np.zeros(size, np.int64)).astype(np.float64)
    state = new_state(scans, 1, k)
    share = -(-size // scans)
    for scan in range(scans):
        for first in range(scan * share, min((scan + 1) * share, size), block):
            part = slice(first, min(first + block, (scan + 1) * share, size))
            lowers, uppers = scores_N[part] - slack[part], scores_N[part] + slack[part]
            offer(state, scan, 0, lowers, uppers, first, items_ND, query_D, exclude, allowed_N)
    merge(state, 0, items_ND, query_D)
    rows_K, scores_K = np.full(k, -1, np.int32), np.full(k, -np.inf, np.float32)
    finish(state, 0, items_ND, query_D, rows_K, scores_K)
    return rows_K, scores_K, state


@settings(max_examples=60, deadline=None)
@given(
    size=st.integers(1, 300),
    dim=st.integers(1, 9),
    k=st.integers(1, 20),
    scans=st.integers(1, 3),
    values=st.sampled_from(["gauss", "few", "zero", "tiny"]),
    width=st.sampled_from([0.0, 1e-3, 1.0, 1e3]),
    seed=st.integers(0, 2**32 - 1),
)
def test_equals_sorting_everything(
    size: int, dim: int, k: int, scans: int, values: str, width: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    draw = {
        "gauss": lambda shape: rng.standard_normal(shape),
        "few": lambda shape: rng.integers(-1, 2, shape),
        "zero": np.zeros,
        "tiny": lambda shape: rng.standard_normal(shape) * 1e-24,
    }[values]
    items_ND, query_D = draw((size, dim)).astype(np.float32), draw(dim).astype(np.float32)
    exclude = np.unique(rng.integers(0, size, rng.integers(0, 5))).astype(np.int32)
    allowed_N = rng.random(size) < 0.8 if seed % 2 else ANYTHING
    found = answer(items_ND, query_D, k, width * rng.random(size), scans=scans, exclude=exclude, allowed_N=allowed_N)
    expected = topk_reference(items_ND, query_D, k, exclude, allowed_N if seed % 2 else None)
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], expected[1])


@pytest.mark.parametrize("scans", [1, 3])
def test_memory_stays_bounded_when_every_row_may_win(scans: int) -> None:
    rng = np.random.default_rng(1)
    items_ND = rng.standard_normal((5000, 4), dtype=np.float32)
    query_D = rng.standard_normal(4, dtype=np.float32)
    rows_K, scores_K, state = answer(items_ND, query_D, 10, np.full(5000, 100.0), scans=scans)
    assert state.rows_SBC.shape[2] < 1000
    assert state.rescored_SB[0, 0] >= 5000
    expected = topk_reference(items_ND, query_D, 10)
    np.testing.assert_array_equal(rows_K, expected[0])
    np.testing.assert_array_equal(scores_K, expected[1])


def test_rising_scores_fill_the_buffer_and_are_dropped_again() -> None:
    items_ND = np.arange(3000, dtype=np.float32)[:, None]
    rows_K, _, state = answer(items_ND, np.ones(1, np.float32), 5, np.zeros(3000))
    assert rows_K.tolist() == [2999, 2998, 2997, 2996, 2995]
    assert state.rescored_SB[0, 0] == 5


def test_scores_that_round_to_the_same_float_go_by_row() -> None:
    # 1 + 2^-30 and 1 differ in float64 but not in float32: row 0 must stay first though its exact score is smaller.
    items_ND = np.array([[1, 0], [1, 2**-30]], np.float32)
    rows_K, scores_K = topk_reference(items_ND, np.ones(2, np.float32), 2)
    assert rows_K.tolist() == [0, 1]
    assert scores_K.tolist() == [1, 1]
    found = answer(items_ND, np.ones(2, np.float32), 2, np.zeros(2))
    assert found[0].tolist() == [0, 1]


def test_negative_zero_ties_with_zero() -> None:
    items_ND = np.array([[-1e-40], [0], [-1e-40]], np.float32)
    query_D = np.array([1e-40], np.float32)
    scores = canonical_scores(items_ND, np.arange(3, dtype=np.int32), query_D[None], np.zeros(3, np.int64))
    assert not np.signbit(scores).any()
    assert answer(items_ND, query_D, 3, np.zeros(3))[0].tolist() == [0, 1, 2]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), scale=st.sampled_from([1e-30, 1.0, 1e15]))
def test_canonical_scores_and_norms_equal_their_references(seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    items_ND = (rng.standard_normal((20, 7)) * scale).astype(np.float32)
    queries_BD = rng.standard_normal((3, 7)).astype(np.float32)
    rows_T, query_of_T = rng.integers(0, 20, 30).astype(np.int32), rng.integers(0, 3, 30)
    np.testing.assert_array_equal(
        canonical_scores(items_ND, rows_T, queries_BD, query_of_T),
        canonical_scores_reference(items_ND, rows_T, queries_BD, query_of_T),
    )
    norms, exact = row_norms(items_ND).astype(np.float64), row_norms_reference(items_ND)
    assert (norms >= exact).all()
    assert (norms <= exact * (1 + 1e-5) + 1e-43).all()


def test_canonical_score_is_the_rounded_exact_sum_for_short_vectors() -> None:
    # Python integers as oracle: with small whole numbers every sum is exact.
    rng = np.random.default_rng(5)
    items_ND = rng.integers(-1000, 1000, (50, 16)).astype(np.float32)
    query_D = rng.integers(-1000, 1000, 16).astype(np.float32)
    scores = canonical_scores(items_ND, np.arange(50, dtype=np.int32), query_D[None], np.zeros(50, np.int64))
    expected = [sum(int(a) * int(b) for a, b in zip(row, query_D, strict=True)) for row in items_ND]
    assert scores.tolist() == np.asarray(expected, np.float32).tolist()
