"""gSASRec: SASRec with a binary loss calibrated for sampled negatives (Petrov & Macdonald 2023, arXiv:2308.07192)."""

from __future__ import annotations

from typing import ClassVar

from leanrec.models.transformer import TransformerConfig, TransformerModel

__all__ = ["GSASRec", "GSASRecConfig"]


class GSASRecConfig(TransformerConfig, frozen=True, kw_only=True):
    """Settings of gSASRec; how far the loss is calibrated is `t` of its objective."""

    objective: str = "gbce"
    negatives: int = 256
    """Shared by the predictions of a batch, as everywhere in leanrec; the paper draws them for each prediction."""


class GSASRec(TransformerModel):
    """SASRec's network; the loss keeps sampling from making the model too sure of itself."""

    name: ClassVar[str] = "gsasrec"
    Config = GSASRecConfig
    block: ClassVar[str] = "sasrec"
