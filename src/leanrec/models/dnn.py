"""A plain network over embedded fields, alone (DNN) or beside a linear part (Wide & Deep, Cheng et al. 2016)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from leanrec.features.batch import Layout
from leanrec.models.ctr import NetworkConfig, NetworkModel
from leanrec.nn.ctr import Step, step

__all__ = ["DNN", "DNNConfig", "WideDeep", "WideDeepConfig"]


class DNNConfig(NetworkConfig, frozen=True, kw_only=True):
    """Nothing beside the layers."""


class DNN(NetworkModel[DNNConfig]):
    """Hidden layers over all fields side by side."""

    name: ClassVar[str] = "dnn"
    Config = DNNConfig

    def plan(self, layout: Layout, tasks: int) -> Sequence[Step]:
        return [
            step("deep", "mlp", "flat", widths=self.config.widths, dropout=self.config.dropout),
            step("logit", "dense", "deep"),
        ]


class WideDeepConfig(NetworkConfig, frozen=True, kw_only=True):
    """The wide part has one weight a value: give it crosses by `features={crosses=[["a", "b"]]}`."""


class WideDeep(NetworkModel[WideDeepConfig]):
    """Linear in values and crosses, plus hidden layers; both are trained together."""

    name: ClassVar[str] = "wide-deep"
    Config = WideDeepConfig

    def plan(self, layout: Layout, tasks: int) -> Sequence[Step]:
        return [
            step("deep", "mlp", "flat", widths=self.config.widths, dropout=self.config.dropout),
            step("of_deep", "dense", "deep"),
            step("logit", "sum", "first", "of_deep"),
        ]
