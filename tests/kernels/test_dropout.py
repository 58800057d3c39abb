"""Dropout by hashing: the reference's mask, the right share, masks of different seeds unrelated."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from leanrec.kernels.dropout import (
    add_dropped,
    add_dropped_reference,
    drop,
    drop_reference,
    relu_drop,
    relu_drop_reference,
)
from leanrec.nn.dropout import Dropout

_KERNELS = [(drop, drop_reference, 1), (relu_drop, relu_drop_reference, 1), (add_dropped, add_dropped_reference, 2)]


@pytest.mark.parametrize(("kernel", "reference", "inputs"), _KERNELS)
@pytest.mark.parametrize(("share", "seed"), [(0.1, 0), (0.5, 7), (0.9, 4_294_967_295)])
def test_the_mask_is_the_reference(
    kernel: Callable[..., None], reference: Callable[..., None], inputs: int, share: float, seed: int
) -> None:
    arrays = np.random.default_rng(0).standard_normal((inputs, 20_000), dtype=np.float32)
    fast, plain = np.empty_like(arrays[0]), np.empty_like(arrays[0])
    for low, high in ((0, 7_001), (7_001, 20_000)):
        kernel(*arrays, share, seed, fast, low, high)
    reference(*arrays, share, seed, plain)
    np.testing.assert_allclose(fast, plain, rtol=1e-6)
    if kernel is drop:
        assert abs((fast == 0).mean() - share) < 0.02


def test_masks_of_different_seeds_are_unrelated() -> None:
    ones = np.ones(4096, np.float32)
    masks = np.empty((200, 4096), np.float32)
    for seed in range(200):
        drop(ones, 0.5, seed, masks[seed], 0, 4096)
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


def test_fused_layers_are_the_plain_ones() -> None:
    layer = Dropout(0.4)
    x, update = torch.randn(700, 600), torch.randn(700, 600)
    pairs = [
        (lambda a, b: layer.add(a, b), lambda a, b: a + layer(b)),
        (lambda a, b: layer.relu(a), lambda a, b: layer(torch.relu(a))),
    ]
    for fused, plain in pairs:
        found = []
        for way in (fused, plain):
            torch.manual_seed(5)
            inputs = [x.clone().requires_grad_(), update.clone().requires_grad_()]
            out = way(*inputs)
            (out * torch.arange(600.0)).sum().backward()
            found.append([out, *(i.grad if i.grad is not None else torch.zeros(()) for i in inputs)])
        for one, other in zip(*found, strict=True):
            torch.testing.assert_close(one, other)


def test_the_seed_is_torchs() -> None:
    layer, x = Dropout(0.5), torch.randn(100)
    torch.manual_seed(3)
    first, second = layer(x), layer(x)
    torch.manual_seed(3)
    assert torch.equal(layer(x), first)
    assert not torch.equal(first, second)
    layer.eval()
    assert layer(x) is x
