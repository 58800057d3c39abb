"""eSASRec: SASRec's shape with LiGR blocks and sampled softmax (arXiv:2508.06450; LiGR: arXiv:2502.03417)."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from leanrec.data.dataset import Dataset
from leanrec.models.sequential import SequenceConfig, SequenceModel

__all__ = ["ESASRec", "ESASRecConfig"]


class ESASRecConfig(SequenceConfig, frozen=True, kw_only=True):
    """As SequenceConfig."""


class ESASRec(SequenceModel[ESASRecConfig]):
    """Gated residuals and SwiGLU in every block."""

    name: ClassVar[str] = "esasrec"
    Config = ESASRecConfig
    block: ClassVar[str] = "ligr"

    def fill(self, config: ESASRecConfig, data: Dataset) -> ESASRecConfig:
        return msgspec.structs.replace(config, dropout=0.5 if config.dropout is None else config.dropout)
