"""SASRec: a causal transformer over the history (Kang & McAuley 2018, arXiv:1808.09781), with a softmax loss."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from leanrec.data.dataset import Dataset
from leanrec.models.sequential import SequenceConfig, SequenceModel

__all__ = ["SASRec", "SASRecConfig"]


class SASRecConfig(SequenceConfig, frozen=True, kw_only=True):
    """As SequenceConfig."""


class SASRec(SequenceModel[SASRecConfig]):
    """Pre-normalised attention and feed-forward blocks, learned positions, the item table on both ends."""

    name: ClassVar[str] = "sasrec"
    Config = SASRecConfig
    block: ClassVar[str] = "sasrec"

    def fill(self, config: SASRecConfig, data: Dataset) -> SASRecConfig:
        return msgspec.structs.replace(config, dropout=0.5 if config.dropout is None else config.dropout)
