"""Deep interest network (Zhou et al. 2018): the history, weighed by what is asked about."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from leanrec.core.errors import ConfigError
from leanrec.features.batch import Layout
from leanrec.models.ctr import NetworkConfig, NetworkModel
from leanrec.nn.ctr import Step, step

__all__ = ["DIN", "DINConfig"]


class DINConfig(NetworkConfig, frozen=True, kw_only=True):
    """`history` says how much of it counts."""

    attention: int = 32
    """Width of the layer that weighs an event."""


class DIN(NetworkModel[DINConfig]):
    """Item and history share their vectors; what is pooled stands beside all fields before the layers."""

    name: ClassVar[str] = "din"
    Config = DINConfig
    history = True

    def plan(self, layout: Layout, tasks: int) -> Sequence[Step]:
        config = self.config
        if layout.history is None:
            raise ConfigError(f"{self.name} needs the order of events and at least one event of history: use dnn")
        return [
            step("pooled", "attend", "target", "history", width=config.attention),
            step("found", "concat", "flat", "pooled"),
            step("deep", "mlp", "found", widths=config.widths, dropout=config.dropout),
            step("logit", "dense", "deep"),
        ]
