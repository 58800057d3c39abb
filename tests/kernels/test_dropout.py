"""Dropout by hashing: the reference's mask, the right share, masks of different seeds unrelated."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from leanrec.kernels.dropout import drop, drop_reference
from leanrec.nn.dropout import Dropout


@pytest.mark.parametrize(("share", "seed"), [(0.1, 0), (0.5, 7), (0.9, 4_294_967_295)])
def test_the_mask_is_the_reference(share: float, seed: int) -> None:
    x = np.random.default_rng(0).standard_normal(20_000, dtype=np.float32)
    fast, plain = np.empty_like(x), np.empty_like(x)
    drop(x, share, seed, fast)
    drop_reference(x, share, seed, plain)
    np.testing.assert_array_equal(fast, plain)
    assert abs((fast == 0).mean() - share) < 0.02


def test_masks_of_different_seeds_are_unrelated() -> None:
    ones = np.ones(4096, np.float32)
    masks = np.empty((200, 4096), np.float32)
    for seed in range(200):
        drop(ones, 0.5, seed, masks[seed])
    related = np.corrcoef(masks)[~np.eye(200, dtype=np.bool_)]
    assert np.abs(related).mean() < 1.2 * np.sqrt(2 / np.pi / 4096)
    assert abs((masks > 0).mean(axis=0).std() - 0.5 / np.sqrt(200)) < 0.01


def test_the_gradient_passes_where_the_value_did() -> None:
    torch.manual_seed(0)
    x = torch.randn(50, 8, requires_grad=True)
    out = Dropout(0.4)(x)
    out.sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad * x.detach(), out.detach())


def test_the_seed_is_torchs() -> None:
    layer, x = Dropout(0.5), torch.randn(100)
    torch.manual_seed(3)
    first, second = layer(x), layer(x)
    torch.manual_seed(3)
    assert torch.equal(layer(x), first)
    assert not torch.equal(first, second)
    layer.eval()
    assert layer(x) is x
