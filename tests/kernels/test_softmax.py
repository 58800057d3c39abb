"""Softmax in blocks and over samples against float64 definitions."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leanrec.kernels import softmax
from leanrec.kernels.sampled import sampled_softmax, sampled_softmax_reference
from leanrec.kernels.softmax import BlockSoftmax, add_rows, exponentials

F64 = npt.NDArray[np.float64]


def _definition(
    hidden: F64, items: F64, targets: npt.NDArray[np.int64], share: F64, smoothing: float
) -> tuple[F64, ...]:
    """Losses and gradients of sum(share * loss) straight from cross-entropy against smoothed targets."""
    scores = hidden @ items.T
    top = scores.max(axis=1, keepdims=True)
    sums = top + np.log(np.exp(scores - top).sum(axis=1, keepdims=True))
    aim = np.full(scores.shape, smoothing / len(items))
    aim[np.arange(len(targets)), targets] += 1 - smoothing
    off = (np.exp(scores - sums) - aim) * share[:, None]
    return (aim * (sums - scores)).sum(axis=1), off @ items, off.T @ hidden


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 1000), tokens=st.integers(1, 90), items=st.integers(1, 300), threads=st.sampled_from([1, 2]),
    smoothing=st.sampled_from([0.0, 0.2]), scale=st.sampled_from([0.1, 1.0, 20.0]),
)  # fmt: skip
def test_blocks_are_the_softmax(
    seed: int, tokens: int, items: int, threads: int, smoothing: float, scale: float
) -> None:
    random = np.random.default_rng(seed)
    hidden = (random.standard_normal((tokens, 8)) * scale).astype(np.float32)
    table = random.standard_normal((items, 8)).astype(np.float32)
    targets, share = random.integers(0, items, tokens), random.random(tokens).astype(np.float32)
    grads = np.full_like(hidden, np.nan), np.full_like(table, np.nan)
    kernel = BlockSoftmax(memory=4 * items * 32, smoothing=smoothing)
    loss = kernel(hidden, table, targets, share, *grads, threads)
    wanted = _definition(hidden.astype(float), table.astype(float), targets, share.astype(float), smoothing)
    np.testing.assert_allclose(loss, wanted[0], rtol=2e-5, atol=2e-5 * scale)
    for got, exact in zip(grads, wanted[1:], strict=True):
        size = share.max() * max(1.0, scale)  # of what the difference of two nearly equal shares multiplies
        assert np.abs(got - exact).max() <= 2e-5 * max(np.abs(exact).max(), size)


def test_several_blocks_whose_maxima_rise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(softmax, "_BLOCK", 64)
    random = np.random.default_rng(0)
    hidden = np.abs(random.standard_normal((40, 8))).astype(np.float32)
    table = (np.linspace(-12, 12, 200)[:, None] * np.ones(8)).astype(np.float32)
    targets, share = random.integers(0, 200, 40), np.full(40, 1 / 40, np.float32)
    for threads in (1, 3):
        grads = np.empty_like(hidden), np.empty_like(table)
        loss = BlockSoftmax(memory=1)(hidden, table, targets, share, *grads, threads)
        wanted = _definition(hidden.astype(float), table.astype(float), targets, share.astype(float), 0.0)
        np.testing.assert_allclose(loss, wanted[0], rtol=2e-5, atol=1e-5)
        for got, exact in zip(grads, wanted[1:], strict=True):
            assert np.abs(got - exact).max() <= 2e-5 * np.abs(exact).max()


def test_scores_that_are_not_numbers_give_a_loss_that_is_none() -> None:
    hidden, table = np.full((2, 4), np.inf, np.float32), np.ones((5, 4), np.float32)
    grads = np.empty_like(hidden), np.empty_like(table)
    with np.errstate(invalid="ignore"):
        loss = BlockSoftmax()(hidden, table, np.zeros(2, np.int64), np.ones(2, np.float32), *grads)
    assert not np.isfinite(loss).any()


def test_exponentials_are_those_of_the_library() -> None:
    scores = np.random.default_rng(0).uniform(-90, 3, (500, 7)).astype(np.float32)
    top, sums, got = np.full(7, 1, np.float32), np.empty(7, np.float32), scores.copy()
    exponentials(got, top, sums)
    np.testing.assert_array_equal(top, np.maximum(1, scores.max(axis=0)))
    exact = np.exp(scores.astype(np.float64) - top)
    np.testing.assert_allclose(got, exact, rtol=8e-6, atol=2e-38)
    np.testing.assert_allclose(sums, exact.sum(axis=0), rtol=1e-5)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 1000), tokens=st.integers(1, 20), count=st.integers(1, 70), scale=st.sampled_from([0.3, 30.0])
)
def test_sampled_probabilities_are_the_references(seed: int, tokens: int, count: int, scale: float) -> None:
    random = np.random.default_rng(seed)
    scores = (random.standard_normal((tokens, count)) * scale).astype(np.float32)
    expected, positive = random.standard_normal(count).astype(np.float32), random.standard_normal(tokens)
    targets, negatives = random.integers(0, 12, tokens), random.integers(0, 12, count)
    rest = (
        expected, targets.astype(np.int32), negatives.astype(np.int32), positive.astype(np.float32),
        random.random(tokens).astype(np.float32),
    )  # fmt: skip
    fast, plain = scores.copy(), scores.copy()
    got, wanted = sampled_softmax(fast, *rest), sampled_softmax_reference(plain, *rest)
    np.testing.assert_allclose(fast, plain, atol=1e-5)
    np.testing.assert_allclose(got[0], wanted[0], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(got[1], wanted[1], atol=1e-5)


def test_a_row_may_be_added_to_more_than_once() -> None:
    table = np.zeros((3, 2), np.float32)
    add_rows(table, np.asarray([1, 1, 2]), np.asarray([1, 2, 3], np.float32), np.ones((3, 2), np.float32))
    np.testing.assert_array_equal(table, [[0, 0], [3, 3], [3, 3]])
