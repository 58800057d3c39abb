"""Dropout by hashing (kernels.dropout) as a layer on the CPU; torch's own on a GPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from leanrec.kernels.dropout import add_dropped, drop, relu_drop, relu_drop_grad
from leanrec.kernels.dropout_bfloat16 import add_dropped_bf16, drop_to_bf16, relu_drop_bf16, relu_drop_grad_bf16
from leanrec.kernels.threads import spread

__all__ = ["Dropout"]


def _run(kernel: Callable[..., None], inputs: list[Tensor], settings: tuple[float, ...], kind: torch.dtype) -> Tensor:
    """kernel(*inputs, *settings, out, low, high) over all elements, in parts; bfloat16 goes in and out as uint16."""
    out = torch.empty(inputs[0].shape, dtype=kind)
    *flat, out_E = (_flat(x) for x in (*inputs, out))
    spread(lambda low, high: kernel(*flat, *settings, out_E, low, high), len(out_E), torch.get_num_threads())
    return out


def _flat(x: Tensor) -> npt.NDArray[Any]:
    flat = x.detach().contiguous().view(-1)
    bits: npt.NDArray[Any] = (flat.view(torch.int16) if flat.dtype == torch.bfloat16 else flat).numpy()
    return bits.view(np.uint16) if flat.dtype == torch.bfloat16 else bits


def _known(x: Tensor) -> Tensor:
    """In a type that the kernels know."""
    return x if x.dtype in (torch.float32, torch.bfloat16) else x.float()


class _Drop(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, share: float, seed: int) -> Tensor:
        ctx.settings = share, seed
        return _run(drop, [x], ctx.settings, torch.float32)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return _run(drop, [grads[0]], ctx.settings, torch.float32), None, None


class _AddDropped(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, update: Tensor, share: float, seed: int) -> Tensor:
        ctx.settings, ctx.kind = (share, seed), update.dtype
        kernel = add_dropped if update.dtype == torch.float32 else add_dropped_bf16
        return _run(kernel, [x, update], ctx.settings, torch.float32)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None]:
        kernel = drop if ctx.kind == torch.float32 else drop_to_bf16
        return grads[0], _run(kernel, [grads[0]], ctx.settings, ctx.kind), None, None


class _ReluDrop(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, share: float, seed: int) -> Tensor:
        out = _run(relu_drop if x.dtype == torch.float32 else relu_drop_bf16, [x], (share, seed), x.dtype)
        ctx.save_for_backward(out)
        ctx.share = share
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (out,) = ctx.saved_tensors
        kernel = relu_drop_grad if out.dtype == torch.float32 else relu_drop_grad_bf16
        return _run(kernel, [grads[0], out], (ctx.share,), out.dtype), None, None


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
        out: Tensor = _AddDropped.apply(x.float(), _known(update), self.share, _seed())  # type: ignore[no-untyped-call]
        return out

    def relu(self, x: Tensor) -> Tensor:
        """dropout(max(x, 0))."""
        if not self._hashes(x):
            return F.dropout(F.relu(x), self.share, self.training)
        out: Tensor = _ReluDrop.apply(_known(x), self.share, _seed())  # type: ignore[no-untyped-call]
        return out

    def _hashes(self, x: Tensor) -> bool:
        compiling = torch.compiler.is_compiling()  # torch's own is fused with what stands around it
        return self.training and self.share > 0 and x.device.type == "cpu" and not compiling


def _seed() -> int:
    return int(torch.randint(1 << 32, (), dtype=torch.int64))
