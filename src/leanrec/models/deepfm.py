"""DeepFM (Guo et al. 2017): a factorisation machine and hidden layers over the same field vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from leanrec.features.batch import Layout
from leanrec.models.ctr import NetworkConfig, NetworkModel
from leanrec.nn.ctr import Step, step

__all__ = ["DeepFM", "DeepFMConfig"]


class DeepFMConfig(NetworkConfig, frozen=True, kw_only=True):
    """Nothing beside the layers."""


class DeepFM(NetworkModel[DeepFMConfig]):
    """The logits of both parts added up."""

    name: ClassVar[str] = "deepfm"
    Config = DeepFMConfig

    def plan(self, layout: Layout, tasks: int) -> Sequence[Step]:
        return [
            step("second", "pairs", "fields"),
            step("deep", "mlp", "flat", widths=self.config.widths, dropout=self.config.dropout),
            step("of_deep", "dense", "deep"),
            step("logit", "sum", "first", "second", "of_deep"),
        ]
