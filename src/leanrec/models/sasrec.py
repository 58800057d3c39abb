"""SASRec: a causal transformer over the history (Kang & McAuley 2018, arXiv:1808.09781), with a softmax loss."""

from __future__ import annotations

from typing import ClassVar

from leanrec.models.transformer import TransformerModel

__all__ = ["SASRec"]


class SASRec(TransformerModel):
    """Pre-normalised attention and feed-forward blocks, learned positions, the item table on both ends."""

    name: ClassVar[str] = "sasrec"
    block: ClassVar[str] = "sasrec"
