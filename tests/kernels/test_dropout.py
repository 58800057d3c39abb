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
from leanrec.kernels.dropout_bfloat16 import (
    add_dropped_bf16,
    drop_to_bf16,
    narrow,
    relu_drop_bf16,
    relu_drop_grad_bf16,
    widen,
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


def test_bfloat16_is_the_float32_loop_rounded() -> None:
    random = np.random.default_rng(1)
    x, update = random.standard_normal((2, 5000), dtype=np.float32)
    coded = narrow(update)
    np.testing.assert_array_equal(coded, torch.from_numpy(update).bfloat16().view(torch.int16).numpy().view(np.uint16))
    exact, rounded, kept = np.empty_like(x), np.empty(5000, np.uint16), np.empty(5000, np.uint16)
    drop_to_bf16(x, 0.3, 9, rounded, 0, 5000)
    drop_reference(x, 0.3, 9, exact)
    np.testing.assert_array_equal(rounded, narrow(exact))
    relu_drop_bf16(coded, 0.3, 9, kept, 0, 5000)
    relu_drop_reference(widen(coded), 0.3, 9, exact)
    np.testing.assert_array_equal(kept, narrow(exact))
    relu_drop_grad_bf16(coded, kept, 0.3, rounded, 0, 5000)
    np.testing.assert_array_equal(rounded, narrow(np.where(kept != 0, widen(coded) / np.float32(0.7), np.float32(0))))
    add_dropped_bf16(x, coded, 0.3, 9, exact, 0, 5000)
    plain = np.empty_like(x)
    add_dropped_reference(x, widen(coded), 0.3, 9, plain)
    np.testing.assert_array_equal(exact, plain)


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_fused_layers_are_the_plain_ones(kind: torch.dtype) -> None:
    layer = Dropout(0.4)
    x, update = torch.randn(700, 600), torch.randn(700, 600).to(kind)
    x = x.to(kind).float()
    pairs = [
        (lambda a, b: layer.add(a, b), lambda a, b: a + layer(b)),
        (lambda a, b: layer.relu(b), lambda a, b: layer(torch.relu(b)).to(kind)),
    ]
    for fused, plain in pairs:
        found = []
        for way in (fused, plain):
            torch.manual_seed(5)
            inputs = [x.clone().requires_grad_(), update.clone().requires_grad_()]
            out = way(*inputs)
            (out * torch.arange(-3.0, 597.0).remainder(7)).sum().backward()
            found.append([out, *(i.grad if i.grad is not None else torch.zeros(()) for i in inputs)])
        for one, other in zip(*found, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-2 if kind == torch.bfloat16 else 1e-5, atol=1e-5)


def test_the_seed_is_torchs() -> None:
    layer, x = Dropout(0.5), torch.randn(100)
    torch.manual_seed(3)
    first, second = layer(x), layer(x)
    torch.manual_seed(3)
    assert torch.equal(layer(x), first)
    assert not torch.equal(first, second)
    layer.eval()
    assert layer(x) is x
