"""Attention on a CPU as batched matrix products that keep the weights for the backward pass.

torch's own kernel recomputes them and converts bfloat16 on the way: for short sequences and for bfloat16 that costs
more than the memory it saves (docs/log.md has the figures).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["attend_by_products", "products_pay"]

_SHORT = 64


def products_pay(q: Tensor) -> bool:
    """Whether the weights of (R, H, L, d) queries are better kept."""
    return q.device.type == "cpu" and q.requires_grad and (q.dtype != torch.float32 or q.shape[2] <= _SHORT)


def attend_by_products(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """(R, H, L, d) softmax(q k / sqrt(d) + bias) v. bias: (R or 1, 1, L, L), 0 or -inf."""
    out: Tensor = _Products.apply(q, k, v, bias)  # type: ignore[no-untyped-call]
    return out


class _Products(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
        rows, heads, length, size = q.shape
        with torch.autocast("cpu", enabled=False):
            q, k, v = (x.reshape(rows * heads, length, size) for x in (q, k, v))
            logits = torch.baddbmm(q.new_empty(()), q, k.transpose(1, 2), beta=0, alpha=size**-0.5)
            logits.view(rows, heads, length, length).add_(bias.to(q.dtype))
            weights = torch.softmax(logits, -1)
            out = torch.bmm(weights, v)
        ctx.save_for_backward(q, k, v, weights)
        ctx.shape = rows, heads, length, size
        return out.view(ctx.shape)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        q, k, v, weights = ctx.saved_tensors
        grad = grads[0].reshape(q.shape)
        grad_v = torch.bmm(weights.transpose(1, 2), grad)
        grad_logits = torch._softmax_backward_data(torch.bmm(grad, v.transpose(1, 2)), weights, -1, weights.dtype)
        grad_logits.mul_(q.shape[-1] ** -0.5)
        grad_q, grad_k = torch.bmm(grad_logits, k), torch.bmm(grad_logits.transpose(1, 2), q)
        return grad_q.view(ctx.shape), grad_k.view(ctx.shape), grad_v.view(ctx.shape), None
