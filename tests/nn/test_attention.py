"""Attention by products is torch's attention, values and gradients."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from leanrec.nn.blocks.attention import Seen
from leanrec.nn.blocks.products import attend_by_products
from leanrec.nn.packing import Packed


def _packed(uniform: bool) -> Packed:
    if uniform:
        return Packed(torch.zeros(3, 12, dtype=torch.int64), torch.arange(12).expand(3, 12), uniform=True)
    segment = torch.tensor([[0] * 12, [0] * 5 + [1] * 7, [0] * 2 + [1] * 3 + [-1] * 7])
    return Packed(segment, torch.zeros_like(segment))


@pytest.mark.parametrize("uniform", [True, False])
@pytest.mark.parametrize("causal", [True, False])
def test_products_are_torchs_attention(uniform: bool, causal: bool) -> None:
    torch.manual_seed(0)
    seen = Seen.of(_packed(uniform), causal=causal)
    mask = _packed(uniform).attention_mask(causal=causal)
    found = []
    q, k, v, towards = torch.randn(4, 3, 2, 12, 8)
    for way in ("products", "torch"):
        leaves = [x.clone().requires_grad_() for x in (q, k, v)]
        if way == "products":
            assert seen.bias is not None
            out = attend_by_products(*leaves, seen.bias)
        else:
            out = F.scaled_dot_product_attention(*leaves, attn_mask=mask, is_causal=causal and mask is None)
        (out * towards).sum().backward()
        found.append([out, *(leaf.grad for leaf in leaves)])
    for one, other in zip(*found, strict=True):
        assert one is not None and other is not None
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_bfloat16_is_near_float32() -> None:
    torch.manual_seed(0)
    bias = Seen.of(_packed(False)).bias
    assert bias is not None
    q, k, v = torch.randn(3, 3, 2, 12, 8)
    exact = attend_by_products(q, k, v, bias)
    rounded = attend_by_products(q.bfloat16(), k.bfloat16(), v.bfloat16(), bias)
    torch.testing.assert_close(rounded.float(), exact, rtol=0.05, atol=0.05)
