"""Objectives against their definition, written out prediction by prediction in float64."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from leanrec.core.errors import ConfigError
from leanrec.training.objectives import OBJECTIVES, Predictions, make_objective
from leanrec.training.objectives.fused import Lender
from leanrec.training.objectives.sampled import plain_sampled_softmax
from leanrec.training.objectives.sce import SCE

ITEMS, TOKENS, DIM = 20, 6, 4


def _predictions(
    *, dtype: torch.dtype = torch.float32, weighted: bool = False, negatives: list[int] | None = None
) -> Predictions:
    torch.manual_seed(0)
    negatives_n = torch.tensor(negatives) if negatives is not None else torch.randint(0, ITEMS, (9,))
    weight_T = torch.rand(TOKENS) + 0.5 if weighted else None
    hidden_TD, leaf_UD = (torch.randn(n, DIM, dtype=dtype, requires_grad=True) for n in (TOKENS, ITEMS))
    expected_n = math.log(max(len(negatives_n), 1) / ITEMS) + 0.1 * torch.randn(len(negatives_n))
    return Predictions(hidden_TD, leaf_UD, torch.randint(0, ITEMS, (TOKENS,)), negatives_n, expected_n, weight_T)


def _loss(name: str, p: Predictions, **options: Any) -> torch.Tensor:
    return make_objective(name, options, ITEMS, len(p.negatives_n)).loss(p)


def _by_hand(name: str, p: Predictions, **options: float) -> float:
    """The mean over predictions of each one's loss, with loops."""
    h, w = p.hidden_TD.detach().double().numpy(), p.leaf_UD.detach().double().numpy()
    total = 0.0
    for t, target in enumerate(p.targets_T.tolist()):
        others = [(j, at) for at, j in enumerate(p.negatives_n.tolist()) if j != target]
        score = {j: float(h[t] @ w[j]) for j in range(ITEMS)}
        if name == "softmax":
            aim, log_sum = options.get("label_smoothing", 0.0), math.log(sum(math.exp(s) for s in score.values()))
            loss = log_sum - (1 - aim) * score[target] - aim * sum(score.values()) / ITEMS
        elif name == "sampled-softmax":
            sums = math.exp(score[target]) + sum(math.exp(score[j] - float(p.log_expected_n[at])) for j, at in others)
            loss = math.log(sums) - score[target]
        elif name == "gbce":
            rate = len(p.negatives_n) / (ITEMS - 1)
            beta = rate * (options["t"] * (1 - 1 / rate) + 1 / rate)
            positive = 1 / (1 + math.exp(-score[target]))
            against = np.mean([-math.log(1 - 1 / (1 + math.exp(-score[j]))) for j, _ in others])
            loss = (-math.log(positive**beta) + len(p.negatives_n) * against) / (len(p.negatives_n) + 1)
        elif name == "bpr":
            loss = float(np.mean([-math.log(1 / (1 + math.exp(score[j] - score[target]))) for j, _ in others]))
        else:
            cosine = {j: s / np.linalg.norm(h[t]) / np.linalg.norm(w[j]) for j, s in score.items()}
            above = np.mean([max(0.0, cosine[j] - options["margin"]) for j, _ in others])
            loss = 1 - cosine[target] + options["negative_weight"] * above
        total += loss * (1.0 if p.weight_T is None else float(p.weight_T[t]))
    return total / TOKENS


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("softmax", {}), ("softmax", {"label_smoothing": 0.2}), ("sampled-softmax", {}), ("gbce", {"t": 0.6}),
        ("bpr", {}), ("ccl", {"margin": 0.1, "negative_weight": 3.0}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_loss_is_its_definition(name: str, options: dict[str, float], weighted: bool, dtype: torch.dtype) -> None:
    p = _predictions(weighted=weighted, dtype=dtype)
    assert float(_loss(name, p, **options).detach()) == pytest.approx(_by_hand(name, p, **options), rel=1e-5)


@pytest.mark.parametrize("name", list(OBJECTIVES))
def test_gradients_are_the_slopes_of_the_loss(name: str) -> None:
    p = _predictions(weighted=True, dtype=torch.float64)
    options = {"buckets": 1, "bucket_predictions": TOKENS, "bucket_items": ITEMS} if name == "sce" else {}
    objective = make_objective(name, options, ITEMS, len(p.negatives_n))
    objective.loss(p).backward()
    for leaf in (p.hidden_TD, p.leaf_UD):
        assert leaf.grad is not None
        flat, slopes = leaf.detach().view(-1), leaf.grad.view(-1)
        for at in range(len(flat)):
            ends = []
            for step in (1e-6, -1e-6):
                flat[at] += step
                ends.append(float(objective.loss(p).detach()))
                flat[at] -= step
            assert (ends[0] - ends[1]) / 2e-6 == pytest.approx(float(slopes[at]), abs=1e-7)


@pytest.mark.parametrize("name", list(OBJECTIVES))
def test_float32_gradients_are_those_of_float64(name: str) -> None:
    p, grads = _predictions(weighted=True), []
    options = {"buckets": 1, "bucket_predictions": 3} if name == "sce" else {}
    for dtype in (torch.float32, torch.float64):
        hidden, leaf = (x.detach().to(dtype).requires_grad_() for x in (p.hidden_TD, p.leaf_UD))
        torch.manual_seed(3)
        loss = _loss(name, replace(p, hidden_TD=hidden, leaf_UD=leaf), **options)
        (loss * 3).backward()
        assert hidden.grad is not None and leaf.grad is not None
        grads.append((hidden.grad.double(), leaf.grad.double()))
    for low, high in zip(*grads, strict=True):
        torch.testing.assert_close(low, high, rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_the_fused_sampled_softmax_is_the_plain_one(smoothing: float) -> None:
    p = _predictions(weighted=True, negatives=[3, 3, 0, 7, 19, 3, 2])
    got = torch.autograd.grad(_loss("sampled-softmax", p, label_smoothing=smoothing), (p.hidden_TD, p.leaf_UD))
    wanted = torch.autograd.grad(plain_sampled_softmax(p, smoothing), (p.hidden_TD, p.leaf_UD))
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-6)


def test_sampling_everything_is_the_full_softmax() -> None:
    p = _predictions(negatives=list(range(ITEMS)))
    p = Predictions(p.hidden_TD, p.leaf_UD, p.targets_T, p.negatives_n, torch.zeros(ITEMS))
    torch.testing.assert_close(_loss("sampled-softmax", p), _loss("softmax", p), rtol=1e-5, atol=1e-6)
    smooth = [_loss(name, p, label_smoothing=0.2) for name in ("sampled-softmax", "softmax")]
    torch.testing.assert_close(*smooth, rtol=1e-5, atol=1e-6)


def test_the_denominator_is_estimated_without_bias() -> None:
    p = _predictions()
    hidden, leaf, target = (p.hidden_TD * 0.3)[:1].detach(), p.leaf_UD.detach(), p.targets_T[:1]
    random = np.random.default_rng(0)
    scores = (hidden @ leaf.T).double()[0]
    ratios = []
    for _ in range(3000):
        negatives = torch.from_numpy(random.integers(0, ITEMS, 10))
        loss = _loss("sampled-softmax", Predictions(hidden, leaf, target, negatives, torch.full((10,), math.log(0.5))))
        ratios.append(math.exp(float(loss)))
    # e^loss is the denominator over e^positive
    expected = float(torch.exp(scores).sum() / torch.exp(scores[target[0]]))
    assert abs(np.mean(ratios) / expected - 1) < 0.02


def test_under_autocast_the_loss_stays_exact() -> None:
    p = _predictions()
    for name in ("softmax", "sampled-softmax"):
        plain = _loss(name, p)
        with torch.autocast("cpu", torch.bfloat16):
            torch.testing.assert_close(_loss(name, p), plain)


def test_cosine_objectives_do_not_see_lengths() -> None:
    p = _predictions()
    longer = Predictions(p.hidden_TD * 7, p.leaf_UD * 3, p.targets_T, p.negatives_n, p.log_expected_n)
    assert OBJECTIVES["ccl"].cosine and not OBJECTIVES["bpr"].cosine
    torch.testing.assert_close(_loss("ccl", longer), _loss("ccl", p))


def test_one_bucket_of_everything_is_the_softmax() -> None:
    p = _predictions(weighted=True)
    everything = {"buckets": 1, "bucket_predictions": TOKENS, "bucket_items": ITEMS}
    assert p.weight_T is not None
    share = Predictions(
        p.hidden_TD, p.leaf_UD, p.targets_T, p.negatives_n, p.log_expected_n, p.weight_T / p.weight_T.mean()
    )
    torch.testing.assert_close(_loss("sce", p, **everything), _loss("softmax", share), rtol=1e-5, atol=1e-6)


def test_buckets_hold_what_lies_in_their_direction() -> None:
    torch.manual_seed(1)
    objective = make_objective("sce", {"buckets": 3, "bucket_predictions": 2, "bucket_items": 5}, ITEMS, 0)
    assert isinstance(objective, SCE)
    hidden, items = torch.randn(TOKENS, DIM), torch.randn(ITEMS, DIM)
    torch.manual_seed(2)
    chosen, rows = objective.buckets(hidden, items)
    torch.manual_seed(2)
    directions = torch.randn(3, TOKENS) @ hidden
    for bucket in range(3):
        assert set(chosen[bucket].tolist()) == set((hidden @ directions[bucket]).argsort()[-2:].tolist())
        assert set(rows[bucket].tolist()) == set((items @ directions[bucket]).argsort()[-5:].tolist())


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("softmax", {"label_smoothing": 1.0}), ("softmax", {"memory_mb": 0}), ("gbce", {"t": 2}),
        ("sampled-softmax", {"label_smoothing": -0.1}), ("sce", {"bucket_items": 0}), ("sce", {"buckets": 0}),
        ("bpr", {"t": 1}), ("ccl", {"margin": 2}),
    ],
)  # fmt: skip
def test_impossible_options_are_refused_by_name(name: str, options: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        make_objective(name, options, ITEMS, 5)


def test_memory_is_lent_again_only_when_it_is_free() -> None:
    lender = Lender()
    first = torch.from_numpy(lender.take(3, 2))
    second = torch.from_numpy(lender.take(3, 2))
    assert first.data_ptr() != second.data_ptr()
    address = second.data_ptr()
    del second
    assert lender.take(3, 2).ctypes.data == address
    assert lender.take(4, 2).shape == (4, 2)
