"""BERT4Rec: a transformer that looks both ways and learns to fill in hidden events (arXiv:1904.06690)."""

from __future__ import annotations

from typing import ClassVar

from leanrec.models.transformer import TransformerConfig, TransformerModel

__all__ = ["BERT4Rec", "BERT4RecConfig"]


class BERT4RecConfig(TransformerConfig, frozen=True, kw_only=True):
    """Settings of BERT4Rec. One place of the window is the hidden event that stands for what comes next."""

    horizon: int | None = 1
    """A hidden event is its own target: only 1."""


class BERT4Rec(TransformerModel):
    """Blocks normalised before each part, as SASRec's here; the paper normalises after."""

    name: ClassVar[str] = "bert4rec"
    Config = BERT4RecConfig
    block: ClassVar[str] = "sasrec"
    masked: ClassVar[bool] = True
