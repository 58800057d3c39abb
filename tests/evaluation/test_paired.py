"""Intervals over users: coverage by simulation, agreement with SciPy, and the wording of verdicts."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
from scipy import stats

from leanrec.core.errors import InputError
from leanrec.evaluation import intervals
from leanrec.evaluation.intervals import Resampled, method_for
from leanrec.evaluation.paired import Paired, compare


def skewed(rng: np.random.Generator, users: int, share: float = 0.2) -> np.ndarray:
    """NDCG-like values: zero for most users."""
    return np.where(rng.random(users) < share, 1 / np.log2(rng.integers(2, 12, users)), 0.0)


def test_bca_agrees_with_scipy():
    rng = np.random.default_rng(0)
    values_BM = np.stack([skewed(rng, 400), skewed(rng, 400, 0.3)], axis=1)
    ours = Resampled(values_BM)
    theirs = stats.bootstrap((values_BM[:, 0],), np.mean, n_resamples=5000, method="BCa", random_state=1)
    assert ours.mean(0) == pytest.approx(tuple(theirs.confidence_interval), abs=0.003)
    both = stats.bootstrap(
        (values_BM[:, 1], values_BM[:, 0]), lambda a, b, axis: a.mean(axis) / b.mean(axis), paired=True,
        n_resamples=5000, method="BCa", random_state=1,
    )  # fmt: skip
    ratio = ours.ratio(1, 0)
    assert ratio is not None
    assert ratio == pytest.approx(tuple(both.confidence_interval), rel=0.03)


def test_mean_interval_covers_the_truth_about_as_often_as_it_says():
    gains = 1 / np.log2(np.arange(2, 12))
    truth = 0.2 * gains.mean()
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(150):
        low, high = Resampled(skewed(rng, 150)[:, None]).mean(0)
        covered += low <= truth <= high
    assert 0.88 <= covered / 150 <= 1.0


def test_normal_interval_for_many_users(monkeypatch):
    values_BM = skewed(np.random.default_rng(2), 500)[:, None]
    bootstrap = Resampled(values_BM).mean(0)
    monkeypatch.setattr(intervals, "MOST_RESAMPLED", 100)
    normal = Resampled(values_BM).mean(0)
    reach = 1.959964 * values_BM.std(ddof=1) / math.sqrt(500)
    assert normal == pytest.approx((values_BM.mean() - reach, values_BM.mean() + reach))
    assert normal == pytest.approx(bootstrap, abs=0.01)
    assert "normal" in method_for(500)


def test_intervals_depend_on_the_seed_alone():
    values_BM = skewed(np.random.default_rng(3), 300)[:, None]
    assert Resampled(values_BM).mean(0) == Resampled(values_BM).mean(0)
    assert Resampled(values_BM, seed=1).mean(0) != Resampled(values_BM).mean(0)


def test_constant_values_have_no_spread_and_one_user_says_nothing():
    assert Resampled(np.full((10, 1), 0.25)).mean(0) == (0.25, 0.25)
    assert Resampled(np.full((1, 1), 0.25)).mean(0) == (-math.inf, math.inf)


def test_verdicts():
    rng = np.random.default_rng(4)
    old = skewed(rng, 600)
    better = np.where((old == 0) & (rng.random(600) < 0.2), 0.5, old)
    result = compare(old, better, metric="ndcg@10", baseline="popular", model="esasrec")
    assert (result.verdict, result.users) == ("better", 600)
    assert result.interval[0] > 0
    assert result.relative == pytest.approx(better.mean() / old.mean() - 1)
    assert result.relative_interval is not None and result.relative_interval[0] > 0
    assert str(result).startswith("ndcg@10: esasrec is better than popular: +0.0")
    assert compare(better, old).verdict == "worse"
    assert compare(better, old).difference == -result.difference
    same = compare(old, old)
    assert (same.verdict, same.interval, same.relative) == ("undecided", (0.0, 0.0), 0.0)
    assert str(same) == ": model equals baseline for each of 600 users"
    shuffled = compare(old, rng.permutation(old))
    assert shuffled.verdict == "undecided" and "model is not told apart from baseline" in str(shuffled)


def test_a_baseline_without_hits_has_no_relative_difference():
    result = compare(np.zeros(50), np.full(50, 0.5))
    assert (result.relative, result.relative_interval, result.verdict) == (None, None, "better")
    assert "%" not in str(result)


def test_one_user_is_undecided_within_the_range_of_a_metric():
    result = compare(np.array([0.0]), np.array([1.0]))
    assert (result.verdict, result.interval) == ("undecided", (-1.0, 1.0))


def test_other_users_cannot_be_paired():
    with pytest.raises(InputError, match="same users"):
        compare(np.zeros(3), np.zeros(4), metric="ndcg@10")


def test_json_round_trip():
    result = compare(np.array([0.0, 0.5, 1.0]), np.array([0.5, 0.5, 1.0]), metric="mrr@5")
    assert msgspec.json.decode(msgspec.json.encode(result), type=Paired) == result
