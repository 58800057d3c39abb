"""Deep & cross network, version 2 (Wang et al. 2021), in parallel: full matrices or a mixture of low ranks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from leanrec.core.space import Dimension, Range
from leanrec.features.batch import Layout
from leanrec.models.ctr import NetworkConfig, NetworkModel
from leanrec.nn.ctr import Step, step

__all__ = ["DCNv2", "DCNv2Config"]


class DCNv2Config(NetworkConfig, frozen=True, kw_only=True):
    """rank 0 has full matrices in the cross layers."""

    cross_layers: int = 2
    rank: int = 0
    """Of the experts' maps; 0 for full matrices and no experts."""
    experts: int = 4
    """Maps that a gate mixes, where the rank is not 0."""

    space: ClassVar[Mapping[str, Dimension]] = {**NetworkConfig.space, "cross_layers": Range(1, 4)}


class DCNv2(NetworkModel[DCNv2Config]):
    """Cross layers and hidden layers side by side, then one linear layer."""

    name: ClassVar[str] = "dcnv2"
    Config = DCNv2Config

    def plan(self, layout: Layout, tasks: int) -> Sequence[Step]:
        config = self.config
        cross = step("cross", "cross", "flat", layers=config.cross_layers)
        if config.rank:
            cross = step(
                "cross", "cross-mixture", "flat", layers=config.cross_layers, experts=config.experts, rank=config.rank
            )
        return [
            cross,
            step("deep", "mlp", "flat", widths=config.widths, dropout=config.dropout),
            step("both", "concat", "cross", "deep"),
            step("logit", "dense", "both"),
        ]
