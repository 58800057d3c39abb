"""Losses of whole users, pairs and propagation against plain NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leanrec.core.jagged import Jagged
from leanrec.kernels.graph import constraint_neighbours, propagate, propagate_reference
from leanrec.kernels.pairs import bpr_pairs, bpr_pairs_reference, draw_others
from leanrec.kernels.users import (
    hinge_negatives,
    hinge_negatives_reference,
    logistic_negatives,
    logistic_negatives_reference,
    pull,
    pull_reference,
    softmax_users,
    softmax_users_reference,
)


def _world(seed, users=5, items=9, dim=7, scale=1.0):
    rng = np.random.default_rng(seed)
    queries = (rng.standard_normal((users, dim)) * scale).astype(np.float32)
    vectors = rng.standard_normal((items, dim)).astype(np.float32)
    lengths = rng.integers(0, 5, users)
    slots = rng.integers(0, items, lengths.sum())
    return rng, queries, vectors, Jagged.from_lengths(slots.astype(np.int64), lengths)


def _zeros(*arrays):
    return tuple(np.zeros_like(array) for array in arrays)


@pytest.mark.parametrize("logistic", [True, False])
@pytest.mark.parametrize("scale", [0.1, 1.0, 30.0])
def test_pull(logistic, scale):
    rng, queries, vectors, rows = _world(0, scale=scale)
    weights = rng.random(len(rows.values), np.float32)
    fast, plain = _zeros(queries, vectors), _zeros(queries, vectors)
    found = pull(queries, vectors, rows.offsets, rows.values, weights, logistic, *fast)
    wanted = pull_reference(queries, vectors, rows.offsets, rows.values, weights, logistic, *plain)
    assert found == pytest.approx(wanted, rel=1e-4)
    for one, other in zip(fast, plain, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 1000), st.sampled_from([0.1, 1.0, 50.0]))
def test_negatives(seed, scale):
    rng = np.random.default_rng(seed)
    scores = (rng.standard_normal((4, 33)) * scale).astype(np.float32)
    base, slope, factor = rng.random(4, np.float32), rng.random(4, np.float32), rng.random(33, np.float32)
    for fast, plain, rest in (
        (logistic_negatives, logistic_negatives_reference, (base, slope, factor)),
        (hinge_negatives, hinge_negatives_reference, (base, 0.3)),
    ):
        one, other = scores.copy(), scores.copy()
        assert fast(one, *rest) == pytest.approx(plain(other, *rest), rel=1e-4, abs=1e-5)
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0])
def test_softmax(scale):
    rng, queries, vectors, rows = _world(1, scale=scale)
    share = rng.random(len(queries), np.float32)
    scores = queries @ vectors[:6].T
    one, other = scores.copy(), scores.copy()
    fast, plain = _zeros(queries, vectors), _zeros(queries, vectors)
    found = softmax_users(queries, vectors, rows.offsets, rows.values, share, one, *fast)
    wanted = softmax_users_reference(queries, vectors, rows.offsets, rows.values, share, other, *plain)
    assert found == pytest.approx(wanted, rel=1e-4)
    for a, b in zip((one, *fast), (other, *plain), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("scale", [0.1, 1.0, 30.0])
def test_bpr(scale):
    rng = np.random.default_rng(2)
    vectors = (rng.standard_normal((12, 6)) * scale).astype(np.float32)
    rows = rng.integers(0, 12, (3, 20))
    fast, plain = np.zeros_like(vectors), np.zeros_like(vectors)
    found, wanted = bpr_pairs(vectors, *rows, 0.1, fast), bpr_pairs_reference(vectors, *rows, 0.1, plain)
    assert found == pytest.approx(wanted, rel=1e-4)
    np.testing.assert_allclose(fast, plain, rtol=1e-3, atol=1e-3 * scale)


@settings(deadline=None, max_examples=30)
@given(
    st.integers(0, 2**62), st.lists(st.sets(st.integers(0, 9), max_size=10), min_size=1, max_size=6),
    st.sampled_from([2, 20]),
)  # fmt: skip
def test_others_are_not_the_users(seed, rows, width):
    """Few of them, which are looked up, or many, for which a user's items are marked."""
    items = Jagged.from_rows([sorted(row) for row in rows])
    users = np.repeat(np.arange(len(rows), dtype=np.int32), 50)
    drawn, again = np.empty((len(users), width), np.int32), np.empty((len(users), width), np.int32)
    draw_others(items.offsets, items.values, users, 10, seed, drawn)
    draw_others(items.offsets, items.values, users, 10, seed, again)
    assert np.array_equal(drawn, again) and drawn.min() >= 0 and drawn.max() < 10
    for user, row in enumerate(rows):
        assert len(row) >= 9 or not row & set(drawn[users == user].ravel().tolist())


def test_others_are_even():
    items = Jagged.from_rows([[0, 3]])
    drawn = np.empty((20_000, 3), np.int32)
    draw_others(items.offsets, items.values, np.zeros(20_000, np.int32), 8, 5, drawn)
    counts = np.bincount(drawn.ravel(), minlength=8)
    assert counts[[0, 3]].sum() == 0
    assert np.abs(counts[[1, 2, 4, 5, 6, 7]] - 10_000).max() < 500


def test_propagation():
    rng, _, vectors, rows = _world(3, users=9)
    scale = rng.random(9, np.float32)
    near = rows.values.astype(np.int32)
    fast, plain = (vectors * 0, vectors.copy()), (vectors * 0, vectors.copy())
    for low, high in ((0, 4), (4, 9)):
        propagate(rows.offsets, near, scale, vectors, *fast, low, high)
    propagate_reference(rows.offsets, near, scale, vectors, *plain, 0, 9)
    for one, other in zip(fast, plain, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_constraint_graph_is_that_of_the_paper():
    """Against the dense matrices of UltraGCN's equations 11: G shared users, rows and columns scaled."""
    rng = np.random.default_rng(4)
    has_UN = rng.random((30, 12)) < 0.3
    by_user = Jagged.from_rows([np.flatnonzero(row) for row in has_UN])
    by_item = Jagged.from_rows([np.flatnonzero(column) for column in has_UN.T])
    shared = has_UN.T.astype(float) @ has_UN
    np.fill_diagonal(shared, 0)
    sums = shared.sum(axis=1)
    omega = shared * (np.sqrt(sums + 1) / np.maximum(sums, 1))[:, None] / np.sqrt(sums + 1)
    near, weights = np.zeros((12, 4), np.int32), np.zeros((12, 4), np.float32)
    constraint_neighbours(by_user.offsets, by_user.values, by_item.offsets, by_item.values, sums, near, weights)
    for item in range(12):
        order = np.lexsort((np.arange(12), -omega[item].astype(np.float32)))[:4]
        assert near[item].tolist() == order.tolist()
        np.testing.assert_allclose(weights[item], omega[item, order], rtol=1e-5)
