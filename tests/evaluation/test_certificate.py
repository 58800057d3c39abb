"""Certificates: rarely wrong whatever the data, monotone, recomputable to the last bit, and of some power."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leanrec.core.errors import InputError
from leanrec.evaluation.certificate import Certificate, _order, certify_loss


def ndcg_like(rng: np.random.Generator, users: int, share: float = 0.3) -> np.ndarray:
    return np.where(rng.random(users) < share, 1 / np.log2(rng.integers(2, 12, users)), 0.0)


def lossy(rng: np.random.Generator, users: int, lost: float) -> tuple[np.ndarray, np.ndarray]:
    """A share `lost` of hits is lost altogether: the true relative loss is `lost`."""
    before = ndcg_like(rng, users)
    return before, np.where(rng.random(users) < lost, 0.0, before)


def noisy(rng: np.random.Generator, users: int, lost: float) -> tuple[np.ndarray, np.ndarray]:
    """Independent lists whose hits are rarer by `lost`."""
    return ndcg_like(rng, users), ndcg_like(rng, users, 0.3 * (1 - lost))


@pytest.mark.parametrize("world", [lossy, noisy])
@pytest.mark.parametrize("users", [200, 2000])
def test_false_certificates_are_rarer_than_alpha(world, users):
    rng = np.random.default_rng(users)
    truth, alpha, runs = 0.1, 0.1, 300
    certificates = [certify_loss(*world(rng, users, truth), alpha=alpha, seed=run) for run in range(runs)]
    allowed = alpha * runs + 3 * math.sqrt(alpha * (1 - alpha) * runs)
    assert sum(c.upper < truth for c in certificates) <= allowed
    assert sum(c.lower > truth for c in certificates) <= allowed


def test_rare_disasters_are_not_overlooked():
    """Half of the runs never see the users who lose all: a bound from the sample's variance would certify zero."""
    rng = np.random.default_rng(0)
    wrong = 0
    for run in range(300):
        before = np.full(60, 0.5)
        after = np.where(rng.random(60) < 0.01, 0.0, before)
        wrong += certify_loss(before, after, seed=run).upper < 0.01
    assert wrong <= 0.05 * 300 + 3 * math.sqrt(0.05 * 0.95 * 300)


def test_identical_answers_certify_a_small_loss_with_enough_users():
    before = ndcg_like(np.random.default_rng(1), 10_000, 0.1)
    certificate = certify_loss(before, before.copy(), metric="ndcg@10")
    assert certificate.loss == 0
    assert 0 < certificate.upper < 0.01
    assert certificate.holds(0.01)
    assert certificate.verdict(0.01).startswith("certified: ndcg@10 loses at most 0.")


def test_power_is_close_to_what_the_normal_interval_promises():
    before, after = lossy(np.random.default_rng(2), 50_000, 0.02)
    certificate = certify_loss(before, after)
    z = after - (1 - certificate.loss) * before
    normal = certificate.loss + 1.645 * z.std() / math.sqrt(len(z)) / before.mean()
    assert normal <= certificate.upper <= certificate.loss + 2.5 * (normal - certificate.loss)


@given(st.integers(0, 10_000), st.floats(0, 0.5))
@settings(max_examples=30, deadline=None)
def test_bounds_enclose_the_measured_loss_and_move_with_the_data(seed, lost):
    rng = np.random.default_rng(seed)
    before, after = lossy(rng, 300, lost)
    before[0] = after[0] = 1.0
    certificate = certify_loss(before, after, seed=seed)
    assert -1 <= certificate.lower <= certificate.loss <= certificate.upper <= 1
    worse = after * (rng.random(300) < 0.5)
    assert certify_loss(before, worse, seed=seed).loss >= certificate.loss
    stricter = certify_loss(before, after, seed=seed, alpha=0.01)
    assert stricter.upper >= certificate.upper - 1e-12


def test_more_users_of_the_same_kind_tighten_the_bound():
    before, after = lossy(np.random.default_rng(3), 1000, 0.03)
    bounds = [certify_loss(np.tile(before, times), np.tile(after, times)).upper for times in (1, 4, 16)]
    assert bounds[2] < bounds[0] / 1.5
    assert max(bounds[1:]) < bounds[0]


