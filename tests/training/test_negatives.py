"""Samplers: what they draw is distributed as they say."""

from __future__ import annotations

import numpy as np
import pytest

from leanrec.core.errors import ConfigError
from leanrec.training.negatives import NEGATIVES, make_negatives

COUNTS = np.asarray([0, 1, 2, 3, 4, 30, 10, 50])
OPTIONS = {"popularity": {"exponent": 0.5}, "mixed": {"uniform": 0.25}}


def _drawn(name: str, n: int, rounds: int) -> tuple[np.ndarray, np.ndarray]:
    """How often each item came a round, and the expected count that was claimed; nan for those that never came."""
    sampler = make_negatives(name, OPTIONS.get(name, {}), COUNTS)
    random = np.random.default_rng(0)
    seen, claimed = np.zeros(len(COUNTS)), np.full(len(COUNTS), np.nan)
    for _ in range(rounds):
        targets = random.choice(len(COUNTS), 400, p=COUNTS / COUNTS.sum()).astype(np.int32)
        items, log_expected = sampler.draw(n, targets, random)
        assert items.dtype == np.int32 and log_expected.dtype == np.float32 and len(items) == len(log_expected) == n
        seen += np.bincount(items, minlength=len(COUNTS))
        claimed[items] = np.exp(log_expected)
    return seen / rounds, claimed


@pytest.mark.parametrize("name", list(NEGATIVES))
@pytest.mark.parametrize("n", [64, 600])
def test_items_come_as_often_as_claimed(name: str, n: int) -> None:
    seen, claimed = _drawn(name, n, 400)
    came = seen > 0
    np.testing.assert_allclose(seen[came], claimed[came], rtol=0.1, atol=0.05 * n / 64)
    assert claimed[came].sum() == pytest.approx(n, rel=0.01)
    assert came[0] == (name in ("uniform", "mixed"))


def test_popularity_is_a_power_of_the_counts() -> None:
    _, claimed = _drawn("popularity", 100, 50)
    np.testing.assert_allclose(claimed[1:], 100 * COUNTS[1:] ** 0.5 / (COUNTS[1:] ** 0.5).sum(), rtol=1e-5)


def test_negatives_from_the_batch_are_its_targets_each_once() -> None:
    sampler = make_negatives("in-batch", {}, COUNTS)
    targets = np.asarray([5, 7, 6, 4], np.int32)
    items, _ = sampler.draw(3, targets, np.random.default_rng(0))
    assert len(set(items.tolist())) == 3 and set(items.tolist()) <= set(targets.tolist())
    assert len(sampler.draw(0, targets, np.random.default_rng(0))[0]) == 0


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigError, match="popularity"):
        make_negatives("popular", {}, COUNTS)
    with pytest.raises(ConfigError, match="exponent"):
        make_negatives("uniform", {"exponent": 1.0}, COUNTS)
    with pytest.raises(ConfigError, match="uniform=2"):
        make_negatives("mixed", {"uniform": 2}, COUNTS)
