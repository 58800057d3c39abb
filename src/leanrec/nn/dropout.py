"""Dropout by hashing (kernels.dropout) as a layer on the CPU, in float32; torch's own on a GPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from leanrec.kernels.dropout import add_dropped, drop, relu_drop
from leanrec.kernels.threads import spread

__all__ = ["Dropout"]


def _run(kernel: Callable[..., None], inputs: list[Tensor], share: float, seed: int) -> Tensor:
    flat = [x.detach().contiguous().view(-1).numpy() for x in inputs]
    out = torch.empty(inputs[0].shape)
    out_E = out.view(-1).numpy()
    spread(lambda low, high: kernel(*flat, share, seed, out_E, low, high), len(out_E), torch.get_num_threads())
    return out


class _Drop(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, share: float, seed: int) -> Tensor:
        ctx.share, ctx.seed = share, seed
        return _run(drop, [x], share, seed)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return _run(drop, [grads[0]], ctx.share, ctx.seed), None, None


class _AddDropped(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, update: Tensor, share: float, seed: int) -> Tensor:
        ctx.share, ctx.seed = share, seed
        return _run(add_dropped, [x, update], share, seed)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None]:
        return grads[0], _run(drop, [grads[0]], ctx.share, ctx.seed), None, None


class _ReluDrop(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, share: float, seed: int) -> Tensor:
        out = _run(relu_drop, [x], share, seed)
        ctx.save_for_backward(out)
        ctx.scale = 1.0 / (1.0 - share)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (out,) = ctx.saved_tensors
        # what came through is positive, so the output is the mask
        return torch.ops.aten.threshold_backward(grads[0], out, 0).mul_(ctx.scale), None, None


class Dropout(nn.Module):
    """Zeroes a share of the values and scales the rest; the seed of each call comes from torch's generator."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        if not self._hashes(x):
            return F.dropout(x, self.share, self.training)
        out: Tensor = _Drop.apply(x.float(), self.share, _seed())  # type: ignore[no-untyped-call]
        return out

    def add(self, x: Tensor, update: Tensor) -> Tensor:
        """x + dropout(update)."""
        if not self._hashes(x):
            return x + F.dropout(update, self.share, self.training)
        out: Tensor = _AddDropped.apply(x.float(), update.float(), self.share, _seed())  # type: ignore[no-untyped-call]
        return out

    def relu(self, x: Tensor) -> Tensor:
        """dropout(max(x, 0))."""
        if not self._hashes(x):
            return F.dropout(F.relu(x), self.share, self.training)
        out: Tensor = _ReluDrop.apply(x.float(), self.share, _seed())  # type: ignore[no-untyped-call]
        return out

    def _hashes(self, x: Tensor) -> bool:
        compiling = torch.compiler.is_compiling()  # torch's own is fused with what stands around it
        return self.training and self.share > 0 and x.device.type == "cpu" and not compiling


def _seed() -> int:
    return int(torch.randint(1 << 32, (), dtype=torch.int64))
