"""Exact softmax cross-entropy over the catalogue."""

from __future__ import annotations

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from leanrec.core.config import Config
from leanrec.training.objectives.base import Objective, Predictions

__all__ = ["Softmax"]


class Softmax(Objective):
    """-log softmax of the target's score among all N items. Holds T x N scores: for small catalogues."""

    full: ClassVar[bool] = True

    def __init__(self, config: Config, num_items: int, negatives: int) -> None:
        del config, num_items, negatives

    def loss(self, p: Predictions) -> Tensor:
        loss_T = F.cross_entropy((p.hidden_TD @ p.leaf_UD.T).float(), p.targets_T, reduction="none")
        return (loss_T if p.weight_T is None else loss_T * p.weight_T).mean()
