"""Several labels of one row, such as click and conversion."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from leanrec.nn.ctr.base import Block, Shape

__all__ = ["Chain", "Experts"]


class Experts(Block):
    """(tasks,) logits: shared experts of one layer, mixed by a gate of each task, and a tower each (MMoE, Ma 2018)."""

    def __init__(self, shapes: Sequence[Shape], *, experts: int, width: int, tasks: int) -> None:
        super().__init__()
        ((inputs,),) = shapes
        self.output = (tasks,)
        self.expert = nn.Linear(inputs, experts * width)
        self.gate = nn.Linear(inputs, tasks * experts)
        self.tower = nn.Linear(width, tasks)
        self._sizes = (experts, tasks)

    def forward(self, *inputs: Tensor) -> Tensor:
        (hidden,) = inputs
        experts, tasks = self._sizes
        found_BEH = torch.relu(self.expert(hidden)).view(len(hidden), experts, -1)
        mixed_BTE = torch.softmax(self.gate(hidden).view(-1, tasks, experts), dim=2)
        return torch.einsum("bte,beh,th->bt", mixed_BTE, found_BEH, self.tower.weight) + self.tower.bias


class Chain(Block):
    """Logits of each task given the one before, to logits of all up to it (ESMM, Ma et al. 2018).

    p(click and conversion) = p(click) p(conversion | click), so that the second is trained on every impression.
    """

    def __init__(self, shapes: Sequence[Shape]) -> None:
        super().__init__()
        (self.output,) = shapes

    def forward(self, *inputs: Tensor) -> Tensor:
        log_p = functional.logsigmoid(inputs[0]).cumsum(dim=1).clamp(max=-1e-6)
        return log_p - torch.log(-torch.expm1(log_p))
