"""GRU4Rec: gated recurrent units over the history (Hidasi et al. 2016, arXiv:1511.06939)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import msgspec
import numpy as np
import numpy.typing as npt
from torch import nn

from leanrec.models.sequential import SequenceConfig, SequenceModel
from leanrec.nn.blocks import GRU
from leanrec.runtime.base import Engine
from leanrec.runtime.engines.gru import GRUEngine, GRUShape

__all__ = ["GRU4Rec", "GRU4RecConfig"]


class GRU4RecConfig(SequenceConfig, frozen=True, kw_only=True):
    """Settings of GRU4Rec."""

    layers: int = 1
    hidden: int | None = None
    """Width of the recurrent state; 2 D."""


class GRU4Rec(SequenceModel[GRU4RecConfig]):
    """The paper's network with the objectives of the other sequence models: it learns from every step of a window."""

    name: ClassVar[str] = "gru4rec"
    Config = GRU4RecConfig

    def settle(self, config: GRU4RecConfig) -> GRU4RecConfig:
        return msgspec.structs.replace(config, hidden=config.hidden or 2 * config.dim)

    def network(self, config: GRU4RecConfig) -> nn.Module:
        assert config.hidden is not None, "a resolved configuration"
        return GRU(dim=config.dim, layers=config.layers, hidden=config.hidden, dropout=config.dropout)

    def engine(
        self, config: GRU4RecConfig, tensors: Mapping[str, npt.NDArray[Any]], items_ND: npt.NDArray[np.float32]
    ) -> Engine:
        assert config.hidden is not None and config.max_length is not None, "a resolved configuration"
        shape = GRUShape(dim=config.dim, layers=config.layers, hidden=config.hidden, max_length=config.max_length)
        return GRUEngine(shape, tensors, items_ND)
