"""Linear layers that round weights and inputs as a dense layer in few bits will: for fine-tuning that allows for it.

The rounded values go forward; gradients pass as if nothing had been rounded (straight through, arXiv:1308.3432), but
for inputs beyond a fixed range, which get none.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["ROUNDINGS", "RoundedLinear", "round_linears"]

_LEVELS, _WIDE = 127, 32767
_GROUP = 64  # runtime.dense.stored.Int4Weight's


def _nearest(x: Tensor, step: Tensor, low: float, high: float) -> Tensor:
    return torch.clamp(torch.round(x / step), low, high) * step


def _by_output(weight_OD: Tensor) -> Tensor:
    top = weight_OD.detach().abs().amax(1, keepdim=True)
    return _nearest(weight_OD.detach(), torch.where(top > 0, top / _LEVELS, 1.0), -_LEVELS, _LEVELS)


def _by_group(weight_OD: Tensor) -> Tensor:
    outputs, dim = weight_OD.shape
    group = min(_GROUP, dim)
    wide = F.pad(weight_OD.detach(), (0, -dim % group)).view(outputs, -1, group)
    top = wide.abs().amax(2, keepdim=True)
    rounded = _nearest(wide, torch.where(top > 1e-30, top / 7.5, 1.0), -8, 7)
    return rounded.reshape(outputs, -1)[:, :dim]


def _upper_half(weight_OD: Tensor) -> Tensor:
    return weight_OD.detach().bfloat16().float()


ROUNDINGS = {
    "int8": _by_output,
    "int8-static": _by_output,
    "int8-weight": _by_output,
    "int4-weight": _by_group,
    "bfloat16": _upper_half,
}
"""Precision, as dense layers name it -> weights as they will be read."""


class RoundedLinear(nn.Linear):
    """x Q(W)^T + b with the weights of a plain layer. limit: the fixed range of inputs that `int8-static` needs."""

    def __init__(self, plain: nn.Linear, precision: str, limit: float | None = None) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = plain.in_features, plain.out_features
        self.weight, self.bias = plain.weight, plain.bias
        self.precision, self.limit = precision, limit

    def forward(self, input: Tensor) -> Tensor:
        weight_OD = self.weight + (ROUNDINGS[self.precision](self.weight) - self.weight).detach()
        return F.linear(self._inputs(input), weight_OD, self.bias)

    def _inputs(self, x: Tensor) -> Tensor:
        if self.precision == "int8-static" and self.limit is not None:
            cut = torch.clamp(x, -self.limit, self.limit)
            step = torch.full((), self.limit / _LEVELS, device=x.device)
        elif self.precision == "int8":
            top = x.detach().abs().amax(-1, keepdim=True)
            cut, step = x, torch.where(top > 0, top / _WIDE, 1.0)
        else:
            return x
        return cut + (torch.round(cut.detach() / step) * step - cut.detach())


def round_linears(net: nn.Module, precisions: Mapping[str, str], limits: Mapping[str, float]) -> None:
    """Every linear layer of a name in `precisions` is put in place as a rounded one of the same weights."""
    for name, precision in precisions.items():
        parent = net.get_submodule(name.rpartition(".")[0])
        plain = net.get_submodule(name)
        assert isinstance(plain, nn.Linear)
        setattr(parent, name.rpartition(".")[2], RoundedLinear(plain, precision, limits.get(name)))
