"""eSASRec: SASRec's shape with LiGR blocks and sampled softmax (arXiv:2508.06450; LiGR: arXiv:2502.03417)."""

from __future__ import annotations

from typing import ClassVar

from leanrec.models.transformer import TransformerModel

__all__ = ["ESASRec"]


class ESASRec(TransformerModel):
    """Gated residuals and SwiGLU in every block."""

    name: ClassVar[str] = "esasrec"
    block: ClassVar[str] = "ligr"
