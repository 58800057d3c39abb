"""FinalNet-type (Zhu et al. 2023): layers that multiply two linear maps, so that each doubles the order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from leanrec.features.batch import Layout
from leanrec.models.ctr import NetworkConfig, NetworkModel
from leanrec.nn.ctr import Step, step

__all__ = ["FinalNet", "FinalNetConfig"]


class FinalNetConfig(NetworkConfig, frozen=True, kw_only=True):
    """The paper's two blocks, without their distillation into each other."""

    blocks: int = 2
    """Stacks of layers over the same fields whose logits are added up."""


class FinalNet(NetworkModel[FinalNetConfig]):
    """Factorised interaction layers."""

    name: ClassVar[str] = "finalnet"
    Config = FinalNetConfig

    def plan(self, layout: Layout, tasks: int) -> Sequence[Step]:
        config = self.config
        steps: list[Step] = []
        for block in range(config.blocks):
            steps += [
                step(f"block{block}", "factorised", "flat", widths=config.widths, dropout=config.dropout),
                step(f"of_block{block}", "dense", f"block{block}"),
            ]
        return [*steps, step("logit", "sum", *(f"of_block{block}" for block in range(config.blocks)))]
