"""Factor models at serving: known users' vectors, and histories folded in, against plain references."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leanrec.core.errors import BundleError
from leanrec.core.jagged import Jagged
from leanrec.core.nouns import Queries
from leanrec.data.cases import distinct
from leanrec.index.exact import ExactIndex
from leanrec.kernels.fold import fold_mean, fold_mean_reference, fold_ridge, fold_ridge_reference, solve_positive
from leanrec.runtime.engines.factors import FactorsConfig, FactorsEngine
from leanrec.runtime.sources.embedding import EmbeddingSource

ITEMS, USERS, DIM = 12, 4, 5


def table(rows: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, DIM)).astype(np.float32)


def source(fold: str = "mean", *, users: np.ndarray | None = None, **more) -> EmbeddingSource:
    items_ND = table(ITEMS)
    tensors = {} if users is None else {"users": users}
    if fold == "ridge":
        tensors["spectrum"] = np.linspace(2, 0, DIM, dtype=np.float32)
    if fold == "ratings":
        items_ND[:, -1] = 1.0
    if fold != "mean":
        more = {"regularisation": 0.3, **more}
    engine = FactorsEngine(FactorsConfig(fold=fold, **more), tensors, items_ND)
    return EmbeddingSource("factors", engine, ExactIndex.build(items_ND))


@st.composite
def folds(draw):
    histories = Jagged.from_rows(
        draw(st.lists(st.lists(st.integers(0, ITEMS - 1), max_size=9), min_size=1, max_size=5))
    )
    return histories, table(ITEMS, draw(st.integers(0, 9)))


@given(folds(), st.sampled_from([0.0, 0.5, 1.0]))
@settings(max_examples=50, deadline=None)
def test_mean_equals_its_reference(fold, power):
    histories, items_ND = fold
    found, expected = np.empty((2, len(histories), DIM), np.float32)
    fold_mean(histories.offsets, histories.values, items_ND, power, found)
    fold_mean_reference(histories.offsets, histories.values, items_ND, power, expected)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)


@given(folds())
@settings(max_examples=50, deadline=None)
def test_ridge_equals_the_normal_equations(fold):
    """Histories shorter and longer than D, which are solved in two ways."""
    histories, items_ND = fold
    rng = np.random.default_rng(len(histories.values))
    asked = (histories.offsets, histories.values, rng.normal(size=len(histories.values)), items_ND)
    weights = (rng.random(DIM), rng.random(len(histories)) + 0.05)
    found, expected = np.empty((2, len(histories), DIM), np.float32)
    fold_ridge(*asked, *weights, found)
    fold_ridge_reference(*asked, *weights, expected)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@given(st.integers(1, 12), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_solve_equals_numpy(n, seed):
    rng = np.random.default_rng(seed)
    root_nn, right_n = rng.standard_normal((n, n)), rng.standard_normal(n)
    matrix_nn = root_nn @ root_nn.T + 0.1 * np.eye(n)
    expected = np.linalg.solve(matrix_nn, right_n)
    lower_nn = np.tril(matrix_nn)
    solve_positive(lower_nn, right_n)
    np.testing.assert_allclose(right_n, expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("fold", ["mean", "ridge", "ratings"])
def test_known_users_bring_their_vector_and_others_their_history(fold):
    users_UD = table(USERS, seed=1)
    users_UD[3] = 0
    personal = source(fold, users=users_UD)
    assert personal.personal and not source(fold).personal
    histories = Jagged.from_rows([[0, 1], [], [2, 2, 5], [7], [3, 4], []])
    users = np.array([2, 0, -1, 3, USERS + 5, -1], np.int32)
    hits = personal.search(Queries(histories, 3, users=users))
    scores_BN = users_UD[[2, 0]] @ personal.index.items_ND.T
    assert np.array_equal(hits.items_BK[:2], np.argsort(-scores_BN, axis=1)[:, :3])
    folded = personal.search(Queries(histories, 3))
    assert np.array_equal(hits.items_BK[2:], folded.items_BK[2:])
    assert (hits.items_BK[5] == -1).all() and (folded.items_BK[1] == -1).all()
    every = Jagged.from_rows([row[row >= 0] for row in hits.items_BK])
    scores_T = personal.score(Queries(histories, 1, users=users), every)
    assert np.array_equal(scores_T, hits.scores_BK[hits.items_BK >= 0])
    assert (personal.score(Queries(histories.take(np.array([5])), 1), Jagged.from_rows([[1, 2]])) == -np.inf).all()


def test_ridge_minimises_the_implicit_loss():
    """By brute force over the whole table: the spectrum stands for the unobserved weight times the Gram matrix."""
    unobserved, weight, exponent = 0.2, 0.3, 0.7
    basis_DD = np.linalg.qr(np.random.default_rng(3).standard_normal((ITEMS, DIM)))[0]
    items_ND = (basis_DD * np.linspace(1, 2, DIM)).astype(np.float32)
    spectrum_D = unobserved * (items_ND.astype(np.float64) ** 2).sum(axis=0)
    config = FactorsConfig(fold="ridge", regularisation=weight, spread=unobserved * ITEMS, exponent=exponent)
    engine = FactorsEngine(config, {"spectrum": spectrum_D.astype(np.float32)}, items_ND)
    history = [1, 4, 1, 7]
    seen = sorted(set(history))
    wide_ND = items_ND.astype(np.float64)
    reg = weight * (len(seen) + unobserved * ITEMS) ** exponent
    normal_DD = wide_ND[seen].T @ wide_ND[seen] + unobserved * wide_ND.T @ wide_ND + reg * np.eye(DIM)
    expected_D = np.linalg.solve(normal_DD, wide_ND[seen].sum(axis=0))
    np.testing.assert_allclose(engine.encode(Jagged.from_rows([history]))[0], expected_D, rtol=1e-5)


def test_inputs_may_be_another_table():
    items_ND, inputs_ND = table(ITEMS), table(ITEMS, seed=2)
    engine = FactorsEngine(FactorsConfig(fold="mean", power=0.5), {"inputs": inputs_ND}, items_ND)
    expected_D = inputs_ND[[3, 5]].sum(axis=0) / np.sqrt(2)
    np.testing.assert_allclose(engine.encode(Jagged.from_rows([[3, 5, 3]]))[0], expected_D, rtol=1e-6)
    assert distinct(Jagged.from_rows([[3, 5, 3]])).values.tolist() == [3, 5]


@pytest.mark.parametrize("fold", ["mean", "ridge", "ratings"])
def test_stored_and_loaded_is_equal(fold):
    before = source(fold, users=table(USERS, seed=1))
    after = EmbeddingSource.load("factors", before.config(), before.parts())
    queries = Queries(Jagged.from_rows([[0, 1], [3], []]), 4, users=np.array([-1, 1, 2], np.int32))
    assert np.array_equal(before.search(queries).scores_BK, after.search(queries).scores_BK)


def broken():
    items_ND = table(ITEMS)
    yield {"fold": "mean"}, {"inputs": items_ND[:3]}, items_ND
    yield {"fold": "mean"}, {"users": items_ND.astype(np.float64)}, items_ND
    yield {"fold": "mean"}, {"users": items_ND[:, :2]}, items_ND
    yield {"fold": "ridge", "regularisation": 1.0}, {}, items_ND
    yield {"fold": "ridge", "regularisation": 1.0}, {"spectrum": np.ones(3, np.float32)}, items_ND
    yield {"fold": "ridge"}, {"spectrum": np.ones(DIM, np.float32)}, items_ND
    yield {"fold": "ratings", "regularisation": 1.0}, {}, items_ND[:, :2]
    yield {"fold": "sum"}, {}, items_ND
    yield {}, {}, items_ND


@pytest.mark.parametrize(("config", "tensors", "items_ND"), list(broken()))
def test_arrays_that_do_not_fit_are_refused(config, tensors, items_ND):
    with pytest.raises(BundleError):
        FactorsEngine.load(config, tensors, items_ND)
