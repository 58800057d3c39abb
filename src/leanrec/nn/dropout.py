"""Dropout by hashing (kernels.dropout) as a layer on the CPU, in float32; torch's own on a GPU."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from leanrec.kernels.dropout import drop

__all__ = ["Dropout"]


def _drop(x: Tensor, share: float, seed: int) -> Tensor:
    out = torch.empty_like(x, memory_format=torch.contiguous_format)
    drop(x.detach().contiguous().view(-1).numpy(), share, seed, out.view(-1).numpy())
    return out


class _Hashed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, share: float, seed: int) -> Tensor:
        ctx.share, ctx.seed = share, seed
        return _drop(x, share, seed)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return _drop(grads[0], ctx.share, ctx.seed), None, None


class Dropout(nn.Module):
    """Zeroes a share of the values and scales the rest; the seed of each call comes from torch's generator."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.share == 0:
            return x
        if x.device.type != "cpu":
            return F.dropout(x, self.share)
        seed = int(torch.randint(1 << 32, (), dtype=torch.int64))
        out: Tensor = _Hashed.apply(x.float(), self.share, seed)  # type: ignore[no-untyped-call]
        return out
