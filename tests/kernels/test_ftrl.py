"""FTRL-proximal, least squares and trees against their references."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leanrec.core.jagged import Jagged
from leanrec.kernels.fields import place_fields, place_fields_reference
from leanrec.kernels.ftrl import ftrl, ftrl_reference, ftrl_weights
from leanrec.kernels.least_squares import normal_equations, normal_product
from leanrec.kernels.trees import score_trees, score_trees_reference


def sparse(x_BR: np.ndarray) -> tuple[Jagged, np.ndarray]:
    rows = Jagged.from_rows([np.flatnonzero(row) for row in x_BR])
    return rows, x_BR[x_BR != 0].astype(np.float32)


@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.3]), st.sampled_from([0.0, 2.0]))
@settings(max_examples=40, deadline=None)
def test_ftrl_is_the_paper_s_algorithm(seed, l1, l2):
    rng = np.random.default_rng(seed)
    x_BR = np.round(rng.normal(size=(30, 6)) * (rng.random((30, 6)) < 0.5), 2).astype(np.float32).astype(np.float64)
    labels = (rng.random(30) < 0.4).astype(np.uint8)
    rows, values = sparse(x_BR)
    z, n = np.zeros(7), np.zeros(7)
    ftrl(rows.offsets, rows.values, values, labels, np.ones(30), np.arange(30), z, n, 0.1, 1.0, l1, l2)
    np.testing.assert_allclose(
        ftrl_weights(z, n, 0.1, 1.0, l1, l2), ftrl_reference(x_BR, labels, 0.1, 1.0, l1, l2), atol=1e-9
    )


def test_normal_equations_are_those_of_dense_rows():
    rng = np.random.default_rng(1)
    x_BR = rng.normal(size=(40, 5)) * (rng.random((40, 5)) < 0.6)
    rows, values = sparse(x_BR)
    ones = np.hstack([np.zeros_like(x_BR), np.ones((40, 1))])
    ones[:, :5][x_BR != 0] = values
    labels, w = rng.random(40), rng.normal(size=6)
    gram, moment, out = np.zeros((6, 6)), np.zeros(6), np.zeros(6)
    normal_equations(rows.offsets, rows.values, values.astype(np.float64), labels, gram, moment)
    normal_product(rows.offsets, rows.values, values.astype(np.float64), w, out)
    np.testing.assert_allclose(gram, ones.T @ ones, atol=1e-10)
    np.testing.assert_allclose(moment, ones.T @ labels, atol=1e-10)
    np.testing.assert_allclose(out, ones.T @ (ones @ w), atol=1e-10)


@pytest.mark.parametrize("seed", range(5))
def test_trees_are_walked_as_in_plain_python(seed):
    rng = np.random.default_rng(seed)
    depth_nodes = 15  # a full tree of 7 splits and 8 leaves
    feature = np.array([rng.integers(0, 3) if node < 7 else -1 for node in range(depth_nodes)], np.int32)
    children = np.array([[2 * n + 1, 2 * n + 2] if n < 7 else [0, 0] for n in range(depth_nodes)], np.int32)
    words = [rng.integers(0, 2**32, rng.integers(1, 3)).tolist() if f == 2 else [] for f in feature]
    sets = np.array([w for some in words for w in some], np.uint32)
    offsets = np.concatenate([[0], np.cumsum([len(some) for some in words])]).astype(np.int32)
    x = np.stack([rng.normal(size=50), rng.normal(size=50), rng.integers(0, 80, 50).astype(float)], axis=1)
    given_ = (np.array([0, 0], np.int32), feature, rng.normal(size=15), children, rng.normal(size=15), sets, offsets)
    np.testing.assert_array_equal(score_trees(x, *given_), score_trees_reference(x, *given_))


def test_fields_are_placed_as_the_reference_places_them():
    rng = np.random.default_rng(0)
    for count, width, numbers in [(0, 2, 1), (7, 0, 0), (9, 3, 0), (8, 0, 2), (50, 4, 3)]:
        between = rng.integers(0, 4, count)
        offsets = np.concatenate([[0], np.cumsum(width + numbers + between)])
        fields = (
            rng.integers(0, 9, (count, width)).astype(np.int32), np.arange(width, dtype=np.int32) * 9,
            rng.normal(size=(count, numbers)).astype(np.float32), np.arange(numbers, dtype=np.int32) + 99,
        )  # fmt: skip
        one, other = ((np.full(offsets[-1], -1, np.int32), np.full(offsets[-1], -1, np.float32)) for _ in range(2))
        place_fields(*fields, offsets, *one)
        place_fields_reference(*fields, offsets, *other)
        assert np.array_equal(one[0], other[0]) and np.array_equal(one[1], other[1])
        assert (one[0] == -1).sum() == between.sum()
