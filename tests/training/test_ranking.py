"""Rankers: the list-wise softmax against its gradient, boosted trees against brute force, both against a world."""

from __future__ import annotations

import numpy as np
import pytest

from leanrec.core.jagged import Jagged
from leanrec.kernels.boosting import grow_tree, lambda_gradients
from leanrec.runtime.merging.learned import LinearRanker
from leanrec.runtime.merging.trees import TreesRanker
from leanrec.training.ranking import RankingData, fit_linear, fit_trees


def world(queries: int = 60, seed: int = 0, *, crossed: bool = False) -> RankingData:
    """12 candidates a query; the right ones have the largest x0 + x1, or x0 * x1 when crossed."""
    random = np.random.default_rng(seed)
    features = random.standard_normal((queries * 12, 4))
    value = features[:, 0] * features[:, 1] if crossed else features[:, 0] + features[:, 1]
    noisy = (value + 0.3 * random.standard_normal(len(value))).reshape(queries, 12)
    relevant = noisy >= np.sort(noisy, axis=1)[:, [-2]]
    items = Jagged.from_lengths(np.tile(np.arange(12, dtype=np.int32), queries), np.full(queries, 12))
    return RankingData(items, features, relevant.ravel())


def hit_share(data: RankingData, scores: np.ndarray) -> float:
    """How often the best is right."""
    best = scores.reshape(len(data.items), -1).argmax(axis=1) + data.items.offsets[:-1]
    return float(data.relevant_T[best].mean())


def test_linear_stands_where_the_gradient_is_zero():
    data, l2 = world(), 2.0
    weights = fit_linear(data, l2)
    spread = data.features_TF.std(axis=0)
    x = (data.features_TF - data.features_TF.mean(axis=0)) / spread

    def loss(w: np.ndarray) -> float:
        scores = (x @ w).reshape(len(data.items), -1)
        target = data.relevant_T.reshape(len(data.items), -1) / 2
        logs = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
        return float(-(target * logs).sum() + l2 / 2 * (w @ w))

    standard = weights * spread
    for place in range(4):
        step = np.eye(4)[place] * 1e-4
        assert abs(loss(standard + step) - loss(standard - step)) / 2e-4 < 1e-4
    assert hit_share(world(seed=1), LinearRanker(weights).score(world(seed=1).features_TF)) > 0.9


def test_queries_that_teach_nothing_are_left_out():
    data = world(10)
    relevant = data.relevant_T.copy()
    relevant[:12], relevant[12:24] = True, False
    more = RankingData(data.items, data.features_TF, relevant)
    assert len(more.decided().items) == 8
    only = fit_linear(more.take(np.arange(2, 10)), 1.0)
    assert np.array_equal(fit_linear(more, 1.0), only)


def test_constant_features_get_no_weight():
    data = world()
    still = RankingData(data.items, np.column_stack([data.features_TF, np.ones(len(data.relevant_T))]), data.relevant_T)
    assert fit_linear(still, 1.0)[-1] == 0


def test_lambda_gradients_are_those_of_the_definition():
    random = np.random.default_rng(0)
    scores, relevant = random.standard_normal(9), np.array([1, 0, 0, 1, 0, 0, 1, 0, 0], bool)
    offsets, level = np.array([0, 4, 9]), 2
    gradient, hessian = np.empty(9), np.empty(9)
    lambda_gradients(scores, relevant, offsets, level, gradient, hessian)
    expected = np.zeros(9)
    for start, stop in ((0, 4), (4, 9)):
        rank = np.argsort(np.argsort(-scores[start:stop])) + start * 0
        ideal = sum(1 / np.log2(n + 2) for n in range(relevant[start:stop].sum()))
        for i in range(start, stop):
            for j in range(start, stop):
                if relevant[i] and not relevant[j] and min(rank[i - start], rank[j - start]) < level:
                    change = abs(1 / np.log2(rank[i - start] + 2) - 1 / np.log2(rank[j - start] + 2)) / ideal
                    wrong = 1 / (1 + np.exp(scores[i] - scores[j]))
                    expected[i] += change * wrong
                    expected[j] -= change * wrong
    np.testing.assert_allclose(gradient, expected, atol=1e-12)
    assert (hessian >= 0).all() and abs(gradient.sum()) < 1e-12


def test_a_tree_splits_where_brute_force_would():
    random = np.random.default_rng(3)
    bins_FT = random.integers(0, 6, (3, 200)).astype(np.uint8)
    gradient, hessian = random.standard_normal(200) + (bins_FT[1] > 2), np.ones(200)
    feature, at, leaf, node = np.empty(1, np.int32), np.empty(1, np.uint8), np.empty(2), np.empty(200, np.int64)
    grow_tree(bins_FT, 6, gradient, hessian, 20, 1.0, feature, at, leaf, node)

    def gain(right: np.ndarray) -> float:
        parts = [(gradient[side].sum() ** 2) / (side.sum() + 1.0) for side in (right, ~right)]
        return sum(parts) - gradient.sum() ** 2 / 201.0

    options = [(f, b) for f in range(3) for b in range(5) if 20 <= (bins_FT[f] > b).sum() <= 180]
    best = max(options, key=lambda split: gain(bins_FT[split[0]] > split[1]))
    assert (int(feature[0]), int(at[0])) == best
    right = bins_FT[best[0]] > best[1]
    np.testing.assert_allclose(
        leaf, [gradient[~right].sum() / ((~right).sum() + 1), gradient[right].sum() / (right.sum() + 1)]
    )
    assert np.array_equal(node == 1, right)


def test_trees_learn_what_a_sum_cannot():
    data, unseen = world(200, crossed=True), world(100, seed=5, crossed=True)
    trees = fit_trees(data, rounds=60, rate=0.2, depth=3, least=10)
    linear = LinearRanker(fit_linear(data, 1.0))
    share = hit_share(unseen, trees.score(unseen.features_TF))
    assert share > 0.75 > hit_share(unseen, linear.score(unseen.features_TF))
    again = TreesRanker.load(trees.tensors(), 4)
    assert np.array_equal(again.score(unseen.features_TF), trees.score(unseen.features_TF))
    short = trees.first(10)
    assert len(short.feature_RH) == 10 and not np.array_equal(
        short.score(unseen.features_TF), trees.score(unseen.features_TF)
    )


@pytest.mark.parametrize("spoil", ["shape", "feature", "type"])
def test_broken_trees_are_refused(spoil):
    tensors = fit_trees(world(20), rounds=2, depth=2, least=5).tensors()
    if spoil == "shape":
        tensors["leaf"] = tensors["leaf"][:, :-1]
    if spoil == "feature":
        tensors["feature"] = tensors["feature"] + 4
    if spoil == "type":
        tensors["threshold"] = tensors["threshold"].astype(np.float32)
    with pytest.raises(ValueError, match="trees"):
        TreesRanker.load(tensors, 4)
