"""The promise: a plan whose true loss is over the bound is returned in at most alpha of the runs, looks together."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from leanrec.compression.promise import alpha_of_look, keep_promise
from leanrec.compression.quality import Quality
from leanrec.evaluation.certificate import certify_loss
from leanrec.evaluation.paired import compare

ALPHA = 0.05
PAIRED = compare(np.zeros(9), np.zeros(9))


def quality(before_B: Any, after_B: Any, alpha: float) -> Quality:
    return Quality(
        metric="ndcg@10",
        users=len(before_B),
        before=float(before_B.mean()),
        after=float(after_B.mean()),
        identical=False,
        include_seen=False,
        paired=PAIRED,
        certificate=certify_loss(before_B, after_B, metric="ndcg@10", alpha=alpha),
    )


def values(rng: np.random.Generator, loss: float, users: int) -> tuple[Any, Any]:
    """Users of whom some lose all and some gain a little, so that the mean loss is `loss`."""
    before_B = rng.random(users) * (rng.random(users) < 0.5)
    after_B = before_B * (rng.random(users) >= loss)
    return before_B, after_B


def test_shares_of_alpha_sum_up_to_it() -> None:
    shares = [alpha_of_look(ALPHA, look) for look in range(50)]
    assert shares[0] == pytest.approx(0.75 * ALPHA)
    assert sum(shares) == pytest.approx(ALPHA)
    assert shares == sorted(shares, reverse=True)


def test_a_plan_over_the_bound_is_rarely_returned() -> None:
    """Four plans, each with a true loss just over the bound, in simulated searches."""
    bound, runs, wrong = 0.2, 200, 0
    for run in range(runs):
        rng = np.random.default_rng(run)
        verdict = keep_promise(
            [0.201] * 4, lambda loss, alpha, rng=rng: quality(*values(rng, loss, 400), alpha), bound=bound, alpha=ALPHA
        )  # fmt: skip
        wrong += verdict.chosen is not None
    assert wrong <= ALPHA * runs + 3 * np.sqrt(ALPHA * (1 - ALPHA) * runs)


def test_the_cheapest_that_keeps_it_is_returned() -> None:
    rng = np.random.default_rng(0)
    judged = []

    def judge(loss: float, alpha: float) -> Quality:
        judged.append((loss, alpha))
        return quality(*values(rng, loss, 4000), alpha)

    verdict = keep_promise([0.2, 0.01, 0.0], judge, bound=0.05, alpha=ALPHA)
    assert verdict.chosen == 0.01
    assert [look.kept for look in verdict.looks] == ["broken", "certificate"]
    assert judged == [(0.2, alpha_of_look(ALPHA, 0)), (0.01, alpha_of_look(ALPHA, 1))]


def test_proof_needs_no_users() -> None:
    def judge(loss: float, alpha: float) -> Quality:
        raise AssertionError

    verdict = keep_promise([0.0], judge, bound=0.01, alpha=ALPHA, proven=lambda _: True)
    assert verdict.chosen == 0.0
    assert [look.kept for look in verdict.looks] == ["proof"]


def test_too_few_users_say_how_many_would_decide() -> None:
    rng = np.random.default_rng(0)
    verdict = keep_promise([0.0], lambda loss, a: quality(*values(rng, loss, 50), a), bound=0.01, alpha=ALPHA)
    assert verdict.chosen is None
    assert verdict.undecided
    assert verdict.users_needed is not None and verdict.users_needed > 50
    nothing = keep_promise([], lambda loss, a: quality(*values(rng, loss, 50), a), bound=0.01, alpha=ALPHA)
    assert nothing.chosen is None
    assert not nothing.undecided


def test_looks_are_limited_but_a_proven_plan_is_still_found() -> None:
    rng = np.random.default_rng(0)
    candidates = [0.5] * 6 + [-1.0]
    verdict = keep_promise(
        candidates, lambda loss, a: quality(*values(rng, loss, 400), a), bound=0.01, alpha=ALPHA,
        proven=lambda loss: loss < 0, looks=3,
    )  # fmt: skip
    assert verdict.chosen == -1.0
    assert len(verdict.looks) == 4


def test_looks_of_earlier_runs_count() -> None:
    rng = np.random.default_rng(0)
    judged = []

    def judge(loss: float, alpha: float) -> Quality:
        judged.append((loss, alpha))
        return quality(*values(rng, loss, 4000), alpha)

    known = {0.2: alpha_of_look(ALPHA, 1)}
    verdict = keep_promise([0.2, 0.3, 0.0], judge, bound=0.05, alpha=ALPHA, earlier=known.get, spent=2)
    assert verdict.chosen == 0.0
    assert judged == [(0.2, known[0.2]), (0.3, alpha_of_look(ALPHA, 2)), (0.0, alpha_of_look(ALPHA, 3))]
