"""HSTU: pointwise aggregated attention with relative position and time (arXiv:2402.17152)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from torch import nn

from leanrec.core.errors import ConfigError
from leanrec.core.space import Choice, Dimension
from leanrec.models.sequential import SequenceConfig, SequenceModel
from leanrec.nn.blocks import HSTU as HSTUNetwork
from leanrec.runtime.base import Engine
from leanrec.runtime.engines.hstu import HSTUEngine, HSTUShape

__all__ = ["HSTU", "HSTUConfig"]


class HSTUConfig(SequenceConfig, frozen=True, kw_only=True):
    """Settings of HSTU. A layer has no feed-forward part, and less than half of a transformer block's weights."""

    layers: int = 2
    heads: int = 2
    elapsed: bool = False
    """Whether attention knows how long ago each event was, where the data has times. `evaluate` and `rank` pass times
    on; HTTP does not yet, so what it serves would not be what was measured: off by default."""
    unknown_times: float = 0.1
    """Share of training rows whose times are hidden, so that histories without times are answered well."""
    checkpoint: bool = False
    """Compute activations again in the backward pass instead of keeping them: less memory, a third more arithmetic."""

    space: ClassVar[Mapping[str, Dimension]] = {
        **SequenceConfig.space,
        "layers": Choice((1, 2, 4)),
        "heads": Choice((1, 2, 4)),
        "elapsed": Choice((True, False)),
    }


class HSTU(SequenceModel[HSTUConfig]):
    """The retrieval model of the paper, with the objectives and the item table of the other sequence models."""

    name: ClassVar[str] = "hstu"
    Config = HSTUConfig
    times: ClassVar[bool] = True

    def settle(self, config: HSTUConfig) -> HSTUConfig:
        if config.heads < 1 or config.dim % config.heads:
            raise ConfigError(f"{self.name}: dim={config.dim} is not a multiple of heads={config.heads}")
        return config

    def network(self, config: HSTUConfig) -> nn.Module:
        assert config.max_length is not None, "a resolved configuration"
        return HSTUNetwork(
            dim=config.dim, layers=config.layers, heads=config.heads, max_length=config.max_length,
            dropout=config.dropout, timed=config.elapsed, unknown_times=config.unknown_times,
            checkpoint=config.checkpoint,
        )  # fmt: skip

    def engine(
        self, config: HSTUConfig, tensors: Mapping[str, npt.NDArray[Any]], items_ND: npt.NDArray[np.float32]
    ) -> Engine:
        assert config.max_length is not None, "a resolved configuration"
        shape = HSTUShape(
            dim=config.dim, layers=config.layers, heads=config.heads, max_length=config.max_length,
            timed=config.elapsed,
        )  # fmt: skip
        return HSTUEngine(shape, tensors, items_ND)
