"""Caser: convolutions over the last few items (Tang & Wang 2018, arXiv:1809.07426), without a vector a user."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from torch import nn

from leanrec.core.errors import ConfigError
from leanrec.models.sequential import SequenceConfig, SequenceModel
from leanrec.nn.blocks import Caser as CaserNetwork
from leanrec.runtime.base import Engine
from leanrec.runtime.engines.caser import CaserEngine, CaserShape

__all__ = ["Caser", "CaserConfig"]


class CaserConfig(SequenceConfig, frozen=True, kw_only=True):
    """Settings of Caser. `max_length` only cuts the training windows: it looks at the last `window` items."""

    window: int = 5
    filters: int = 16
    """Horizontal filters of each height 1 .. window."""
    vertical: int = 4
    """Vertical filters."""


class Caser(SequenceModel[CaserConfig]):
    """The paper's two kinds of filters, computed at every position so that each step of a window is learned from."""

    name: ClassVar[str] = "caser"
    Config = CaserConfig

    def settle(self, config: CaserConfig) -> CaserConfig:
        if min(config.window, config.filters, config.vertical) < 1:
            raise ConfigError(
                f"{self.name}: window={config.window}, filters={config.filters} and vertical={config.vertical} "
                "have to be at least 1"
            )
        return config

    def network(self, config: CaserConfig) -> nn.Module:
        return CaserNetwork(
            dim=config.dim, window=config.window, filters=config.filters, vertical=config.vertical,
            dropout=config.dropout,
        )  # fmt: skip

    def engine(
        self, config: CaserConfig, tensors: Mapping[str, npt.NDArray[Any]], items_ND: npt.NDArray[np.float32]
    ) -> Engine:
        shape = CaserShape(dim=config.dim, window=config.window, filters=config.filters, vertical=config.vertical)
        return CaserEngine(shape, tensors, items_ND)
