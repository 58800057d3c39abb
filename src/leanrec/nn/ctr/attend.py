"""Attention of what is asked about over the history (DIN, Zhou et al. 2018)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from leanrec.nn.ctr.base import Block, Shape

__all__ = ["Attend"]


class Attend(Block):
    """The history's vectors added up, each by a weight from a small network over (q, h, q - h, q * h).

    As in the paper the weights are not normalised, so that how much of the history speaks for the item is kept.
    """

    masked = True

    def __init__(self, shapes: Sequence[Shape], *, width: int) -> None:
        super().__init__()
        (dim,), _ = shapes
        self.output = (dim,)
        self.hidden = nn.Linear(4 * dim, width)
        self.weight = nn.Linear(width, 1)

    def forward(self, *inputs: Tensor) -> Tensor:
        target_BD, history_BLD, mask_BL = inputs
        asked_BLD = target_BD[:, None].expand_as(history_BLD)
        both = torch.cat([asked_BLD, history_BLD, asked_BLD - history_BLD, asked_BLD * history_BLD], dim=2)
        weight_BL = self.weight(torch.relu(self.hidden(both)))[:, :, 0] * mask_BL
        return torch.einsum("bl,bld->bd", weight_BL, history_BLD)
