"""Objectives against their definition."""

from __future__ import annotations

import math

import numpy as np
import torch

from leanrec.training.objectives import Predictions, make_objective


def _loss(
    name: str,
    hidden: torch.Tensor,
    leaf: torch.Tensor,
    targets: torch.Tensor,
    negatives: torch.Tensor,
    drawn: int | None = None,
) -> torch.Tensor:
    expected = torch.full((len(negatives),), math.log(max(drawn or len(negatives), 1) / len(leaf)))
    objective = make_objective(name, {}, len(leaf), len(negatives))
    return objective.loss(Predictions(hidden, leaf, targets, negatives, expected))


def _case() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return torch.randn(6, 4), torch.randn(20, 4), torch.randint(0, 20, (6,))


def test_softmax_is_cross_entropy() -> None:
    hidden, leaf, targets = _case()
    scores = (hidden @ leaf.T).double()
    expected = -(scores - scores.logsumexp(1, keepdim=True))[torch.arange(6), targets].mean()
    got = _loss("softmax", hidden, leaf, targets, torch.empty(0, dtype=torch.int64))
    torch.testing.assert_close(got.double(), expected, rtol=1e-5, atol=1e-6)


def test_sampling_everything_is_the_full_softmax() -> None:
    hidden, leaf, targets = _case()
    got = _loss("sampled-softmax", hidden, leaf, targets, torch.arange(20))
    torch.testing.assert_close(got, _loss("softmax", hidden, leaf, targets, torch.arange(0)), rtol=1e-5, atol=1e-6)


def test_the_denominator_is_estimated_without_bias() -> None:
    hidden, leaf, targets = _case()
    hidden = hidden * 0.3
    random = np.random.default_rng(0)
    scores = (hidden @ leaf.T).double()
    positive = scores[torch.arange(6), targets]
    ratios = []
    for _ in range(3000):
        negatives = torch.from_numpy(random.integers(0, 20, 10))
        loss = _loss("sampled-softmax", hidden[:1], leaf, targets[:1], negatives).double()
        ratios.append(torch.exp(loss))
    # e^loss is the denominator over e^positive
    expected = torch.exp(scores[0]).sum() / torch.exp(positive[0])
    assert abs(float(torch.stack(ratios).mean() / expected) - 1) < 0.02


def test_a_negative_that_is_the_target_does_not_count() -> None:
    hidden, leaf, targets = _case()
    with_hit = _loss("sampled-softmax", hidden[:1], leaf, targets[:1], torch.tensor([1, 2, int(targets[0])]))
    without = _loss("sampled-softmax", hidden[:1], leaf, targets[:1], torch.tensor([1, 2]), drawn=3)
    torch.testing.assert_close(with_hit, without)
