"""What the transformers share: settings, network and serving engine; each names its block."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import msgspec
import numpy as np
import numpy.typing as npt
from torch import nn

from leanrec.core.errors import ConfigError
from leanrec.core.space import Choice, Dimension
from leanrec.models.sequential import SequenceConfig, SequenceModel
from leanrec.nn.blocks import Positions, Transformer
from leanrec.runtime.base import Engine
from leanrec.runtime.engines.transformer import TransformerEngine, TransformerShape

__all__ = ["TransformerConfig", "TransformerModel"]


class TransformerConfig(SequenceConfig, frozen=True, kw_only=True):
    """Settings of a sequence transformer."""

    layers: int = 2
    heads: int = 2
    hidden: int | None = None
    """Width of the feed-forward layer; 4 D."""
    positions: Positions = "learned"
    """`learned` (counted from the start of the window), `rotary` (how far apart two events are) or `none`."""
    checkpoint: bool = False
    """Compute activations again in the backward pass instead of keeping them: less memory, a third more arithmetic."""

    space: ClassVar[Mapping[str, Dimension]] = {
        **SequenceConfig.space,
        "layers": Choice((1, 2, 3, 4)),
        "heads": Choice((1, 2, 4)),
    }


class TransformerModel(SequenceModel[TransformerConfig]):
    """A transformer; subclasses name its block, and whether it looks both ways."""

    Config = TransformerConfig
    block: ClassVar[str]

    def settle(self, config: TransformerConfig) -> TransformerConfig:
        if config.heads < 1 or config.dim % config.heads:
            raise ConfigError(f"{self.name}: dim={config.dim} is not a multiple of heads={config.heads}")
        if config.positions == "rotary" and config.dim // config.heads % 2:
            raise ConfigError(
                f"{self.name}: rotary positions turn pairs of values, and dim={config.dim} over heads={config.heads} "
                "is odd: choose fewer heads, or positions=learned"
            )
        if self.masked and config.horizon != 1:
            raise ConfigError(f"{self.name}: a hidden event is its own target: leave horizon={config.horizon} out")
        if self.masked and config.max_length is not None and config.max_length < 2:
            raise ConfigError(f"{self.name}: max_length={config.max_length} leaves no place for a hidden event: use 2")
        return msgspec.structs.replace(config, hidden=config.hidden or 4 * config.dim)

    def network(self, config: TransformerConfig) -> nn.Module:
        assert config.hidden is not None and config.max_length is not None, "a resolved configuration"
        return Transformer(
            block=self.block, dim=config.dim, layers=config.layers, heads=config.heads, hidden=config.hidden,
            max_length=config.max_length, dropout=config.dropout, positions=config.positions,
            bidirectional=self.masked, checkpoint=config.checkpoint,
        )  # fmt: skip

    def engine(
        self, config: TransformerConfig, tensors: Mapping[str, npt.NDArray[Any]], items_ND: npt.NDArray[np.float32]
    ) -> Engine:
        assert config.max_length is not None, "a resolved configuration"
        shape = TransformerShape(
            block=self.block, dim=config.dim, layers=config.layers, heads=config.heads, max_length=config.max_length,
            positions=config.positions, bidirectional=self.masked,
        )  # fmt: skip
        return TransformerEngine(shape, tensors, items_ND)