def test_users_needed_is_an_honest_forecast():
    rng = np.random.default_rng(4)
    small = certify_loss(*lossy(rng, 3000, 0.005))
    assert not small.holds(0.02)
    needed = small.users_needed(0.02)
    assert needed is not None and needed > 3000
    assert f"about {needed:,} users would decide" in small.verdict(0.02)
    assert small.verdict(0.02).startswith("inconclusive")
    assert certify_loss(*lossy(rng, 4 * needed, 0.005)).holds(0.02)
    assert small.users_needed(small.upper) == pytest.approx(3000, rel=0.05)
    forecasts = [small.users_needed(x) or math.inf for x in (0.01, 0.02, 0.05, 0.2)]
    assert forecasts == sorted(forecasts, reverse=True)


def test_a_broken_promise_is_said():
    before, after = lossy(np.random.default_rng(5), 20_000, 0.2)
    certificate = certify_loss(before, after, metric="recall@10")
    assert certificate.broken(0.1) and not certificate.holds(0.1)
    assert certificate.users_needed(0.1) is None
    assert certificate.verdict(0.1).startswith("broken: recall@10 loses at least 1")
    undecided = certify_loss(before[:200], after[:200])
    assert "the measured loss is not below 0.10 %" in undecided.verdict(0.001)


def test_a_gain_is_a_negative_loss():
    before = ndcg_like(np.random.default_rng(6), 20_000)
    certificate = certify_loss(before / 2, before)
    assert certificate.loss == pytest.approx(-1.0)
    assert -1 <= certificate.upper < -0.8


def test_nothing_to_lose_certifies_nothing():
    certificate = certify_loss(np.zeros(100), np.zeros(100))
    assert (certificate.loss, certificate.upper, certificate.lower) == (0.0, 1.0, -1.0)
    everything = certify_loss(np.full(1000, 0.5), np.zeros(1000))
    assert (everything.loss, everything.upper) == (1.0, 1.0)
    assert everything.lower > 0.95


def test_recomputed_bit_by_bit():
    before, after = lossy(np.random.default_rng(7), 5000, 0.01)
    first = certify_loss(before, after, metric="ndcg@10", seed=3)
    assert certify_loss(before, after, metric="ndcg@10", seed=3) == first
    assert msgspec.json.decode(msgspec.json.encode(first), type=Certificate) == first
    assert certify_loss(before, after, metric="ndcg@10", seed=4) != first


def test_golden_bound():
    """Exact arithmetic in a fixed order: this value may change only with a new METHOD version."""
    i = np.arange(1000)
    before = (i % 4 == 0) * 0.5
    after = np.where(i % 64 == 0, 0.0, before)
    certificate = certify_loss(before, after)
    assert certificate.upper.hex() == GOLDEN_UPPER
    assert certificate.lower.hex() == GOLDEN_LOWER


GOLDEN_UPPER = "0x1.bead3abf5ec80p-4"
GOLDEN_LOWER = "0x1.e2da9f60be200p-6"


def test_order_is_a_permutation_that_differs_between_seeds():
    for users in (1, 2, 1000):
        assert sorted(_order(users, 7)) == list(range(users))
    assert _order(5, 0).tolist() == [2, 4, 1, 0, 3]
    assert (_order(1000, 0) != _order(1000, 1)).any()
    assert sorted(_order(10, -1)) == list(range(10))


def test_refusals():
    with pytest.raises(InputError, match="same users: 2 before, 3 after"):
        certify_loss(np.zeros(2), np.zeros(3))
    with pytest.raises(InputError, match="between 0 and 1; after has others"):
        certify_loss(np.zeros(2), np.array([0.0, 1.5]))
    with pytest.raises(InputError, match="before has others"):
        certify_loss(np.array([0.0, math.nan]), np.zeros(2))
    with pytest.raises(InputError, match="at least one user"):
        certify_loss(np.zeros(0), np.zeros(0))
    with pytest.raises(InputError, match="alpha"):
        certify_loss(np.zeros(2), np.zeros(2), alpha=1.0)
