"""BERT without padding, masks or gradients: one product for queries, keys and values, weights in the type that is used.

It computes what `transformers.BertModel` computes (Devlin et al., arXiv:1810.04805) for batches of texts of one length.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["FastBert"]


class _Layer(NamedTuple):
    qkv: tuple[Tensor, Tensor]
    out: tuple[Tensor, Tensor]
    norm1: tuple[Tensor, Tensor]
    up: tuple[Tensor, Tensor]
    down: tuple[Tensor, Tensor]
    norm2: tuple[Tensor, Tensor]


class FastBert:
    """(B, L) int64 tokens to (B, L, E) float32, from a loaded BertModel, whose weights it copies.

    Products run in `dtype`; sums, normalisation and what passes from layer to layer stay in float32.
    """

    def __init__(self, bert: Any, dtype: torch.dtype) -> None:
        config, embeddings = bert.config, bert.embeddings
        self._heads, self._eps, self._dtype = config.num_attention_heads, config.layer_norm_eps, dtype
        self._words_VE = embeddings.word_embeddings.weight.detach()
        kinds_2E = embeddings.token_type_embeddings.weight.detach()
        self._places_LE = embeddings.position_embeddings.weight.detach() + kinds_2E[0]
        self._norm = _norm(embeddings.LayerNorm)
        self._layers = [self._layer(layer) for layer in bert.encoder.layer]

    @staticmethod
    def fits(bert: Any) -> bool:
        """Whether a model is of the kind that is computed here."""
        if type(bert).__name__ != "BertModel":  # nor one that something was added to
            return False
        config = bert.config
        usual = getattr(config, "position_embedding_type", "absolute") in (None, "absolute")
        return bool(config.hidden_act == "gelu" and usual and not config.is_decoder)

    def __call__(self, tokens_BL: Tensor) -> Tensor:
        batch, length = tokens_BL.shape
        width = self._words_VE.shape[1]
        x_TE = (F.embedding(tokens_BL, self._words_VE) + self._places_LE[:length]).view(-1, width)
        x_TE = self._normed(x_TE, self._norm)
        for layer in self._layers:
            qkv = F.linear(x_TE.to(self._dtype), *layer.qkv).view(batch, length, 3, self._heads, -1)
            q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
            mixed = F.scaled_dot_product_attention(q, k, v)
            mixed_TE = mixed.transpose(1, 2).reshape(-1, width)
            x_TE = self._normed(x_TE + F.linear(mixed_TE, *layer.out), layer.norm1)
            hidden = F.gelu(F.linear(x_TE.to(self._dtype), *layer.up))
            x_TE = self._normed(x_TE + F.linear(hidden, *layer.down), layer.norm2)
        return x_TE.view(batch, length, width)

    def _normed(self, x_TE: Tensor, weights: tuple[Tensor, Tensor]) -> Tensor:
        return F.layer_norm(x_TE, weights[0].shape, *weights, self._eps)

    def _layer(self, layer: Any) -> _Layer:
        own, attention = layer.attention.self, layer.attention
        three = [self._dense(part) for part in (own.query, own.key, own.value)]
        return _Layer(
            qkv=(torch.cat([weight for weight, _ in three]), torch.cat([bias for _, bias in three])),
            out=self._dense(attention.output.dense), norm1=_norm(attention.output.LayerNorm),
            up=self._dense(layer.intermediate.dense), down=self._dense(layer.output.dense),
            norm2=_norm(layer.output.LayerNorm),
        )  # fmt: skip

    def _dense(self, layer: nn.Linear) -> tuple[Tensor, Tensor]:
        return layer.weight.detach().to(self._dtype), layer.bias.detach().to(self._dtype)


def _norm(layer: nn.LayerNorm) -> tuple[Tensor, Tensor]:
    return layer.weight.detach(), layer.bias.detach()
