"""Every metric against golden values, a brute-force oracle written from the definitions, and scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score

from leanrec.core.errors import ConfigError
from leanrec.core.jagged import Jagged
from leanrec.evaluation.metrics import CATALOGUE, PER_USER, Exposure, Metric, find_hits, parse_metric, per_user


def brute_force(items: list[int], targets: set[int], k: int) -> dict[str, float]:
    """The definitions, one user at a time."""
    top = items[:k]
    ranks = [rank for rank, item in enumerate(top, start=1) if item >= 0 and item in targets]
    ideal = sum(1 / math.log2(1 + rank) for rank in range(1, min(k, len(targets)) + 1))
    return {
        "recall": len(ranks) / len(targets),
        "hit_rate": 1.0 if ranks else 0.0,
        "precision": len(ranks) / k,
        "ndcg": sum(1 / math.log2(1 + rank) for rank in ranks) / ideal,
        "mrr": 1 / ranks[0] if ranks else 0.0,
        "map": sum((i + 1) / rank for i, rank in enumerate(ranks)) / min(k, len(targets)),
    }


@st.composite
def judged_lists(draw):
    catalogue = draw(st.integers(1, 15))
    width = draw(st.integers(0, catalogue))
    users = draw(st.integers(1, 5))
    lists, targets = [], []
    for _ in range(users):
        answers = draw(st.permutations(range(catalogue)))[:width]
        empty = draw(st.integers(0, width))
        lists.append(list(answers[: width - empty]) + [-1] * empty)
        targets.append(draw(st.lists(st.integers(0, catalogue + 3), min_size=1, max_size=6, unique=True)))
    return np.array(lists, np.int32).reshape(users, width), targets, draw(st.integers(1, 20))


@given(judged_lists())
@settings(max_examples=200, deadline=None)
def test_per_user_metrics_equal_brute_force(case):
    items_BK, targets, k = case
    metrics = [Metric(name, k) for name in PER_USER]
    values = per_user(items_BK, Jagged.from_rows(targets), metrics)
    for row, (items, wanted) in enumerate(zip(items_BK.tolist(), targets, strict=True)):
        expected = brute_force(items, set(wanted), k)
        for name in PER_USER:
            assert values[f"{name}@{k}"][row] == pytest.approx(expected[name], abs=1e-10)


@given(judged_lists())
@settings(max_examples=50, deadline=None)
def test_a_user_counts_the_same_alone_as_in_a_batch(case):
    items_BK, targets, k = case
    metrics = [Metric(name, k) for name in PER_USER]
    together = per_user(items_BK, Jagged.from_rows(targets), metrics)
    for row in range(len(targets)):
        alone = per_user(items_BK[row : row + 1], Jagged.from_rows(targets[row : row + 1]), metrics)
        assert all(together[name][row] == alone[name][0] for name in together)


@pytest.mark.parametrize("k", [1, 3, 10, 30])
def test_ndcg_equals_scikit_learn(k):
    rng = np.random.default_rng(k)
    relevance_BN = rng.random((40, 30)) < 0.2
    relevance_BN[:, 0] = True
    scores_BN = np.argsort(rng.random((40, 30)), axis=1).astype(float)
    items_BK = np.argsort(-scores_BN, axis=1)[:, :k]
    targets = Jagged.from_rows([np.flatnonzero(row) for row in relevance_BN])
    values = per_user(items_BK, targets, [Metric("ndcg", k)])[f"ndcg@{k}"]
    assert values.mean() == pytest.approx(ndcg_score(relevance_BN.astype(int), scores_BN, k=k), abs=1e-10)


def test_golden_values():
    values = per_user(
        np.array([[4, 2, 9, 7, -1], [1, 2, 3, 4, 5]], np.int32),
        Jagged.from_rows([[2, 7, 11], [6]]),
        [Metric(name, 5) for name in PER_USER],
    )
    ideal = 1 + 1 / math.log2(3) + 0.5
    expected = {
        "recall@5": 2 / 3,
        "hit_rate@5": 1.0,
        "precision@5": 0.4,
        "ndcg@5": (1 / math.log2(3) + 1 / math.log2(5)) / ideal,
        "mrr@5": 0.5,
        "map@5": (1 / 2 + 2 / 4) / 3,
    }
    assert {name: array[0] for name, array in values.items()} == pytest.approx(expected)
    assert all(array[1] == 0 for array in values.values())


def test_ndcg_of_perfect_lists_longer_and_shorter_than_the_targets_is_one():
    targets = Jagged.from_rows([[0], [0, 1, 2, 3, 4]])
    items_BK = np.array([[0, 5, 6], [4, 3, 2]], np.int32)
    for k in (1, 2, 3):
        assert per_user(items_BK, targets, [Metric("ndcg", k)])[f"ndcg@{k}"].tolist() == [1.0, 1.0]


def test_empty_places_are_never_hits():
    assert not find_hits(np.full((2, 3), -1), Jagged.from_rows([[0], [1]])).any()
    assert find_hits(np.empty((2, 0), np.int32), Jagged.from_rows([[0], [1]])).shape == (2, 0)


def exposure_oracle(lists: list[list[int]], popularity: list[int]) -> dict[str, float]:
    shown = [item for row in lists for item in row if item >= 0]
    counts = [shown.count(item) for item in range(len(popularity))]
    total = sum(popularity)
    differences = sum(abs(a - b) for a in counts for b in counts)
    return {
        "coverage": len(set(shown)) / len(popularity),
        "novelty": sum(-math.log2(max(popularity[i], 1) / total) for i in shown) / len(shown),
        "arp": sum(popularity[i] for i in shown) / len(shown),
        "gini": differences / (2 * len(popularity) * len(shown)),
    }


def test_catalogue_metrics_equal_brute_force_in_any_blocks():
    rng = np.random.default_rng(0)
    popularity = rng.integers(0, 50, 30)
    items_BK = np.argsort(rng.random((25, 30)) + np.linspace(0, 1, 30), axis=1)[:, :8].astype(np.int32)
    items_BK[3, 5:] = -1
    exposure = Exposure(popularity, [3, 8])
    for start in range(0, 25, 7):
        exposure.add(items_BK[start : start + 7])
    metrics = [Metric(name, k) for name in CATALOGUE for k in (3, 8)]
    values = exposure.values([*metrics, Metric("ndcg", 3)])
    assert set(values) == {str(m) for m in metrics}
    for k in (3, 8):
        expected = exposure_oracle(items_BK[:, :k].tolist(), popularity.tolist())
        assert {name: values[f"{name}@{k}"] for name in CATALOGUE} == pytest.approx(expected)


def test_exposure_extremes():
    even, single = Exposure(np.ones(4, int), [2]), Exposure(np.ones(4, int), [2])
    even.add(np.array([[0, 1], [2, 3]]))
    single.add(np.array([[1, -1], [1, -1]]))
    names = [parse_metric("gini@2"), parse_metric("coverage@2")]
    assert even.values(names) == {"gini@2": 0.0, "coverage@2": 1.0}
    assert single.values(names) == {"gini@2": 0.75, "coverage@2": 0.25}
    assert Exposure(np.ones(4, int), [2]).values(names) == {"gini@2": 0.0, "coverage@2": 0.0}


def test_erased_items_are_no_part_of_the_catalogue():
    exposure = Exposure(np.ones(4, int), [2], np.array([True, True, False, False]))
    exposure.add(np.array([[0, 1]]))
    assert exposure.values([parse_metric("coverage@2")]) == {"coverage@2": 1.0}


def test_metric_names():
    assert parse_metric("ndcg@10") == Metric("ndcg", 10)
    assert str(Metric("hit_rate", 5)) == "hit_rate@5"
    with pytest.raises(ConfigError, match=r"unknown metric 'ngdc@10' \(did you mean 'ndcg'\?\)"):
        parse_metric("ngdc@10")
    for text in ("ndcg", "ndcg@", "ndcg@0", "ndcg@-1", "ndcg@ten", "ndcg@1.5"):
        with pytest.raises(ConfigError, match="write ndcg@10"):
            parse_metric(text)
