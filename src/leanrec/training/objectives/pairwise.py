"""Losses that set each target against negatives one by one: gBCE, BPR and SimpleX's cosine contrastive loss."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from leanrec.core.config import Config
from leanrec.core.errors import ConfigError
from leanrec.training.objectives.base import NoOptions, Objective, Predictions
from leanrec.training.objectives.fused import shares

__all__ = ["BPR", "CCL", "GBCE", "CCLOptions", "GBCEOptions"]


def _scores(hidden_TD: Tensor, leaf_UD: Tensor, p: Predictions) -> tuple[Tensor, Tensor, Tensor]:
    """(T,) scores of targets, (T, n) of negatives, and (T, n) what each negative counts for in the mean of its row:
    the same for all that are not the target themselves.
    """
    positive_T = (hidden_TD * leaf_UD.index_select(0, p.targets_T)).sum(-1)
    negative_Tn = hidden_TD @ leaf_UD.index_select(0, p.negatives_n).T
    other_Tn = (p.targets_T[:, None] != p.negatives_n).to(leaf_UD.dtype)
    mean_Tn = other_Tn / other_Tn.sum(1, keepdim=True).clamp_min(1)
    return positive_T.to(leaf_UD.dtype), negative_Tn.to(leaf_UD.dtype), mean_Tn


class GBCEOptions(Config, frozen=True, kw_only=True):
    """Settings of gBCE."""

    t: float = 0.75
    """Calibration: 0 is plain binary cross-entropy, 1 makes scores as calibrated as under no sampling."""


class GBCE(Objective):
    """Generalised binary cross-entropy (gSASRec, arXiv:2308.07192), for uniform negatives.

    -(log sigmoid(s)^beta + sum over negatives of log(1 - sigmoid(s_j))) / (n + 1), beta = a (t (1 - 1/a) + 1/a) with
    a = n / (N - 1), the share of the other items that is drawn.
    """

    Options: ClassVar[type[Config]] = GBCEOptions
    full: ClassVar[bool] = False

    def __init__(self, config: Config, num_items: int, negatives: int) -> None:
        assert isinstance(config, GBCEOptions)
        if not 0 <= config.t <= 1:
            raise ConfigError(f"t={config.t} is not a calibration of gbce: use a number from 0 to 1")
        rate = min(1.0, negatives / max(num_items - 1, 1))
        self.beta = config.t * (rate - 1) + 1
        self._negatives = negatives

    def loss(self, p: Predictions) -> Tensor:
        positive_T, negative_Tn, mean_Tn = _scores(p.hidden_TD, p.leaf_UD, p)
        count = len(p.negatives_n)
        against_T = count * (F.softplus(negative_Tn) * mean_Tn).sum(1)
        return ((self.beta * F.softplus(-positive_T) + against_T) / (count + 1)) @ shares(p)


class BPR(Objective):
    """Bayesian personalised ranking (arXiv:1205.2618): the mean over negatives of -log sigmoid(s - s_j)."""

    Options: ClassVar[type[Config]] = NoOptions
    full: ClassVar[bool] = False

    def __init__(self, config: Config, num_items: int, negatives: int) -> None:
        del config, num_items, negatives

    def loss(self, p: Predictions) -> Tensor:
        positive_T, negative_Tn, mean_Tn = _scores(p.hidden_TD, p.leaf_UD, p)
        return (F.softplus(negative_Tn - positive_T[:, None]) * mean_Tn).sum(1) @ shares(p)


class CCLOptions(Config, frozen=True, kw_only=True):
    """Settings of the cosine contrastive loss."""

    margin: float = 0.4
    """Cosine below which a negative is left alone."""
    negative_weight: float = 150.0
    """What the mean over negatives counts for beside the target."""


class CCL(Objective):
    """Cosine contrastive loss (SimpleX, arXiv:2109.12613): 1 - cos(target) + w mean max(0, cos(negative) - margin).

    Scores are cosines: the task feeds and keeps item vectors of unit length, so that serving's inner product ranks as
    trained.
    """

    Options: ClassVar[type[Config]] = CCLOptions
    full: ClassVar[bool] = False
    cosine: ClassVar[bool] = True

    def __init__(self, config: Config, num_items: int, negatives: int) -> None:
        assert isinstance(config, CCLOptions)
        del num_items, negatives
        if not -1 <= config.margin <= 1:
            raise ConfigError(f"margin={config.margin} is not a cosine: use a number from -1 to 1")
        self._margin, self._weight = config.margin, config.negative_weight

    def loss(self, p: Predictions) -> Tensor:
        hidden_TD, leaf_UD = F.normalize(p.hidden_TD.to(p.leaf_UD.dtype), dim=1), F.normalize(p.leaf_UD, dim=1)
        positive_T, negative_Tn, mean_Tn = _scores(hidden_TD, leaf_UD, p)
        above_T = (torch.relu(negative_Tn - self._margin) * mean_Tn).sum(1)
        return (1 - positive_T + self._weight * above_T) @ shares(p)
