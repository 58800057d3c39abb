"""DLRM (Naumov et al. 2019): numbers through layers of their own, inner products of all fields, layers on top."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from leanrec.features.batch import Layout
from leanrec.models.ctr import NetworkConfig, NetworkModel
from leanrec.nn.ctr import Step, step

__all__ = ["DLRM", "DLRMConfig"]


class DLRMConfig(NetworkConfig, frozen=True, kw_only=True):
    """The numbers' layers end in a vector as wide as a field; `widths` are those on top."""

    bottom: tuple[int, ...] = (64,)
    """Hidden layers of the numbers, before the last."""


class DLRM(NetworkModel[DLRMConfig]):
    """Without numbers, the products alone go up."""

    name: ClassVar[str] = "dlrm"
    Config = DLRMConfig

    def plan(self, layout: Layout, tasks: int) -> Sequence[Step]:
        config = self.config
        top = [
            step("top", "mlp", "found", widths=config.widths, dropout=config.dropout),
            step("logit", "dense", "top"),
        ]
        if not layout.numbers:
            return [step("dots", "dots", "fields"), step("found", "concat", "dots", "flat"), *top]
        return [
            step("bottom", "mlp", "numbers", widths=(*config.bottom, config.dim)),
            step("all", "append", "fields", "bottom"),
            step("dots", "dots", "all"),
            step("found", "concat", "dots", "bottom"),
            *top,
        ]
