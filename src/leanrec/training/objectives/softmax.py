"""Exact softmax cross-entropy over the catalogue."""

from __future__ import annotations

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from leanrec.training.objectives.base import Objective

__all__ = ["Softmax"]


class Softmax(Objective):
    """-log softmax of the target's score among all N items. Holds T x N scores: for small catalogues."""

    full: ClassVar[bool] = True

    def __init__(self, num_items: int, negatives: int) -> None:
        del num_items, negatives

    def loss(self, hidden_TD: Tensor, leaf_UD: Tensor, targets_T: Tensor, negatives_n: Tensor) -> Tensor:
        return F.cross_entropy((hidden_TD @ leaf_UD.T).float(), targets_T)
